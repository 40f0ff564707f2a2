"""Who is rented and who is let go. Pure.

A task that must not go to some providers wants a machine of another one: it is rented
where none is there, and where all places are taken, somebody makes room for it.
"""

from msgspec import structs

from sublet.base import limits
from sublet.base.ids import Address
from sublet.core.task import order
from sublet.core.task.give import COPIES_MAX, find_stragglers
from sublet.core.task.state import (
    Map,
    MapPhase,
    Worker,
    add_names,
    find_copies,
    find_stuck,
    replace_worker,
)

IDLE_MS = 5_000  # that a worker is kept for tasks that may yet have to be tried again
IDLE_OPEN_MS = 30_000  # and for such as may yet be added: another would begin cold
SHARE_MIN = 20  # a worker gets no less than this part of what it would get at first

Move = tuple[Map, tuple[order.Order, ...]]


def make_room(state: Map, at_ms: int) -> Move:
    """Let an idle worker go where all places are taken by such as must not have a task.

    One at a time. Where there is but one place it does what it may do first: else
    machines would change with every task.
    """
    is_full = len(state.workers) >= state.limits.parallel
    # One that leaves makes room, and one that has no machine yet may get the right one.
    if not is_full or any(x.is_leaving or not x.provider for x in state.workers):
        return state, ()
    others = len(state.again) - sum(task in state.banned for task in state.again)
    if state.limits.parallel == 1 and (state.fresh or others):
        return state, ()
    idle = [one for one in state.workers if one.takes and not one.runs]
    if not idle or not find_stuck(state):
        return state, ()
    return _dismiss(state, idle[0])


def rent(state: Map, at_ms: int) -> Move:
    """Rent machines for what waits."""
    slow = find_stragglers(state, at_ms=at_ms)
    wishes = _list_wishes(state, slow)
    if not wishes or at_ms < state.seek_after_ms:
        return state, ()
    # Those that may yet be wanted have to be paid, too.
    to_come = state.limits.parallel - len(state.workers) if state.is_open else 0
    share = (state.limits.total_max - state.committed) // max(len(wishes), to_come)
    least = state.limits.total_max // (state.limits.parallel * SHARE_MIN)
    if share <= 0 or share < least:
        # Perhaps others leave something over when they end.
        if state.workers:
            return state, ()
        return _run_dry(state)
    orders: list[order.Order] = []
    for wish in wishes:
        number = state.workers_ever + 1
        avoid = add_names(state.avoided, (*state.dismissed, *wish))[
            -limits.LIST_LENGTH_MAX :
        ]
        worker = Worker(number=number, cap=share, avoid=avoid, idle_since_ms=at_ms)
        state = structs.replace(
            state, workers=(*state.workers, worker), workers_ever=number
        )
        orders.append(order.StartWorker(worker=number, cap=share, avoid=avoid))
    return state, tuple(orders)


def _list_wishes(state: Map, slow: list[int]) -> list[tuple[Address, ...]]:
    """Say for each machine that is wanted, and has a place, whose it must not be."""
    places = state.limits.parallel - len(state.workers)
    if places <= 0:
        return []
    waiting = [state.banned[task] for task in state.again if task in state.banned]
    plain = state.waiting - len(waiting) + len(slow)
    for worker in state.workers:
        if not worker.is_coming:
            continue
        place = next((n for n, one in enumerate(waiting) if worker.suits(one)), -1)
        if place >= 0:
            del waiting[place]
        else:
            plain -= 1
    copies = find_copies(state)
    holders = tuple(
        sorted({worker.provider for task in slow for worker, _ in copies[task]})
    )
    wishes = waiting[:places]
    return wishes + [holders] * min(max(plain, 0), places - len(wishes))


def _run_dry(state: Map) -> Move:
    message = (
        "--max-total is used up; what is done is kept. Run the same again with a "
        "higher one to go on"
    )
    return structs.replace(
        state, phase=MapPhase.STOPPING, outcome="budget", message=message
    ), ()


def let_go(state: Map, at_ms: int) -> Move:
    """A machine without a task costs money."""
    orders: list[order.Order] = []
    # Those that will not be doubled, since they are already, need nobody else.
    single = sum(len(copies) < COPIES_MAX for copies in find_copies(state).values())
    keep_ms = IDLE_MS if single or state.waiting else 0
    if state.is_open:
        keep_ms = IDLE_OPEN_MS
    for worker in state.workers:
        if worker.is_leaving or worker.runs or _has_work(state, worker):
            continue
        if at_ms - worker.idle_since_ms < keep_ms:
            continue
        if single and not worker.is_ready and find_stragglers(state, at_ms=at_ms):
            continue  # it comes for one of them
        state, more = _dismiss(state, worker)
        orders += more
    return state, tuple(orders)


def _has_work(state: Map, worker: Worker) -> bool:
    """Say whether a task waits that it may be given."""
    if state.fresh:
        return True
    return any(worker.suits(state.banned.get(task, ())) for task in state.again)


def _dismiss(state: Map, worker: Worker) -> Move:
    leaving = structs.replace(worker, is_leaving=True)
    stop = order.StopWorker(worker=worker.number, reason="cancelled")
    return replace_worker(state, leaving), (stop,)
