"""One standing order for a map, filled lease by lease as machines appear."""

import asyncio
from pathlib import Path

import pytest

from sublet.base.errors import Faults
from sublet.core.book.open_order import OpenOrder, OrderPhase
from sublet.sdk.exchange import ask_order, ask_orders
from tests.fakes.provider import Temper
from tests.integration.provider_house import wait_settled, wait_true
from tests.integration.tenant_house import Market, running_market

MAP_S = 90
VOLUME = {
    "mode": "standing:1h",
    "volume": "180s",
    "lease": "60s",
    "cpus": "3",  # of four: each machine takes one worker
    "max_price": "2.00",
    "max_total": "5.00",
}
WAITING = (
    "import os, pathlib, sys, time\n"
    "folder = pathlib.Path(sys.argv[1])\n"
    "(folder / f'begun-{os.environ[\"SUBLET_TASK\"]}').touch()\n"
    "while not (folder / 'go').exists(): time.sleep(0.05)\n"
)


async def open_orders(market: Market) -> tuple[OpenOrder, ...]:
    return (await market.client.connection.ask(ask_orders())).orders


async def test_pieces_come_as_machines_do(tmp_path: Path) -> None:
    async with running_market(tmp_path) as market:
        script = market.folder / "task.py"
        script.write_text(WAITING)
        folder = market.folder / "seen"
        folder.mkdir()
        running = await market.client.start_map(
            str(script), str(folder), tasks=[[n] for n in range(3)], **VOLUME
        )
        ended = asyncio.create_task(running.result())
        async with asyncio.timeout(MAP_S):
            orders: tuple[OpenOrder, ...] = ()
            while not orders:
                await asyncio.sleep(0.05)
                orders = await open_orders(market)
            [waits] = orders
            assert (waits.order.volume_s, waits.leases) == (180, ())
            for count in (1, 2):
                await market.provide(Temper(first_price=500_000 + count))
                await wait_true(lambda: len(list(folder.iterdir())) == count)  # noqa: B023
                [now] = await open_orders(market)
                assert (now.id, len(now.leases)) == (waits.id, count)
            (folder / "go").touch()
            result = await ended
        assert (result.outcome, result.done) == ("done", 3), result
        leases = await wait_settled(market.client)
        assert {lease.order for lease in leases} == {waits.id}
        assert sum(lease.started_at_s > 0 for lease in leases) == 2
        # Nobody wants its last piece any more. On a slow machine it may have been there
        # before it was taken back: then it is stopped.
        order = await market.client.connection.ask(ask_order(waits.id))
        assert order.phase is OrderPhase.ENDED
        assert order.reason == ("cancelled" if len(leases) == 2 else "filled")
        assert (await market.client.account()).held == 0


async def test_piece_of_a_lost_machine_is_filled_again(tmp_path: Path) -> None:
    """What its owner did not keep comes back to the order, and to the next machine."""
    async with running_market(tmp_path) as market:
        await market.provide(Temper(first_price=500_000, dies_at="running"))
        async with asyncio.timeout(MAP_S):
            running = await market.client.start_map(
                "true",
                is_command=True,
                tasks=[[n] for n in range(3)],
                **VOLUME,
            )
            ended = asyncio.create_task(running.result())
            await wait_true(lambda: market.providers[0].is_dead)
            await market.provide(Temper(first_price=500_000))
            result = await ended
        assert (result.outcome, result.done) == ("done", 3), result
        await wait_settled(market.client)
        assert (await market.client.account()).held == 0


@pytest.mark.parametrize(
    ("wish", "field"),
    [
        ({"mode": None}, "--volume"),  # an order that does not wait has no pieces
        ({"volume": "59s"}, "--volume"),  # less than a lease
        ({"volume": "5h"}, "--volume"),  # more leases than an order gets
        ({"parallel": 2}, "--parallel"),
    ],
)
async def test_volume_that_means_nothing_is_refused(
    tmp_path: Path, wish: dict[str, object], field: str
) -> None:
    async with running_market(tmp_path) as market:
        with pytest.raises(Faults) as caught:
            await market.client.start_map(
                "true", is_command=True, tasks=[1], **{**VOLUME, **wish}
            )
        assert [fault.field for fault in caught.value.faults] == [field]
