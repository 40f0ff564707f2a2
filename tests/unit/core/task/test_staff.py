"""Tasks that come while a map runs, and providers that must not get them."""

import pytest

from sublet.core.task import fact, order
from sublet.core.task.give import OVERDUE_MS
from sublet.core.task.staff import IDLE_MS, IDLE_OPEN_MS
from sublet.core.task.state import MapPhase
from sublet.core.task.task import SEEK_PAUSE_MS
from tests.unit.core.task.test_task import PROVIDERS, Story


def opened(tasks: int = 2, parallel: int = 2) -> Story:
    """An open map with worker 1 of provider 1."""
    return Story(tasks, parallel, is_open=True).ready(1)


def sent(story: Story) -> list[tuple[int, int]]:
    return [(one.worker, one.task) for one in story.find(order.SendTask)]


def stopped(story: Story) -> list[int]:
    return [one.worker for one in story.find(order.StopWorker)]


def test_open_map_waits_for_more_and_ends_when_it_is_closed() -> None:
    story = opened(tasks=1, parallel=1).end(1, 0)
    assert story.state.phase is MapPhase.RUNNING
    assert sent(story.add()) == [(1, 1)]
    story.end(1, 1)
    story.tell(fact.TasksClosed)
    assert stopped(story) == [1]
    story.lose(1, "cancelled")
    assert story.find(order.Finish)[0].outcome == "done"
    assert story.kept == {0: True, 1: True}


def test_idle_worker_of_an_open_map_is_kept_for_a_while() -> None:
    story = opened(tasks=1, parallel=1).end(1, 0)
    story.tell(fact.Ticked, after_ms=IDLE_MS)
    assert not stopped(story)
    story.tell(fact.Ticked, after_ms=IDLE_OPEN_MS)
    assert stopped(story) == [1]
    story.lose(1, "cancelled")
    assert story.state.phase is MapPhase.RUNNING, "it costs nothing and waits"
    assert story.add().find(order.StartWorker)


def test_urgent_tasks_come_first_and_others_last() -> None:
    story = opened(tasks=3, parallel=1).add(2).add(2, is_urgent=True)
    order_of = []
    for _ in range(7):
        [worker] = story.state.workers
        order_of.append(worker.runs[0].task)
        story.end(1, worker.runs[0].task, ran_ms=5_000)
    assert order_of == [0, 5, 6, 1, 2, 3, 4]


def test_task_goes_to_another_provider_than_those_it_avoids() -> None:
    story = opened(tasks=2).ready(2).add(1, 1)
    assert sent(story.end(1, 0)) == []
    assert sent(story.end(2, 1)) == [(2, 2)]


def test_machine_that_avoids_them_is_rented_where_none_is_there() -> None:
    story = opened(tasks=1, parallel=2).add(1, 1)
    [start] = story.find(order.StartWorker)
    assert start.avoid == (PROVIDERS[1],)
    story.tell(fact.Ticked, after_ms=1)
    assert not story.find(order.StartWorker), "one is enough"
    assert sent(story.ready(2, provider=2)) == [(2, 1)]


def test_idle_worker_makes_room_where_all_places_are_taken() -> None:
    story = opened(tasks=2).ready(2, provider=1).add(1, 1)
    assert not stopped(story), "both are at work"
    assert stopped(story.end(1, 0)) == [1]
    assert not story.find(order.StartWorker), "its place is not free yet"
    story.lose(1, "cancelled")
    [start] = story.find(order.StartWorker)
    assert start.avoid == (PROVIDERS[1],)
    story.end(2, 1)
    assert not stopped(story), "one is enough"
    assert sent(story.ready(3, provider=3)) == [(3, 2)]


def test_short_tasks_do_not_keep_a_worker_from_making_room() -> None:
    story = opened(tasks=40, parallel=2).ready(2, provider=1).end(1, 0)
    story.add(1, 1)
    for _ in range(4):
        [run, *_] = story.state.workers[0].runs
        story.end(1, run.task)
        if stopped(story):
            break
    assert stopped(story) == [1]


def test_only_place_does_first_what_it_may() -> None:
    story = opened(tasks=3, parallel=1).add(1, 1)
    story.end(1, 0).end(1, 1)
    assert not stopped(story)
    assert stopped(story.end(1, 2)) == [1]
    story.lose(1, "cancelled")
    assert sent(story.ready(2, provider=2)) == [(2, 3)]


def test_it_is_lost_where_the_market_has_nobody_else() -> None:
    story = opened(tasks=2, parallel=2).add(1, 1).end(1, 0)
    story.lose(2, "no_supply")
    [lost] = story.find(order.KeepLoss)
    assert (lost.task, lost.attempts) == (2, 0)
    assert PROVIDERS[1][:10] in lost.note
    story.end(1, 1)
    story.tell(fact.TasksClosed)
    story.lose(1, "cancelled")
    assert story.find(order.Finish)[0].outcome == "failed"


def test_nobody_else_does_not_end_a_map_whose_other_tasks_can_be_run() -> None:
    story = opened(tasks=2, parallel=2).add(1, 1).end(1, 0)
    story.lose(1, "provider_lost")  # it was at task 1
    story.lose(2, "no_supply")
    story.tell(fact.Ticked, after_ms=SEEK_PAUSE_MS)
    assert story.state.phase is MapPhase.RUNNING
    assert story.find(order.StartWorker)


def test_straggler_is_not_doubled_where_it_must_not_go() -> None:
    story = Story(3, 2, is_open=True).ready(1).ready(2).add(1, 2, is_urgent=True)
    story.end(1, 0).end(2, 1).end(2, 2)
    assert (1, 3) in [(w.number, r.task) for w in story.state.workers for r in w.runs]
    story.tell(fact.Ticked, after_ms=10_000)
    assert not story.find(order.SendTask)


def test_idle_worker_that_must_not_have_what_waits_is_let_go() -> None:
    story = opened(tasks=2, parallel=4).ready(2, provider=1).add(1, 1)
    story.end(1, 0)
    story.tell(fact.Ticked, after_ms=IDLE_OPEN_MS)
    assert stopped(story) == [1]


# ---- dismissed ------------------------------------------------------------------------


def test_dismissed_provider_is_stopped_unpaid_and_its_task_goes_elsewhere() -> None:
    story = opened(tasks=2).ready(2)
    story.tell(fact.ProviderDismissed, provider=PROVIDERS[1], reason="lied")
    stop = order.StopWorker(worker=1, reason="lied", is_paid=False)
    assert story.find(order.StopWorker) == [stop]
    assert sent(story.end(2, 1)) == [(2, 0)]
    story.end(1, 0)  # what it says now counts for nothing
    assert story.kept == {1: True}
    story.lose(1, "lied")
    story.add(3)
    assert PROVIDERS[1] in story.find(order.StartWorker)[0].avoid


def test_worker_that_was_just_let_go_is_not_paid_either() -> None:
    story = opened(tasks=1, parallel=1).end(1, 0)
    story.tell(fact.TasksClosed)
    story.tell(fact.ProviderDismissed, provider=PROVIDERS[1], reason="lied")
    assert [one.is_paid for one in story.find(order.StopWorker)] == [False]


def test_market_that_gives_a_dismissed_provider_is_not_taken_up_on_it() -> None:
    story = Story(1, 1, is_open=True)
    story.tell(fact.ProviderDismissed, provider=PROVIDERS[1], reason="lied")
    story.ready(1)
    assert not sent(story)
    assert story.state.workers[0].is_leaving
    story.lose(1, "dismissed")
    assert not story.find(order.StartWorker)
    story.tell(fact.Ticked, after_ms=SEEK_PAUSE_MS)
    assert story.find(order.StartWorker)


# ---- progress -------------------------------------------------------------------------


def test_stalled_task_waits_for_another_provider() -> None:
    story = Story(8, 2).ready(1).ready(2).end(1, 0, "stalled")
    assert sent(story) == [(1, 2)], "it does something else meanwhile"
    assert sent(story.end(2, 1, ran_ms=5_000)) == [(2, 0)]


def test_stalled_task_goes_on_where_there_is_nobody_else() -> None:
    story = Story(8, 1).ready(1).end(1, 0, "stalled")
    assert sent(story) == [(1, 0)]


@pytest.mark.parametrize("moves", [0, 3])
def test_worker_that_lets_a_task_stall_is_left(moves: int) -> None:
    story = Story(2, 1, stall_ms=10_000).ready(1)
    for share in range(moves):
        story.tell(
            fact.TaskProgressed,
            after_ms=9_000 + OVERDUE_MS,
            worker=1,
            task=0,
            share_ppm=share,
        )
    story.tell(fact.Ticked, after_ms=9_000 + OVERDUE_MS)
    assert not stopped(story)
    story.tell(fact.Ticked, after_ms=1_001)
    assert story.find(order.StopWorker) == [order.StopWorker(worker=1, reason="silent")]


def test_result_faster_than_any_machine_is_a_lie() -> None:
    story = Story(2, 1, fastest_ms=100).ready(1)
    story.tell(
        fact.TaskEnded, after_ms=99, worker=1, task=0, outcome="done", ran_ms=500
    )
    stop = order.StopWorker(worker=1, reason="too_fast", is_paid=False)
    assert story.find(order.StopWorker) == [stop]
    assert not story.kept
    story = Story(2, 1, fastest_ms=100).ready(1).end(1, 0, ran_ms=100)
    assert story.kept == {0: True}
