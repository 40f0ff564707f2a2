"""A market on the escrow rail, with its real programs: a chain, a node, a provider, a tenant.

One test, as all of it takes a while to start: a job that a signature pays for, the claim,
a stake, a job whose tenant takes its money back, and the money that comes back in the end.
"""

import asyncio
import json
import socket
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from sublet.adapter.json_rpc import JsonRpc
from sublet.cli.local_market import LocalMarket
from sublet.wire.message import Account
from sublet.workload.client import AsyncClient
from sublet.workload.escrow import Holdings, open_escrow
from tests.rig.anvil import need_anvil

pytestmark = [pytest.mark.sandbox, pytest.mark.timeout(600)]

DAY_S = 86_400
SEEN_S = 120
LOOK_S = 0.3


async def test_money_goes_through_the_escrow(tmp_path: Path) -> None:
    need_anvil()
    home = tmp_path / "tenant"
    market = LocalMarket(
        tmp_path / "market",
        providers=1,
        tenant_home=home,
        listen="127.0.0.1:0",
        say=lambda text: None,
        has_chain=True,
        chain_port=_free_port(),
    )
    await asyncio.to_thread(market.__enter__)
    try:
        async with AsyncClient(market.url, home=home) as client:
            await _pay_a_job(client, market)
            await asyncio.to_thread(_stake, market)
            await _take_money_back(client, market)
            await _account_for_it(client, market)
    finally:
        await asyncio.to_thread(market.close)


async def _pay_a_job(client: AsyncClient, market: LocalMarket) -> None:
    result = await client.run("sh", "-c", "echo hello; sleep 2")
    assert result.exit_code == 0 and result.cost > 0
    account = await _wait_settled(client)
    assert account.spent == result.cost
    # The market says what the chain says: nothing was spent there that nobody claimed.
    found = await _read(client)
    [channel] = found.channels
    assert found.wallet + channel.balance == 100_000_000
    assert (channel.claimed, channel.withdrawing) == (0, 0)
    assert account.balance == channel.balance - result.cost
    done = _sublet("provider", "claim", "--home", str(market.providers[0].home))
    assert "Claiming" in done

    async def is_claimed() -> bool:
        return (await _read(client)).channels[0].claimed == result.cost

    await _until(is_claimed)


def _stake(market: LocalMarket) -> None:
    """The provider risks some of its own, by its agent, and asks a part of it back."""
    home = ("--home", str(market.providers[0].home))
    said = json.loads(_sublet("provider", "stake", "10.00", *home, "--json"))
    assert (said["bonded"], said["unbonding"], said["cases"]) == (10_000_000, 0, [])
    assert "asked back" in _sublet("provider", "unstake", "4.00", *home)
    shown = _sublet("provider", "stake", *home)
    assert "staked     $6.00" in shown and "asked back $4.00" in shown


async def _take_money_back(client: AsyncClient, market: LocalMarket) -> None:
    handle = await client.start("sh", "-c", "sleep 600")

    async def is_billed() -> bool:
        return any(one.owed for one in await client.leases())

    await _until(is_billed)
    [lease] = await client.leases()
    async with open_escrow(client) as escrow:
        await escrow.withdraw(lease.provider)
        result = await handle.result()
        assert result.exit_code != 0
        [ended] = [
            one for one in await client.leases(is_all=True) if one.id == lease.id
        ]
        assert (ended.reason, ended.fault) == ("withdrawn", "tenant")
        # What it ran is claimed before the tenant's delay is over.
        due = (await client.account()).spent

        async def is_claimed() -> bool:
            return (await escrow.read()).channels[0].claimed >= due

        await _until(is_claimed)
        async with JsonRpc([market.rpc]) as rpc:
            for method, given in (("evm_increaseTime", (DAY_S,)), ("evm_mine", ())):
                await rpc.ask(method, given, lambda _: None, examine=lambda _: None)
        back = await escrow.finish(lease.provider)
        found = await escrow.read()
    assert back > 0
    spent = (await client.account()).spent
    assert found.wallet == 100_000_000 - spent


async def _account_for_it(client: AsyncClient, market: LocalMarket) -> None:
    """Both parties' statements, with the chain's lines, say the same as the chain."""
    spent = (await client.account()).spent
    url = ("--market", market.url)
    own = _lines("--home", str(client.home.path), *url)
    back = sum(amount for kind, amount in own if kind == "withdrawal")
    paid_in = sum(amount for kind, amount in own if kind == "deposit")
    assert paid_in - back == spent
    its = _lines("--provider-home", str(market.providers[0].home))
    assert sum(amount for kind, amount in its if kind == "claim") == spent


def _lines(*argv: str) -> list[tuple[str, int]]:
    lines = [
        json.loads(text) for text in _sublet("escrow", "lines", *argv).splitlines()
    ]
    return [(line["kind"], int(line["amount"])) for line in lines]


async def _read(client: AsyncClient) -> Holdings:
    async with open_escrow(client) as escrow:
        return await escrow.read()


async def _until(is_so: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(SEEN_S):
        while True:
            if await is_so():
                return
            await asyncio.sleep(LOOK_S)


async def _wait_settled(client: AsyncClient) -> Account:

    async def is_settled() -> bool:
        return not await client.leases()

    await _until(is_settled)
    return await client.account()


def _sublet(*argv: str) -> str:
    command = [sys.executable, "-m", "sublet.cli.main", *argv]
    done = subprocess.run(command, capture_output=True, text=True, timeout=SEEN_S)
    assert done.returncode == 0, done.stderr
    return done.stdout


def _free_port() -> int:
    with socket.socket() as door:
        door.bind(("127.0.0.1", 0))
        return int(door.getsockname()[1])
