"""The life of a map, seen by its tenant: (state, fact) -> (state, orders).

Each task ends exactly once: by the first result that counts, or because it was tried
often enough. A worker's word on a task that it was not given is a lie, and the worker
is left. What to do next with whoever is there is decided by ``plan`` after each fact.

Not here: leases, channels, files (``workload.map``).
"""

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from msgspec import structs

from sublet.base import limits
from sublet.base.ids import Address
from sublet.core.task import fact, order
from sublet.core.task.give import find_silent
from sublet.core.task.plan import make_plan
from sublet.core.task.state import (
    SAMPLES_MAX,
    Map,
    MapLimits,
    MapPhase,
    Trouble,
    Worker,
    add_names,
    find_copies,
    find_stuck,
    find_worker,
    replace_worker,
)

Move = tuple[Map, tuple[order.Order, ...]]
T = TypeVar("T")

SEEK_PAUSE_MS = 10_000  # before a market that had nothing is asked again
DISMISSED_MAX = 1_024
STILLBORN_MAX = 3  # providers in a row that gave nothing: then it is not them

# Why a lease may end without anybody's fault, so that its provider is asked again.
BLAMELESS = frozenset(
    {"timeout", "cancelled", "stopped", "exited", "no_supply", "refused"}
    | {"out_of_memory", "disk_full"}
)
# What the task under way did by itself.
OWN = frozenset({"out_of_memory", "disk_full"})
NO_LEASE = frozenset({"no_supply", "refused"})


def start(limits_: MapLimits, *, dismissed: tuple[Address, ...] = ()) -> Map:
    """Begin: nothing has happened; tell it ``Begun``.

    Args:
        limits_: how many, how much.
        dismissed: providers of whom nothing is wanted from the first.
    """
    fresh = ((0, limits_.tasks),) if limits_.tasks else ()
    return Map(
        limits=limits_,
        tasks=limits_.tasks,
        is_open=limits_.is_open,
        fresh=fresh,
        dismissed=dismissed[-DISMISSED_MAX:],
    )


def step(state: Map, said: fact.Fact) -> Move:
    """Let one fact happen, then plan on. Never refuses.

    A fact of a worker that is gone changes nothing.
    """
    if state.phase is MapPhase.FINISHED:
        return state, ()
    if isinstance(said, fact.WorkerFact) and find_worker(state, said.worker) is None:
        return state, ()
    state, orders = _MOVES[type(said)](state, said)
    state, planned = make_plan(state, at_ms=said.at_ms)
    return state, (*orders, *planned)


def _stay(state: Map, said: fact.Fact) -> Move:
    return state, ()


def _stop(state: Map, said: fact.StopAsked) -> Move:
    return _finish(state, "stopped", "stopped")


def _add(state: Map, said: fact.TasksAdded) -> Move:
    first, end = state.tasks, state.tasks + said.count
    state = structs.replace(state, tasks=end)
    if not said.avoid and not said.is_urgent:
        fresh = state.fresh
        if fresh and fresh[-1][1] == first:
            first, fresh = fresh[-1][0], fresh[:-1]
        return structs.replace(state, fresh=(*fresh, (first, end))), ()
    more = tuple(range(first, end))
    again = (*more, *state.again) if said.is_urgent else (*state.again, *more)
    banned = dict.fromkeys(more, said.avoid) if said.avoid else {}
    return structs.replace(state, again=again, banned={**state.banned, **banned}), ()


def _close_tasks(state: Map, said: fact.TasksClosed) -> Move:
    return structs.replace(state, is_open=False), ()


def _dismiss(state: Map, said: fact.ProviderDismissed) -> Move:
    """Leave all its workers; what they had goes to others."""
    dismissed = add_names(state.dismissed, [said.provider])
    state = structs.replace(state, dismissed=dismissed[-DISMISSED_MAX:])
    orders: tuple[order.Order, ...] = ()
    for worker in state.workers:
        if worker.provider == said.provider:
            state, more = _leave(state, worker, said.reason, is_paid=False)
            orders = (*orders, *more)
    return state, orders


def _tick(state: Map, said: fact.Ticked) -> Move:
    orders: tuple[order.Order, ...] = ()
    workers = tuple(
        structs.replace(one, cost=_price(one, said.costs.get(one.number, one.cost)))
        for one in state.workers
    )
    state = structs.replace(state, workers=workers)
    for number in find_silent(state, at_ms=said.at_ms):
        silence = fact.WorkerMisbehaved(
            at_ms=said.at_ms, worker=number, reason="silent"
        )
        state, more = _misbehave(state, silence)
        orders = (*orders, *more)
    return state, orders


def _price(worker: Worker, cost: int) -> int:
    """What it has cost: it only grows, and no lease costs more than its hold."""
    return min(max(cost, worker.cost), worker.cap)


def _match(state: Map, said: fact.WorkerMatched) -> Move:
    worker = _get(state, said.worker)
    worker = structs.replace(worker, provider=said.provider, price_hour=said.price_hour)
    state = replace_worker(state, worker)
    if worker.provider not in state.dismissed or worker.is_leaving:
        return state, ()
    # More were dismissed than an order can name.
    state = structs.replace(state, seek_after_ms=said.at_ms + SEEK_PAUSE_MS)
    return _leave(state, worker, "dismissed", is_paid=False)


def _get_ready(state: Map, said: fact.WorkerReady) -> Move:
    worker = _get(state, said.worker)
    worker = structs.replace(worker, is_ready=True, idle_since_ms=said.at_ms)
    return structs.replace(replace_worker(state, worker), stillborn=()), ()


def _get_on(state: Map, said: fact.TaskProgressed) -> Move:
    worker = _get(state, said.worker)
    runs = tuple(
        structs.replace(run, moved_at_ms=said.at_ms, share_ppm=said.share_ppm)
        if run.task == said.task
        else run
        for run in worker.runs
    )
    return replace_worker(state, structs.replace(worker, runs=runs)), ()


# ---- a task ends --------------------------------------------------------------------


def _end_task(state: Map, said: fact.TaskEnded) -> Move:
    worker = _get(state, said.worker)
    run = next((run for run in worker.runs if run.task == said.task), None)
    if run is None:
        return _misbehave(state, said, reason="foreign_result")
    is_wanted = not run.is_dropped
    ran_ms = min(max(said.ran_ms, 0), said.at_ms - run.sent_at_ms)
    said = structs.replace(said, ran_ms=ran_ms)
    if is_wanted and said.outcome == "cancelled":
        return _misbehave(state, said, reason="task_dropped")
    if is_wanted and said.outcome == "done" and ran_ms < state.limits.fastest_ms:
        return _leave(state, worker, "too_fast", is_paid=False)
    rest = tuple(other for other in worker.runs if other is not run)
    state = replace_worker(
        state,
        structs.replace(
            worker,
            runs=rest,
            done=worker.done + is_wanted,
            idle_since_ms=said.at_ms,
        ),
    )
    ack = order.AckTask(worker=said.worker, task=said.task)
    if not is_wanted:
        return state, (ack,)
    if said.outcome == "done":
        return _conclude(state, said, is_done=True, last=ack)
    return _fail_task(state, said, worker, ack)


def _fail_task(
    state: Map, said: fact.TaskEnded, worker: Worker, ack: order.AckTask
) -> Move:
    trouble = state.troubles.get(said.task, Trouble())
    trouble = structs.replace(
        trouble,
        failures=trouble.failures + 1,
        provider=worker.provider,
        is_stalled=said.outcome == "stalled",
    )
    state = _note(state, said.task, trouble)
    if trouble.failures > state.limits.retries:
        return _conclude(state, said, is_done=False, last=ack)
    if said.task not in find_copies(state):
        state = structs.replace(state, again=(*state.again, said.task))
    return state, (ack,)


def _conclude(
    state: Map, said: fact.TaskEnded, *, is_done: bool, last: order.AckTask
) -> Move:
    """This result counts; whoever else works on the task is told to leave it."""
    attempts = _attempts(state, said.task) + is_done
    keep = order.KeepResult(
        worker=said.worker,
        task=said.task,
        is_done=is_done,
        attempts=attempts,
        ran_ms=said.ran_ms,
    )
    state, cancels = _close(state, said.task, is_done=is_done)
    if is_done:
        samples = (*state.samples, said.ran_ms)[-SAMPLES_MAX:]
        state = structs.replace(state, samples=samples)
    return state, (keep, last, *cancels)


def _close(state: Map, task: int, *, is_done: bool) -> Move:
    cancels = []
    for worker, run in find_copies(state).get(task, ()):
        cancels.append(order.CancelTask(worker=worker.number, task=task))
        dropped = structs.replace(run, is_dropped=True)
        runs = tuple(dropped if one is run else one for one in worker.runs)
        state = replace_worker(state, structs.replace(worker, runs=runs))
    state = structs.replace(
        state,
        troubles=_without(state.troubles, task),
        banned=_without(state.banned, task),
        again=tuple(one for one in state.again if one != task),
        done=state.done + is_done,
        failed=state.failed + (not is_done),
    )
    if not is_done and state.limits.is_fail_fast:
        state, stops = _finish(
            state, "failed", "a task failed, and --fail-fast says to stop then"
        )
        return state, (*cancels, *stops)
    return state, tuple(cancels)


# ---- a worker ends ------------------------------------------------------------------


def _misbehave(state: Map, said: fact.WorkerFact, *, reason: str = "") -> Move:
    """Take nothing more from it; what it had goes to others."""
    worker = _get(state, said.worker)
    if worker.is_leaving:
        return state, ()
    reason = reason or getattr(said, "reason", "") or "misbehaved"
    return _leave(state, worker, reason)


def _leave(state: Map, worker: Worker, reason: str, *, is_paid: bool = True) -> Move:
    """Let a worker go whose provider is not wanted any more."""
    state = _avoid(state, worker)
    state, orders = _release(state, worker, outcome=reason)
    leaving = structs.replace(_get(state, worker.number), is_leaving=True)
    stop = order.StopWorker(worker=worker.number, reason=reason, is_paid=is_paid)
    return replace_worker(state, leaving), (stop, *orders)


def _end_worker(state: Map, said: fact.WorkerEnded) -> Move:
    worker = _get(state, said.worker)
    if not worker.is_leaving and said.outcome not in BLAMELESS:
        state = _avoid(state, worker)
    state, orders = _release(state, worker, outcome=said.outcome)
    state = structs.replace(
        state,
        workers=tuple(one for one in state.workers if one.number != said.worker),
        spent=state.spent + _price(worker, said.cost),
    )
    if worker.is_ready or worker.is_leaving or state.phase is not MapPhase.RUNNING:
        return state, orders
    state, more = _mourn(state, worker, said)
    return state, (*orders, *more)


def _mourn(state: Map, worker: Worker, said: fact.WorkerEnded) -> Move:
    """It never took a task: is that its provider's doing, or ours?"""
    state = structs.replace(state, message=said.note or state.message)
    if said.outcome in NO_LEASE:
        special = set(worker.avoid) - {*state.avoided, *state.dismissed}
        if not state.workers and state.waiting and not special:
            because = state.message or "the market has no machine for this"
            return _finish(state, said.outcome, because)
        state = structs.replace(state, seek_after_ms=said.at_ms + SEEK_PAUSE_MS)
        return _give_up(state, worker)
    stillborn = tuple(dict.fromkeys((*state.stillborn, worker.provider)))
    state = structs.replace(state, stillborn=stillborn)
    if len(stillborn) < STILLBORN_MAX:
        return state, ()
    because = f"{len(stillborn)} providers in a row could not even begin"
    return _finish(state, "unable", f"{because}; the last one said: {said.note}")


def _give_up(state: Map, worker: Worker) -> Move:
    """The market has nobody but those whom this one avoids; nor for the same tasks."""
    orders: list[order.Order] = []
    for task in find_stuck(state):
        avoided = {*state.banned[task], *state.avoided, *state.dismissed}
        if avoided >= set(worker.avoid):
            because = state.message or "the market has no machine for this"
            names = ", ".join(one[:10] + "…" for one in state.banned[task])
            note = f"no other provider than {names}, that must not get it: {because}"
            attempts = _attempts(state, task)
            orders.append(order.KeepLoss(task=task, attempts=attempts, note=note))
            state, more = _close(state, task, is_done=False)
            orders += more
    return state, tuple(orders)


def _release(state: Map, worker: Worker, *, outcome: str) -> Move:
    """Take back what it was given; a task that loses too many machines has failed."""
    runs = [run for run in worker.runs if not run.is_dropped]
    state = replace_worker(state, structs.replace(worker, runs=()))
    orders: list[order.Order] = []
    copies = find_copies(state)
    for place, run in enumerate(runs):
        trouble = state.troubles.get(run.task, Trouble())
        # Only the first one was under way; the rest lay in the queue.
        is_own = place == 0 and outcome in OWN
        trouble = structs.replace(
            trouble,
            failures=trouble.failures + is_own,
            losses=trouble.losses + (not is_own),
            provider=worker.provider,
        )
        state = _note(state, run.task, trouble)
        is_over = trouble.failures > state.limits.retries
        if is_over or trouble.losses > state.limits.losses:
            attempts = _attempts(state, run.task)
            orders.append(order.KeepLoss(task=run.task, attempts=attempts))
            state, more = _close(state, run.task, is_done=False)
            orders += more
        elif run.task not in copies:
            state = structs.replace(state, again=(*state.again, run.task))
    return state, tuple(orders)


def _finish(state: Map, outcome: str, message: str) -> Move:
    """Stop every worker; the first reason is the one that is told."""
    if state.phase is not MapPhase.RUNNING:
        return state, ()
    state = structs.replace(
        state, phase=MapPhase.STOPPING, outcome=outcome, message=message
    )
    stops = tuple(
        order.StopWorker(worker=one.number, reason="cancelled")
        for one in state.workers
        if not one.is_leaving
    )
    workers = tuple(structs.replace(one, is_leaving=True) for one in state.workers)
    return structs.replace(state, workers=workers), stops


# ---- parts --------------------------------------------------------------------------


def _get(state: Map, number: int) -> Worker:
    worker = find_worker(state, number)
    if worker is None:
        raise AssertionError(f"there is no worker {number}")
    return worker


def _note(state: Map, task: int, trouble: Trouble) -> Map:
    return structs.replace(state, troubles={**state.troubles, task: trouble})


def _without(known: dict[int, T], task: int) -> dict[int, T]:
    if task not in known:
        return known
    return {key: value for key, value in known.items() if key != task}


def _attempts(state: Map, task: int) -> int:
    trouble = state.troubles.get(task, Trouble())
    return trouble.failures + trouble.losses


def _avoid(state: Map, worker: Worker) -> Map:
    if not worker.provider:
        return state
    avoided = add_names(state.avoided, [worker.provider])[-limits.LIST_LENGTH_MAX :]
    return structs.replace(state, avoided=avoided)


_MOVES: Mapping[type[fact.Fact], Callable[[Map, Any], Move]] = {
    fact.Begun: _stay,
    fact.StopAsked: _stop,
    fact.TasksAdded: _add,
    fact.TasksClosed: _close_tasks,
    fact.ProviderDismissed: _dismiss,
    fact.Ticked: _tick,
    fact.WorkerMatched: _match,
    fact.WorkerReady: _get_ready,
    fact.TaskProgressed: _get_on,
    fact.TaskEnded: _end_task,
    fact.WorkerMisbehaved: _misbehave,
    fact.WorkerEnded: _end_worker,
}
