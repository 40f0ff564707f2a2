"""Warm programs on a real node: loaded once, watched while they work, moved if stuck."""

import json
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from blake3 import blake3

from sublet.base.errors import Refused
from sublet.core.document import Receipt
from sublet.core.task.commitment import commit, read_commitments, write_given
from sublet.workload.map import event
from tests.fakes.provider import Temper
from tests.integration.provider_house import wait_settled
from tests.integration.tenant_house import Market, running_market
from tests.integration.test_tenant_map import read_results, run_map, write_script

EXAMPLE = Path(__file__).parents[2] / "examples/warm"
WARM = (
    "import json, os, sys, time\n"
    "def say(**said): print(json.dumps(said), flush=True)\n"
    "loads = 1\n"
    "for line in sys.stdin:\n"
    "    task = json.loads(line)\n"
    "    data, here = task['data'], 'provider0' in os.getcwd()\n"
)


@pytest.fixture
async def market(tmp_path: Path) -> AsyncIterator[Market]:
    async with running_market(tmp_path) as house:
        yield house


class Ear:
    """Hears what happens to a map."""

    def __init__(self) -> None:
        self.said: list[Any] = []

    async def hear(self, said: event.AnyEvent) -> None:
        self.said.append(said)

    def find(self, kind: type[event.Event]) -> list[Any]:
        return [one for one in self.said if isinstance(one, kind)]


async def test_example_answers_every_prompt(market: Market) -> None:
    await market.provide()
    result = await run_map(
        market,
        str(EXAMPLE / "answer.py"),
        tasks=EXAMPLE / "tasks.jsonl",
        is_warm=True,
        stall="60s",
        parallel=1,
    )
    assert (result.outcome, result.done) == ("done", 4), result
    found = read_results(market)
    for line in (EXAMPLE / "tasks.jsonl").read_text().splitlines():
        task = json.loads(line)
        answer = found[task["id"]].json()["answer"]
        assert len(answer) == task["data"].get("length", 200)
        place = market.folder / "results" / "outputs" / task["id"] / "answer.txt"
        assert place.read_text() == task["data"]["prompt"] + answer + "\n"
    await wait_settled(market.client)


async def test_receipt_covers_every_answer(market: Market) -> None:
    """What the harness wrote about each task is in the stream that the receipt hashes."""
    provider = await market.provide()
    code = "    say(done=True, result={'twice': 2 * data['n']})\n"
    tasks = [{"id": f"n{n}", "data": {"n": n}} for n in range(3)]
    script = write_script(market, WARM + code)
    await run_map(market, script, tasks=tasks, is_warm=True, parallel=1)
    [lease] = await wait_settled(market.client)
    signed = provider.jobs[lease.id].receipt
    assert signed is not None
    document = signed.document
    assert isinstance(document, Receipt)
    for task in tasks:
        result = read_results(market)[task["id"]]
        place = market.folder / "home" / "jobs" / result.job / "stdout"
        stream = place.read_bytes()
        assert result.lease == lease.id == document.lease_id
        assert document.stdout == "0x" + blake3(stream).hexdigest()
        given = write_given({"args": [], "env": {}, "data": task["data"]})
        line = commit(task["id"], given=given, wrote=result.stdout.encode())
        assert line in read_commitments(stream)


async def test_each_machine_loads_once_and_progress_is_told(market: Market) -> None:
    await market.provide(Temper(first_price=900_000))
    await market.provide(Temper(first_price=1_000_000))
    code = (
        "    for n in range(4):\n"
        "        say(progress=n / 4, text=f'step {n}'); time.sleep(0.1)\n"
        "    say(done=True, result={'pid': os.getpid(), 'n': data['n'], 'here': here})\n"
    )
    ear = Ear()
    result = await run_map(
        market,
        write_script(market, WARM + code),
        tasks=[{"data": {"n": n}} for n in range(10)],
        is_warm=True,
        parallel=2,
        cpus="3",
        on_event=ear.hear,
    )
    assert (result.outcome, result.done) == ("done", 10), result
    found = read_results(market)
    assert [found[str(n + 1)].json()["n"] for n in range(10)] == list(range(10))
    pids = {one.provider: set[int]() for one in found.values()}
    for one in found.values():
        pids[one.provider].add(one.json()["pid"])
    assert all(len(one) == 1 for one in pids.values()), "started once a machine"
    heard = ear.find(event.TaskProgressed)
    assert heard
    assert {one.text for one in heard} <= {f"step {n}" for n in range(4)}
    counts = Counter((one.worker, one.at_ms // 1_000) for one in heard)
    assert max(counts.values()) <= 2, "one a second"


async def test_warm_and_cold_are_two_maps(market: Market) -> None:
    await market.provide()
    script = write_script(market, WARM + "    say(done=True)\n")
    options: dict[str, Any] = {"tasks": [{"data": 1}], "parallel": 1}
    assert (await run_map(market, script, is_warm=True, **options)).done == 1
    with pytest.raises(Refused, match="another map"):
        await run_map(market, script, **options)


async def test_crash_costs_one_attempt_and_the_machine_goes_on(market: Market) -> None:
    await market.provide()
    code = (
        "    if data == 2 and not os.path.exists('crashed'):\n"
        "        open('crashed', 'w').close(); sys.exit('it broke')\n"
        "    say(done=True, result=os.getpid())\n"
    )
    result = await run_map(
        market,
        write_script(market, WARM + code),
        tasks=[{"data": n} for n in range(5)],
        is_warm=True,
        parallel=1,
    )
    assert (result.outcome, result.workers) == ("done", 1), result
    found = read_results(market)
    assert [found[str(n)].attempts for n in range(1, 6)] == [1, 1, 2, 1, 1]
    assert len({found[str(n)].json() for n in range(1, 6)}) == 2


async def test_stalled_task_moves_to_another_provider(market: Market) -> None:
    slow = await market.provide(Temper(first_price=10_000))
    await market.provide(Temper(first_price=20_000))
    code = (
        "    if here and data == 3:\n"
        "        say(progress=0.5, text='stuck'); time.sleep(600)\n"
        "    time.sleep(0.1); say(done=True, result=here)\n"
    )
    ear = Ear()
    result = await run_map(
        market,
        write_script(market, WARM + code),
        tasks=[{"data": 3}, *({"data": 0} for _ in range(20))],
        is_warm=True,
        stall="2s",
        parallel=2,
        cpus="3",
        on_event=ear.hear,
    )
    assert result.outcome == "done", result
    one = read_results(market)["1"]
    assert one.provider != slow.key.address
    delays = [(one.task, one.reason) for one in ear.find(event.TaskDelayed)]
    if one.attempts > 1:  # it began where it stalls
        assert ("1", "stalled") in delays
    await wait_settled(market.client)


async def test_warm_straggler_is_doubled(market: Market) -> None:
    slow = await market.provide(Temper(first_price=10_000))
    await market.provide(Temper(first_price=20_000))
    code = (
        "    if here and data == 9: time.sleep(600)\n"
        "    time.sleep(0.2); say(done=True, result=here)\n"
    )
    ear = Ear()
    result = await run_map(
        market,
        write_script(market, WARM + code),
        tasks=[{"data": n} for n in range(10)],
        is_warm=True,
        parallel=2,
        cpus="3",
        on_event=ear.hear,
    )
    assert result.outcome == "done", result
    found = read_results(market)
    assert len(found) == 10
    assert found["10"].provider != slow.key.address
    await wait_settled(market.client)


async def test_result_that_came_too_fast_is_a_lie(market: Market) -> None:
    await market.provide(Temper(first_price=10_000))
    code = "    time.sleep(0 if here else 1.2); say(done=True)\n"
    ear = Ear()
    await market.provide(Temper(first_price=20_000))
    result = await run_map(
        market,
        write_script(market, WARM + code),
        tasks=[{"data": 0}],
        is_warm=True,
        fastest_ms=1_000,
        parallel=1,
        on_event=ear.hear,
    )
    assert result.outcome == "done", result
    blamed = [(one.provider, one.reason) for one in ear.find(event.WorkerBlamed)]
    liar, honest = (one.key.address for one in market.providers)
    assert blamed == [(liar, "too_fast")]
    assert read_results(market)["1"].provider == honest
