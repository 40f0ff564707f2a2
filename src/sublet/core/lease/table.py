"""The law of a lease: ``(phase, fact) -> next phase``, and what each deadline does.

What is not in the table is refused by name. A move is pure: it reads a lease, a
document, the time and the market's rules, and gives the lease as it is next, or
raises. The diagram in the docs is generated from these tables (``lease.diagram``).

Not here: money that moves, resources that come free (``book.settlement``).
"""

from collections.abc import Callable, Mapping
from typing import Any, Literal

from msgspec import Struct
from msgspec.structs import replace

from sublet.base import limits
from sublet.base.errors import Refused
from sublet.base.ids import NO_DIGEST, Address, Digest
from sublet.base.units import compute_owed, format_money
from sublet.core.document import (
    CheckpointKept,
    Delivery,
    Erasure,
    GiveBack,
    LeaseTerms,
    Market,
    Receipt,
    Replacement,
    Start,
    Stop,
    UsageRecord,
)
from sublet.core.lease.phase import NOT_FUNDED, WITHDRAWN, Fault, Lease, Phase

LeaseDocument = (
    LeaseTerms
    | Delivery
    | Start
    | UsageRecord
    | CheckpointKept
    | Replacement
    | GiveBack
    | Receipt
    | Erasure
    | Stop
)

CLAIM_SLACK_MS = 2_000  # both clocks count whole seconds: start and report may each err
DISPLACED = "displaced"  # why a spot lease ends whose slice another order has
GIVEN_BACK = "given_back"  # the Receipt's reason that puts the fault on the provider

ERASURE = "erasure"  # the feature: no next tenant before the data of this one is gone

# Phases in which the lease keeps its slice of the machine from others.
HOLDING = frozenset(
    {Phase.MATCHED, Phase.ACCEPTED, Phase.PREPARING, Phase.RUNNING, Phase.CLOSING}
)


class Now(Struct, frozen=True):
    """What a move may know beside lease and document."""

    at_s: int
    market: Market


class Move(Struct, frozen=True):
    """One row of the table."""

    to: Phase
    next: Callable[[Lease, Any, Now], Lease]


class Due(Struct, frozen=True):
    """What happens when a phase's deadline passes: it settles, by someone's fault."""

    owner: Literal["tenant", "provider"]
    span: str  # the market's field that sets the deadline
    reason: str
    fault: Fault


# ---- moves ------------------------------------------------------------------------


def _accept(lease: Lease, terms: LeaseTerms, now: Now) -> Lease:
    for field in ("offer_id", "tenant", "provider", "price_hour", "duration_s"):
        if getattr(terms, field) != getattr(lease, field):
            raise Refused(
                f"lease {lease.id}: the terms say {field} = {getattr(terms, field)}, "
                f"the match says {getattr(lease, field)}; sign the match as it is",
                code="terms_differ",
                field=f"terms.{field}",
            )
    return replace(
        lease,
        phase=Phase.ACCEPTED,
        deadline_s=_before_end(lease, now.at_s + now.market.deliver_s),
        # From here on the tenant may send data.
        is_erasure_due=ERASURE in lease.features,
    )


def _deliver(lease: Lease, delivery: Delivery, now: Now) -> Lease:
    if delivery.manifest != lease.manifest:
        raise Refused(
            f"lease {lease.id}: the manifest is not the one that the order committed "
            "to; ask the tenant for that one",
            code="wrong_manifest",
            field="delivery.manifest",
        )
    return replace(
        lease,
        phase=Phase.PREPARING,
        deadline_s=_before_end(lease, now.at_s + now.market.prepare_s),
    )


def _start(lease: Lease, _: Start, now: Now) -> Lease:
    if not lease.is_funded:
        raise Refused(
            f"lease {lease.id}: its channel does not hold {format_money(lease.hold)} "
            "yet; start the job once the deposit is in the log",
            code=NOT_FUNDED,
        )
    ends_by_s = now.at_s + lease.duration_s
    started = replace(
        lease,
        phase=Phase.RUNNING,
        started_at_s=now.at_s,
        ends_by_s=min(ends_by_s, lease.until_s or ends_by_s),
    )
    return replace(started, deadline_s=_running_deadline(started, now))


def _report(lease: Lease, record: UsageRecord, now: Now) -> Lease:
    _check_claim(lease, record.ran_ms, now)
    if record.ran_ms < lease.ran_ms:
        raise Refused(
            f"lease {lease.id}: the record says {record.ran_ms} ms and an earlier one "
            f"said {lease.ran_ms} ms; a meter only goes up",
            code="stale_record",
            field="record.ran_ms",
        )
    return replace(
        lease,
        ran_ms=record.ran_ms,
        owed=_price(lease, record.ran_ms),
        deadline_s=_running_deadline(lease, now),
    )


def _keep(lease: Lease, kept: CheckpointKept, now: Now) -> Lease:
    _check_claim(lease, kept.ran_ms, now)
    if kept.ran_ms < lease.secured_ms:
        raise Refused(
            f"lease {lease.id}: a checkpoint of {lease.secured_ms} ms is already kept; "
            f"one of {kept.ran_ms} ms is older",
            code="stale_checkpoint",
            field="kept.ran_ms",
        )
    return replace(lease, secured_ms=kept.ran_ms, checkpoint=kept.checkpoint)


def _replace(lease: Lease, asked: Replacement, _: Now) -> Lease:
    if lease.replacements >= limits.REPLACEMENTS_MAX:
        raise Refused(
            f"lease {lease.id}: its program was replaced {lease.replacements} times; "
            "end it and order a new one",
            code="too_many_replacements",
        )
    return replace(
        lease, replacement=asked.manifest, replacements=lease.replacements + 1
    )


def _exchange(lease: Lease, delivery: Delivery, _: Now) -> Lease:
    if delivery.manifest != lease.replacement:
        raise Refused(
            f"lease {lease.id}: the manifest is not the one that the tenant asked for "
            "last; ask the tenant for that one",
            code="wrong_manifest",
            field="delivery.manifest",
        )
    return replace(lease, runs=delivery.manifest)


def _notify(lease: Lease, notice: GiveBack, now: Now) -> Lease:
    return _give_notice(lease, notice_s=notice.notice_s, now=now)


def _close(lease: Lease, stop: Stop, now: Now) -> Lease:
    return replace(
        lease,
        phase=Phase.CLOSING,
        reason=stop.reason,
        deadline_s=now.at_s + now.market.close_s,
    )


def _end(lease: Lease, receipt: Receipt, now: Now) -> Lease:
    _check_claim(lease, receipt.ran_ms, now)
    is_given_back = receipt.reason == GIVEN_BACK
    billed_ms = receipt.ran_ms
    if is_given_back:
        billed_ms = min(billed_ms, lease.secured_ms)
    return replace(
        lease,
        phase=Phase.SETTLING,
        deadline_s=now.at_s + now.market.settle_s,
        ended_at_s=now.at_s,
        ran_ms=receipt.ran_ms,
        exit_code=receipt.exit_code,
        outputs=receipt.outputs,
        reason=_end_reason(lease, receipt.reason),
        fault=Fault.PROVIDER
        if is_given_back and lease.displaced_by == NO_DIGEST
        else lease.fault,
        owed=_price(lease, billed_ms),
    )


def _fail(lease: Lease, receipt: Receipt, now: Now) -> Lease:
    _check_claim(lease, receipt.ran_ms, now)
    is_displaced = lease.displaced_by != NO_DIGEST and receipt.reason == GIVEN_BACK
    reason, fault = receipt.reason, Fault.PROVIDER
    if is_displaced:
        reason, fault = DISPLACED, Fault.NOBODY
    elif not lease.is_funded:  # it had nothing to start for
        reason, fault = NOT_FUNDED, Fault.TENANT
    failed = _settle(lease, at_s=now.at_s, reason=reason, fault=fault, owed=0)
    return replace(failed, exit_code=receipt.exit_code)


def _cancel(lease: Lease, stop: Stop, now: Now) -> Lease:
    return _settle(lease, at_s=now.at_s, reason=stop.reason, fault=Fault.NOBODY, owed=0)


def _erase(lease: Lease, erasure: Erasure, _: Now) -> Lease:
    if not lease.is_erasure_due:
        raise Refused(
            f"lease {lease.id}: no erasure is due; its order did not require one, or "
            "it stands in the log already",
            code="no_erasure_due",
        )
    return replace(
        lease,
        is_erasure_due=False,
        erasure=erasure.statement,
        erasure_level=erasure.level,
    )


STEPS: Mapping[tuple[Phase, type[LeaseDocument]], Move] = {
    (Phase.MATCHED, LeaseTerms): Move(Phase.ACCEPTED, _accept),
    (Phase.MATCHED, Stop): Move(Phase.SETTLED, _cancel),
    (Phase.ACCEPTED, Delivery): Move(Phase.PREPARING, _deliver),
    (Phase.ACCEPTED, Stop): Move(Phase.SETTLED, _cancel),
    (Phase.PREPARING, Start): Move(Phase.RUNNING, _start),
    (Phase.PREPARING, Receipt): Move(Phase.SETTLED, _fail),
    (Phase.PREPARING, Stop): Move(Phase.SETTLED, _cancel),
    (Phase.RUNNING, UsageRecord): Move(Phase.RUNNING, _report),
    (Phase.RUNNING, CheckpointKept): Move(Phase.RUNNING, _keep),
    (Phase.RUNNING, Replacement): Move(Phase.RUNNING, _replace),
    (Phase.RUNNING, Delivery): Move(Phase.RUNNING, _exchange),
    (Phase.RUNNING, GiveBack): Move(Phase.RUNNING, _notify),
    (Phase.RUNNING, Receipt): Move(Phase.SETTLING, _end),
    (Phase.RUNNING, Stop): Move(Phase.CLOSING, _close),
    (Phase.CLOSING, Receipt): Move(Phase.SETTLING, _end),
    (Phase.SETTLING, Erasure): Move(Phase.SETTLING, _erase),
    (Phase.SETTLED, Erasure): Move(Phase.SETTLED, _erase),
}

SIGNERS: Mapping[type[LeaseDocument], Literal["tenant", "provider"]] = {
    LeaseTerms: "provider",
    Delivery: "provider",
    Start: "provider",
    UsageRecord: "provider",
    GiveBack: "provider",
    Receipt: "provider",
    Erasure: "provider",
    CheckpointKept: "tenant",
    Replacement: "tenant",
    Stop: "tenant",
}

DEADLINES: Mapping[Phase, Due] = {
    Phase.MATCHED: Due("provider", "accept_s", "not_accepted", Fault.PROVIDER),
    Phase.ACCEPTED: Due("tenant", "deliver_s", "not_delivered", Fault.TENANT),
    Phase.PREPARING: Due("provider", "prepare_s", "not_started", Fault.PROVIDER),
    Phase.RUNNING: Due("provider", "report_s", "silent", Fault.PROVIDER),
    Phase.CLOSING: Due("provider", "close_s", "no_receipt", Fault.PROVIDER),
    Phase.SETTLING: Due("tenant", "settle_s", "not_paid", Fault.TENANT),
}

# The provider did its part, and waits for the tenant's money.
UNFUNDED = Due("tenant", "prepare_s", NOT_FUNDED, Fault.TENANT)


def step(
    lease: Lease, document: LeaseDocument, *, signer: Address, at_s: int, market: Market
) -> Lease:
    """Give the lease as it is after this document. Pure.

    A lease that comes back SETTLED has ``owed`` set, not yet ``paid``.

    Raises:
        Refused: ``wrong_signer``, ``illegal_step`` (not in the table), or why the
            document does not fit the lease (``terms_differ``, ``claims_too_much`` …).
    """
    kind = type(document)
    role = SIGNERS[kind]
    party = lease.authorizer if role == "tenant" else lease.provider
    if signer != party and not (role == "tenant" and signer == lease.tenant):
        raise Refused(
            f"lease {lease.id}: {kind.__name__} must be signed by the {role}, {party}",
            code="wrong_signer",
        )
    move = STEPS.get((lease.phase, kind))
    if move is None:
        raise Refused(
            f"lease {lease.id} is {lease.phase.value}: {kind.__name__} does not fit "
            "there; look at the lease and go on from where it stands",
            code="illegal_step",
            detail={"phase": lease.phase.value, "document": kind.__name__},
        )
    return move.next(lease, document, Now(at_s, market))


def holds_slice(lease: Lease) -> bool:
    """Say whether the lease keeps its slice of the machine from others.

    While it may run; where the order required erasure, until that stands in the log.
    """
    return lease.phase in HOLDING or lease.is_erasure_due


def may_displace(lease: Lease) -> bool:
    """Say whether an order that pays more may have this lease's slice."""
    return (
        lease.spot_max > 0
        and lease.displaced_by == NO_DIGEST
        and lease.phase in HOLDING
        and lease.phase is not Phase.CLOSING
    )


def displace(lease: Lease, *, order_id: Digest, at_s: int, market: Market) -> Lease:
    """Give the lease as it is once another order has its slice, after the notice."""
    noticed = _give_notice(lease, notice_s=lease.notice_s, now=Now(at_s, market))
    return replace(noticed, displaced_by=order_id)


def can_stop(lease: Lease) -> bool:
    """Say whether a Stop still means something to this lease."""
    return (lease.phase, Stop) in STEPS


def stop(lease: Lease, *, reason: str, at_s: int, market: Market) -> Lease:
    """Give the lease as it is once it was stopped without a document of its own."""
    document = Stop(lease_id=lease.id, reason=reason, signed_at_s=at_s, salt=0)
    return STEPS[(lease.phase, Stop)].next(lease, document, Now(at_s, market))


def unfund(lease: Lease, *, at_s: int, market: Market) -> Lease:
    """Give the lease as it is once its tenant has taken back what was to pay for it."""
    lost = replace(lease, is_funded=False)
    if not can_stop(lost):
        return lost
    return replace(
        stop(lost, reason=WITHDRAWN, at_s=at_s, market=market), fault=Fault.TENANT
    )


def expire(lease: Lease, *, market: Market) -> Lease:
    """Give the lease as it is once its deadline has passed, whoever noticed when.

    Everything counts from the deadline itself, so that it makes no difference at
    which later second the log hears of it.
    """
    if lease.phase is Phase.RUNNING and lease.deadline_s >= lease.ends_by_s:
        return replace(
            lease,
            phase=Phase.CLOSING,
            reason="timeout",
            deadline_s=lease.deadline_s + market.close_s,
        )
    if lease.displaced_by != NO_DIGEST and lease.deadline_s == lease.give_back_by_s:
        return _settle(
            lease,
            at_s=lease.deadline_s,
            reason=DISPLACED,
            fault=Fault.NOBODY,
            owed=_price(lease, lease.secured_ms),
        )
    due = DEADLINES[lease.phase]
    if lease.phase is Phase.PREPARING and not lease.is_funded:
        due = UNFUNDED
    owed = lease.owed if due.fault is Fault.TENANT else _price(lease, lease.secured_ms)
    return _settle(
        lease, at_s=lease.deadline_s, reason=due.reason, fault=due.fault, owed=owed
    )


def forgive(lease: Lease, *, away_s: int) -> Lease:
    """Give the lease as it is when nobody counts a time in which no market was there."""
    return replace(
        lease,
        deadline_s=lease.deadline_s + away_s,
        ends_by_s=lease.ends_by_s and lease.ends_by_s + away_s,
        give_back_by_s=lease.give_back_by_s and lease.give_back_by_s + away_s,
        until_s=lease.until_s and lease.until_s + away_s,
    )


def lose(lease: Lease, *, at_s: int) -> Lease:
    """Give the lease as it is once its provider is lost: only what is safe is owed."""
    return _settle(
        lease,
        at_s=at_s,
        reason="provider_lost",
        fault=Fault.PROVIDER,
        owed=min(lease.owed, _price(lease, lease.secured_ms))
        if lease.phase is Phase.SETTLING
        else _price(lease, lease.secured_ms),
    )


# ---- what moves share -------------------------------------------------------------


def _settle(lease: Lease, *, at_s: int, reason: str, fault: Fault, owed: int) -> Lease:
    return replace(
        lease,
        phase=Phase.SETTLED,
        ended_at_s=lease.ended_at_s or at_s,
        reason=reason,
        fault=fault,
        owed=owed,
    )


def _give_notice(lease: Lease, *, notice_s: int, now: Now) -> Lease:
    by_s = now.at_s + notice_s + now.market.report_s
    by_s = min(by_s, lease.give_back_by_s or by_s)
    return replace(lease, give_back_by_s=by_s, deadline_s=min(lease.deadline_s, by_s))


def _end_reason(lease: Lease, said: str) -> str:
    # What made it stop is the cause; the receipt only confirms it.
    if said != GIVEN_BACK:
        return lease.reason or said
    return said if lease.displaced_by == NO_DIGEST else DISPLACED


def _before_end(lease: Lease, deadline_s: int) -> int:
    """Move a deadline before the slice is another's, and before a notice is over."""
    deadline_s = min(deadline_s, lease.until_s or deadline_s)
    return min(deadline_s, lease.give_back_by_s or deadline_s)


def _price(lease: Lease, ran_ms: int) -> int:
    # Seconds beyond the agreed duration are the provider's: the hold ends there.
    billed_ms = min(ran_ms, lease.duration_s * 1_000)
    return compute_owed(price_hour=lease.price_hour, ran_ms=billed_ms)


def _running_deadline(lease: Lease, now: Now) -> int:
    deadline_s = min(now.at_s + now.market.report_s, lease.ends_by_s)
    return min(deadline_s, lease.give_back_by_s or deadline_s)


def _check_claim(lease: Lease, ran_ms: int, now: Now) -> None:
    passed_ms = 0
    if lease.started_at_s:
        passed_ms = (now.at_s - lease.started_at_s) * 1_000 + CLAIM_SLACK_MS
    if ran_ms > passed_ms:
        raise Refused(
            f"lease {lease.id}: {ran_ms} ms are claimed and at most {passed_ms} ms "
            "passed since the start; claim what ran",
            code="claims_too_much",
            field="ran_ms",
            detail={"claimed_ms": ran_ms, "passed_ms": passed_ms},
        )
