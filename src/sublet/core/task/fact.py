"""What a map is told: facts, in the past tense, each with the tenant's clock.

``at_ms`` is milliseconds since the epoch by a clock that never goes back.
"""

from msgspec import Struct

from sublet.base.ids import Address


class Fact(Struct, frozen=True, kw_only=True):
    """Something that happened to the map."""

    at_ms: int


class Begun(Fact, frozen=True, kw_only=True):
    """The map was asked for, or goes on after an interruption."""


class StopAsked(Fact, frozen=True, kw_only=True):
    """Its owner wants no more of it now."""


class Ticked(Fact, frozen=True, kw_only=True):
    """Time has passed; ``costs`` is what each worker has come to, micro-USD."""

    costs: dict[int, int] = {}


class TasksAdded(Fact, frozen=True, kw_only=True):
    """There are more tasks; their numbers follow those that are known."""

    count: int
    avoid: tuple[Address, ...] = ()  # providers that must not get them
    is_urgent: bool = False  # before all that wait


class TasksClosed(Fact, frozen=True, kw_only=True):
    """No more tasks will come."""


class ProviderDismissed(Fact, frozen=True, kw_only=True):
    """The map's owner wants nothing more of it, and signs nothing more for it."""

    provider: Address
    reason: str


class WorkerFact(Fact, frozen=True, kw_only=True):
    """Something that happened to one worker."""

    worker: int


class WorkerMatched(WorkerFact, frozen=True, kw_only=True):
    """The market found a machine for it."""

    provider: Address
    price_hour: int  # micro-USD


class WorkerReady(WorkerFact, frozen=True, kw_only=True):
    """Its dependencies are installed and it takes tasks. Told once."""


class TaskProgressed(WorkerFact, frozen=True, kw_only=True):
    """A task under way there got on."""

    task: int
    share_ppm: int  # parts per million of it that are done


class TaskEnded(WorkerFact, frozen=True, kw_only=True):
    """An attempt at a task ended there, and all that it made is on this disk."""

    task: int
    outcome: str  # done, failed, timeout, stalled, cancelled
    ran_ms: int


class WorkerMisbehaved(WorkerFact, frozen=True, kw_only=True):
    """It said what no honest worker says."""

    reason: str


class WorkerEnded(WorkerFact, frozen=True, kw_only=True):
    """Its lease is over, or it never got one."""

    outcome: str  # how the attempt ended; no_supply or refused where there was none
    cost: int  # micro-USD
    note: str = ""
