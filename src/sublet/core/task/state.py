"""A map as its tenant knows it: tasks, workers, attempts. Plain values.

Tasks are numbers from 0; they are begun in order, so what is not begun yet is a span or
two, and only tasks under way, in trouble or not for everybody are remembered one by one:
a map of a million tasks is as small as one of ten.
"""

from collections.abc import Iterable
from enum import StrEnum

from msgspec import Struct, structs

from sublet.base.ids import Address

RETRIES = 2  # of a task that failed by itself, where the caller names no number
LOSSES_MAX = 5  # machines that a task may lose before it counts as failed
SAMPLES_MAX = 64  # durations that the typical one is taken from


class MapPhase(StrEnum):
    """Where a map stands."""

    RUNNING = "running"
    STOPPING = "stopping"  # workers are being stopped and settled
    FINISHED = "finished"


class MapLimits(Struct, frozen=True):
    """How many, how much, how stubborn."""

    tasks: int  # at first
    parallel: int  # workers at one time
    total_max: int  # micro-USD for all of it
    retries: int = RETRIES
    losses: int = LOSSES_MAX
    timeout_ms: int = 0  # of one attempt; 0: none
    stall_ms: int = 0  # that an attempt may make no progress; 0: any time
    fastest_ms: int = 0  # whoever says that it was done in less lies
    is_fail_fast: bool = False
    is_open: bool = False  # more tasks may come


class Run(Struct, frozen=True):
    """A task that a worker has been given."""

    task: int
    sent_at_ms: int
    is_dropped: bool = False  # its result is not wanted any more
    moved_at_ms: int = 0  # it last got on; 0: nothing was heard yet
    share_ppm: int = 0  # parts per million of it that are done


class Worker(Struct, frozen=True):
    """One lease that runs one task after the other."""

    number: int  # from 1; never used twice
    cap: int  # micro-USD that it may cost at most
    provider: Address = ""
    avoid: tuple[Address, ...] = ()  # that its order named
    price_hour: int = 0  # micro-USD
    cost: int = 0  # so far
    is_ready: bool = False  # takes tasks
    is_leaving: bool = False  # was told to stop
    runs: tuple[Run, ...] = ()
    idle_since_ms: int = 0
    done: int = 0  # tasks that ended here

    @property
    def takes(self) -> bool:
        """Say whether it can be given tasks."""
        return self.is_ready and not self.is_leaving

    @property
    def is_coming(self) -> bool:
        """Say whether it is on its way."""
        return not self.is_ready and not self.is_leaving

    def suits(self, banned: tuple[Address, ...]) -> bool:
        """Say whether its provider is, or will be, none of these."""
        if self.provider:
            return self.provider not in banned
        return set(banned) <= set(self.avoid)


class Trouble(Struct, frozen=True):
    """What a task that has not ended yet has been through."""

    failures: int = 0  # by itself
    losses: int = 0  # with its machine
    provider: Address = ""  # where it last went wrong
    is_stalled: bool = False  # it was that it got no further


class Map(Struct, frozen=True):
    """The whole state of one map."""

    limits: MapLimits
    phase: MapPhase = MapPhase.RUNNING
    tasks: int = 0  # that are known
    is_open: bool = False  # more may come
    fresh: tuple[tuple[int, int], ...] = ()  # spans that were never given: first, end
    again: tuple[int, ...] = ()  # tasks that wait one by one, and come first
    troubles: dict[int, Trouble] = {}  # of tasks that have not ended
    banned: dict[
        int, tuple[Address, ...]
    ] = {}  # who must not get a task, until it ends
    workers: tuple[Worker, ...] = ()
    workers_ever: int = 0
    spent: int = 0  # micro-USD, by workers that are gone
    done: int = 0
    failed: int = 0
    samples: tuple[int, ...] = ()  # ms that the last tasks took
    avoided: tuple[Address, ...] = ()
    dismissed: tuple[Address, ...] = ()  # for good, by the map's owner
    stillborn: tuple[Address, ...] = ()  # gave nothing since one last got ready
    seek_after_ms: int = 0  # the market had nothing: not before
    outcome: str = ""  # why it ends: done, stopped, failed, budget, no_supply …
    message: str = ""

    @property
    def waiting(self) -> int:
        """Count the tasks that nobody has."""
        return sum(end - first for first, end in self.fresh) + len(self.again)

    @property
    def running(self) -> int:
        """Count the tasks that somebody has; a doubled one is one."""
        return len(find_copies(self))

    @property
    def cost(self) -> int:
        """Micro-USD so far."""
        return self.spent + sum(worker.cost for worker in self.workers)

    @property
    def committed(self) -> int:
        """Micro-USD that it may come to if every worker uses up what it may."""
        return self.spent + sum(worker.cap for worker in self.workers)


def find_copies(state: Map) -> dict[int, list[tuple[Worker, Run]]]:
    """Give who has which task, tasks whose results are wanted."""
    copies: dict[int, list[tuple[Worker, Run]]] = {}
    for worker in state.workers:
        for run in worker.runs:
            if not run.is_dropped:
                copies.setdefault(run.task, []).append((worker, run))
    return copies


def find_worker(state: Map, number: int) -> Worker | None:
    """Give the worker of this number while it is there."""
    return next((one for one in state.workers if one.number == number), None)


def replace_worker(state: Map, worker: Worker) -> Map:
    """Put a worker into the place of its former self."""
    workers = tuple(
        worker if one.number == worker.number else one for one in state.workers
    )
    return structs.replace(state, workers=workers)


def find_stuck(state: Map) -> list[int]:
    """Name the waiting tasks that no worker may get, neither present nor on its way."""
    there = [one for one in state.workers if not one.is_leaving]
    return [
        task
        for task in state.again
        if (banned := state.banned.get(task))
        and not any(one.suits(banned) for one in there)
    ]


def add_names(names: Iterable[Address], more: Iterable[Address]) -> tuple[Address, ...]:
    """Put addresses behind others; each stands once, where it came last."""
    later = tuple(dict.fromkeys(more))
    return (*(one for one in names if one not in later), *later)
