"""Jobs on a real agent and a real node, by the real client; the sandbox is a fake."""

import asyncio
from pathlib import Path

from sublet.core.lease.phase import Fault, Phase
from sublet.provider.lease_state import Stage
from sublet.workload.run.event import Secured
from tests.integration.provider_house import (
    House,
    running_agent,
    running_house,
    tenant_of,
    wait_settled,
    wait_true,
)

OPTIONS = {"is_command": True, "max_total": "50", "timeout": "5m"}


def _read(path: str) -> bytes:
    return Path(path).read_bytes()


def _records(house: House) -> list[Stage]:
    return [record.stage for record in house.agent.roster.records()]


async def test_runs_a_command(tmp_path: Path) -> None:
    async with (
        running_house(tmp_path) as house,
        tenant_of(tmp_path, house.guest) as client,
    ):
        script = "echo hello; echo oops >&2; exit 3"
        result = await client.run("sh", "-c", script, **OPTIONS)
        assert result.exit_code == 3
        assert _read(result.stdout) == b"hello\n"
        assert _read(result.stderr) == b"oops\n"
        (lease,) = await wait_settled(client)
        assert (lease.phase, lease.reason) == (Phase.SETTLED, "exited")
        assert lease.fault is Fault.NOBODY
        # Nothing of it is left on the machine.
        await wait_true(lambda: not list((house.home / "leases").iterdir()))


async def test_is_paid_by_the_second(tmp_path: Path) -> None:
    async with (
        running_house(tmp_path) as house,
        tenant_of(tmp_path, house.guest) as client,
    ):
        for _ in range(2):  # the channel is cumulative over leases
            result = await client.run("sleep", "1.3", **OPTIONS)
            assert result.exit_code == 0
        leases = await wait_settled(client)
        assert len(leases) == 2
        for lease in leases:
            assert lease.ran_ms >= 1_000
            # 36 dollars an hour are ten micro-dollars a millisecond.
            assert lease.paid == lease.owed == lease.ran_ms * 10
        account = await client.account()
        assert account.spent == sum(lease.paid for lease in leases)
        assert account.held == 0


async def test_brings_outputs_home(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data/numbers").write_bytes(b"3\n1\n2\n")
    script = (
        "mkdir out; sort data/numbers > out/sorted; ln -s /etc/passwd out/secret;"
        "mkfifo out/pipe"
    )
    async with (
        running_house(tmp_path) as house,
        tenant_of(tmp_path, house.guest) as client,
    ):
        result = await client.run(
            "sh",
            "-c",
            script,
            inputs=[str(tmp_path / "data")],
            outputs=[f"out:{tmp_path / 'home'}"],
            **OPTIONS,
        )
        assert result.exit_code == 0, result
    home = tmp_path / "home"
    assert [path.name for path in home.iterdir()] == ["sorted"]
    assert (home / "sorted").read_bytes() == b"1\n2\n3\n"


async def test_ships_checkpoints(tmp_path: Path) -> None:
    script = "echo one > ckpt/state; sleep 30"
    async with (
        running_house(tmp_path) as house,
        tenant_of(tmp_path, house.guest) as client,
    ):
        job = await client.start("sh", "-c", script, checkpoint="ckpt", **OPTIONS)
        async for said in job:
            if isinstance(said, Secured):
                break
        await wait_true(lambda: house.agent.roster.records()[0].secured_ms > 0)
        (lease,) = await client.leases()
        assert lease.secured_ms > 0
        job.stop()
        await job.result()


async def test_stops_on_request(tmp_path: Path) -> None:
    async with (
        running_house(tmp_path) as house,
        tenant_of(tmp_path, house.guest) as client,
    ):
        job = await client.start("sleep", "60", **OPTIONS)
        await wait_true(lambda: _records(house) == [Stage.RUNNING])
        job.stop()
        await job.result()
        (lease,) = await wait_settled(client)
        assert lease.phase is Phase.SETTLED
        await wait_true(lambda: _records(house) == [])


async def test_finds_jobs_again(tmp_path: Path) -> None:
    """The agent is killed while a job runs; the next one goes on with it."""
    async with (
        running_house(tmp_path) as house,
        tenant_of(tmp_path, house.guest) as client,
    ):
        sandbox = house.agent.around.sandboxes.find("")
        script = "echo begun; sleep 3; echo done > result; echo ended"
        outputs = [f"result:{tmp_path / 'got'}"]
        job = await client.start("sh", "-c", script, outputs=outputs, **OPTIONS)
        await wait_true(lambda: _records(house) == [Stage.RUNNING])
        house.task.cancel()
        await asyncio.gather(house.task, return_exceptions=True)
        async with running_agent(house.home, house.url, sandbox=sandbox) as (again, _):
            assert [r.stage for r in again.roster.records()] == [Stage.RUNNING]
            result = await job.result()
        assert result.exit_code == 0, result
        assert _read(result.stdout) == b"begun\nended\n"
        assert len(result.attempts) == 1
        assert (tmp_path / "got").read_bytes() == b"done\n"
        (lease,) = await wait_settled(client)
        assert lease.paid == lease.owed > 0


async def test_drains_and_ends(tmp_path: Path) -> None:
    async with (
        running_house(tmp_path) as house,
        tenant_of(tmp_path, house.guest) as client,
    ):
        job = await client.start("sleep", "1", **OPTIONS)
        await wait_true(lambda: _records(house) == [Stage.RUNNING])
        house.agent.drain()
        result = await job.result()
        assert result.exit_code == 0
        await asyncio.wait_for(asyncio.shield(house.task), 10)
        assert (await house.guest.learn()).offers == 0
