"""A map that gets tasks while it runs, and whose owner checks what comes back."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from sublet.base.errors import Refused
from sublet.workload.map import event
from sublet.workload.map.result import TaskResult
from sublet.workload.map.running import RunningMap
from tests.fakes.provider import FakeProvider, Temper
from tests.integration.provider_house import wait_settled
from tests.integration.tenant_house import Market, running_market
from tests.integration.test_tenant_map import write_script
from tests.integration.test_warm_map import WARM, Ear

MAP_S = 90
ANSWER = "    time.sleep(0.05); say(done=True, result={'data': data, 'here': here})\n"
# The machine of the first provider says another number than the right one.
LIE = "    say(done=True, result={'data': -1 if here else data, 'here': here})\n"


@pytest.fixture
async def market(tmp_path: Path) -> AsyncIterator[Market]:
    # A lease that its tenant will not pay is settled all the same, and soon.
    async with running_market(tmp_path, settle_s=3) as house:
        yield house


async def two_providers(market: Market) -> tuple[FakeProvider, FakeProvider]:
    """Two of them, each with room for one worker; the first is the cheaper one."""
    first = await market.provide(Temper(first_price=100_000))
    return first, await market.provide(Temper(first_price=200_000))


async def open_map(market: Market, code: str, **options: Any) -> RunningMap:
    options = {"parallel": 2, "cpus": "3", "max_total": "5.00", "wait": "2s"} | options
    return await market.client.start_map(
        write_script(market, WARM + code),
        results=market.folder / "results",
        is_warm=True,
        is_open=True,
        **options,
    )


def read_lines(market: Market) -> list[TaskResult]:
    lines = (market.folder / "results" / "results.jsonl").read_bytes().splitlines()
    return [msgspec.json.decode(line, type=TaskResult) for line in lines]


def make_tasks(count: int) -> list[dict[str, Any]]:
    return [{"id": f"t{n}", "data": n} for n in range(count)]


async def test_each_result_is_checked_by_another_provider(market: Market) -> None:
    await two_providers(market)
    running = await open_map(market, ANSWER, tasks=make_tasks(6))
    by: dict[str, str] = {}
    async with asyncio.timeout(MAP_S):
        async for one in running:
            by[one.id] = one.provider
            if not one.id.startswith("check"):
                probe = {"id": f"check-{one.id}", "data": one.json()["data"]}
                [number] = await running.add(
                    [probe], avoid=[one.provider], is_urgent=True
                )
                assert number >= 6
            if len(by) == 12:
                running.close_tasks()
        result = await running.result()
    assert (result.outcome, result.done, result.tasks) == ("done", 12, 12), result
    for n in range(6):
        assert by[f"check-t{n}"] != by[f"t{n}"]
    added = {name: task.data for _, name, task in running.read_added()}
    assert added == {f"check-t{n}": n for n in range(6)}
    with pytest.raises(Refused, match="takes no tasks"):
        await running.add(["late"])
    await wait_settled(market.client)


async def test_machine_of_another_provider_is_rented_for_it(market: Market) -> None:
    """All that there is was rented from one provider, and has to make room."""
    await market.provide(Temper(first_price=100_000))
    running = await open_map(market, ANSWER, tasks=make_tasks(2), parallel=1)
    found: dict[str, TaskResult] = {}
    async with asyncio.timeout(MAP_S):
        async for one in running:
            found[one.id] = one
            if one.id == "t0":
                await market.provide(Temper(first_price=200_000))
                await running.add([{"id": "check", "data": 7}], avoid=[one.provider])
                running.close_tasks()
        result = await running.result()
    first, second = (one.key.address for one in market.providers)
    assert (result.outcome, result.workers) == ("done", 2), result
    assert (found["t0"].provider, found["t1"].provider) == (first, first)
    assert found["check"].provider == second
    await wait_settled(market.client)


async def test_task_that_nobody_else_can_do_is_lost_and_says_so(market: Market) -> None:
    await market.provide(Temper(first_price=100_000))
    running = await open_map(market, ANSWER, tasks=make_tasks(2))
    found: dict[str, TaskResult] = {}
    async with asyncio.timeout(MAP_S):
        async for one in running:
            found[one.id] = one
            if one.id == "t0":
                await running.add([{"id": "check", "data": 7}], avoid=[one.provider])
                running.close_tasks()
        result = await running.result()
    assert (result.outcome, result.done, result.failed) == ("failed", 2, 1), result
    assert found["check"].outcome == "lost"
    assert "no other provider than 0x" in found["check"].note


async def test_liar_is_dismissed_and_what_it_did_is_done_again(market: Market) -> None:
    liar, honest = await two_providers(market)
    ear = Ear()
    running = await open_map(market, LIE, tasks=make_tasks(8), on_event=ear.hear)
    answers: dict[int, TaskResult] = {}
    async with asyncio.timeout(MAP_S):
        async for one in running:
            answers[one.number] = one
            right = {n for n, one in answers.items() if one.json()["data"] == n}
            wrong = answers.keys() - right
            if len(answers) == 8 and wrong:
                await running.dismiss(liar.key.address, reason="wrong_pixels")
                await running.redo(wrong)
                for number in wrong:
                    del answers[number]
            elif len(right) == 8:
                running.close_tasks()
        result = await running.result()
    assert (result.outcome, result.done, result.failed) == ("done", 8, 0), result
    assert {one.provider for one in answers.values()} == {honest.key.address}
    lines = read_lines(market)
    void = [one for one in lines if one.outcome == "void"]
    assert void, "the liar had its share"
    assert {one.provider for one in void} == {liar.key.address}
    assert len(lines) == 8 + 2 * len(void)
    leases = await wait_settled(market.client)
    [lied] = [one for one in leases if one.provider == liar.key.address]
    # What it ran since its last voucher is not signed for, and the market says so.
    attempts = [one for job in market.client.jobs() for one in job.job.attempts]
    [left] = [one for one in attempts if one.lease_id == lied.id]
    assert (left.outcome, left.authorized) == ("wrong_pixels", lied.paid)
    assert lied.reason == ("not_paid" if lied.paid < lied.owed else "wrong_pixels")
    blamed = {(one.provider, one.reason) for one in ear.find(event.WorkerBlamed)}
    assert blamed <= {(liar.key.address, "wrong_pixels")}


async def test_result_of_an_earlier_run_is_taken_back(market: Market) -> None:
    await two_providers(market)
    running = await open_map(market, ANSWER, tasks=make_tasks(2))
    running.close_tasks()
    async with asyncio.timeout(MAP_S):
        assert (await running.result()).done == 2
        [before] = [one for one in read_lines(market) if one.number == 0]
        running = await open_map(market, ANSWER, tasks=make_tasks(2))
        await running.redo([0])
        with pytest.raises(Refused, match="task 0 has no result"):
            await running.redo([1, 0])
        running.close_tasks()
        found = [one async for one in running]
        result = await running.result()
    assert (result.outcome, result.done) == ("done", 2), result
    assert sorted(one.number for one in found) == [0, 1], "each of them once"
    [after] = [one for one in found if one.number == 0]
    assert after.provider != before.provider
    await wait_settled(market.client)


async def test_open_map_goes_on_where_it_was(market: Market) -> None:
    """Added tasks, what was taken back and who was dismissed outlive the process."""
    liar, honest = await two_providers(market)
    running = await open_map(market, LIE, tasks=make_tasks(4))
    kept: set[int] = set()
    async with asyncio.timeout(MAP_S):
        async for one in running:
            is_new = one.number not in kept
            kept.add(one.number)
            if is_new and len(kept) == 4:
                await running.add(
                    [{"id": "slow", "data": 4}, {"id": "more", "data": 5}],
                    avoid=[honest.key.address],
                )
                await running.redo([0])
                await running.dismiss(liar.key.address, reason="lied")
                running.stop()
        first = await running.result()
    assert first.outcome == "stopped", first
    void = [one for one in read_lines(market) if one.outcome == "void"]
    assert [one.number for one in void] == [0]
    running = await open_map(market, LIE, tasks=make_tasks(4))
    assert [name for _, name, _ in running.read_added()] == ["slow", "more"]
    running.close_tasks()
    async with asyncio.timeout(MAP_S):
        found = {one.number: one async for one in running}
        result = await running.result()
    assert found.keys() == set(range(6))
    # One provider is dismissed, and the other must not get them.
    assert {found[n].outcome for n in (4, 5)} <= {"lost", "done"}
    for one in found.values():
        if one.number in (4, 5) and one.outcome == "done":
            assert one.provider == liar.key.address, "before it was dismissed"
    again = found[0]
    if void[0].provider == liar.key.address:
        assert (again.outcome, again.provider) == ("done", honest.key.address)
    else:
        assert again.outcome == "lost", "there is nobody left who may"
    assert result.done + result.failed == 6
    await wait_settled(market.client)
