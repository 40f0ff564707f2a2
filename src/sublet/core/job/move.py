"""The moves of a job: each takes the job and one fact, gives the job and orders.

Which move answers which fact in which phase is said by the table in ``job``.
"""

from typing import Any

from msgspec import structs

from sublet.base import limits
from sublet.base.errors import PeerFault
from sublet.core.job import bill, fact, order
from sublet.core.job.state import OWN_REASONS, RECALLED, Attempt, Job, JobPhase
from sublet.core.lease.phase import REVOKED
from sublet.core.lease.table import DISPLACED, GIVEN_BACK

EXIT_UNAVAILABLE = 3  # nobody could do it now
EXIT_TIMEOUT = 124  # as timeout(1)
EXIT_STOPPED = 130  # as a shell says after Ctrl-C

SUPPLY_PAUSE_MS = 500  # the first pause between two questions to the market
SUPPLY_PAUSE_MS_MAX = 3_000
REDIAL_PAUSE_MS = 100
REDIAL_PAUSE_MS_MAX = 5_000
UNREACHABLE_MS_MAX = 600_000  # longest without a channel, whatever the market says
RECEIPT_MS_MAX = 10_000  # from settlement to hearing of it on a channel that stands
DOUBLINGS_MAX = 8  # of a pause

CANCELLED = "cancelled"  # why the owner's Stop says a lease ends

# How a machine is said to be wanted back: by its receipt, or where none came, the book.
GAVE_WAY = frozenset({GIVEN_BACK, DISPLACED})

# How a receipt says that the owner wanted it so.
STOPPED_REASONS = frozenset({CANCELLED, REVOKED, "stopped"})
TAKEN_BACK = "stopped: its delegation was revoked"

Move = tuple[Job, tuple[order.Order, ...]]


def stay(job: Job, said: fact.Fact) -> Move:
    """Nothing changes."""
    return job, ()


# ---- seeking ------------------------------------------------------------------------


def place(job: Job) -> Move:
    """Ask the market."""
    job = structs.replace(job, phase=JobPhase.SEEKING, is_waiting=False)
    return job, (
        order.PlaceOrder(avoid=job.avoided, resume=job.checkpoint, spent=job.cost),
    )


def resume(job: Job, *, at_ms: int) -> Move:
    """Find out how it stands by asking again: market, provider, whoever owes a word."""
    if job.phase is JobPhase.FINISHED:
        return job, ()
    if job.phase is JobPhase.SEEKING:
        return place(job)
    attempt = job.attempt
    job = _note(job, breaks=attempt.breaks + 1, redials=0, broken_at_ms=at_ms)
    asking: tuple[order.Order, ...] = (
        order.Dial(lease_id=attempt.lease_id),
        order.WatchLease(lease_id=attempt.lease_id),
    )
    if job.phase is JobPhase.STOPPING:
        stopping = order.StopLease(lease_id=attempt.lease_id, reason=CANCELLED)
        asking = (*asking, stopping)
    return job, asking


def seek(job: Job, said: fact.SupplyDue) -> Move:
    """Ask again."""
    return place(job)


def wait(job: Job, said: fact.NoMatch) -> Move:
    """Wait for supply, longer each time, up to what the owner allowed."""
    if job.is_stopped:
        return _finish(job, EXIT_STOPPED, "stopped")
    left_ms = job.limits.wait_ms - (said.at_ms - job.seeking_since_ms)
    if left_ms <= 0:
        return _finish(job, EXIT_UNAVAILABLE, said.message)
    pause_ms = SUPPLY_PAUSE_MS << min(job.asked, DOUBLINGS_MAX)
    job = structs.replace(
        job, asked=job.asked + 1, is_waiting=True, message=said.message
    )
    delay_ms = min(pause_ms, SUPPLY_PAUSE_MS_MAX, left_ms)
    return job, (order.AwaitSupply(delay_ms=delay_ms),)


def give_up(job: Job, said: fact.OrderRefused) -> Move:
    """The market will not have this order, now or later."""
    if job.is_stopped:
        return _finish(job, EXIT_STOPPED, "stopped")
    if said.code == "delegation_revoked":
        return _finish(job, EXIT_STOPPED, TAKEN_BACK)
    return _finish(job, said.exit_code, said.message)


def begin(job: Job, said: fact.LeaseGranted) -> Move:
    """A lease: dial its provider."""
    attempt = Attempt(
        lease_id=said.lease_id,
        provider=said.provider,
        machine=said.machine,
        price_hour=said.price_hour,
        hold=said.hold,
        duration_s=said.duration_s,
        granted_at_ms=said.at_ms,
        since_ms=said.at_ms,
        broken_at_ms=said.at_ms,
    )
    job = structs.replace(
        job,
        phase=JobPhase.REACHING,
        attempts=(*job.attempts, attempt),
        asked=0,
        message="",
    )
    if job.is_stopped:  # asked while the order was under way
        return stop(job, fact.StopAsked(at_ms=said.at_ms))
    return job, (
        order.Dial(lease_id=said.lease_id),
        order.WatchLease(lease_id=said.lease_id),
    )


# ---- reaching and running -----------------------------------------------------------


def deliver(job: Job, said: fact.ChannelOpened) -> Move:
    """Say what the job is; on a second channel, hear where things stand."""
    job = _note(job, redials=0, broken_at_ms=0)
    return job, (order.Deliver(lease_id=said.lease_id),)


def redial(job: Job, said: fact.ChannelBroken) -> Move:
    """The job may go on over there: reach it again while its lease is open."""
    attempt = job.attempt
    if attempt.paid >= 0:  # settled, and nobody there to say how it ended
        return miss_receipt(job, said)
    since_ms = attempt.broken_at_ms or said.at_ms
    if said.at_ms - since_ms > UNREACHABLE_MS_MAX:
        return _abandon(job, said, code="unreachable", message=said.message)
    pause_ms = REDIAL_PAUSE_MS << min(attempt.redials, DOUBLINGS_MAX)
    job = _note(
        job,
        redials=attempt.redials + 1,
        breaks=attempt.breaks + 1,
        broken_at_ms=since_ms,
    )
    delay_ms = min(pause_ms, REDIAL_PAUSE_MS_MAX)
    return job, (order.Dial(lease_id=said.lease_id, delay_ms=delay_ms),)


def run(job: Job, said: fact.ProgramStarted) -> Move:
    """The program runs. Where the channel stood all along, time counts from here."""
    if job.phase is JobPhase.REACHING:
        job = structs.replace(job, phase=JobPhase.RUNNING)
    attempt = job.attempt
    if attempt.started_at_ms:
        return job, ()  # told again after a redial
    since_ms = attempt.since_ms if attempt.breaks else said.at_ms
    return _note(job, started_at_ms=said.at_ms, since_ms=since_ms), ()


def authorize(job: Job, said: fact.UsageClaimed) -> Move:
    """Check the reading, then sign for it."""
    try:
        owed = bill.check_usage(
            _meter(job.attempt), ran_ms=said.ran_ms, owed=said.owed, at_ms=said.at_ms
        )
    except PeerFault as fault:
        return _abandon(job, said, code=fault.code, message=fault.message)
    # Where the word that it runs was lost on the way, the reading says so too.
    job, _ = run(job, fact.ProgramStarted(at_ms=said.at_ms, lease_id=said.lease_id))
    job = _note(job, ran_ms=said.ran_ms, authorized=max(owed, job.attempt.authorized))
    return job, (
        order.SignVoucher(
            lease_id=said.lease_id, owed=owed, channel_total=said.channel_total
        ),
    )


def keep(job: Job, said: fact.CheckpointStored) -> Move:
    """From here on a failure costs less: the next attempt starts at this point."""
    attempt = job.attempt
    passed_ms = said.at_ms - attempt.since_ms + bill.CLOCK_TOLERANCE_MS
    if not attempt.secured_ms <= said.ran_ms <= passed_ms:
        return _abandon(
            job,
            said,
            code="checkpoint_out_of_time",
            message="a checkpoint lies before the last one, or in the future",
        )
    owed = bill.compute_due(_meter(attempt), ran_ms=said.ran_ms)
    job = structs.replace(_note(job, secured_ms=said.ran_ms), checkpoint=said.tree_id)
    return job, (
        order.SignKept(
            lease_id=said.lease_id,
            number=said.number,
            ran_ms=said.ran_ms,
            owed=owed,
            tree_id=said.tree_id,
        ),
    )


def take_notice(job: Job, said: fact.NoticeGiven) -> Move:
    """The owner wants the machine back; the program was told to save its work."""
    return _note(job, notice_s=said.stops_in_s), ()


def settle(job: Job, said: fact.LeaseSettled) -> Move:
    """The book closed the lease before the tenant heard how it ended."""
    job = _note(job, paid=said.paid)
    if said.reason in (CANCELLED, REVOKED):  # by this process or another of its owner's
        job, paying = _top_up(job, said)
        if job.is_recalled:
            job, orders = _retry(job, said.at_ms, outcome=RECALLED)
            return job, (*paying, *orders)
        message = TAKEN_BACK if said.reason == REVOKED else "stopped"
        job, orders = _end_stopped(job, said.at_ms, message=message)
        return job, (*paying, *orders)
    if said.is_provider_fault or job.attempt.broken_at_ms:
        return _leave(job, said.at_ms, outcome=said.reason)
    # Nothing is left to pay, so the receipt settled it; the word is under way.
    return job, (order.AwaitReceipt(lease_id=said.lease_id, delay_ms=RECEIPT_MS_MAX),)


def miss_receipt(job: Job, said: fact.LeaseFact) -> Move:
    """Settled, and the provider never said what came out."""
    if job.attempt.paid < 0:
        return job, ()
    return _lose_outputs(job, said.at_ms)


# ---- the end of an attempt ----------------------------------------------------------


def collect(job: Job, said: fact.ReceiptShown) -> Move:
    """The program is over: fetch what it left, and pay only then."""
    try:
        owed = bill.check_receipt(
            _meter(job.attempt),
            ran_ms=said.ran_ms,
            owed=said.owed,
            reason=said.reason,
            at_ms=said.at_ms,
        )
    except PeerFault as fault:
        return _abandon(job, said, code=fault.code, message=fault.message)
    job = _note(
        job,
        ran_ms=said.ran_ms,
        exit_code=said.exit_code,
        outcome=said.reason,
        note=said.note,
        egress=said.egress,
        claimed=owed,
        channel_total=said.channel_total,
        started_at_ms=job.attempt.started_at_ms or said.at_ms - said.ran_ms,
        ended_at_ms=said.at_ms,
    )
    if job.is_stopped or job.is_recalled or said.reason in bill.UNBILLED_REASONS:
        # Due is what ran, or only what is stored already: no output to wait for.
        job, paying = _pay(job)
        outcome = RECALLED if job.is_recalled else said.reason
        job, orders = _leave(job, said.at_ms, outcome=outcome)
        return job, (*paying, *orders)
    job = structs.replace(job, phase=JobPhase.COLLECTING)
    return job, (order.FetchOutputs(lease_id=said.lease_id),)


def conclude(job: Job, said: fact.OutputsStored) -> Move:
    """The outputs are here and are what was hashed: pay, and answer."""
    job, paying = _pay(job)
    attempt = job.attempt
    if attempt.outcome == "timeout":
        job, orders = _finish(job, EXIT_TIMEOUT, "the job ran into its --timeout")
    elif attempt.outcome in STOPPED_REASONS:  # by another hand than this process's
        is_revoked = attempt.outcome == REVOKED
        message = TAKEN_BACK if is_revoked else "the job was stopped"
        job, orders = _finish(job, EXIT_STOPPED, message)
    elif attempt.outcome not in OWN_REASONS:
        job, orders = _retry(job, said.at_ms, outcome=attempt.outcome)
    elif attempt.exit_code and job.limits.retries_own and _may_retry(job):
        job, orders = seek_again(job, said.at_ms)
    else:
        job, orders = _finish(job, attempt.exit_code, _explain(attempt))
    return job, (*paying, *orders)


def settle_collecting(job: Job, said: fact.LeaseSettled) -> Move:
    """The book is through with the lease; the files may still come."""
    job = _note(job, paid=said.paid)
    if job.attempt.broken_at_ms:
        return _lose_outputs(job, said.at_ms)
    return job, ()


def _lose_outputs(job: Job, at_ms: int) -> Move:
    job = _note(job, note="they could not be fetched in time; the provider erases them")
    return _leave(job, at_ms, outcome="outputs_lost")


def misbehave(job: Job, said: fact.PeerMisbehaved) -> Move:
    """The provider broke the protocol."""
    return _abandon(job, said, code=said.code, message=said.message)


# ---- stopping -----------------------------------------------------------------------


def stop_seeking(job: Job, said: fact.StopAsked) -> Move:
    """End now, or stop the lease that an order under way may still make."""
    job = structs.replace(job, is_stopped=True)
    return _finish(job, EXIT_STOPPED, "stopped") if job.is_waiting else (job, ())


def stop(job: Job, said: fact.StopAsked) -> Move:
    """Close the lease; what ran is paid."""
    job = structs.replace(job, phase=JobPhase.STOPPING, is_stopped=True)
    lease_id = job.attempt.lease_id
    return job, (
        order.WatchLease(lease_id=lease_id),
        order.StopLease(lease_id=lease_id, reason=CANCELLED),
    )


# ---- late words ---------------------------------------------------------------------


def settle_late(job: Job, said: fact.LeaseFact) -> Job:
    """Of an attempt that is over, only what it cost is still news."""
    if not isinstance(said, fact.LeaseSettled):
        return job
    attempts = tuple(
        structs.replace(attempt, paid=said.paid)
        if attempt.lease_id == said.lease_id
        else attempt
        for attempt in job.attempts
    )
    return structs.replace(job, attempts=attempts)


# ---- parts --------------------------------------------------------------------------


def _meter(attempt: Attempt) -> bill.Meter:
    return bill.Meter(
        price_hour=attempt.price_hour,
        hold=attempt.hold,
        duration_s=attempt.duration_s,
        since_ms=attempt.since_ms,
        ran_ms=attempt.ran_ms,
        secured_ms=attempt.secured_ms,
    )


def _note(job: Job, **changes: Any) -> Job:
    """Change the attempt that goes on."""
    attempt = structs.replace(job.attempt, **changes)
    return structs.replace(job, attempts=(*job.attempts[:-1], attempt))


def _pay(job: Job) -> Move:
    """Sign the last voucher, unless nothing is due, and part as friends.

    Also where an earlier one covers it: that one may have been lost on the way.
    """
    attempt = job.attempt
    close = order.CloseChannel(lease_id=attempt.lease_id, reason="done")
    is_settled = attempt.paid >= 0
    if not attempt.claimed or (is_settled and attempt.claimed <= attempt.authorized):
        return job, (close,)
    # Settled, and not by its own vouchers: another lease of this provider is short now.
    pay = order.SignVoucher(
        lease_id=attempt.lease_id,
        owed=attempt.claimed,
        channel_total=None if is_settled else attempt.channel_total,
    )
    owed = max(attempt.claimed, attempt.authorized)
    return _note(job, authorized=owed), (pay, close)


def _top_up(job: Job, said: fact.LeaseSettled) -> Move:
    """Own up to what the book took for this lease, before its receipt was heard of.

    An earlier voucher, perhaps one for another lease of the same provider, covered it;
    that one is short by as much now.
    """
    attempt = job.attempt
    passed_ms = said.at_ms - attempt.since_ms + bill.CLOCK_TOLERANCE_MS
    due = min(said.paid, bill.compute_due(_meter(attempt), ran_ms=passed_ms))
    close = order.CloseChannel(lease_id=said.lease_id, reason="done")
    if due <= attempt.authorized:
        return job, (close,)
    pay = order.SignVoucher(lease_id=said.lease_id, owed=due, channel_total=None)
    return _note(job, authorized=due), (pay, close)


def _abandon(job: Job, said: fact.LeaseFact, *, code: str, message: str) -> Move:
    """Sign nothing more for this provider; go elsewhere."""
    job = _note(job, note=message)
    ended, orders = _leave(job, said.at_ms, outcome=code)
    return ended, (
        order.CloseChannel(lease_id=said.lease_id, reason=code, message=message),
        order.StopLease(lease_id=said.lease_id, reason=code),
        *orders,
    )


def _leave(job: Job, at_ms: int, *, outcome: str) -> Move:
    if job.is_stopped:
        return _end_stopped(job, at_ms)
    return _retry(job, at_ms, outcome=outcome)


def _end_stopped(job: Job, at_ms: int, *, message: str = "stopped") -> Move:
    attempt = job.attempt
    job = _note(
        job,
        outcome=attempt.outcome or "stopped",
        ended_at_ms=attempt.ended_at_ms or at_ms,
    )
    return _finish(job, EXIT_STOPPED, message)


def _may_retry(job: Job) -> bool:
    # Also what gives way has an end: nobody is moved about for ever.
    failed = sum(not _gave_way(job, attempt) for attempt in job.attempts)
    return failed <= job.limits.retries and len(job.attempts) <= limits.RETRIES_MAX


def _gave_way(job: Job, attempt: Attempt) -> bool:
    return job.limits.gives_way and attempt.outcome in GAVE_WAY


def _retry(job: Job, at_ms: int, *, outcome: str) -> Move:
    """Leave this provider, as often as the limits allow: for another one if it failed.

    Whoever wanted the machine back has said so, and did nothing wrong: its owner, who
    does not offer it meanwhile, or the order that displaced this one.
    """
    attempt = job.attempt
    job = _note(job, outcome=outcome, ended_at_ms=attempt.ended_at_ms or at_ms)
    if outcome not in GAVE_WAY and outcome != RECALLED:
        others = tuple(one for one in job.avoided if one != attempt.provider)
        avoided = (*others, attempt.provider)[-limits.LIST_LENGTH_MAX :]
        job = structs.replace(job, avoided=avoided)
    if _may_retry(job):
        return seek_again(job, at_ms)
    because = f"{outcome} ({attempt.note})" if attempt.note else outcome
    message = (
        f"gave up after {len(job.attempts)} attempts; the last one ended with: "
        f"{because}. Try again later, or allow more attempts with --retries"
    )
    return _finish(job, EXIT_UNAVAILABLE, message)


def seek_again(job: Job, at_ms: int) -> Move:
    """Ask the market anew, with the whole wait for supply."""
    return place(structs.replace(job, seeking_since_ms=at_ms, asked=0))


def _finish(job: Job, exit_code: int, message: str) -> Move:
    job = structs.replace(
        job, phase=JobPhase.FINISHED, exit_code=exit_code, message=message
    )
    return job, (order.Finish(exit_code=exit_code, message=message),)


def _explain(attempt: Attempt) -> str:
    if attempt.outcome == "out_of_memory":
        return "the job needed more memory than it had; ask for more with --memory"
    if attempt.outcome == "disk_full":
        return "the job wrote more than its disk holds; ask for more with --disk"
    return ""
