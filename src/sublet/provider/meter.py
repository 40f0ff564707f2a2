"""The meter of one lease: what ran, what of it may be claimed, what is unpaid. Pure.

Seconds are billed from the moment at which the log has heard the Start, because that
is what the book lets pass: a market that was away at that moment costs the provider,
not the tenant. Until it has answered, at most one second is claimed.

Not here: reading the sandbox, signing, sending (``runner``).
"""

from collections.abc import Sequence

from msgspec.structs import replace

from sublet.core.document import UsageRecord
from sublet.provider.account import (
    compute_channel_total,
    compute_due,
    compute_unpaid_s,
)
from sublet.provider.record import LeaseRecord
from sublet.service.ports import SandboxState

UNHEARD_MS_MAX = 1_000  # claimed while the log has not heard of the start
LOG_INTERVAL_MS_MAX = 10_000  # between two records in the log


def note_started(record: LeaseRecord, *, ran_ms: int, passed_ms: int) -> LeaseRecord:
    """Note that the log has heard the start; what ran before that is not billed.

    Args:
        record: of the lease.
        ran_ms: by the sandbox, now.
        passed_ms: since the log's time stamp of the Start.
    """
    if record.unbilled_ms >= 0:
        return record
    return replace(record, unbilled_ms=max(0, ran_ms - passed_ms - UNHEARD_MS_MAX))


def note_ran(record: LeaseRecord, *, ran_ms: int) -> LeaseRecord:
    """Take a reading of the sandbox; the claim never falls."""
    if record.unbilled_ms < 0:
        claim_ms = min(ran_ms, UNHEARD_MS_MAX)
    else:
        claim_ms = ran_ms - record.unbilled_ms
    claim_ms = max(record.ran_ms, claim_ms)
    owed = compute_due(record.lease, ran_ms=claim_ms)
    return replace(record, ran_ms=claim_ms, owed=owed)


def cut_claim(record: LeaseRecord, *, passed_ms: int) -> LeaseRecord:
    """Claim less, because the book says that only so much time has passed."""
    claim_ms = max(0, min(record.ran_ms, passed_ms))
    owed = compute_due(record.lease, ran_ms=claim_ms)
    return replace(record, ran_ms=claim_ms, owed=min(record.owed, owed))


def bill_secured(record: LeaseRecord, *, is_claimed: bool) -> LeaseRecord:
    """Bill only what the tenant holds a checkpoint of: the rest produced nothing.

    Args:
        record: of the lease.
        is_claimed: the receipt tells what ran, and the book bills what is secured (it
            does so for what an owner takes back); otherwise only that is claimed.
    """
    ran_ms = record.ran_ms if is_claimed else min(record.ran_ms, record.secured_ms)
    owed = compute_due(record.lease, ran_ms=min(ran_ms, record.secured_ms))
    return replace(record, ran_ms=ran_ms, owed=owed)


def next_sequence(record: LeaseRecord, *, now_s: int) -> int:
    """Number the next usage record, by the time in ms: higher than all before.

    Two records of one number with other readings cost a provider its stake. A plain
    count would come again where the last one was not kept: the disk was full, or the
    power went. The time does not, even where the agent is back within a second or two.
    """
    return max(record.sequence + 1, now_s * 1_000)


def make_usage(
    record: LeaseRecord, state: SandboxState, *, now_s: int, salt: int
) -> UsageRecord:
    """Write the usage record of this reading, for signing."""
    return UsageRecord(
        lease_id=record.lease.id,
        sequence=record.sequence,
        ran_ms=record.ran_ms,
        cpu_ms=state.cpu_ms,
        memory_bytes_max=state.memory_bytes_max,
        signed_at_s=now_s,
        salt=salt,
    )


def find_log_interval_ms(report_s: int) -> int:
    """Say how often the log hears of a running job: four times in what it allows."""
    return min(LOG_INTERVAL_MS_MAX, report_s * 1_000 // 4)


def total_of(
    record: LeaseRecord, *, records: Sequence[LeaseRecord], channel_paid: int
) -> int:
    """Say what a voucher must say at least to cover this lease as it stands."""
    return compute_channel_total(
        record, owed=record.owed, records=records, paid=channel_paid
    )


def unpaid_s(
    record: LeaseRecord,
    *,
    records: Sequence[LeaseRecord],
    channel_paid: int,
    vouched: int,
) -> int:
    """Say how many seconds of this lease no voucher covers.

    Args:
        record: of the lease.
        records: of all leases, oldest first.
        channel_paid: what the channel has paid for settled leases.
        vouched: the tenant's highest voucher.
    """
    return compute_unpaid_s(
        record.lease,
        owed=record.owed,
        channel_total=total_of(record, records=records, channel_paid=channel_paid),
        paid=vouched,
    )
