"""Who is given what: waiting tasks to whoever is free, slow ones to a second. Pure."""

from statistics import median

from msgspec import structs

from sublet.core.task import order
from sublet.core.task.state import (
    Map,
    Run,
    Trouble,
    Worker,
    find_copies,
    find_stuck,
    find_worker,
    replace_worker,
)

STRAGGLER_FACTOR = 2  # times the median: then a task is begun a second time elsewhere
STRAGGLER_MS_MIN = 1_000
STRAGGLER_SAMPLES = 3  # tasks that must have ended before anything is called slow
COPIES_MAX = 2
QUEUE = 2  # tasks that a worker holds where they are short: it never waits for us
SHORT_MS = 2_000
OVERDUE_MS = 30_000  # that a worker may be silent beyond a task's own limits

Move = tuple[Map, tuple[order.Order, ...]]


def find_silent(state: Map, *, at_ms: int) -> list[int]:
    """Name the workers that say nothing long after a task's own limits.

    They end a task that takes too long or gets no further themselves; whoever does not
    is frozen, or lies.
    """
    timeout_ms, stall_ms = state.limits.timeout_ms, state.limits.stall_ms
    silent = []
    for one in state.workers:
        if not one.takes or not one.runs:
            continue
        run = one.runs[0]
        began_ms = max(one.idle_since_ms, run.sent_at_ms)
        moved_ms = max(began_ms, run.moved_at_ms)
        if (timeout_ms and at_ms - began_ms > timeout_ms + OVERDUE_MS) or (
            stall_ms and at_ms - moved_ms > stall_ms + OVERDUE_MS
        ):
            silent.append(one.number)
    return silent


def assign(state: Map, at_ms: int) -> Move:
    """Give waiting tasks to whoever is free."""
    orders: list[order.Order] = []
    is_short = bool(state.samples) and median(state.samples) <= SHORT_MS
    is_long_queue = state.waiting > 2 * len(state.workers)
    # Where somebody has to leave for another, nobody holds a task in reserve.
    rounds = QUEUE if is_short and is_long_queue and not find_stuck(state) else 1
    for held in range(rounds):
        for worker in state.workers:
            if worker.takes and len(worker.runs) <= held and state.waiting:
                state, task = _pick(state, worker)
                if task is not None:
                    state = give(state, worker.number, task, at_ms)
                    orders.append(order.SendTask(worker=worker.number, task=task))
    return state, tuple(orders)


def _pick(state: Map, worker: Worker) -> tuple[Map, int | None]:
    """Take a task off the queue: not where it went wrong before, if others may."""
    others = [
        one for one in state.workers if one.takes and one.provider != worker.provider
    ]
    for task in state.again:
        banned = state.banned.get(task, ())
        trouble = state.troubles.get(task, Trouble())
        if worker.provider in banned:
            continue
        if trouble.provider == worker.provider and any(
            # One that got no further here rather waits for somebody else.
            (trouble.is_stalled or not one.runs) and one.provider not in banned
            for one in others
        ):
            continue
        again = tuple(one for one in state.again if one != task)
        return structs.replace(state, again=again), task
    if state.fresh:
        (first, end), *rest = state.fresh
        if first + 1 < end:
            rest.insert(0, (first + 1, end))
        return structs.replace(state, fresh=tuple(rest)), first
    return state, None


def double(state: Map, at_ms: int) -> Move:
    """Begin tasks a second time that take unusually long."""
    orders: list[order.Order] = []
    for task in find_stragglers(state, at_ms=at_ms):
        taken = {worker.provider for worker, _ in find_copies(state)[task]}
        taken.update(state.banned.get(task, ()))
        for worker in state.workers:
            free = worker.takes and not worker.runs
            if free and worker.provider not in taken:
                state = give(state, worker.number, task, at_ms)
                orders.append(order.SendTask(worker=worker.number, task=task))
                break
    return state, tuple(orders)


def find_stragglers(state: Map, *, at_ms: int) -> list[int]:
    """Name the tasks that take unusually long and are with one worker only."""
    if state.waiting or len(state.samples) < STRAGGLER_SAMPLES:
        return []
    limit_ms = max(STRAGGLER_FACTOR * median(state.samples), STRAGGLER_MS_MIN)
    slow = [
        (copies[0][1].sent_at_ms, task)
        for task, copies in find_copies(state).items()
        if len(copies) < COPIES_MAX and at_ms - copies[0][1].sent_at_ms > limit_ms
    ]
    return [task for _, task in sorted(slow)]


def give(state: Map, number: int, task: int, at_ms: int) -> Map:
    """Note that a worker has a task."""
    worker = find_worker(state, number)
    if worker is None:
        raise AssertionError(f"there is no worker {number}")
    runs = (*worker.runs, Run(task=task, sent_at_ms=at_ms))
    return replace_worker(state, structs.replace(worker, runs=runs))
