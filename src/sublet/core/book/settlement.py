"""The end of a lease: what the channel leaves for it, what is paid, what comes free.

A channel's voucher is cumulative over all leases of a tenant and a provider (those under
a delegation have a channel of their own, whose vouchers the delegate signs). Of what
it says, first comes what settled leases were paid, then open leases, oldest first, by
what each owes so far. A lease in SETTLING is settled as soon as that covers it.
"""

from msgspec.structs import replace

from sublet.base.ids import NO_DIGEST
from sublet.base.limits import LEASES_KEPT_MAX
from sublet.core.book import funds
from sublet.core.book.book import Book, Line
from sublet.core.book.due import show, total_due
from sublet.core.book.outcome import LeaseErased, LeaseMoved, Outcome
from sublet.core.lease.phase import Fault, Lease, Phase


def record_move(book: Book, lease: Lease) -> tuple[Outcome, ...]:
    """Enter the next state of a lease, and settle what that makes due.

    Args:
        lease: as ``lease.table`` gave it; SETTLED means that the end is decided and
            the money is still to move.
    """
    if lease.id in book.unerased:
        book.drop_unerased(lease, settled_max=LEASES_KEPT_MAX)
        return (LeaseErased(show(book, lease)),)
    if lease.phase is Phase.SETTLED:
        # Less paid than owed leaves more for the younger ones: look again.
        return (*_settle(book, lease), *settle_covered(book, lease.line))
    book.change_lease(lease)
    moved = LeaseMoved(show(book, lease))
    if lease.phase is not Phase.SETTLING:
        return (moved,)
    return (moved, *settle_covered(book, lease.line))


def settle_covered(book: Book, line: Line) -> tuple[Outcome, ...]:
    """Settle each lease of a channel that is in SETTLING and covered, oldest first."""
    channel = book.find_channel(line)
    left = 0 if channel is None else channel.vouched - channel.paid
    outcomes: list[Outcome] = []
    for lease in book.open_leases(book.open_of_line.get(line)):
        if lease.phase is Phase.SETTLING and (lease.owed == 0 or left >= lease.owed):
            settled = replace(lease, phase=Phase.SETTLED)
            outcomes += _settle(book, settled)
        left -= lease.owed
    return tuple(outcomes)


def _settle(book: Book, lease: Lease) -> tuple[Outcome, ...]:
    channel = book.find_channel(lease.line)
    paid = 0
    if channel is not None:
        older = total_due(book, lease) - book.leases[lease.id].owed
        paid = min(lease.owed, max(0, channel.vouched - older))
    paid = funds.settle(book, lease, amount=paid)
    if channel is not None:
        book.channels[channel.id] = replace(channel, paid=channel.paid + paid)
    lease = replace(lease, paid=paid, deadline_s=0)
    book.drop_lease(lease, settled_max=LEASES_KEPT_MAX)
    _settle_delegation(book, lease)
    _settle_reputation(book, lease)
    moved = LeaseMoved(show(book, lease))
    if channel is None:
        return (moved,)
    funded = funds.fund_waiting(book, book.channels[channel.id])
    return (moved, *(LeaseMoved(show(book, one)) for one in funded))


def _settle_delegation(book: Book, lease: Lease) -> None:
    if lease.delegation == NO_DIGEST:
        return
    record = book.delegations[lease.delegation]
    book.delegations[record.id] = replace(
        record,
        held=record.held - lease.hold,
        spent=record.spent + lease.paid,
        leases_open=record.leases_open - 1,
    )


def _settle_reputation(book: Book, lease: Lease) -> None:
    record = book.find_provider(lease.provider)
    record = replace(record, ran_s=record.ran_s + lease.ran_ms // 1_000)
    if lease.fault is Fault.PROVIDER:
        record = replace(record, leases_at_fault=record.leases_at_fault + 1)
    elif lease.fault is Fault.NOBODY and lease.started_at_s:
        record = replace(record, leases_completed=record.leases_completed + 1)
    book.providers[lease.provider] = record
    book.offers.set_lasts(lease.provider, lasts_s=record.lasts_s)
