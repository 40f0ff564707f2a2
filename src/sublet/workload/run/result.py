"""What a job came to: for programs, for ``--json``, for the bill. Pure."""

from collections.abc import Sequence

from msgspec import Struct, structs

from sublet.base.ids import Address, Digest
from sublet.core.egress import EgressTable
from sublet.core.job.move import EXIT_STOPPED
from sublet.core.job.record import JobRecord
from sublet.core.job.state import Attempt
from sublet.workload.run.exit_code import EXIT_PEER_FAULT


class AttemptResult(Struct, frozen=True):
    """One lease of the job: who ran which seconds, and what that cost."""

    lease_id: Digest
    provider: Address
    machine: str
    price_hour: int  # micro-USD
    from_ms: int  # granted; ms since the epoch
    started_ms: int  # 0: never
    to_ms: int  # 0: it goes on
    ran_ms: int
    secured_ms: int  # up to the last checkpoint
    paid: int  # micro-USD
    outcome: str  # exited, provider_lost, given_back …; "" while it goes on
    note: str
    egress: EgressTable | None = None  # whom it reached; None: it had no network


class JobResult(Struct, frozen=True):
    """A whole job. Money in micro-USD."""

    job_id: str
    name: str
    command: str
    exit_code: int
    message: str  # "" where the program itself said what there is to say
    cost: int
    ran_ms: int  # of all attempts
    attempts: tuple[AttemptResult, ...]
    outputs: tuple[str, ...]  # local paths
    stdout: str  # path of a copy
    stderr: str
    checkpoint: str = ""  # local path of the last one, where the job did not end well
    market_lie: str = ""  # how the market contradicted itself meanwhile; "" for not
    members: tuple["JobResult", ...] = ()  # of a gang, by rank; () for one machine


def make_result(
    record: JobRecord,
    *,
    outputs: tuple[str, ...],
    folder: str,
    fault: str = "",
    checkpoint: str = "",
    market_lie: str = "",
) -> JobResult:
    """Say what a job came to.

    Args:
        record: of the job.
        outputs: local paths that were asked for.
        folder: of the job, where the copies of its logs are.
        fault: what could not be done on this machine, or "".
        checkpoint: where the last checkpoint lies, or "".
        market_lie: in which the market was caught, or "".
    """
    job = record.job
    own_code = EXIT_LOCAL if fault else EXIT_PEER_FAULT if market_lie else 0
    return JobResult(
        job_id=record.id,
        name=record.name,
        command=record.command,
        exit_code=job.exit_code or own_code,
        message="; ".join(filter(None, (fault or job.message, market_lie))),
        cost=job.cost,
        ran_ms=sum(attempt.ran_ms for attempt in job.attempts),
        attempts=tuple(map(_describe, job.attempts)),
        outputs=outputs,
        stdout=f"{folder}/stdout",
        stderr=f"{folder}/stderr",
        checkpoint=checkpoint,
        market_lie=market_lie,
    )


def join_results(members: Sequence[JobResult], *, first: int | None) -> JobResult:
    """Say what a gang came to.

    Args:
        members: by rank.
        first: the rank that failed first, or None. Its exit code is that of all.
    """
    worst = members[0 if first is None else first]
    message = worst.message
    # That nothing was found, or all was stopped, is no member's own end.
    if first is not None and worst.attempts and worst.exit_code != EXIT_STOPPED:
        said = message or f"exit code {worst.exit_code}"
        message = f"rank {first}: {said}; the others were stopped"
    return structs.replace(
        members[0],
        exit_code=worst.exit_code or max(one.exit_code for one in members),
        message=message,
        cost=sum(one.cost for one in members),
        ran_ms=sum(one.ran_ms for one in members),
        attempts=tuple(one for member in members for one in member.attempts),
        outputs=tuple(path for member in members for path in member.outputs),
        checkpoint="",
        market_lie=next((one.market_lie for one in members if one.market_lie), ""),
        members=tuple(members),
    )


def _describe(attempt: Attempt) -> AttemptResult:
    return AttemptResult(
        lease_id=attempt.lease_id,
        provider=attempt.provider,
        machine=attempt.machine,
        price_hour=attempt.price_hour,
        from_ms=attempt.granted_at_ms,
        started_ms=attempt.started_at_ms,
        to_ms=attempt.ended_at_ms,
        ran_ms=attempt.ran_ms,
        secured_ms=attempt.secured_ms,
        paid=attempt.authorized if attempt.paid < 0 else attempt.paid,
        outcome=attempt.outcome,
        note=attempt.note,
        egress=attempt.egress,
    )


EXIT_LOCAL = 3  # the job is done, and this machine could not take what it made
