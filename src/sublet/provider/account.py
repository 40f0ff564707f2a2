"""What is owed and what is paid: the arithmetic of one tenant's channel. Pure.

A channel is cumulative over all leases of a tenant and this provider. Of a voucher,
first what settled leases were paid counts, then open leases, oldest first. So what a
voucher must say for one lease is: what the channel has paid, what the older open
leases owe so far, and what this one owes.

Not here: signatures (``wire``), who asks for vouchers when (``meter``).
"""

from collections.abc import Sequence

from sublet.base.ids import Address
from sublet.base.units import MS_PER_HOUR, compute_owed
from sublet.core.lease.phase import Lease, Phase
from sublet.provider.record import LeaseRecord

Line = tuple[Address, Address, Address]  # payer, receiver, who signs vouchers

# Reasons for which only what the tenant holds a checkpoint of is owed.
SECURED_ONLY = frozenset({"given_back", "failed"})


def compute_due(lease: Lease, *, ran_ms: int) -> int:
    """Price what a lease ran, in micro-USD: never beyond its duration or its hold."""
    billed_ms = min(ran_ms, lease.duration_s * 1_000)
    return min(compute_owed(price_hour=lease.price_hour, ran_ms=billed_ms), lease.hold)


def find_paid(leases: Sequence[Lease], *, line: Line) -> int:
    """Find what the channel has paid, from what the market says of its leases.

    A settled lease says it outright; of the open ones the oldest has nothing before
    it but that. What was paid only grows, so the highest word is the newest.

    Args:
        leases: of this provider, oldest first, as the market last told them.
        line: the channel, as ``Lease.line`` names it.
    """
    own = [lease for lease in leases if lease.line == line]
    paid = [each.channel_total for each in own if each.phase is Phase.SETTLED]
    still_open = [each for each in own if each.phase is not Phase.SETTLED]
    if still_open:
        paid.append(still_open[0].channel_total - still_open[0].owed)
    return max(paid, default=0)


def compute_channel_total(
    record: LeaseRecord, *, owed: int, records: Sequence[LeaseRecord], paid: int
) -> int:
    """Say what the channel's voucher must say at least to cover one lease.

    Args:
        record: of the lease.
        owed: by it, so far.
        records: of all leases of this provider, oldest first.
        paid: by the channel, for leases that are settled.
    """
    total = paid + owed
    for older in records:
        if older.lease.id == record.lease.id:
            break
        is_open = older.lease.phase is not Phase.SETTLED
        if is_open and older.lease.line == record.lease.line:
            total += older.owed
    return total


def compute_unpaid_s(lease: Lease, *, owed: int, channel_total: int, paid: int) -> int:
    """Say how many seconds of a lease's run no voucher covers; rounds down.

    Args:
        lease: for its price.
        owed: by the lease, so far.
        channel_total: what a voucher must say to cover that.
        paid: what the channel's highest voucher says.
    """
    missing = min(owed, max(0, channel_total - paid))
    if lease.price_hour == 0:
        return 0
    return missing * MS_PER_HOUR // lease.price_hour // 1_000
