"""A tenant maps tasks over workers, on a real node, with real programs."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import msgspec
import pytest

from sublet.base.errors import Faults, Refused, Unavailable
from sublet.core.book.open_order import OpenOrder
from sublet.sdk.exchange import ask_orders
from sublet.workload.map.result import MapResult, TaskResult
from tests.fakes.provider import Temper
from tests.integration.provider_house import wait_settled, wait_true
from tests.integration.tenant_house import Market, running_market

MAP_S = 90


@pytest.fixture
async def market(tmp_path: Path) -> AsyncIterator[Market]:
    async with running_market(tmp_path) as house:
        yield house


async def run_map(market: Market, *target: str, **options: Any) -> MapResult:
    """Run a map to its end; its results are in ``results``."""
    options.setdefault("max_total", "5.00")
    options.setdefault("wait", "2s")
    options.setdefault("results", market.folder / "results")
    async with asyncio.timeout(MAP_S):
        running = await market.client.start_map(*target, **options)
        return await running.result()


def read_results(market: Market) -> dict[str, TaskResult]:
    """Read what is in the folder; no task may stand there twice."""
    lines = (market.folder / "results" / "results.jsonl").read_bytes().splitlines()
    results = [msgspec.json.decode(line, type=TaskResult) for line in lines]
    assert len({one.id for one in results}) == len(results)
    return {one.id: one for one in results}


def write_script(market: Market, text: str) -> str:
    place = market.folder / "task.py"
    place.write_text(text)
    return str(place)


SQUARE = (
    "import json, os, pathlib, sys\n"
    "number = int(sys.argv[-1])\n"
    "folder = pathlib.Path(os.environ['SUBLET_OUTPUT'])\n"
    "(folder / 'deep').mkdir()\n"
    "(folder / 'deep' / 'square.txt').write_text(str(number ** 2))\n"
    "print('hello from', os.environ['SUBLET_TASK'])\n"
    "print(json.dumps({'square': number ** 2, 'said': sys.stdin.read()}))\n"
)


async def test_every_task_has_its_result(market: Market) -> None:
    await market.provide(Temper(first_price=900_000))
    await market.provide(Temper(first_price=1_000_000))
    script = write_script(market, SQUARE)
    tasks = [{"args": ["-v", n], "stdin": f"no {n}"} for n in range(12)]
    # A machine has four CPUs: each provider takes one worker.
    result = await run_map(market, script, tasks=tasks, parallel=2, cpus="3")
    assert (result.outcome, result.done, result.tasks) == ("done", 12, 12), result
    found = read_results(market)
    assert found.keys() == {str(n) for n in range(1, 13)}
    for n in range(12):
        one = found[str(n + 1)]
        assert one.json() == {"square": n**2, "said": f"no {n}"}
        place = market.folder / "results" / "outputs" / one.id / "deep" / "square.txt"
        assert place.read_text() == str(n**2)
        assert (one.exit_code, one.attempts) == (0, 1)
    leases = await wait_settled(market.client)
    assert 1 <= len(leases) <= 2
    assert result.cost == sum(lease.paid for lease in leases) > 0
    assert result.cost >= sum(one.cost for one in found.values())


async def test_results_come_in_the_order_asked_for(market: Market) -> None:
    await market.provide()
    await market.provide()
    # The first one takes longest.
    tasks = [{"id": f"t{n}", "args": [0.6 if n == 0 else 0.05]} for n in range(5)]
    options: dict[str, Any] = {"is_command": True, "max_total": "5.00", "parallel": 2}
    results = market.client.map("sleep", tasks=tasks, is_ordered=True, **options)
    assert [one.id async for one in results] == ["t0", "t1", "t2", "t3", "t4"]
    any_order = market.client.map("sleep", tasks=tasks, **options)
    assert {one.id async for one in any_order} == {"t0", "t1", "t2", "t3", "t4"}
    assert not list((market.client.home.path / "maps").iterdir())


async def test_closing_early_stops_and_settles(market: Market) -> None:
    await market.provide()
    results = market.client.map(
        "sleep", tasks=[0.1] * 500, is_command=True, max_total="5.00", parallel=1
    )
    async with asyncio.timeout(MAP_S), aclosing(results):
        async for one in results:
            assert one.is_done
            break
    leases = await wait_settled(market.client)
    assert [lease.reason for lease in leases] == ["cancelled"]


async def test_failing_task_is_recorded_and_the_rest_goes_on(market: Market) -> None:
    await market.provide()
    code = "import sys; n = int(sys.argv[1]); print(1 // n); sys.exit(n > 7)"
    result = await run_map(
        market, write_script(market, code), tasks=[3, 0, 1, 9], parallel=1, retries=1
    )
    assert (result.outcome, result.done, result.failed) == ("failed", 2, 2)
    found = read_results(market)
    assert "ZeroDivisionError" in found["2"].stderr
    assert (found["2"].attempts, found["4"].exit_code) == (2, 1)
    # The same again has nothing to do; asked for, the failed ones are run once more.
    again = await run_map(
        market, write_script(market, code), tasks=[3, 0, 1, 9], parallel=1
    )
    assert (again.outcome, again.workers, again.failed) == ("failed", 0, 2)


async def test_task_that_takes_too_long_is_killed(market: Market) -> None:
    await market.provide()
    tasks = [["sleep 0.1; echo quick"], ["echo before; sleep 600"]]
    result = await run_map(
        market,
        "sh",
        "-c",
        tasks=tasks,
        is_command=True,
        timeout="1s",
        retries=0,
        parallel=1,
    )
    assert result.outcome == "failed"
    found = read_results(market)
    assert found["1"].stdout == "quick\n"
    assert (found["2"].outcome, found["2"].stdout) == ("timeout", "before\n")


async def test_lost_machine_costs_no_task(market: Market) -> None:
    dying = await market.provide(Temper(first_price=10_000))
    await market.provide()
    running = await market.client.start_map(
        "sleep",
        tasks=[0.2] * 12,
        is_command=True,
        max_total="5.00",
        parallel=2,
        results=market.folder / "results",
    )
    count = 0
    async with asyncio.timeout(MAP_S):
        async for _ in running:
            count += 1
            if count == 2:
                await dying.die()
        result = await running.result()
    assert (result.outcome, count) == ("done", 12), result
    assert len(read_results(market)) == 12


async def test_broken_connection_loses_nothing(market: Market) -> None:
    provider = await market.provide()
    running = await market.client.start_map(
        "sleep",
        tasks=[0.1] * 10,
        is_command=True,
        max_total="5.00",
        parallel=1,
        results=market.folder / "results",
    )
    count = 0
    async with asyncio.timeout(MAP_S):
        async for one in running:
            assert one.attempts == 1
            count += 1
            if count in (2, 5):
                for connection in list(provider.connections):
                    connection.abort()
        result = await running.result()
    assert (result.done, result.workers) == (10, 1)


async def test_straggler_is_doubled_and_the_first_one_wins(market: Market) -> None:
    slow = await market.provide(Temper(first_price=10_000))
    await market.provide(Temper(first_price=20_000))
    # On the slow machine the last task never ends.
    mark = f"case $PWD in *provider0*) [ $1 = 9 ] && exec sleep 600;; esac; sleep 0.{2}"
    tasks = [["x", n] for n in range(10)]
    result = await run_map(
        market, "sh", "-c", mark, tasks=tasks, is_command=True, parallel=2, cpus="3"
    )
    assert result.outcome == "done", result
    found = read_results(market)
    assert len(found) == 10
    assert found["10"].provider != slow.key.address
    await wait_settled(market.client)


LIES = ["held", "foreign", "twice", "garbage", "endless", "outcome", "cancelled"]
LIES += ["flood", "share"]


@pytest.mark.parametrize("lie", LIES)
async def test_lying_worker_is_left(market: Market, lie: str) -> None:
    liar = await market.provide(Temper(first_price=10_000, clerk_lie=lie))
    honest = await market.provide()
    blamed: list[str] = []

    async def hear(said: Any) -> None:
        if type(said).__name__ == "WorkerBlamed":
            blamed.append(said.provider)

    result = await run_map(
        market,
        "echo",
        tasks=["a", "b", "c"],
        is_command=True,
        parallel=1,
        on_event=hear,
    )
    assert result.outcome == "done", result
    assert blamed == [liar.key.address]
    found = read_results(market)
    assert [found[n].stdout for n in "123"] == ["a\n", "b\n", "c\n"]
    # A first word that was true may have counted before the lie was heard.
    assert found["3"].provider == honest.key.address


async def test_same_map_goes_on_and_another_is_refused(market: Market) -> None:
    await market.provide()
    running = await market.client.start_map(
        "sleep",
        tasks=[0.1] * 8,
        is_command=True,
        max_total="5.00",
        parallel=1,
        results=market.folder / "results",
    )
    count = 0
    async with asyncio.timeout(MAP_S):
        async for _ in running:
            count += 1
            if count == 3:
                running.stop()
        first = await running.result()
    assert first.outcome == "stopped"
    before = len(read_results(market))
    assert 3 <= before < 8
    result = await run_map(
        market, "sleep", tasks=[0.1] * 8, is_command=True, parallel=1
    )
    assert (result.outcome, result.done) == ("done", 8)
    assert result.cost_before == first.cost > 0
    assert len(read_results(market)) == 8
    with pytest.raises(Refused, match="another map"):
        await run_map(market, "sleep", tasks=[0.1] * 9, is_command=True)


async def test_nobody_to_work_is_said(market: Market) -> None:
    with pytest.raises(Unavailable):
        async for _ in market.client.map(
            "true", tasks=[[]], is_command=True, wait="0s", max_total="1.00"
        ):
            raise AssertionError("nobody can have done it")


async def test_bad_tasks_are_refused_before_anything_is_bought(market: Market) -> None:
    place = market.folder / "tasks.jsonl"
    place.write_text('{"args": [1]}\n\n{"args": \n{"id": "2"}\n{"surprise": 1}\n')
    with pytest.raises(Faults) as caught:
        await run_map(market, "true", tasks=place, is_command=True)
    text = str(caught.value)
    assert "line 3 is no task" in text
    assert "line 5 is no task" in text
    assert json.dumps(text)
    assert not await market.client.leases(is_all=True)


async def test_workers_come_as_supply_appears(market: Market) -> None:
    """Each has a standing order: filled piece by piece, and taken back at the end."""
    tasks = market.folder / "tasks.jsonl"
    tasks.write_text("".join(f'{{"args": ["{n}"]}}\n' for n in range(4)))
    (gate := market.folder / "gate").mkdir()
    script = write_script(
        market,
        "import pathlib, sys, time\n"
        f"gate = pathlib.Path({str(gate)!r})\n"
        "(gate / f'began{sys.argv[-1]}').touch()\n"
        "while not (gate / 'open').exists(): time.sleep(0.05)\n",
    )
    mapping = asyncio.create_task(
        run_map(
            market, script, tasks=tasks, parallel=3, memory="8GiB", mode="standing:10m"
        )
    )
    orders = await _wait_orders(market, 3)
    assert {one.order.mode for one in orders} == {"standing"}
    for count in (1, 2):  # two machines, one after the other, for three orders
        await market.provide()
        await wait_true(lambda n=count: len(list(gate.glob("began*"))) == n)
    (gate / "open").touch()
    result = await mapping
    assert (result.done, result.failed) == (4, 0)
    leases = await wait_settled(market.client)
    assert {lease.provider for lease in leases} == {
        provider.key.address for provider in market.providers
    }
    reasons = sorted(one.reason for one in await _wait_orders(market, 3))
    # The third may still get a machine that the others left, before it is taken back.
    assert reasons[1:] == ["filled", "filled"]
    assert reasons[0] in ("cancelled", "filled")
    assert (await market.client.account()).held == 0


async def _wait_orders(market: Market, count: int) -> tuple[OpenOrder, ...]:
    async with asyncio.timeout(MAP_S):
        while True:
            orders = (await market.client.connection.ask(ask_orders())).orders
            if len(orders) >= count:
                return orders
            await asyncio.sleep(0.05)
