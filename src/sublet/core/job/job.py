"""The life of a job, seen by its tenant: (phase, fact) -> (next phase, orders).

A job is a chain of attempts, each a lease on another machine. It outlives the
machines: a provider that is lost, silent or lies is avoided, and the next one starts
from the last checkpoint that is stored here. A program that fails by itself is not
tried again unless its owner asked for that: its exit code is the answer.

Not here: the moves themselves (``move``), what may be signed (``bill``), how facts
come in and orders are carried out (``workload.run``).
"""

from collections.abc import Callable, Mapping
from typing import Any

from sublet.base.errors import Refused
from sublet.base.ids import Address
from sublet.core.job import fact, move, recall
from sublet.core.job.order import Order
from sublet.core.job.state import Job, JobLimits, JobPhase

Step = Callable[[Job, Any], tuple[Job, tuple[Order, ...]]]


class IllegalStep(Refused):
    """This fact has no place in this phase of the job; nothing was changed."""

    code = "illegal_step"


_LEASED: Mapping[type[fact.Fact], Step] = {
    fact.ChannelOpened: move.deliver,
    fact.ChannelBroken: move.redial,
    fact.ProgramStarted: move.run,
    fact.UsageClaimed: move.authorize,
    fact.CheckpointStored: move.keep,
    fact.NoticeGiven: move.take_notice,
    fact.ReceiptShown: move.collect,
    fact.ReceiptOverdue: move.miss_receipt,
    fact.PeerMisbehaved: move.misbehave,
    fact.LeaseSettled: move.settle,
}

STEPS: Mapping[JobPhase, Mapping[type[fact.Fact], Step]] = {
    JobPhase.SEEKING: {
        fact.SupplyDue: move.seek,
        fact.NoMatch: move.wait,
        fact.OrderRefused: move.give_up,
        fact.LeaseGranted: move.begin,
        fact.StopAsked: move.stop_seeking,
    },
    JobPhase.REACHING: {
        **_LEASED,
        fact.StopAsked: move.stop,
        fact.Recalled: recall.recall,
    },
    JobPhase.RUNNING: {
        **_LEASED,
        fact.StopAsked: move.stop,
        fact.Recalled: recall.recall,
    },
    JobPhase.STOPPING: {
        **_LEASED,
        fact.StopAsked: recall.stop,
        fact.Recalled: move.stay,
    },
    JobPhase.COLLECTING: {
        fact.ChannelOpened: move.deliver,
        fact.ChannelBroken: move.redial,
        fact.ProgramStarted: move.stay,
        fact.NoticeGiven: move.stay,
        fact.CheckpointStored: move.stay,  # fetched while the program ended
        fact.ReceiptShown: move.collect,
        fact.ReceiptOverdue: move.stay,
        fact.OutputsStored: move.conclude,
        fact.PeerMisbehaved: move.misbehave,
        fact.LeaseSettled: move.settle_collecting,
        fact.StopAsked: move.stay,
        fact.Recalled: move.stay,  # whoever is done says so, and is asked again
    },
    JobPhase.FINISHED: {fact.StopAsked: move.stay, fact.SupplyDue: move.stay},
}


def start(
    limits: JobLimits, *, at_ms: int, avoided: tuple[Address, ...] = ()
) -> tuple[Job, tuple[Order, ...]]:
    """Begin a job: its first order goes to the market, for anybody but ``avoided``."""
    job = Job(limits=limits, seeking_since_ms=at_ms, avoided=avoided)
    return move.place(job)


def resume(job: Job, *, at_ms: int) -> tuple[Job, tuple[Order, ...]]:
    """Go on with a job that somebody looked after until some time ago."""
    return move.resume(job, at_ms=at_ms)


def again(job: Job, *, at_ms: int) -> tuple[Job, tuple[Order, ...]]:
    """Begin once more with a member of a gang that was done, and others were not."""
    return recall.again(job, at_ms=at_ms)


def step(job: Job, said: fact.Fact) -> tuple[Job, tuple[Order, ...]]:
    """Let one fact happen.

    A fact of an attempt that is over changes nothing but what it cost.

    Raises:
        IllegalStep: the table has no such step; the job is unchanged.
    """
    if isinstance(said, fact.LeaseFact) and _is_late(job, said):
        return move.settle_late(job, said), ()
    try:
        make_move = STEPS[job.phase][type(said)]
    except KeyError:
        raise IllegalStep(
            f"{type(said).__name__} has no place while a job is {job.phase.value}",
            detail={"phase": job.phase.value, "fact": type(said).__name__},
        ) from None
    return make_move(job, said)


def _is_late(job: Job, said: fact.LeaseFact) -> bool:
    if isinstance(said, fact.LeaseGranted):
        return job.phase is JobPhase.FINISHED
    is_over = job.phase in (JobPhase.FINISHED, JobPhase.SEEKING)
    return is_over or said.lease_id != job.attempt.lease_id
