"""What a map commands: orders, in the imperative. The core orders, the shell obeys."""

from msgspec import Struct

from sublet.base.ids import Address


class Order(Struct, frozen=True, kw_only=True):
    """Something to be done for the map."""


class StartWorker(Order, frozen=True, kw_only=True):
    """Rent a machine; answer WorkerMatched, WorkerReady, WorkerEnded."""

    worker: int
    cap: int  # micro-USD that it may cost at most
    avoid: tuple[Address, ...]


class StopWorker(Order, frozen=True, kw_only=True):
    """Stop and settle its lease; answer WorkerEnded. Twice is harmless."""

    worker: int
    reason: str
    is_paid: bool = True  # what it ran; else nothing is signed any more


class SendTask(Order, frozen=True, kw_only=True):
    """Give a worker a task; answer TaskEnded."""

    worker: int
    task: int


class CancelTask(Order, frozen=True, kw_only=True):
    """Tell a worker that a task is not wanted any more; answer TaskEnded."""

    worker: int
    task: int


class AckTask(Order, frozen=True, kw_only=True):
    """Tell a worker that it may forget what came of a task."""

    worker: int
    task: int


class KeepResult(Order, frozen=True, kw_only=True):
    """Write down what this worker made of this task: it is the task's one result."""

    worker: int
    task: int
    is_done: bool
    attempts: int
    ran_ms: int  # never more than has passed since it was sent


class KeepLoss(Order, frozen=True, kw_only=True):
    """Write down that a task failed for want of a machine: lost, or there is none."""

    task: int
    attempts: int
    note: str = ""  # why; "" where all that it was given to were lost


class Finish(Order, frozen=True, kw_only=True):
    """The map is over; no lease is open."""

    outcome: str
    message: str
