"""Reserved orders: a slice from a time on, for a span, sold to nobody else.

Room is sought and booked when the order is placed, at a price that stays. At its time
the booking becomes a lease; it has to end by the end of the span, also where it began
late. A provider that is not there then, or whose machine is not free, is at fault.
"""

from functools import partial

from msgspec.structs import replace

from sublet.base.errors import Refused
from sublet.base.limits import BOOKINGS_PER_MACHINE_MAX, TIME_S_MAX
from sublet.core.book import waiting
from sublet.core.book.book import Book
from sublet.core.book.booking import Span, has_room
from sublet.core.book.change import Change
from sublet.core.book.column import Column
from sublet.core.book.grant import Award, may_lease
from sublet.core.book.open_order import Booking, OpenOrder, OrderPhase
from sublet.core.book.outcome import Outcome
from sublet.core.book.quote import compute_duration, find_kind, price
from sublet.core.book.ranking import pay, rank
from sublet.core.book.record import OfferRecord
from sublet.core.book.search import Candidate
from sublet.core.book.why_not import NoMatch
from sublet.core.document import Fact, Order
from sublet.core.lease.table import ERASURE

SECONDS_PER_HOUR = 3_600
LOOKED_AT_MAX = 1_024  # machines, the best ones, for one reservation


def decide(book: Book, fact: Fact, order: Order, now_s: int) -> Change:
    """Book the slice of the lowest expected cost that is free for the whole span.

    Raises:
        NoMatch: none is.
        Refused: what ``waiting.check_may_wait`` raises, or ``total_too_small``.
    """
    booking = _find_booking(book, order)
    waiting.check_may_wait(book, fact, order, hold=booking.hold)
    record = waiting.make_record(
        book, fact, order, phase=OrderPhase.RESERVED, deadline_s=order.starts_at_s
    )
    return partial(
        waiting.place, book, replace(record, hold=booking.hold, booking=booking)
    )


def start(book: Book, record: OpenOrder) -> tuple[Outcome, ...]:
    """Lease a booked slice whose time has come; where it is not free yet, wait a bit."""
    booking = record.booking
    assert booking is not None
    if not may_lease(book, record.order):
        return waiting.end(book, record, reason="too_many_leases")
    machine = book.offers.find_machine(booking.provider, booking.machine)
    span = Span(booking.from_s, booking.until_s)
    until_s = booking.from_s + record.order.duration_s_max
    if until_s <= book.now_s:  # the log heard of it when it was all over
        return waiting.end(book, record, reason=waiting.EXPIRED)
    if (
        machine is not None
        and machine.is_live(book.now_s)
        and book.may_match(booking.provider)
        and has_room(book, machine, record.order, span, own=record.id)
    ):
        award = Award(
            machine.id,
            booking.price_hour,
            booking.duration_s,
            booking.hold,
            until_s=until_s,
        )
        return waiting.fill(book, record, award)
    if record.deadline_s > book.now_s:
        return ()
    if record.deadline_s <= booking.from_s:
        grace_s = booking.from_s + book.rules.accept_s
        return waiting.go_on(book, replace(record, deadline_s=grace_s))
    return _fail(book, record, booking)


def _fail(book: Book, record: OpenOrder, booking: Booking) -> tuple[Outcome, ...]:
    provider = book.find_provider(booking.provider)
    book.providers[provider.provider] = replace(
        provider, leases_at_fault=provider.leases_at_fault + 1
    )
    return waiting.end(book, record, reason="not_granted")


def _find_booking(book: Book, order: Order) -> Booking:
    """Find the winner among those with room, for what just ties the runner-up."""
    until_s = order.starts_at_s + order.duration_s_max + book.rules.close_s
    if ERASURE in order.features:
        until_s = TIME_S_MAX
    span = Span(order.starts_at_s, until_s)
    offers = book.offers
    kind = find_kind(book, order, offers.cells, now_s=book.now_s)
    kind &= offers.cells[Column.EXPIRES_AT_S] > book.now_s
    rows = kind.nonzero()[0]
    cells = offers.cells[:, rows]
    costs = price(order, cells)
    is_cheap = costs <= order.price_hour_max
    asked = dict(zip(rows[is_cheap].tolist(), costs[is_cheap].tolist(), strict=True))
    ranked = rank(book, order, rows=list(asked), costs=list(asked.values()))
    placed: list[Candidate] = []  # the best two of two providers
    for one in ranked[:LOOKED_AT_MAX]:
        if placed and one.provider == placed[0].provider:
            continue
        if _has_place(book, offers.get(one.row), order, span):
            placed.append(one)
            if len(placed) == 2:
                break
    if not placed:
        raise NoMatch(
            f"none of {len(rows)} offers of this kind has room from {span.from_s} on at "
            "this price; ask for another time, for less, or raise the price",
            detail={"offers": len(rows), "price": len(rows) - len(ranked)},
        )
    winner, runner_up, *_ = (*placed, None)
    price_hour = pay(book, order, winner, runner_up, cost=asked[winner.row])
    return _booking(order, offers.get(winner.row), price_hour=price_hour, span=span)


def _has_place(book: Book, record: OfferRecord, order: Order, span: Span) -> bool:
    machine = (record.provider, record.offer.machine)
    return (
        record.is_live(book.now_s)
        and book.may_match(record.provider)
        and len(book.booked.get(machine, ())) < BOOKINGS_PER_MACHINE_MAX
        and has_room(book, record, order, span)
    )


def _booking(
    order: Order, record: OfferRecord, *, price_hour: int, span: Span
) -> Booking:
    duration_s = compute_duration(order, price_hour=price_hour)
    if duration_s < order.duration_s_max:
        raise Refused(
            f"the total pays for {duration_s} s of the {order.duration_s_max} s that are "
            "to be reserved; allow a higher total",
            code="total_too_small",
            field="order.total_max",
            detail={"price_hour": price_hour, "total_max": order.total_max},
        )
    return Booking(
        provider=record.provider,
        machine=record.offer.machine,
        offer_id=record.id,
        price_hour=price_hour,
        duration_s=duration_s,
        hold=-(-price_hour * duration_s // SECONDS_PER_HOUR),
        from_s=span.from_s,
        until_s=span.until_s,
    )
