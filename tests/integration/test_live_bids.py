"""Live orders on a real node: who hears of them, who answers, who wins, at what price."""

import asyncio
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from sublet.core.book.open_order import OpenOrder
from sublet.provider.bids_file import BidRules
from sublet.sdk.exchange import ask_orders
from sublet.workload.client import AsyncClient
from sublet.workload.run.result import JobResult
from tests.fakes.provider import Temper
from tests.fakes.world import World
from tests.integration.node_house import JumpingClock, running_node
from tests.integration.provider_house import (
    running_agent,
    running_house,
    tenant_of,
    wait_settled,
    wait_true,
)
from tests.integration.tenant_house import RUN_S, running_market
from tests.rig.open_folder import make_open_folder

# In the style of what Akash's providers use; the text is our own.
AKASH_STYLE = """#!/bin/bash
set -o pipefail
[[ "$AKASH_DENOM" == ibc/170C677610AC31DF0904FFE09CD3B5C65749* ]] || exit 1
[[ "$AKASH_OWNER" == 0x* ]] || { echo "no tenant" >&2; exit 1; }
asked=$(jq .)
groups='if type == "object" then .resources else . end'
cpu=$(jq -r "$groups | (map(.cpu * .count) | add) / 1000" <<<"$asked")
gib=$(jq -r "$groups | (map(.memory * .count) | add) / pow(1024; 3)" <<<"$asked")
disk=$(jq -r "$groups | [.[].storage[] | select(.class == \\"ephemeral\\").size]
  | add / pow(1024; 3)" <<<"$asked")
gpus=$(jq -r "$groups | [.[].gpu.units // 0] | add" <<<"$asked")
precision=$(jq -r 'if type == "object" then .price_precision else 6 end' <<<"$asked")
# 730 USD a month are one an hour; in micro-dollars for each of 429,909 blocks.
awk -v p="$precision" -v c="$cpu" -v g="$gib" -v d="$disk" -v u="$gpus" \\
  'BEGIN { printf "%.*f\\n", p, (c * 500 + g * 200 + d * 15 + u * 9000) * 1e6 / 429909 }'
"""
WINDOW_S = 25
needs_jq = pytest.mark.skipif(shutil.which("jq") is None, reason="jq is not installed")


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that the user of pricing programs reaches."""
    path = make_open_folder("sublet-price-")
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)


def _rules(folder: Path, script: str, style: str) -> BidRules:
    path = folder / "price"
    path.write_text(script)
    path.chmod(0o755)
    return BidRules(program=str(path), style=style, timeout_s=60)


async def _wait_bids(client: AsyncClient, count: int) -> OpenOrder:
    """Wait until the tenant's order has so many bids."""
    async with asyncio.timeout(RUN_S):
        while True:
            orders = (await client.connection.ask(ask_orders())).orders
            if orders and len(orders[-1].bids) == count:
                return orders[-1]
            await asyncio.sleep(0.05)


async def test_best_bid_wins_when_the_window_closes(tmp_path: Path) -> None:
    """At the next one's price; who bids nothing is asked, too, and does not win."""
    clock = JumpingClock()
    async with running_market(tmp_path, clock=clock) as house:
        for number, bid in enumerate((900_000, 0, 700_000)):
            await house.provide(Temper(first_price=3_600_000 + number, bid=bid))
        running = asyncio.create_task(
            house.run("true", is_command=True, mode=f"live:{WINDOW_S}s")
        )
        order = await _wait_bids(house.client, 2)
        clock.ahead_s = WINDOW_S  # nobody says anything: the book's own deadline
        result = await running
        assert result.exit_code == 0, result.message
        [attempt] = result.attempts
        assert attempt.provider == house.providers[2].key.address
        assert attempt.price_hour == 900_000
        assert [each.heard for each in house.providers] == [[order.id]] * 3


async def test_only_who_could_serve_is_asked(tmp_path: Path) -> None:
    clock = JumpingClock()
    async with running_market(tmp_path, clock=clock) as house:
        await house.provide(Temper(bid=500_000))
        running = asyncio.create_task(
            house.run(*("true",), is_command=True, mode="live:9s", cpus="64", wait="0s")
        )
        order = await _wait_bids(house.client, 0)
        clock.ahead_s = 9
        result = await running
        assert "no_bids" in result.message
        assert order.id not in house.providers[0].heard


@needs_jq
async def test_script_written_for_akash_names_the_price(
    tmp_path: Path, folder: Path
) -> None:
    """Far below the listed prices: the agent works for what it bid."""
    clock, rules = JumpingClock(), _rules(folder, AKASH_STYLE, "akash")
    async with (
        running_house(tmp_path, bids=rules, node={"clock": clock}) as house,
        tenant_of(tmp_path, house.guest) as client,
    ):
        running = asyncio.create_task(_run(client))
        order = await _wait_bids(client, 1)
        # 500 a CPU, 200 a GiB of memory, 15 for each of two GiB of disk: 730 a month.
        assert abs(order.bids[0].price_hour - 999_300) < 1_000
        clock.ahead_s = WINDOW_S
        result = await running
        assert result.exit_code == 0, result.message
        assert result.attempts[0].price_hour == order.bids[0].price_hour
        [lease] = await wait_settled(client)
        assert lease.reason == "exited"


@pytest.mark.parametrize("script", ["exit 1", "echo cheap", "echo 99999"])
async def test_program_without_a_price_makes_no_bid(
    tmp_path: Path, folder: Path, script: str, caplog: pytest.LogCaptureFixture
) -> None:
    clock, rules = JumpingClock(), _rules(folder, f"#!/bin/sh\n{script}\n", "sublet")
    async with (
        running_house(tmp_path, bids=rules, node={"clock": clock}) as house,
        tenant_of(tmp_path, house.guest) as client,
    ):
        running = asyncio.create_task(_run(client))
        await wait_true(lambda: "no_bid" in caplog.messages)
        clock.ahead_s = WINDOW_S
        assert "no_bids" in (await running).message


async def test_agent_without_a_program_bids_its_listed_prices(tmp_path: Path) -> None:
    clock = JumpingClock()
    async with (
        running_house(tmp_path, node={"clock": clock}) as house,
        tenant_of(tmp_path, house.guest) as client,
    ):
        running = asyncio.create_task(_run(client))
        await _wait_bids(client, 1)
        clock.ahead_s = WINDOW_S
        result = await running
        assert result.exit_code == 0, result.message
        assert result.attempts[0].price_hour == 36_000_000


async def _run(client: AsyncClient) -> JobResult:
    async with asyncio.timeout(RUN_S):
        return await client.run(
            *("true",),
            is_command=True,
            mode=f"live:{WINDOW_S}s",
            max_total="50",
            wait="0s",
        )


async def test_provider_that_links_while_the_window_is_open_bids(
    tmp_path: Path,
) -> None:
    """The first time: when the order was opened, nobody knew of it, or of its offer."""
    clock = JumpingClock()
    async with (
        running_node(tmp_path / "node", World(), clock=clock) as guest,
        tenant_of(tmp_path, guest) as client,
    ):
        running = asyncio.create_task(_run(client))
        await _wait_bids(client, 0)
        async with running_agent(tmp_path / "provider", guest.url):
            await _wait_bids(client, 1)
            clock.ahead_s = WINDOW_S
            result = await running
            assert result.exit_code == 0, result.message
            await wait_settled(client)
