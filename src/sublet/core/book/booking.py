"""Slices that are spoken for, and what room they leave: no second is sold twice.

A booking is a part of a machine from a time on: of a reserved order, or of one that has
displaced another. Whoever asks for room, now or later, is held against every booking and
every lease that can still be there at any second of the span that it asks for.

Not here: why a slice is booked (``reserved``, ``spot``).
"""

from collections.abc import Iterable
from typing import Final

from msgspec import Struct

from sublet.base.ids import NO_DIGEST, Address, Digest
from sublet.base.limits import TIME_S_MAX
from sublet.core.book.book import Book
from sublet.core.book.open_order import Booking, OpenOrder
from sublet.core.book.record import UNLIMITED, OfferRecord
from sublet.core.document import Market, Order
from sublet.core.lease.phase import Lease, Phase
from sublet.core.lease.table import ERASURE, holds_slice

Amounts = tuple[int, int, int, int, int]  # cpus, memory, disk, GPUs, leases
_NOTHING: Final[Amounts] = (0, 0, 0, 0, 0)


class Span(Struct, frozen=True):
    """From a second on, up to another."""

    from_s: int
    until_s: int


def lease_span(order: Order, *, from_s: int, market: Market) -> Span:
    """Give the longest time that a lease of this order may be there from now on."""
    until_s = from_s + market.accept_s + market.deliver_s + market.prepare_s
    until_s += order.duration_s_max + market.close_s
    if ERASURE in order.features:
        until_s = TIME_S_MAX
    return Span(from_s, until_s)


def latest_end_s(lease: Lease, *, market: Market) -> int:
    """Give the second by which a lease has left its slice, whatever happens."""
    if lease.is_erasure_due or ERASURE in lease.features:
        return TIME_S_MAX
    spans = {
        Phase.MATCHED: market.deliver_s + market.prepare_s + lease.duration_s,
        Phase.ACCEPTED: market.prepare_s + lease.duration_s,
        Phase.PREPARING: lease.duration_s,
    }
    if lease.phase in spans:
        end_s = lease.deadline_s + spans[lease.phase] + market.close_s
    elif lease.phase is Phase.RUNNING:
        end_s = lease.ends_by_s + market.close_s
    else:
        end_s = lease.deadline_s
    if lease.until_s:
        end_s = min(end_s, lease.until_s + market.close_s)
    return end_s


def has_room(
    book: Book,
    record: OfferRecord,
    want: Order,
    span: Span,
    *,
    own: Digest = NO_DIGEST,
    without: frozenset[Digest] = frozenset(),
) -> bool:
    """Say whether a slice of a machine is free for all of a span.

    Args:
        book: with its bookings.
        record: of the machine.
        want: how large a slice.
        span: for which it is wanted.
        own: the order that asks: its own booking is not in its way.
        without: leases that are about to go: as if they had.
    """
    capacity = _capacity(record)
    asked = (want.cpus_milli, want.memory_bytes, want.disk_bytes, want.gpu_count, 1)
    bookings = [
        (booking, order)
        for booking, order in bookings_of(book, record.provider, record.offer.machine)
        if booking is not None and order.id != own and booking.until_s > span.from_s
    ]
    leases = [
        (latest_end_s(lease, market=book.rules), _of_lease(lease))
        for lease in leases_on(book, record.provider, record.offer.machine)
        if lease.id not in without
    ]
    # What is taken only grows where a booking begins: there, and at the start, we look.
    starts = {booking.from_s for booking, _ in bookings}
    for at_s in {span.from_s} | {s for s in starts if span.from_s < s < span.until_s}:
        is_now = at_s <= book.now_s
        taken = _sum(
            [used for end_s, used in leases if is_now or end_s > at_s]
            + [
                _of_order(order.order)
                for booking, order in bookings
                if booking.from_s <= at_s < booking.until_s
            ]
        )
        if any(t + a > c for t, a, c in zip(taken, asked, capacity, strict=True)):
            return False
    return True


def find_full(book: Book, order: Order, *, now_s: int) -> list[int]:
    """List the offers, by number, in which bookings leave no room for a lease from now.

    What machines without a booking have free is in their columns.
    """
    if not book.booked:
        return []
    span = lease_span(order, from_s=now_s, market=book.rules)
    booked = (book.offers.find_machine(*machine) for machine in book.booked)
    return [
        record.number
        for record in booked
        if record is not None and not has_room(book, record, order, span)
    ]


def bookings_of(
    book: Book, provider: Address, machine: str
) -> list[tuple[Booking | None, OpenOrder]]:
    """List the bookings on one machine, each with the order that has it."""
    ids = book.booked.get((provider, machine), ())
    return [(book.orders[key].booking, book.orders[key]) for key in ids]


def leases_on(book: Book, provider: Address, machine: str) -> Iterable[Lease]:
    """List the leases that keep a part of a machine, oldest first."""
    for index, table in (
        (book.open_of_provider, book.leases),
        (book.unerased_of_provider, book.unerased),
    ):
        for key in index.get(provider, ()):
            lease = table[key]
            if lease.machine == machine and holds_slice(lease):
                yield lease


def _capacity(record: OfferRecord) -> Amounts:
    offer = record.offer
    return (
        offer.cpus_milli,
        offer.memory_bytes,
        offer.disk_bytes,
        len(offer.gpu_uuids),
        offer.leases_max or UNLIMITED,
    )


def _of_order(order: Order) -> Amounts:
    return (
        order.cpus_milli,
        order.memory_bytes,
        order.disk_bytes,
        order.gpu_count,
        1,
    )


def _of_lease(lease: Lease) -> Amounts:
    return (
        lease.cpus_milli,
        lease.memory_bytes,
        lease.disk_bytes,
        len(lease.gpu_uuids),
        1,
    )


def _sum(parts: list[Amounts]) -> Amounts:
    total = _NOTHING
    for part in parts:
        a, b, c, d, e = (x + y for x, y in zip(total, part, strict=True))
        total = (a, b, c, d, e)
    return total
