"""Spot and reserved leases on a real node with a real agent: who has to go, and when."""

import asyncio
from pathlib import Path

from sublet.core.lease.phase import Fault, Phase
from sublet.sdk.exchange import ask_orders
from sublet.workload.client import AsyncClient
from sublet.workload.run import event
from sublet.workload.run.result import JobResult
from tests.integration.node_house import JumpingClock
from tests.integration.provider_house import (
    running_house,
    tenant_of,
    wait_settled,
    wait_true,
)
from tests.integration.tenant_house import RUN_S

WHOLE = "4"  # CPUs: all that the machine has, at $36 an hour each


async def test_spot_job_gives_way_and_goes_on_later(tmp_path: Path) -> None:
    """It is told, ends with the notice, and runs again once the other has gone."""
    heard: list[event.AnyEvent] = []

    async def hear(said: event.AnyEvent) -> None:
        heard.append(said)

    def count(kind: type) -> int:
        return sum(isinstance(each, kind) for each in heard)

    async with (
        running_house(tmp_path) as house,
        tenant_of(tmp_path, house.guest, name="cheap") as cheap,
        tenant_of(tmp_path, house.guest, name="rich") as rich,
    ):
        job = await cheap.start(
            *("sleep", "600"),
            is_command=True,
            mode="spot:1s",
            cpus=WHOLE,
            max_price="150",
            max_total="100",
            wait="10m",
            on_event=hear,
        )
        await wait_true(lambda: count(event.Running) == 1)
        async with asyncio.timeout(RUN_S):
            result = await rich.run(
                *("true",),
                is_command=True,
                mode="standing:10m",
                cpus=WHOLE,
                max_price="400",
                max_total="100",
            )
        assert result.exit_code == 0, result.message
        # It pays what the displaced one would have: not its own maximum.
        assert result.attempts[0].price_hour == 150_000_000
        await wait_true(lambda: count(event.Running) == 2)
        assert count(event.Notified) == 1
        job.stop()
        async with asyncio.timeout(RUN_S):
            await job.result()
        first, _ = await wait_settled(cheap)
        assert first.reason == "displaced"
        assert first.fault is Fault.NOBODY
        assert first.paid == 0  # nothing was secured


async def test_reserved_machine_is_sold_once(tmp_path: Path) -> None:
    """Neither to a second reservation, nor to a job that might still be there then."""
    clock = JumpingClock()
    async with (
        running_house(tmp_path, node={"clock": clock}) as house,
        tenant_of(tmp_path, house.guest) as client,
    ):
        running = asyncio.create_task(_reserve(client))
        await _wait_reserved(client)
        async with asyncio.timeout(RUN_S):
            second = await _reserve(client)
            assert "has room" in second.message
            late = await client.run(
                "true", is_command=True, cpus=WHOLE, max_total="200", wait="0s"
            )
        assert late.exit_code != 0
        clock.ahead_s = 25
        async with asyncio.timeout(RUN_S):
            result = await running
        assert result.exit_code == 0, result.message
        [lease] = await wait_settled(client)
        assert lease.phase is Phase.SETTLED


async def _reserve(client: AsyncClient) -> JobResult:
    return await client.run(
        *("true",),
        is_command=True,
        mode="reserved:25s",
        cpus=WHOLE,
        timeout="5m",
        max_total="50",
        wait="0s",
    )


async def _wait_reserved(client: AsyncClient) -> None:
    async with asyncio.timeout(RUN_S):
        while not (await client.connection.ask(ask_orders())).orders:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
