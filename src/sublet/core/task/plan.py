"""What to do next. Pure.

One pass after each fact, in this order: make room for whom others must make it, give
waiting tasks to whoever is free, double the tasks that take unusually long, rent more
machines, let idle ones go, end.
"""

from msgspec import structs

from sublet.core.task import order
from sublet.core.task.give import assign, double
from sublet.core.task.staff import let_go, make_room, rent
from sublet.core.task.state import Map, MapPhase

Move = tuple[Map, tuple[order.Order, ...]]


def make_plan(state: Map, *, at_ms: int) -> Move:
    """Plan on from here; the orders go with the new state."""
    orders: list[order.Order] = []
    if state.phase is MapPhase.RUNNING:
        for move in (make_room, assign, double, rent, let_go):
            state, more = move(state, at_ms)
            orders += more
    state, more = _end(state)
    return state, (*orders, *more)


def _end(state: Map) -> Move:
    all_over = state.done + state.failed == state.tasks and not state.is_open
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
