"""What happens to a map, told to whoever looks on: plain values, in order."""

from msgspec import Struct

from sublet.base.ids import Address
from sublet.workload.map.result import TaskResult


class Event(Struct, frozen=True, kw_only=True, tag_field="type"):
    """Something happened; ``at_ms`` since the epoch."""

    at_ms: int


class Moved(Event, frozen=True, kw_only=True, tag="moved"):
    """Something moved; ask for the outlook. Comes several times a second."""


class TaskKept(Event, frozen=True, kw_only=True, tag="result"):
    """A task has ended, and its result is on this disk."""

    result: TaskResult


class TaskProgressed(Event, frozen=True, kw_only=True, tag="task_progress"):
    """A task got on; told once a second at most."""

    task: str  # its id
    number: int
    worker: int
    provider: Address
    share: float  # 0..1
    text: str  # a stranger's


class TaskDelayed(Event, frozen=True, kw_only=True, tag="task_delayed"):
    """A task is stalled, or slow; it is run elsewhere, too."""

    task: str
    number: int
    worker: int  # where it was
    provider: Address
    reason: str  # stalled, slow


class WorkerLeft(Event, frozen=True, kw_only=True, tag="worker_left"):
    """A worker's lease is over. Money in micro-USD."""

    worker: int
    provider: Address
    outcome: str
    note: str
    cost: int


class WorkerBlamed(Event, frozen=True, kw_only=True, tag="worker_blamed"):
    """A worker did what no honest one does; its provider is avoided."""

    worker: int
    provider: Address
    reason: str


class Resumed(Event, frozen=True, kw_only=True, tag="resumed"):
    """Results of earlier runs were found; only the rest is run."""

    done: int
    failed: int
    cost: int  # micro-USD, of these runs


AnyEvent = (
    Moved
    | TaskKept
    | TaskProgressed
    | TaskDelayed
    | WorkerLeft
    | WorkerBlamed
    | Resumed
)
