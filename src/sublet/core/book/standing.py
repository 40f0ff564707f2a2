"""Standing orders: they wait at their price, and are filled as supply appears.

Whoever came first is served first. A tenant's maximum gives no rank: it is paid by the
second price, so that a rank would only invite everybody to overstate it.

Not here: what displaces (``spot``), when it is looked for supply (``serve``).
"""

from functools import partial

from msgspec.structs import replace

from sublet.base.errors import Refused
from sublet.core.book import spot, waiting
from sublet.core.book.book import Book
from sublet.core.book.change import Change
from sublet.core.book.grant import Award, may_lease
from sublet.core.book.open_order import OpenOrder, OrderPhase
from sublet.core.book.outcome import Outcome
from sublet.core.book.quote import Match, find_match
from sublet.core.document import Fact, Order


def decide(book: Book, fact: Fact, order: Order, now_s: int) -> Change:
    """Let an order wait until ``open_until_s``; what fits now is leased at once.

    Raises:
        Refused: what ``waiting.check_may_wait`` raises.
    """
    waiting.check_may_wait(book, fact, order, hold=waiting.compute_hold(order))
    record = waiting.make_record(
        book, fact, order, phase=OrderPhase.WAITING, deadline_s=order.open_until_s
    )
    return partial(waiting.place, book, record)


def serve(book: Book, record: OpenOrder) -> tuple[Outcome, ...]:
    """Lease what fits this order now; where nothing does, look whom to displace."""
    if record.booking is not None:
        return spot.take_booked(book, record)
    outcomes: list[Outcome] = []
    while record.id in book.orders and may_lease(book, record.order):
        record = book.orders[record.id]
        piece = next_piece(record)
        match = _find_match(book, piece)
        if match is None:
            return (*outcomes, *spot.displace_for(book, record, piece))
        award = Award(match.offer_id, match.price_hour, match.duration_s, match.hold)
        outcomes += waiting.fill(book, record, award)
    return tuple(outcomes)


def _find_match(book: Book, piece: Order) -> Match | None:
    # Nobody is told why there is none: to work that out takes a look at every offer.
    try:
        return find_match(book, piece, now_s=book.now_s)
    except Refused:
        return None


def next_piece(record: OpenOrder) -> Order:
    """Give the order as it is for its next lease: of what is left."""
    order = record.order
    return replace(
        order,
        duration_s_max=min(order.duration_s_max, record.left_s),
        total_max=record.hold,
    )
