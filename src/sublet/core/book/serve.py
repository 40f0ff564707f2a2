"""Looks after orders that wait: once a step is made, whoever can go on does.

Only what the step can have changed is looked at: new orders, and those that some party
whose supply grew, or whose lease ended, may serve. The oldest order comes first.
"""

from sublet.core.book import gang, live, reserved, standing, waiting
from sublet.core.book.book import Book
from sublet.core.book.open_order import OpenOrder, OrderPhase
from sublet.core.book.outcome import LeaseMoved, Outcome
from sublet.core.book.record import OfferRecord
from sublet.core.document import Offer, Order
from sublet.core.lease.phase import REVOKED, Lease, Phase


def expire(book: Book, record: OpenOrder) -> tuple[Outcome, ...]:
    """Let the deadline of an order pass."""
    if record.phase is OrderPhase.RESERVED:
        return reserved.start(book, record)
    if record.phase is OrderPhase.COMMITTING:
        return gang.expire(book, record)
    if record.phase is OrderPhase.WAITING:
        return waiting.end(book, record, reason=waiting.EXPIRED)
    return live.close(book, record)


def follow(book: Book, done: tuple[Outcome, ...]) -> tuple[Outcome, ...]:
    """Let orders go on after what a step has done; give what they did."""
    outcomes: list[Outcome] = []
    for outcome in done:
        if type(outcome) is LeaseMoved:
            outcomes += _follow_lease(book, outcome.lease)
    while book.unserved or book.fresh:
        new, fresh = book.unserved, book.fresh
        book.unserved, book.fresh = {}, {}
        machines = [one for each in fresh for one in book.offers.of_provider(each)]
        for key in list(book.orders):
            record = book.orders[key]
            if key in new or _is_touched(record, fresh, machines):
                outcomes += _serve(book, record)
    return tuple(outcomes)


def _follow_lease(book: Book, lease: Lease) -> tuple[Outcome, ...]:
    record = book.orders.get(lease.order)
    if record is not None and record.phase is OrderPhase.COMMITTING:
        return gang.follow(book, record)
    if lease.phase is Phase.SETTLED:
        return waiting.take_back(book, lease)
    return ()


def _serve(book: Book, record: OpenOrder) -> tuple[Outcome, ...]:
    delegation = book.delegations.get(record.delegation)
    if delegation is not None and delegation.is_revoked:
        return waiting.end(book, record, reason=REVOKED)
    if record.phase is OrderPhase.WAITING:
        return standing.serve(book, record)
    if record.phase is OrderPhase.RESERVED and _has_come(book, record):
        return reserved.start(book, record)
    return ()


def _has_come(book: Book, record: OpenOrder) -> bool:
    return record.booking is not None and record.booking.from_s <= book.now_s


def _is_touched(
    record: OpenOrder, fresh: dict[str, None], machines: list[OfferRecord]
) -> bool:
    if record.phase not in (OrderPhase.WAITING, OrderPhase.RESERVED):
        return False
    if record.tenant in fresh:
        return True
    if record.booking is not None:
        return record.booking.provider in fresh
    return any(_may_fit(machine, record.order) for machine in machines)


def _may_fit(machine: OfferRecord, order: Order) -> bool:
    """Say whether it is worth looking closer: a cheap test that lets nothing slip.

    Somebody may have thousands of orders wait for what never comes: each is cheap here.
    """
    offer = machine.offer
    return (
        machine.leases_free() > 0
        and offer.cpus_milli - machine.cpus_milli_used >= order.cpus_milli
        and offer.memory_bytes - machine.memory_bytes_used >= order.memory_bytes
        and offer.disk_bytes - machine.disk_bytes_used >= order.disk_bytes
        and len(offer.gpu_uuids) - len(machine.gpus_used) >= order.gpu_count
        and _least_cost(offer, order) <= order.price_hour_max
        and set(order.features) <= set(offer.features)
    )


def _least_cost(offer: Offer, order: Order) -> int:
    """Say what the slice costs at least, micro-USD an hour, rounded down."""
    return (
        order.cpus_milli * offer.cpu_price_hour // 1_000
        + (order.memory_bytes * offer.memory_price_hour >> 30)
        + order.gpu_count * offer.gpu_price_hour
    )
