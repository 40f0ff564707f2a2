"""What to do next: who is given what, who is rented, who is let go. Pure.

One pass after each fact, in this order: give waiting tasks to whoever is free, double
the tasks that take unusually long, rent more machines, let idle ones go, end.
"""

from statistics import median

from msgspec import structs

from sublet.core.task import order
from sublet.core.task.state import (
    Map,
    MapPhase,
    Run,
    Worker,
    find_copies,
)

STRAGGLER_FACTOR = 2  # times the median: then a task is begun a second time elsewhere
STRAGGLER_MS_MIN = 1_000
STRAGGLER_SAMPLES = 3  # tasks that must have ended before anything is called slow
COPIES_MAX = 2
QUEUE = 2  # tasks that a worker holds where they are short: it never waits for us
SHORT_MS = 2_000
IDLE_MS = 5_000  # that a worker is kept for tasks that may yet have to be tried again
OVERDUE_MS = 30_000  # that a worker may be silent beyond a task's own limit
SHARE_MIN = 20  # a worker gets no less than this part of what it would get at first

Move = tuple[Map, tuple[order.Order, ...]]


def make_plan(state: Map, *, at_ms: int) -> Move:
    """Plan on from here; the orders go with the new state."""
    orders: list[order.Order] = []
    if state.phase is MapPhase.RUNNING:
        for move in (_assign, _double, _rent, _let_go):
            state, more = move(state, at_ms)
            orders += more
    state, more = _end(state)
    return state, (*orders, *more)


# ---- giving tasks ---------------------------------------------------------------------


def find_silent(state: Map, *, at_ms: int) -> list[int]:
    """Name the workers that say nothing long after a task's own limit."""
    limit_ms = state.limits.timeout_ms
    if not limit_ms:
        return []
    return [
        one.number
        for one in state.workers
        if one.takes
        and one.runs
        and at_ms - max(one.idle_since_ms, one.runs[0].sent_at_ms)
        > limit_ms + OVERDUE_MS
    ]


def _assign(state: Map, at_ms: int) -> Move:
    orders: list[order.Order] = []
    is_short = bool(state.samples) and median(state.samples) <= SHORT_MS
    rounds = QUEUE if is_short and state.waiting > 2 * len(state.workers) else 1
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
    others = any(
        one.takes and not one.runs and one.provider != worker.provider
        for one in state.workers
    )
    for task in state.again:
        if others and state.troubles[task].provider == worker.provider:
            continue
        again = tuple(one for one in state.again if one != task)
        return structs.replace(state, again=again), task
    if state.next < state.limits.tasks:
        return structs.replace(state, next=state.next + 1), state.next
    return state, None


def _double(state: Map, at_ms: int) -> Move:
    orders: list[order.Order] = []
    for task in find_stragglers(state, at_ms=at_ms):
        holders = {worker.provider for worker, _ in find_copies(state)[task]}
        for worker in state.workers:
            free = worker.takes and not worker.runs
            if free and worker.provider not in holders:
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


# ---- workers --------------------------------------------------------------------------


def _rent(state: Map, at_ms: int) -> Move:
    slow = find_stragglers(state, at_ms=at_ms)
    coming = sum(not one.is_ready and not one.is_leaving for one in state.workers)
    wanted = min(
        state.waiting + len(slow) - coming,
        state.limits.parallel - len(state.workers),
    )
    if wanted <= 0 or at_ms < state.seek_after_ms:
        return state, ()
    share = (state.limits.total_max - state.committed) // wanted
    least = state.limits.total_max // (state.limits.parallel * SHARE_MIN)
    if share <= 0 or share < least:
        # Perhaps others leave something over when they end.
        if state.workers:
            return state, ()
        return _run_dry(state)
    copies = find_copies(state)
    holders = {worker.provider for task in slow for worker, _ in copies[task]}
    avoid = dict.fromkeys((*state.avoided, *sorted(holders)))
    orders: list[order.Order] = []
    for _ in range(wanted):
        number = state.workers_ever + 1
        worker = Worker(number=number, cap=share, idle_since_ms=at_ms)
        state = structs.replace(
            state, workers=(*state.workers, worker), workers_ever=number
        )
        orders.append(
            order.StartWorker(worker=number, cap=share, avoid=tuple(avoid)[-16:])
        )
    return state, tuple(orders)


def _run_dry(state: Map) -> Move:
    message = (
        "--max-total is used up; what is done is kept. Run the same again with a "
        "higher one to go on"
    )
    return structs.replace(
        state, phase=MapPhase.STOPPING, outcome="budget", message=message
    ), ()


def _let_go(state: Map, at_ms: int) -> Move:
    """A machine without a task costs money."""
    orders: list[order.Order] = []
    if state.waiting:
        return state, ()
    # Those that will not be doubled, since they are already, need nobody else.
    single = sum(len(copies) < COPIES_MAX for copies in find_copies(state).values())
    for worker in state.workers:
        if worker.is_leaving or worker.runs:
            continue
        if single and at_ms - worker.idle_since_ms < IDLE_MS:
            continue
        if single and not worker.is_ready and find_stragglers(state, at_ms=at_ms):
            continue  # it comes for one of them
        orders.append(order.StopWorker(worker=worker.number, reason="cancelled"))
        state = replace_worker(state, structs.replace(worker, is_leaving=True))
    return state, tuple(orders)


def _end(state: Map) -> Move:
    all_over = state.done + state.failed == state.limits.tasks
    if state.phase is MapPhase.RUNNING and all_over:
        message = f"{state.failed} tasks failed" if state.failed else ""
        outcome = "failed" if state.failed else "done"
        leaving = [one for one in state.workers if not one.is_leaving]
        stops = tuple(
            order.StopWorker(worker=one.number, reason="cancelled") for one in leaving
        )
        workers = tuple(structs.replace(one, is_leaving=True) for one in state.workers)
        state = structs.replace(
            state,
            phase=MapPhase.STOPPING,
            workers=workers,
            outcome=outcome,
            message=message,
        )
        if stops:
            return state, stops
    if state.phase is MapPhase.STOPPING and not state.workers:
        state = structs.replace(state, phase=MapPhase.FINISHED)
        return state, (order.Finish(outcome=state.outcome, message=state.message),)
    return state, ()


# ---- parts ----------------------------------------------------------------------------


def give(state: Map, number: int, task: int, at_ms: int) -> Map:
    """Note that a worker has a task."""
    worker = find_worker(state, number)
    if worker is None:
        raise AssertionError(f"there is no worker {number}")
    runs = (*worker.runs, Run(task=task, sent_at_ms=at_ms))
    return replace_worker(state, structs.replace(worker, runs=runs))


def find_worker(state: Map, number: int) -> Worker | None:
    """Give the worker of this number while it is there."""
    return next((one for one in state.workers if one.number == number), None)


def replace_worker(state: Map, worker: Worker) -> Map:
    """Put a worker into the place of its former self."""
    workers = tuple(
        worker if one.number == worker.number else one for one in state.workers
    )
    return structs.replace(state, workers=workers)
