"""The tenant's own part in orders that wait: it looks, chooses, takes back."""

import asyncio
import os
from pathlib import Path

import msgspec
import pytest
from typer.testing import CliRunner

from sublet.cli.orders import app
from sublet.core.book.open_order import OpenOrder, OrderPhase
from sublet.sdk.exchange import ask_orders
from sublet.workload.run.event import AnyEvent, Waiting
from tests.fakes.provider import Temper
from tests.integration.node_house import JumpingClock
from tests.integration.tenant_house import RUN_S, Market, running_market
from tests.integration.tools_house import sublet
from tests.rig.terminal import Person

WINDOW_S = 25


async def _command(house: Market, *words: str) -> tuple[int, str]:
    """Type a command of this tenant; give its exit code and what it printed."""
    home = ["--home", str(house.folder / "home"), "--market", house.guest.url]
    done = await asyncio.to_thread(CliRunner().invoke, app, [*words, *home])
    said = done.stdout + (str(done.exception) if done.exception else "")
    return done.exit_code, said


async def _wait_order(house: Market, phase: OrderPhase, bids: int = 0) -> OpenOrder:
    async with asyncio.timeout(RUN_S):
        while True:
            orders = (await house.client.connection.ask(ask_orders())).orders
            if orders and orders[-1].phase is phase and len(orders[-1].bids) >= bids:
                return orders[-1]
            await asyncio.sleep(0.05)


async def test_tenant_takes_the_dearer_bid(tmp_path: Path) -> None:
    """It is paid as it was made; the job that waited runs on that machine."""
    said: list[str] = []

    async def hear(event: AnyEvent) -> None:
        if isinstance(event, Waiting):
            said.append(event.message)

    clock = JumpingClock()
    async with running_market(tmp_path, clock=clock) as house:
        for bid in (900_000, 700_000):
            await house.provide(Temper(bid=bid))
        running = asyncio.create_task(
            house.run(
                "true", is_command=True, mode=f"live:{WINDOW_S}s:10m", on_event=hear
            )
        )
        order = await _wait_order(house, OrderPhase.BIDDING, bids=2)
        clock.ahead_s = WINDOW_S
        await _wait_order(house, OrderPhase.CHOOSING)
        code, table = await _command(house, "bids", order.id[:12])
        assert code == 0
        assert [line.split()[1] for line in table.splitlines()[1:3]] == [
            "$0.70",
            "$0.90",
        ]
        code, shown = await _command(house, "bids", order.id, "--json")
        assert msgspec.json.decode(shown)[1]["price_hour"] == 900_000
        assert "choosing" in (await _command(house, "orders"))[1]
        code, words = await _command(house, "choose", order.id[:12], "3")
        assert code != 0
        assert "none of the 2 bids" in words
        code, words = await _command(house, "choose", order.id[:12], "2")
        assert code == 0, words
        assert "$0.90/h" in words
        result = await running
        assert result.exit_code == 0, result.message
        assert result.attempts[0].provider == house.providers[0].key.address
        assert result.attempts[0].price_hour == 900_000
    assert any("open for bids" in text for text in said)


async def test_nobody_chooses_and_the_order_ends(tmp_path: Path) -> None:
    clock = JumpingClock()
    async with running_market(tmp_path, clock=clock) as house:
        await house.provide(Temper(bid=700_000))
        running = asyncio.create_task(
            house.run("true", is_command=True, mode="live:15s:9s", wait="0s")
        )
        await _wait_order(house, OrderPhase.BIDDING, bids=1)
        clock.ahead_s = 15
        await _wait_order(house, OrderPhase.CHOOSING)
        clock.ahead_s = 24
        assert "not_chosen" in (await running).message
        assert (await house.client.account()).held == 0


@pytest.mark.parametrize("is_command", [True, False])
async def test_order_is_taken_back(tmp_path: Path, is_command: bool) -> None:
    """By hand, or as the job that waits for it is stopped; all of the money is free."""
    async with running_market(tmp_path) as house:
        job = await house.client.start(
            "true", is_command=True, mode="standing:10m", max_total="5.00", wait="0s"
        )
        order = await _wait_order(house, OrderPhase.WAITING)
        assert (await house.client.account()).held == order.hold > 0
        if is_command:
            code, words = await _command(house, "cancel", order.id[:12])
            assert (code, words.strip()) == (0, f"cancelled {order.id}")
        else:
            job.stop()
        async with asyncio.timeout(RUN_S):
            await job.result()
        ended = await _wait_order(house, OrderPhase.ENDED)
        assert ended.reason == "cancelled"
        assert (await house.client.account()).held == 0
        assert "no order of yours waits" in (await _command(house, "orders"))[1]
        assert "cancelled" in (await _command(house, "orders", "--all"))[1]


async def test_control_c_takes_the_order_back(tmp_path: Path) -> None:
    """In a terminal, while bids are waited for: it says so, and nothing stays held."""
    async with running_market(tmp_path) as house:
        command = ("run", "--mode", "live:30m", "--wait", "0s", "--", "true")
        env = {
            **os.environ,
            "SUBLET_MARKET": house.guest.url,
            "SUBLET_HOME": str(house.folder / "home"),
            "SUBLET_NO_WARM": "1",
        }
        person = Person(sublet(command), env)
        await asyncio.to_thread(person.see, b"open for bids")
        assert (await house.client.account()).held > 0
        person.type(b"\x03")
        await asyncio.to_thread(person.see, b"stopping the job")
        assert await asyncio.to_thread(person.leave) == 130
        os.close(person.terminal)
        ended = await _wait_order(house, OrderPhase.ENDED)
        assert ended.reason == "cancelled"
        assert (await house.client.account()).held == 0
