"""What must hold of every book, counted anew from the records: for tests and audits."""

from collections import Counter
from heapq import nsmallest

from sublet.base.errors import Broken
from sublet.base.ids import NO_DIGEST
from sublet.core.book import funds
from sublet.core.book.book import Book
from sublet.core.book.booking import Span, bookings_of, has_room, leases_on
from sublet.core.book.column import Column
from sublet.core.book.open_order import OpenOrder, OrderPhase
from sublet.core.book.record import ChannelRecord
from sublet.core.lease.phase import Phase
from sublet.core.lease.table import holds_slice, may_displace
from sublet.core.ledger.ledger import check_ledger


def check_invariants(book: Book) -> None:
    """Recount money, machines, GPUs, deadlines, channels and budgets.

    Raises:
        Broken: something was created, lost, bound twice or left without a deadline.
    """
    check_ledger(book.ledger)
    _check_leases(book)
    _check_machines(book)
    _check_gpus(book)
    _check_money(book)
    _check_orders(book)
    _check_bookings(book)


def _check_leases(book: Book) -> None:
    for lease in book.leases.values():
        _hold(lease.phase is not Phase.SETTLED, f"{lease.id} is open and settled")
        _hold(lease.deadline_s > book.now_s, f"{lease.id} is overdue")
        _hold(lease.owed <= lease.hold, f"{lease.id} owes more than is held")
        _hold(lease.id not in book.settled, f"{lease.id} is kept twice")
        _hold(lease.id not in book.unerased, f"{lease.id} is open and unerased")
    for lease in book.settled.values():
        _hold(not lease.is_erasure_due, f"{lease.id} is settled and not erased")
    for lease in book.unerased.values():
        _hold(lease.is_erasure_due, f"{lease.id} is erased, its slice still bound")
        _hold(lease.id not in book.settled, f"{lease.id} is kept twice")
    for lease in (*book.settled.values(), *book.unerased.values()):
        _hold(lease.phase is Phase.SETTLED, f"{lease.id} is not settled")
        _hold(0 <= lease.paid <= lease.owed, f"{lease.id} paid more than it owed")
    deadlines = [(lease.deadline_s, lease.id) for lease in book.leases.values()]
    deadlines += [(order.deadline_s, order.id) for order in book.orders.values()]
    first = nsmallest(1, deadlines)
    _hold(
        book.next_deadline() == (first[0] if first else None),
        "the next deadline is not the earliest",
    )


def _check_machines(book: Book) -> None:
    """What a machine's record says is used is what its leases use."""
    used: Counter[tuple[str, str, str]] = Counter()
    promised: Counter[tuple[str, str]] = Counter()  # of the offer in force
    for lease in (*book.leases.values(), *book.unerased.values()):
        if not holds_slice(lease):
            continue
        for field in ("cpus_milli", "memory_bytes", "disk_bytes"):
            used[lease.provider, lease.machine, field] += getattr(lease, field)
            promised[lease.offer_id, field] += getattr(lease, field)
        used[lease.provider, lease.machine, "leases"] += 1
        promised[lease.offer_id, "gpus"] += len(lease.gpu_uuids)
    for row, record in book.offers.records():
        offer, machine = record.offer, (record.provider, record.offer.machine)
        cells = book.offers.cells[:, row].tolist()
        for field, free in (
            ("cpus_milli", cells[Column.CPUS_MILLI_FREE]),
            ("memory_bytes", cells[Column.MEMORY_BYTES_FREE]),
            ("disk_bytes", cells[Column.DISK_BYTES_FREE]),
        ):
            total = getattr(offer, field)
            counted = used.pop((*machine, field), 0)
            _hold(counted == getattr(record, f"{field}_used"), f"{machine}: {field}")
            _hold(free == total - counted, f"{machine}: column of {field}")
            _hold(promised[record.id, field] <= total, f"{machine}: {field} oversold")
        _hold(cells[Column.GPUS_FREE] == len(record.gpus_free()), f"{machine}: GPUs")
        leases = used.pop((*machine, "leases"), 0)
        _hold(leases == record.leases_used, f"{machine}: leases")
        _hold(cells[Column.LEASES_FREE] == record.leases_free(), f"{machine}: leases")
        _hold(promised[record.id, "gpus"] <= len(offer.gpu_uuids), "GPUs oversold")
        is_up = book.may_match(record.provider)
        _hold(cells[Column.IS_UP] == is_up, f"{machine}: up or down")
    _hold(not +used, f"leases on machines that nobody knows: {list(used)[:3]}")


def _check_gpus(book: Book) -> None:
    bound: set[tuple[str, str]] = set()
    for lease in (*book.leases.values(), *book.unerased.values()):
        if holds_slice(lease):
            for uuid in lease.gpu_uuids:
                _hold((lease.provider, uuid) not in bound, f"GPU {uuid} is bound twice")
                bound.add((lease.provider, uuid))
    recorded = {
        (record.provider, uuid)
        for _, record in book.offers.records()
        for uuid in record.gpus_used
    }
    _hold(bound == recorded, "the GPUs in use are not those of the leases")


def _check_money(book: Book) -> None:
    holds = {
        lease.id: lease.hold
        for lease in book.leases.values()
        if lease.is_funded and (lease.hold or not funds.is_escrow(book))
    }
    if not funds.is_escrow(book):
        holds |= {order.id: order.hold for order in book.orders.values()}
    pending = {t.id: t.amount for t in book.ledger.pending.values()}
    _hold(holds == pending, "the holds are not those of what is open")
    held: Counter[str] = Counter()
    opened: Counter[str] = Counter()
    for lease in book.leases.values():
        held[lease.delegation] += lease.hold
        opened[lease.delegation] += 1
    for order in book.orders.values():
        held[order.delegation] += order.hold
    for record in book.delegations.values():
        _hold(record.held == held[record.id], f"{record.id}: held")
        _hold(record.leases_open == opened[record.id], f"{record.id}: open leases")
        _hold(record.held + record.spent <= record.budget, f"{record.id}: over budget")
    for channel in book.channels.values():
        _hold(channel.paid <= channel.vouched, f"{channel.id}: paid more than vouched")
        _hold(channel.claimed <= channel.vouched, f"{channel.id}: claimed unvouched")
        if funds.is_escrow(book):
            _check_channel(book, channel)


def _check_channel(book: Book, channel: ChannelRecord) -> None:
    """The account of a channel is what the chain says, less what leases were paid."""
    account = book.ledger.find(channel.id)
    posted = account.credits_posted - account.debits_posted
    owned = channel.balance - channel.paid + channel.uncollected
    _hold(posted == owned, f"{channel.id}: its account is not what the chain says")
    waiting = funds.find_waiting(book, channel)
    _hold(
        not waiting or funds.free_in(book, channel) < waiting[0].hold,
        f"{channel.id} does not pay for a lease that waits for it",
    )


def _check_orders(book: Book) -> None:
    _hold(not book.fresh and not book.unserved, "orders that nobody looked after")
    booked: set[tuple[str, str, str]] = set()
    for record in book.orders.values():
        key = record.id
        _hold(record.phase is not OrderPhase.ENDED, f"{key} waits and has ended")
        _hold(record.deadline_s > book.now_s, f"{key} is overdue")
        _hold(key not in book.leases, f"{key} waits and has its lease")
        _hold(key not in book.ended, f"{key} is kept twice")
        _hold(record.left_s > 0, f"{key} waits for nothing")
        if record.phase is OrderPhase.COMMITTING:
            _check_gang(book, record)
        if record.booking is not None:
            booked.add((record.booking.provider, record.booking.machine, key))
    indexed = {(*machine, key) for machine, ids in book.booked.items() for key in ids}
    _hold(booked == indexed, "the index of bookings is wrong")
    for record in book.ended.values():
        _hold(record.hold == 0 and record.booking is None, f"{record.id} holds on")
    spots = {key for key, lease in book.leases.items() if may_displace(lease)}
    _hold(spots == set(book.spots), "the index of spot leases is wrong")


def _check_gang(book: Book, record: OpenOrder) -> None:
    """All of a gang is leased, and each member on a machine of its own."""
    count = record.order.machines
    leases = [book.leases.get(key) for key in record.leases[-count:]]
    machines = {(lease.provider, lease.machine) for lease in leases if lease}
    _hold(len(machines) == count, f"{record.id} is half-placed")


def _check_bookings(book: Book) -> None:
    """No second of a machine is promised to more than there is room for."""
    for provider, machine in book.booked:
        offer = book.offers.find_machine(provider, machine)
        for booking, record in bookings_of(book, provider, machine):
            if booking is None or offer is None or offer.id != booking.offer_id:
                continue  # the offer has changed since; it is looked at in its time
            leaving = frozenset(
                lease.id
                for lease in leases_on(book, provider, machine)
                if lease.displaced_by != NO_DIGEST or lease.offer_id != offer.id
            )
            span = Span(max(booking.from_s, book.now_s + 1), booking.until_s)
            fits = has_room(
                book, offer, record.order, span, own=record.id, without=leaving
            )
            _hold(fits or booking.from_s <= book.now_s, f"{machine} is promised twice")


def _hold(is_so: bool, what: str) -> None:
    if not is_so:
        raise Broken(f"the book is wrong: {what}")
