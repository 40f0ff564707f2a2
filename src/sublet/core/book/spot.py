"""Spot leases: whoever pays more has their slice, after the notice they were sold with.

An order that waits and finds nothing free is held against the spot leases of each
machine: those who would pay least go first, and only as many as it takes. It has to be
ready to pay more than all of them together were, and pays what they would have paid,
or the floor where that is higher. The slice is booked for it at once, and leased to it
as soon as it is free.

Not here: how a lease ends that was given notice (``core.lease.table``).
"""

from functools import partial

from msgspec.structs import replace

from sublet.base.errors import Refused
from sublet.base.ids import Digest
from sublet.base.limits import BOOKINGS_PER_MACHINE_MAX
from sublet.core.book import waiting
from sublet.core.book.book import Book, Machine
from sublet.core.book.booking import has_room, lease_span
from sublet.core.book.change import Change
from sublet.core.book.grant import Award, may_lease
from sublet.core.book.open_order import Booking, OpenOrder, OrderPhase
from sublet.core.book.outcome import Outcome
from sublet.core.book.quote import compute_duration, find_kind, price
from sublet.core.book.record import OfferRecord
from sublet.core.book.settlement import record_move
from sublet.core.document import Fact, Order
from sublet.core.lease import table
from sublet.core.lease.phase import Lease

SECONDS_PER_HOUR = 3_600


def decide(book: Book, fact: Fact, order: Order, now_s: int) -> Change:
    """Let a spot order wait until ``open_until_s``.

    Raises:
        Refused: what ``waiting.check_may_wait`` raises.
    """
    waiting.check_may_wait(book, fact, order, hold=waiting.compute_hold(order))
    record = waiting.make_record(
        book, fact, order, phase=OrderPhase.WAITING, deadline_s=order.open_until_s
    )
    return partial(waiting.place, book, record)


# ---- displacing -------------------------------------------------------------------


def displace_for(book: Book, record: OpenOrder, piece: Order) -> tuple[Outcome, ...]:
    """Give notice to the spot leases whose slices an order would pay more for."""
    found = _find_victims(book, record, piece)
    if found is None:
        return ()
    booking, victims = found
    outcomes: list[Outcome] = []
    for lease in victims:
        noticed = table.displace(
            lease, order_id=record.id, at_s=book.now_s, market=book.rules
        )
        outcomes += record_move(book, noticed)
    from_s = max(book.leases[lease.id].give_back_by_s for lease in victims)
    until_s = booking.until_s + from_s - book.now_s
    booking = replace(booking, from_s=from_s, until_s=until_s)
    return (*outcomes, *waiting.go_on(book, replace(record, booking=booking)))


def take_booked(book: Book, record: OpenOrder) -> tuple[Outcome, ...]:
    """Lease a slice that was booked, once it is free; a booking that fails is dropped."""
    booking = record.booking
    if booking is None or not may_lease(book, record.order):
        return ()
    machine = book.offers.find_machine(booking.provider, booking.machine)
    if (
        machine is None
        or not machine.is_live(book.now_s)
        or not book.may_match(booking.provider)
    ):
        book.unserved[record.id] = None  # look for another
        return waiting.go_on(book, replace(record, booking=None))
    span = lease_span(record.order, from_s=book.now_s, market=book.rules)
    if not has_room(book, machine, record.order, span, own=record.id):
        return ()
    award = Award(machine.id, booking.price_hour, booking.duration_s, booking.hold)
    return waiting.fill(book, record, award)


def _find_victims(
    book: Book, record: OpenOrder, piece: Order
) -> tuple[Booking, list[Lease]] | None:
    """Find the machine whose spot leases would have paid least, and those of them."""
    best: tuple[tuple[int, int], Booking, list[Lease]] | None = None
    for machine, spots in _by_machine(book).items():
        offer = book.offers.find_machine(*machine)
        if offer is None or not offer.is_live(book.now_s):
            continue
        if not book.may_match(offer.provider):
            continue
        if len(book.booked.get(machine, ())) >= BOOKINGS_PER_MACHINE_MAX:
            continue
        cells = book.offers.cells[:, [book.offers.row_of[offer.id]]]
        if not find_kind(book, piece, cells, now_s=book.now_s).all():
            continue
        victims = _choose(book, record, offer, spots)
        if not victims:
            continue
        floor = int(price(piece, cells)[0])
        booking = _booking(book, piece, offer, victims, floor=floor)
        if booking is None:
            continue
        rank = (booking.price_hour, offer.number)
        if best is None or rank < best[0]:
            best = (rank, booking, victims)
    return None if best is None else best[1:]


def _by_machine(book: Book) -> dict[Machine, list[Lease]]:
    """Group the leases that may be displaced, those who would pay least first."""
    found: dict[Machine, list[Lease]] = {}
    for key in book.spots:
        lease = book.leases[key]
        found.setdefault((lease.provider, lease.machine), []).append(lease)
    for leases in found.values():
        leases.sort(key=lambda lease: (lease.spot_max, -lease.matched_at_s, lease.id))
    return found


def _choose(
    book: Book, record: OpenOrder, offer: OfferRecord, spots: list[Lease]
) -> list[Lease]:
    """Take as few of a machine's spot leases as make room; none where all would not."""
    span = lease_span(record.order, from_s=book.now_s, market=book.rules)
    gone: list[Lease] = []
    left = record.order.price_hour_max
    for lease in spots:
        left -= lease.spot_max
        if left <= 0 or lease.order == record.id:
            return []
        gone.append(lease)
        ids: frozenset[Digest] = frozenset(one.id for one in gone)
        if has_room(book, offer, record.order, span, without=ids):
            return gone
    return []


def _booking(
    book: Book, piece: Order, offer: OfferRecord, victims: list[Lease], *, floor: int
) -> Booking | None:
    price_hour = max(floor, sum(lease.spot_max for lease in victims))
    if price_hour > piece.price_hour_max:
        return None
    try:
        duration_s = compute_duration(piece, price_hour=price_hour)
    except Refused:
        return None
    span = lease_span(piece, from_s=book.now_s, market=book.rules)
    return Booking(
        provider=offer.provider,
        machine=offer.offer.machine,
        offer_id=offer.id,
        price_hour=price_hour,
        duration_s=duration_s,
        hold=-(-price_hour * duration_s // SECONDS_PER_HOUR),
        from_s=span.from_s,
        until_s=span.until_s,
    )
