"""``run`` on several machines at once: ranks, one failure for all, and begun again whole."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from sublet.core.lease.phase import Phase
from sublet.workload.run import event
from sublet.workload.run.result import JobResult
from tests.integration.provider_house import wait_settled
from tests.integration.tenant_house import Market, running_market

TOTAL = "9.00"  # of an hour on two machines


@pytest.fixture
async def market(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Market]:
    monkeypatch.chdir(tmp_path)
    # On a machine that starves them its owners still sign in time.
    async with running_market(tmp_path, accept_s=60, deliver_s=60) as house:
        for _ in range(2):
            await house.provide()
        yield house


def said(result: JobResult) -> list[str]:
    return [Path(member.stdout).read_text() for member in result.members]


async def check_settled(market: Market, result: JobResult) -> None:
    """Wait for the end of all leases; then nothing is held any more."""
    await wait_settled(market.client)
    leases = {lease.id: lease for lease in await market.client.leases(is_all=True)}
    assert {one.lease_id for one in result.attempts} <= leases.keys()
    assert {lease.phase for lease in leases.values()} == {Phase.SETTLED}
    assert (await market.client.account()).held == 0


async def test_each_machine_knows_its_rank(market: Market) -> None:
    result = await market.run(
        "sh",
        "-c",
        "echo $RANK of $WORLD_SIZE, $LOCAL_RANK of $LOCAL_WORLD_SIZE; "
        "mkdir out; echo $NODE_RANK > out/rank",
        is_command=True,
        max_total=TOTAL,
        machines=2,
        outputs=("out",),
    )
    assert result.exit_code == 0, result
    assert said(result) == ["0 of 2, 0 of 1\n", "1 of 2, 0 of 1\n"]
    for rank in (0, 1):
        assert Path(f"rank-{rank}/out/rank").read_text() == f"{rank}\n"
    leases = await market.client.leases(is_all=True)
    assert len({lease.order for lease in leases}) == 1
    assert len({lease.provider for lease in leases}) == 2
    await check_settled(market, result)


async def test_failure_of_one_is_that_of_all(market: Market) -> None:
    result = await market.run(
        "sh",
        "-c",
        '[ "$RANK" = 0 ] || exit 7; exec sleep 600',
        is_command=True,
        max_total=TOTAL,
        machines=2,
    )
    assert result.exit_code == 7, result
    assert result.message == "rank 1: exit code 7; the others were stopped"
    assert [member.exit_code for member in result.members] == [130, 7]
    await check_settled(market, result)


async def test_lost_machine_begins_all_again(market: Market) -> None:
    spare = await market.provide()
    dying = market.providers[0]
    script = market.folder / "count.py"
    script.write_text(
        "import os, pathlib, time\n"
        "rank = os.environ['RANK']\n"
        "place = pathlib.Path('ckpt/rank')\n"
        "if place.exists():\n"
        "    print('again', place.read_text(), flush=True)\n"
        "    raise SystemExit(0)\n"
        "place.parent.mkdir(exist_ok=True)\n"
        "draft = pathlib.Path('ckpt/part')\n"
        "draft.write_text(rank); draft.rename(place)\n"
        "while True: time.sleep(0.1)\n"
    )
    secured: set[int | None] = set()

    async def watch(said: event.AnyEvent) -> None:
        if isinstance(said, event.Secured):
            secured.add(said.rank)
            if secured == {0, 1} and not dying.is_dead:
                dying.is_dead = True
                asyncio.get_running_loop().create_task(dying.die())

    result = await market.run(
        str(script), checkpoint="ckpt", machines=2, max_total=TOTAL, on_event=watch
    )
    assert result.exit_code == 0, result
    assert said(result) == ["again 0\n", "again 1\n"]
    outcomes = [[one.outcome for one in each.attempts] for each in result.members]
    assert sorted(outcomes) == [["provider_lost", "exited"], ["recalled", "exited"]]
    assert {each.attempts[1].provider for each in result.members} == {
        market.providers[1].key.address,
        spare.key.address,
    }
    await check_settled(market, result)


async def test_stop_ends_all(market: Market) -> None:
    job = await market.client.start(
        "sleep", "600", is_command=True, max_total=TOTAL, machines=2
    )
    running = 0
    async with asyncio.timeout(90):
        async for one in job:
            running += isinstance(one, event.Running)
            if running == 2:
                job.stop()
        result = await job.result()
    assert (result.exit_code, len(result.attempts)) == (130, 2)
    await check_settled(market, result)


async def test_too_few_machines_are_none(market: Market) -> None:
    result = await market.run(
        "true", is_command=True, timeout="60s", machines=3, wait="0s"
    )
    assert result.exit_code == 3, result
    assert "wants 3 machines together, and 2 would do" in result.message
    assert "rank" not in result.message  # it is nobody's in particular
    assert result.attempts == ()
