"""Orders that wait, from a tenant's command to its result, on a real node."""

import asyncio
from pathlib import Path

import pytest

from sublet.sdk.exchange import ask_orders
from tests.integration.tenant_house import RUN_S, running_market


@pytest.mark.parametrize("mode", ["standing:60s", "spot:10s", "reserved:2s"])
async def test_job_runs_in_a_lease_of_this_mode(tmp_path: Path, mode: str) -> None:
    async with running_market(tmp_path) as house:
        await house.provide()
        result = await house.run("true", is_command=True, mode=mode, wait="30s")
        assert result.exit_code == 0


async def test_standing_order_waits_for_supply(tmp_path: Path) -> None:
    async with running_market(tmp_path) as house:
        running = asyncio.create_task(
            house.run("true", is_command=True, mode="standing:60s")
        )
        async with asyncio.timeout(RUN_S):
            # The market is asked; nothing here could tell us.
            while not (  # noqa: ASYNC110
                await house.client.connection.ask(ask_orders())
            ).orders:
                await asyncio.sleep(0.1)
        await house.provide()
        assert (await running).exit_code == 0
