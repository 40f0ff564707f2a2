"""Orders that wait: placed with their money held, filled, and ended with it released.

While an order is open, all that its leases may still cost is held in the tenant's
wallet, by a transfer to the tenant itself. A lease takes its part of that within one
step, so that a lease is never made for which there is no money, and an order that ends
leaves nothing held. See docs/adr/0032-modes-of-one-book.md.

Not here: when an order goes on (``live``, ``standing``, ``spot``, ``reserved``).
"""

from msgspec.structs import replace

from sublet.base.errors import Refused
from sublet.base.ids import NO_DIGEST, Address
from sublet.base.limits import (
    ORDER_HOLD_MIN,
    ORDERS_PER_TENANT_MAX,
    PIECES_PER_ORDER_MAX,
    UNBACKED_ORDERS_MAX,
)
from sublet.base.units import format_money
from sublet.core.book import funds
from sublet.core.book.book import Book
from sublet.core.book.grant import Award, grant
from sublet.core.book.open_order import FILLED, OpenOrder, OrderPhase
from sublet.core.book.outcome import OrderMoved, Outcome
from sublet.core.document import Fact, Order
from sublet.core.lease.phase import Fault, Lease
from sublet.core.lease.piece import piece_id

SECONDS_PER_HOUR = 3_600
EXPIRED = "expired"


def compute_hold(order: Order) -> int:
    """Say what all leases of an order may cost at most, micro-USD, rounded up."""
    volume_s = order.volume_s or order.duration_s_max
    most = -(-order.price_hour_max * volume_s // SECONDS_PER_HOUR)
    return min(most, order.total_max)


def check_may_wait(book: Book, fact: Fact, order: Order, *, hold: int) -> None:
    """Refuse one order too many, and one that the wallet does not cover.

    Raises:
        Refused: ``too_many_orders``, ``total_too_small``, ``too_many_unbacked`` or
            ``insufficient_funds``.
    """
    if len(book.orders_of_tenant.get(order.tenant, ())) >= ORDERS_PER_TENANT_MAX:
        raise Refused(
            f"a tenant may have {ORDERS_PER_TENANT_MAX} orders that wait; cancel one "
            "first",
            code="too_many_orders",
        )
    if order.price_hour_max and not order.total_max:
        raise Refused(
            "a total of $0 pays for no second; allow a higher total",
            code="total_too_small",
            field="order.total_max",
        )
    _check_backed(book, order, hold=hold)
    funds.check(book, transfer_id=fact.id, tenant=order.tenant, amount=hold)


def _check_backed(book: Book, order: Order, *, hold: int) -> None:
    """Keys cost nothing, and to wait for a free slice neither: all of these share a room.

    Whoever sets money aside is not in it, and so not in the way of whoever fills it. On
    the escrow rail, money aside is a deposit that no lease holds.
    """
    if _is_backed(book, order.tenant, hold=hold):
        return
    waiting = sum(
        not _is_backed(book, record.tenant, hold=record.hold)
        for record in book.orders.values()
    )
    if waiting >= UNBACKED_ORDERS_MAX:
        raise Refused(
            f"{waiting} orders wait with less than {format_money(ORDER_HOLD_MIN)} set "
            "aside, and no more may; allow a higher total, or come back later",
            code="too_many_unbacked",
            field="order.total_max",
        )


def _is_backed(book: Book, tenant: Address, *, hold: int) -> bool:
    is_there = not funds.is_escrow(book) or funds.free_of(book, tenant) >= hold
    return is_there and hold >= ORDER_HOLD_MIN


def make_record(
    book: Book, fact: Fact, order: Order, *, phase: OrderPhase, deadline_s: int
) -> OpenOrder:
    """Write down an order that is to wait.

    It waits no longer than the delegation lasts under which it was placed.
    """
    delegation = book.delegations.get(order.delegation)
    if delegation is not None and phase is not OrderPhase.RESERVED:
        deadline_s = min(deadline_s, delegation.expires_at_s)
    return OpenOrder(
        id=fact.id,
        order=order,
        signer=fact.signer,
        phase=phase,
        placed_at_s=max(book.now_s, fact.at_s),
        deadline_s=deadline_s,
        hold=compute_hold(order),
        left_s=order.volume_s or order.duration_s_max,
    )


def place(book: Book, record: OpenOrder) -> tuple[Outcome, ...]:
    """Enter an order that was checked, and hold its money."""
    _hold(book, record)
    book.add_order(record)
    return (OrderMoved(record),)


def go_on(book: Book, record: OpenOrder) -> tuple[Outcome, ...]:
    """Enter the next state of an order that still waits; its hold is as it was."""
    book.change_order(record)
    return (OrderMoved(record),)


def end(book: Book, record: OpenOrder, *, reason: str) -> tuple[Outcome, ...]:
    """End an order: what is held for it comes free, leases that it got go on."""
    _release(book, book.orders[record.id])
    return (_drop(book, record, reason=reason),)


def fill(book: Book, record: OpenOrder, award: Award) -> tuple[Outcome, ...]:
    """Give an order its lease, or its next one, out of the money that it holds."""
    _release(book, record)
    number = len(record.leases) + 1
    lease_id = piece_id(record.id, number) if record.is_piecewise else record.id
    after = replace(
        record,
        leases=(*record.leases, lease_id),
        left_s=record.left_s - award.duration_s if record.is_piecewise else 0,
        hold=record.hold - award.hold,
        booking=None,
    )
    outcomes: list[Outcome] = []
    is_filled = after.left_s <= 0 or number >= PIECES_PER_ORDER_MAX
    if is_filled:
        outcomes.append(_drop(book, after, reason=FILLED))
    moved = grant(
        book,
        record.order,
        award,
        order_id=record.id,
        lease_id=lease_id,
        signer=record.signer,
    )
    outcomes.append(moved)
    if not is_filled:
        _hold(book, after)
        outcomes += go_on(book, after)
    return tuple(outcomes)


def take_back(book: Book, lease: Lease) -> tuple[Outcome, ...]:
    """Let an order lease again what a provider did not keep.

    Called in the step that settled the lease: the money that comes back is what that
    lease has just set free, so that it is always there.
    """
    record = book.orders.get(lease.order)
    if record is None or not record.is_piecewise or lease.fault is not Fault.PROVIDER:
        return ()
    back = lease.hold - lease.paid
    kept_s = (
        lease.paid * SECONDS_PER_HOUR // lease.price_hour if lease.price_hour else 0
    )
    _release(book, record)
    after = replace(
        record,
        hold=record.hold + back,
        left_s=record.left_s + max(0, lease.duration_s - kept_s),
    )
    _hold(book, after)
    return go_on(book, after)


def forgive(record: OpenOrder, *, away_s: int) -> OpenOrder:
    """Give the order as it is when nobody counts a time in which no market was there."""
    booking = record.booking
    if booking is not None:
        booking = replace(
            booking, from_s=booking.from_s + away_s, until_s=booking.until_s + away_s
        )
    return replace(record, deadline_s=record.deadline_s + away_s, booking=booking)


def _drop(book: Book, record: OpenOrder, *, reason: str) -> OrderMoved:
    ended = replace(
        record,
        phase=OrderPhase.ENDED,
        reason=reason,
        deadline_s=0,
        hold=0,
        booking=None,
    )
    book.drop_order(ended)
    return OrderMoved(ended)


def _hold(book: Book, record: OpenOrder) -> None:
    funds.hold_for_order(
        book, order_id=record.id, tenant=record.tenant, amount=record.hold
    )
    _charge(book, record, record.hold)


def _release(book: Book, record: OpenOrder) -> None:
    funds.release_of_order(book, order_id=record.id)
    _charge(book, record, -record.hold)


def _charge(book: Book, record: OpenOrder, amount: int) -> None:
    if record.delegation != NO_DIGEST:
        held = book.delegations[record.delegation]
        book.delegations[held.id] = replace(held, held=held.held + amount)
