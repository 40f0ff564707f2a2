"""A detached job in another mode than instant: it works, or is refused before it is left."""

import asyncio
from pathlib import Path

import pytest

from sublet.base.errors import Refused
from sublet.sdk.exchange import ask_orders
from sublet.workload.detached.client import attach, detach
from sublet.workload.run import event
from tests.integration.provider_house import running_house, tenant_of, wait_true
from tests.integration.tenant_house import RUN_S

WHOLE = "4"  # CPUs: all that the machine has, at $36 an hour each


async def test_detached_order_stands_until_a_machine_comes_free(tmp_path: Path) -> None:
    """In the market's hands: it waits with a slice's money until the other job is over."""
    heard: list[event.AnyEvent] = []
    async with (
        running_house(tmp_path) as house,
        tenant_of(tmp_path, house.guest, name="first") as first,
        tenant_of(tmp_path, house.guest) as client,
    ):
        taking = await first.start(
            *("sleep", "600"),
            is_command=True,
            cpus=WHOLE,
            max_price="150",
            max_total="100",
            on_event=heard.append,
        )
        await wait_true(lambda: any(isinstance(one, event.Running) for one in heard))
        record = await detach(
            client,
            "true",
            is_command=True,
            mode="standing:10m",
            cpus=WHOLE,
            max_price="150",
            max_total="100",
        )
        async with asyncio.timeout(RUN_S):
            while not (  # noqa: ASYNC110 (the market is asked)
                orders := (await client.connection.ask(ask_orders())).orders
            ):
                await asyncio.sleep(0.05)
            assert orders[0].signer != client.key.address  # the job's delegate
            taking.stop()
            await taking.result()
            result = await attach(client, record.id)
        assert result.exit_code == 0, result.message
        assert len(result.attempts) == 1


@pytest.mark.parametrize("mode", ["live:2s", "spot:5s"])
async def test_detached_job_runs_in_this_mode(tmp_path: Path, mode: str) -> None:
    async with (
        running_house(tmp_path) as house,
        tenant_of(tmp_path, house.guest) as client,
    ):
        record = await detach(
            client, "true", is_command=True, mode=mode, max_price="100", max_total="100"
        )
        async with asyncio.timeout(RUN_S):
            result = await attach(client, record.id)
        assert result.exit_code == 0, result.message


@pytest.mark.parametrize("mode", ["live:2s:5m", "reserved:1h"])
async def test_refuses_a_mode_that_wants_its_tenant(tmp_path: Path, mode: str) -> None:
    async with (
        running_house(tmp_path) as house,
        tenant_of(tmp_path, house.guest) as client,
    ):
        with pytest.raises(Refused) as refusal:
            await detach(client, "true", is_command=True, mode=mode)
        assert refusal.value.code == "bad_mode"
        assert client.jobs() == []
        assert (await client.account()).held == 0
