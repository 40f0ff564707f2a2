"""What a tenant may be asked to pay: claims checked, channels added up. Pure.

A channel is one running account with one provider over all leases: a voucher says
"so far I owe you this much". The record here is the tenant's own memory of what it
has authorised, so that no provider can ask for more, whatever it claims the channel
stands at.
"""

from msgspec import Struct, structs

from sublet.base.errors import PeerFault
from sublet.base.ids import Digest
from sublet.base.units import MicroUsd, compute_owed

CLOCK_TOLERANCE_MS = 2_000  # the same grace that the book gives to every meter

# A lease that ends for these reasons owes only what the tenant holds a checkpoint of.
UNBILLED_REASONS = frozenset({"given_back", "failed"})


class ChannelRecord(Struct, frozen=True):
    """What this tenant has authorised on one channel, in micro-USD."""

    last: int = 0  # amount of the highest voucher that was ever signed
    settled: int = 0  # authorised for leases that are over
    open: dict[Digest, int] = {}  # lease id -> authorised so far
    is_shared: bool = False  # leases have overlapped since the channel was idle


class Meter(Struct, frozen=True):
    """What the tenant knows about the time that one lease has run."""

    price_hour: int  # micro-USD
    hold: int  # micro-USD; the most that this lease may ever cost
    duration_s: int  # seconds beyond are the provider's
    since_ms: int  # the program cannot have started before this instant
    ran_ms: int = 0  # by the last claim that was accepted
    secured_ms: int = 0  # up to the last checkpoint that is stored


def check_usage(meter: Meter, *, ran_ms: int, owed: int, at_ms: int) -> MicroUsd:
    """Check a meter reading; give what is to be authorised for the lease.

    Never above the hold, in the tenant's favour.

    Raises:
        PeerFault: more time than has passed, less than before, or a wrong product.
    """
    _check_time(meter, ran_ms=ran_ms, at_ms=at_ms)
    return _check_owed(meter, owed=owed, billed_ms=ran_ms)


def check_receipt(
    meter: Meter, *, ran_ms: int, owed: int, reason: str, at_ms: int
) -> MicroUsd:
    """Check the last reading; seconds that produced nothing are not billed.

    Raises:
        PeerFault: as for ``check_usage``.
    """
    _check_time(meter, ran_ms=ran_ms, at_ms=at_ms)
    billed_ms = min(ran_ms, meter.secured_ms) if reason in UNBILLED_REASONS else ran_ms
    return _check_owed(meter, owed=owed, billed_ms=billed_ms)


def compute_due(meter: Meter, *, ran_ms: int) -> MicroUsd:
    """Price milliseconds of a lease: rounded down, never above the hold."""
    billed_ms = min(ran_ms, meter.duration_s * 1_000)
    due = compute_owed(price_hour=meter.price_hour, ran_ms=billed_ms)
    return MicroUsd(min(due, meter.hold))


def authorize(
    record: ChannelRecord,
    *,
    lease_id: Digest,
    owed: int,
    channel_total: int | None = None,
) -> tuple[ChannelRecord, MicroUsd]:
    """Add a lease's debt to the channel; give the voucher's amount.

    Args:
        record: what was authorised so far.
        lease_id: whose debt it is.
        owed: micro-USD of that lease, from its start; already checked.
        channel_total: what the provider says that the voucher must reach; None where
            nobody asked and the tenant says itself what it owes.

    The amount never falls, and never exceeds what was authorised over all leases. What a
    provider asks for counts what other leases of the channel owed at that instant, and
    two that end at once may be heard of in either order. So where leases overlap its
    figure is not gone by: each voucher covers all that was authorised so far.

    Raises:
        PeerFault: the channel is said to stand higher than it can.
    """
    others = {key: value for key, value in record.open.items() if key != lease_id}
    authorized = max(owed, record.open.get(lease_id, 0))
    most = record.settled + sum(others.values()) + authorized
    asked = most if channel_total is None else channel_total
    if asked > most and not others:
        raise PeerFault(
            f"the provider asks for a voucher over {asked} micro-USD, but this "
            f"tenant owes it at most {most}; nothing was signed",
            code="channel_overstated",
            detail={"asked": asked, "most": most},
        )
    is_shared = bool(others) or (record.is_shared and lease_id in record.open)
    amount = max(record.last, most if is_shared else min(asked, most))
    kept = ChannelRecord(
        last=amount,
        settled=record.settled,
        open={**others, lease_id: authorized},
        is_shared=is_shared,
    )
    return kept, MicroUsd(amount)


def close_lease(record: ChannelRecord, *, lease_id: Digest) -> ChannelRecord:
    """Move an ended lease's debt to the settled ones; twice is harmless."""
    if lease_id not in record.open:
        return record
    others = {key: value for key, value in record.open.items() if key != lease_id}
    return structs.replace(
        record,
        settled=record.settled + record.open[lease_id],
        open=others,
    )


def rebase(
    record: ChannelRecord,
    *,
    paid: int,
    over: frozenset[Digest],
    beside: frozenset[Digest] = frozenset(),
) -> ChannelRecord:
    """Take over what the public log says of this tenant's leases at this provider.

    For a tenant whose own record was lost or is stale, or who has other leases there
    for which nothing was authorised yet.

    Args:
        record: what was authorised so far.
        paid: the sum over the settled leases. The log's settlements were all covered
            by vouchers that the tenant had signed.
        over: the settled leases.
        beside: the open ones.
    """
    still = {key: value for key, value in record.open.items() if key not in over}
    gone = sum(record.open.values()) - sum(still.values())
    still = {**dict.fromkeys(beside, 0), **still}
    return structs.replace(record, settled=max(record.settled + gone, paid), open=still)


def _check_time(meter: Meter, *, ran_ms: int, at_ms: int) -> None:
    passed_ms = at_ms - meter.since_ms + CLOCK_TOLERANCE_MS
    if ran_ms > passed_ms:
        raise PeerFault(
            f"the provider claims {ran_ms} ms of work, but at most {passed_ms} ms "
            "have passed since it could start",
            code="claims_too_much",
            detail={"ran_ms": ran_ms, "passed_ms": passed_ms},
        )
    if ran_ms < meter.ran_ms:
        raise PeerFault(
            f"the provider's meter went back from {meter.ran_ms} to {ran_ms} ms",
            code="meter_went_back",
            detail={"ran_ms": ran_ms, "before_ms": meter.ran_ms},
        )


def _check_owed(meter: Meter, *, owed: int, billed_ms: int) -> MicroUsd:
    due = compute_due(meter, ran_ms=billed_ms)
    if owed > due:
        raise PeerFault(
            f"the provider asks {owed} micro-USD for {billed_ms} ms, but that is {due}",
            code="owed_overstated",
            detail={"owed": owed, "due": due},
        )
    return MicroUsd(owed)
