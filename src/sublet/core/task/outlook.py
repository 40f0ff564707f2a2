"""How far a map is, how long it may take yet, what it may come to. Pure."""

from msgspec import Struct

from sublet.core.task.state import Map


class Outlook(Struct, frozen=True):
    """One look at a map. Money in micro-USD; -1 where nobody can tell yet."""

    tasks: int
    done: int
    failed: int
    running: int
    waiting: int
    workers: int  # that take tasks
    starting: int  # that are on their way
    cost: int
    cost_expected: int  # when all is done
    left_ms: int


def look_ahead(state: Map, *, tasks: int, done: int = 0, failed: int = 0) -> Outlook:
    """Say where a map stands.

    Args:
        state: of this run of it.
        tasks: of the whole map, those of earlier runs included.
        done: by earlier runs.
        failed: in earlier runs.
    """
    ended = state.done + state.failed
    left = state.tasks - ended
    ready = sum(one.takes for one in state.workers)
    left_ms = cost_expected = -1
    if not left:
        left_ms, cost_expected = 0, state.cost
    elif state.samples and ended:
        mean_ms = sum(state.samples) / len(state.samples)
        rounds = left / max(1, min(ready, left))
        left_ms = round(mean_ms * max(rounds, 1))
        cost_expected = state.cost + state.cost * left // ended
    return Outlook(
        tasks=tasks,
        done=done + state.done,
        failed=failed + state.failed,
        running=state.running,
        waiting=state.waiting,
        workers=ready,
        starting=sum(x.is_coming for x in state.workers),
        cost=state.cost,
        cost_expected=cost_expected,
        left_ms=left_ms,
    )
