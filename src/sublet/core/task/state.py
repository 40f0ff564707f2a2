"""A map as its tenant knows it: tasks, workers, attempts. Plain values.

Tasks are numbers from 0; they are begun in order, so what is not begun yet is one
number, and only tasks under way or in trouble are remembered one by one: a map of a
million tasks is as small as one of ten.
"""

from enum import StrEnum

from msgspec import Struct

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

    tasks: int
    parallel: int  # workers at one time
    total_max: int  # micro-USD for all of it
    retries: int = RETRIES
    losses: int = LOSSES_MAX
    timeout_ms: int = 0  # of one attempt; 0: none
    is_fail_fast: bool = False


class Run(Struct, frozen=True):
    """A task that a worker has been given."""

    task: int
    sent_at_ms: int
    is_dropped: bool = False  # its result is not wanted any more


class Worker(Struct, frozen=True):
    """One lease that runs one task after the other."""

    number: int  # from 1; never used twice
    cap: int  # micro-USD that it may cost at most
    provider: Address = ""
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


class Trouble(Struct, frozen=True):
    """What a task that has not ended yet has been through."""

    failures: int = 0  # by itself
    losses: int = 0  # with its machine
    provider: Address = ""  # where it last went wrong


class Map(Struct, frozen=True):
    """The whole state of one map."""

    limits: MapLimits
    phase: MapPhase = MapPhase.RUNNING
    next: int = 0  # the first task that was never given to anybody
    again: tuple[int, ...] = ()  # tasks that wait for another attempt
    troubles: dict[int, Trouble] = {}  # of tasks that have not ended
    workers: tuple[Worker, ...] = ()
    workers_ever: int = 0
    spent: int = 0  # micro-USD, by workers that are gone
    done: int = 0
    failed: int = 0
    samples: tuple[int, ...] = ()  # ms that the last tasks took
    avoided: tuple[Address, ...] = ()
    stillborn: tuple[Address, ...] = ()  # gave nothing since one last got ready
    seek_after_ms: int = 0  # the market had nothing: not before
    outcome: str = ""  # why it ends: done, stopped, failed, budget, no_supply …
    message: str = ""

    @property
    def waiting(self) -> int:
        """Count the tasks that nobody has."""
        return self.limits.tasks - self.next + len(self.again)

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
