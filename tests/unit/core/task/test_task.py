"""The life of a map: each task ends once, nothing costs more than it may."""

import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sublet.core.task import fact, order
from sublet.core.task.give import OVERDUE_MS, STRAGGLER_MS_MIN
from sublet.core.task.outlook import look_ahead
from sublet.core.task.staff import IDLE_MS
from sublet.core.task.state import Map, MapLimits, MapPhase, find_worker
from sublet.core.task.task import SEEK_PAUSE_MS, start, step

PROVIDERS = tuple("0x" + f"{number:040x}" for number in range(1, 9))
HOUR = 3_600_000  # micro-USD an hour: one a millisecond


class Story:
    """A map, told fact by fact; ``orders`` are those of the last one."""

    def __init__(self, tasks: int = 4, parallel: int = 2, **limits: Any) -> None:
        self.at_ms = 1_000_000
        limits.setdefault("total_max", 1_000_000)
        self.state = start(MapLimits(tasks=tasks, parallel=parallel, **limits))
        self.orders: tuple[order.Order, ...] = ()
        self.kept: dict[int, bool] = {}
        self.banned: dict[int, tuple[str, ...]] = {}
        self.dismissed: set[str] = set()
        self.tell(fact.Begun)

    def tell(self, kind: type[fact.Fact], *, after_ms: int = 0, **values: Any) -> Map:
        self.at_ms += after_ms
        said = kind(at_ms=self.at_ms, **values)
        if isinstance(said, fact.TasksAdded):
            known = range(self.state.tasks, self.state.tasks + said.count)
            self.banned.update(dict.fromkeys(known, said.avoid))
        if isinstance(said, fact.ProviderDismissed):
            self.dismissed.add(said.provider)
        self.state, self.orders = step(self.state, said)
        for one in self.orders:
            if isinstance(one, order.SendTask):
                worker = find_worker(self.state, one.worker)
                assert worker is not None
                assert worker.provider not in self.banned.get(one.task, ())
                assert worker.provider not in self.dismissed
                assert one.task not in self.kept, "it has ended"
            if isinstance(one, order.KeepResult | order.KeepLoss):
                assert one.task not in self.kept, "a task ended twice"
                self.kept[one.task] = isinstance(one, order.KeepResult) and one.is_done
        return self.state

    def add(self, count: int = 1, *avoid: int, is_urgent: bool = False) -> "Story":
        names = tuple(PROVIDERS[place] for place in avoid)
        self.tell(fact.TasksAdded, count=count, avoid=names, is_urgent=is_urgent)
        return self

    def ready(self, number: int, provider: int | None = None) -> "Story":
        place = number if provider is None else provider
        self.tell(
            fact.WorkerMatched,
            worker=number,
            provider=PROVIDERS[place],
            price_hour=HOUR,
        )
        self.tell(fact.WorkerReady, worker=number)
        return self

    def end(
        self, worker: int, task: int, outcome: str = "done", *, ran_ms: int = 100
    ) -> "Story":
        self.tell(
            fact.TaskEnded,
            after_ms=ran_ms,
            worker=worker,
            task=task,
            outcome=outcome,
            ran_ms=ran_ms,
        )
        return self

    def lose(self, worker: int, outcome: str = "provider_lost", cost: int = 0) -> None:
        self.tell(fact.WorkerEnded, worker=worker, outcome=outcome, cost=cost)

    def find(self, kind: type[order.Order]) -> list[Any]:
        return [one for one in self.orders if isinstance(one, kind)]


def test_rents_no_more_than_there_is_to_do() -> None:
    assert len(Story(tasks=1, parallel=8).find(order.StartWorker)) == 1
    assert len(Story(tasks=9, parallel=3).find(order.StartWorker)) == 3
    assert Story(tasks=0).find(order.Finish)


def test_workers_share_what_may_be_spent() -> None:
    story = Story(tasks=9, parallel=4, total_max=1_000)
    assert [one.cap for one in story.find(order.StartWorker)] == [250] * 4


def test_worker_gets_one_task_after_the_other() -> None:
    story = Story().ready(1)
    assert story.orders == (order.SendTask(worker=1, task=0),)
    story.end(1, 0)
    assert story.orders[:2] == (
        order.KeepResult(worker=1, task=0, is_done=True, attempts=1, ran_ms=100),
        order.AckTask(worker=1, task=0),
    )
    assert order.SendTask(worker=1, task=1) in story.orders


def test_short_tasks_are_queued() -> None:
    story = Story(tasks=20, parallel=1).ready(1).end(1, 0)
    assert [one.task for one in story.find(order.SendTask)] == [1, 2]


def test_ends_when_all_is_done_and_settled() -> None:
    story = Story(tasks=2, parallel=1).ready(1).end(1, 0).end(1, 1)
    assert story.find(order.StopWorker)
    story.lose(1, "cancelled", cost=200)
    assert story.orders == (order.Finish(outcome="done", message=""),)
    assert story.state.spent == 200


def test_failure_is_tried_again_and_then_counts() -> None:
    story = Story(tasks=1, parallel=1, retries=1).ready(1).end(1, 0, "failed")
    assert story.find(order.SendTask)
    story.end(1, 0, "timeout")
    [keep] = story.find(order.KeepResult)
    assert (keep.is_done, keep.attempts) == (False, 2)
    story.lose(1, "cancelled")
    assert story.orders == (order.Finish(outcome="failed", message="1 tasks failed"),)


def test_failure_goes_to_another_provider() -> None:
    story = Story(tasks=2, parallel=2).ready(1).ready(2)
    story.end(2, 1).end(1, 0, "failed")
    assert story.find(order.SendTask) == [order.SendTask(worker=2, task=0)]


def test_fail_fast_stops_the_rest() -> None:
    story = Story(retries=0, is_fail_fast=True).ready(1).end(1, 0, "failed")
    assert story.state.phase is MapPhase.STOPPING
    assert len(story.find(order.StopWorker)) == 2


def test_lost_machine_gives_its_task_back() -> None:
    story = Story(tasks=2, parallel=2).ready(1).ready(2)
    story.lose(1)
    assert PROVIDERS[1] in story.find(order.StartWorker)[0].avoid
    story.end(2, 1)
    assert order.SendTask(worker=2, task=0) in story.orders


def test_task_that_loses_every_machine_has_failed() -> None:
    story = Story(tasks=1, parallel=1, losses=1).ready(1)
    story.lose(1)
    story.ready(2).lose(2)
    assert story.find(order.KeepLoss) == [order.KeepLoss(task=0, attempts=2)]


def test_memory_is_the_tasks_own_fault() -> None:
    story = Story(tasks=1, parallel=1, retries=0).ready(1)
    story.lose(1, "out_of_memory")
    assert story.find(order.KeepLoss)
    assert not story.state.avoided


LIES = [
    # what a worker says: what it is called
    ({"task": 3, "outcome": "done"}, "foreign_result"),  # never given to it
    ({"task": 0, "outcome": "cancelled"}, "task_dropped"),  # nobody cancelled it
]


@pytest.mark.parametrize(("said", "code"), LIES)
def test_liar_is_left(said: dict[str, Any], code: str) -> None:
    story = Story().ready(1)
    story.tell(fact.TaskEnded, worker=1, ran_ms=1, **said)
    assert story.find(order.StopWorker) == [order.StopWorker(worker=1, reason=code)]
    assert story.state.avoided == (PROVIDERS[1],)
    assert story.state.again == (0,)
    story.end(1, 0)  # and what it says afterwards counts for nothing
    assert not story.kept


def test_answer_given_twice_is_a_lie() -> None:
    story = Story().ready(1).end(1, 0)
    story.end(1, 0)
    assert story.find(order.StopWorker)[0].reason == "foreign_result"
    assert story.kept == {0: True}


def make_straggler() -> Story:
    """Three short tasks are done, the fourth is not; worker 2 is idle."""
    story = Story().ready(1).ready(2)
    return story.end(2, 1).end(2, 2).end(2, 3)


def test_straggler_is_doubled_elsewhere_and_first_one_wins() -> None:
    story = make_straggler()
    assert not story.find(order.SendTask)
    story.tell(fact.Ticked, after_ms=STRAGGLER_MS_MIN)
    assert story.find(order.SendTask) == [order.SendTask(worker=2, task=0)]
    story.tell(fact.Ticked, after_ms=60_000)
    assert not story.find(order.SendTask), "two are enough"
    story.end(2, 0)
    assert story.find(order.CancelTask) == [order.CancelTask(worker=1, task=0)]
    assert {one.worker for one in story.find(order.StopWorker)} == {1, 2}
    story.end(1, 0)  # too late
    assert story.orders == (order.AckTask(worker=1, task=0),)
    assert story.kept == {0: True, 1: True, 2: True, 3: True}


def test_straggler_is_not_doubled_on_its_own_provider() -> None:
    story = Story().ready(1, provider=1).ready(2, provider=1)
    story.end(2, 1).end(2, 2).end(2, 3)
    story.tell(fact.Ticked, after_ms=2_000)
    assert not story.find(order.SendTask)


def test_idle_worker_is_let_go() -> None:
    story = Story(tasks=2).ready(1).ready(2).end(2, 1)
    story.tell(fact.Ticked, after_ms=IDLE_MS)
    assert [one.worker for one in story.find(order.StopWorker)] == [2]


def test_silent_worker_is_left() -> None:
    story = Story(timeout_ms=1_000).ready(1)
    story.tell(fact.Ticked, after_ms=1_000 + OVERDUE_MS + 1)
    assert order.StopWorker(worker=1, reason="silent") in story.orders
    assert story.state.again == (0,)


def test_no_supply_ends_it_only_if_nobody_works() -> None:
    story = Story().ready(1)
    story.lose(2, "no_supply")
    assert story.state.phase is MapPhase.RUNNING
    assert not story.find(order.StartWorker)
    story.tell(fact.Ticked, after_ms=SEEK_PAUSE_MS)
    assert story.find(order.StartWorker)
    story.lose(1)
    story.lose(3, "no_supply")
    story.lose(4, "no_supply")
    assert story.find(order.Finish)[0].outcome == "no_supply"


def test_gives_up_where_nobody_can_begin() -> None:
    story = Story(tasks=9, parallel=3)
    for number in (1, 2, 3):
        story.tell(
            fact.WorkerMatched,
            worker=number,
            provider=PROVIDERS[number],
            price_hour=HOUR,
        )
    for number in (1, 2, 3):
        story.tell(
            fact.WorkerEnded, worker=number, outcome="failed", cost=0, note="no wheel"
        )
    assert story.state.outcome == "unable"
    assert "no wheel" in story.state.message


def test_money_used_up_ends_it() -> None:
    story = Story(tasks=9, parallel=1, total_max=1_000).ready(1)
    story.lose(1, "timeout", cost=999_999)
    assert story.state.spent == 1_000
    assert story.find(order.Finish)[0].outcome == "budget"


def test_stop_settles_all() -> None:
    story = Story().ready(1)
    story.tell(fact.StopAsked)
    assert len(story.find(order.StopWorker)) == 2
    story.end(1, 0)  # what came in between still counts
    assert story.kept == {0: True}
    story.lose(1, "cancelled")
    story.lose(2, "cancelled")
    assert story.find(order.Finish)[0].outcome == "stopped"


def test_outlook_adds_up() -> None:
    story = Story(tasks=10, parallel=2).ready(1).end(1, 0)
    story.tell(fact.Ticked, costs={1: 100})
    look = look_ahead(story.state, tasks=12, done=2)
    assert (look.done, look.failed, look.tasks) == (3, 0, 12)
    assert look.done + look.running + look.waiting == look.tasks
    assert (look.left_ms, look.cost, look.cost_expected) == (900, 100, 1_000)
    assert look_ahead(Story().state, tasks=4).left_ms == -1


# ---- a world that dies, lies and dawdles, from a seed ---------------------------------


def change(story: Story, dice: random.Random) -> None:
    """Do what the map's owner may do while it is open."""
    luck = dice.random()
    if luck < 0.1:
        story.tell(fact.TasksClosed)
    elif luck < 0.2:
        provider = dice.choice(PROVIDERS)
        story.tell(fact.ProviderDismissed, provider=provider, reason="lied")
    else:  # what is run again is a new task here, which somebody must not get
        avoid = dice.sample(range(len(PROVIDERS)), dice.randrange(3))
        story.add(dice.randrange(1, 4), *avoid, is_urgent=dice.random() < 0.5)


def live(
    seed: int, *, tasks: int, parallel: int, total_max: int, is_open: bool = False
) -> Story:
    """Play a whole map with random bad luck; check what must always hold."""
    dice = random.Random(seed)
    story = Story(
        tasks,
        parallel,
        total_max=total_max,
        timeout_ms=50_000,
        stall_ms=20_000,
        fastest_ms=5,
        is_open=is_open,
    )
    costs: dict[int, int] = {}
    caps: dict[int, int] = {}
    for _ in range(100 * tasks + 1_000):
        for one in story.find(order.StartWorker):
            caps[one.worker] = one.cap
        state = story.state
        assert len(state.workers) <= parallel
        assert state.committed <= total_max
        assert len(story.kept) == state.done + state.failed
        if state.phase is MapPhase.FINISHED:
            break
        if state.is_open and dice.random() < 0.1:
            change(story, dice)
            continue
        if not state.workers or dice.random() < 0.2:
            story.tell(fact.Ticked, after_ms=dice.randrange(3_000), costs=dict(costs))
            continue
        worker = dice.choice(state.workers)
        number, luck = worker.number, dice.random()
        costs[number] = costs.get(number, 0) + dice.randrange(50)
        if not worker.provider:
            if luck < 0.1:
                story.lose(number, "no_supply")
            else:
                story.ready(number, dice.randrange(len(PROVIDERS)))
        elif luck < 0.05 or worker.is_leaving:
            outcome = dice.choice(["provider_lost", "timeout", "out_of_memory"])
            story.lose(number, outcome, cost=costs[number])
        elif luck < 0.07:
            story.end(number, dice.randrange(tasks), "done")  # perhaps a lie
        elif luck < 0.08:
            story.tell(fact.WorkerMisbehaved, worker=number, reason="garbage")
        elif luck < 0.11 and worker.runs:
            share = dice.randrange(1_000_000)
            task = dice.choice([worker.runs[0].task, 999])
            story.tell(fact.TaskProgressed, worker=number, task=task, share_ppm=share)
        elif worker.runs:
            run = worker.runs[0]
            outcome = "cancelled" if run.is_dropped else "done"
            if luck < 0.15:
                outcome = dice.choice(["failed", "timeout", "stalled"])
            story.end(number, run.task, outcome, ran_ms=dice.randrange(1, 3_000))
    assert story.state.phase is MapPhase.FINISHED, story.state
    assert story.state.spent <= total_max
    if story.state.outcome in ("done", "failed"):
        assert story.kept.keys() == set(range(story.state.tasks))
    return story


@settings(max_examples=150, deadline=None)
@given(
    seed=st.integers(0, 1 << 32),
    tasks=st.integers(1, 40),
    parallel=st.integers(1, 8),
    total_max=st.sampled_from([500, 20_000, 10_000_000]),
    is_open=st.booleans(),
)
def test_every_task_ends_once_whatever_happens(
    seed: int, tasks: int, parallel: int, total_max: int, is_open: bool
) -> None:
    live(seed, tasks=tasks, parallel=parallel, total_max=total_max, is_open=is_open)


@pytest.mark.parametrize("is_open", [False, True])
def test_most_maps_do_end_well(is_open: bool) -> None:
    ends = [
        live(seed, tasks=30, parallel=4, total_max=10**9, is_open=is_open).state
        for seed in range(40)
    ]
    whole = [one for one in ends if one.outcome in ("done", "failed")]
    assert len(whole) > 20, [one.outcome for one in ends]
    assert any(one.workers_ever > 8 for one in whole)


def test_million_tasks_are_as_small_as_ten() -> None:
    story = Story(tasks=1_000_000, parallel=1).ready(1)
    for task in range(1_000):
        story.end(1, task)
    [(first, end)] = story.state.fresh
    assert (first, end) <= (1_002, 1_000_000)
    assert not story.state.troubles
