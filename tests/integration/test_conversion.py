"""Tokens into dollars of a channel, on a real chain: an operator that makes, a tenant.

Both have sources of their own, which are recordings of the last minutes.
"""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
import vyper
from msgspec.structs import replace

from sublet.adapter.contract import load_contract
from sublet.adapter.converter_chain import find_allowance, find_converter
from sublet.adapter.devchain import DevChain
from sublet.adapter.escrow_chain import find_balance
from sublet.adapter.key_file import create_key
from sublet.core.pricing.reading import E8
from sublet.core.rail.transaction import Call
from sublet.node.maker_wallet import read_wallet
from sublet.service.chain_port import Receipt
from sublet.wire.abi import encode_call, encode_values
from sublet.wire.exchange import QuoteWish
from sublet.wire.signature import Key
from tests.fakes.world import TOKEN, World
from tests.integration.node_house import (
    Guest,
    fault_code,
    make_config,
    make_home,
    running_node,
)
from tests.integration.shell_house import Shell
from tests.rig.anvil import need_anvil
from tests.rig.chains import Lent
from tests.rig.recorded_feeds import write_feeds
from tests.style.tree import ROOT

DOLLAR, WHOLE = 1_000_000, 10**18
SEEN_S = 60


class House:
    """A market on the escrow rail whose operator is a maker, and a tenant's shell."""

    def __init__(
        self, guest: Guest, chain: DevChain, render: str, shell: Shell, maker: Key
    ) -> None:
        self.guest = guest
        self.chain = chain
        self.render = render
        self.shell = shell
        self.maker = maker
        self.provider = guest.world.providers[0].address
        self.tenant = create_key(shell.home / "key")

    async def convert(self, amount: str, *more: str) -> tuple[int, str, str]:
        words = ("escrow", "convert", self.provider, "RENDER", amount)
        return await self.shell.type(*words, "--rpc", self.chain.rpc_url, *more)

    async def renders(self, party: str) -> int:
        return await find_balance(self.chain.chain, self.render, party)

    async def dollars(self, party: str) -> int:
        return await find_balance(self.chain.chain, self.chain.token, party)


@asynccontextmanager
async def running_house(
    folder: Path, *, is_plain: bool = False
) -> AsyncIterator[House]:
    need_anvil()
    async with DevChain(folder / "chain") as chain:
        home, world = folder / "node", World()
        make_home(home, world)
        maker = create_key(home / "maker")
        await chain.fund(maker.address, usdc=500 * DOLLAR)
        render, escrow = chain.render, chain.escrow
        if is_plain:
            render = await deploy_plain(chain, maker)
            given = encode_values("(address[])", [[chain.token]])
            code = bytes.fromhex(load_contract("escrow").bytecode[2:]) + given
            escrow = (await send(chain, maker, Call(None, code))).contract or ""
        write_feeds(home / "prices.toml", render, render=2 * E8)
        settings: dict[str, Any] = {
            "chain": {"rpc": [chain.rpc_url], "confirmations": 0},
            "convert": {
                "feeds": "prices.toml",
                "key_file": "maker",
                "spread_bps": 50,
                "most": "100.00",
            },
            "market": {
                "rail": "escrow",
                "chain_id": chain.chain_id,
                "contract": escrow,
                "token": chain.token,
            },
        }
        config = make_config(home, **settings)
        wallet = await read_wallet(config, allow=60 * DOLLAR, is_deploying=is_plain)
        assert (wallet.converter == chain.converter) == (not is_plain)
        assert (wallet.dollars, wallet.allowed) == (500 * DOLLAR, 60 * DOLLAR)
        async with running_node(home, world, **settings) as guest:
            shell = Shell(guest.url, folder)
            shell.home.mkdir()
            house = House(guest, chain, render, shell, maker)
            tenant = house.tenant.address
            await chain.fund(tenant, usdc=0)
            data = encode_call("mint(address,uint256)", tenant, 100 * WHOLE)
            await send(chain, maker, Call(render, data))
            yield house


async def deploy_plain(chain: DevChain, key: Key) -> str:
    """Deploy a token that says of no domain, as those without permits."""
    source = (ROOT / "contracts/test/Render.vy").read_text()
    plain = source.replace("DOMAIN_SEPARATOR", "separator")
    code = vyper.compile_code(plain, output_formats=["bytecode"])["bytecode"]
    receipt = await send(chain, key, Call(None, bytes.fromhex(code[2:])))
    assert receipt.contract is not None
    return receipt.contract


async def send(chain: DevChain, key: Key, call: Call) -> Receipt:
    lent = Lent(chain.chain, hand=None)  # type: ignore[arg-type] # it only sends
    receipt = await lent.send(await lent.sign(key, call, gas=5_000_000))
    assert receipt.is_success
    return receipt


@pytest.mark.timeout(300)
async def test_tokens_become_dollars_of_a_channel(tmp_path: Path) -> None:
    async with running_house(tmp_path) as house:
        feeds = write_feeds(tmp_path / "own.toml", house.render, render=2 * E8)
        code, out, err = await house.convert("12.5", "--feeds", str(feeds), "--json")
        assert code == 0, err
        assert "for $24.875 in the channel" in err and "worth $25.00" in err
        done = json.loads(out)
        assert (done["dollars"], done["left"]) == (24_875_000, 24_875_000)
        # All of it went where it should, and nothing is left between.
        assert await house.renders(house.tenant.address) == 87_500_000_000_000_000_000
        assert await house.renders(house.maker.address) == 12_500_000_000_000_000_000
        assert await house.dollars(house.maker.address) == 475_125_000
        assert await house.dollars(house.chain.escrow) == 24_875_000
        assert await house.dollars(house.chain.converter) == 0
        await wait_mirrored(house, 24_875_000)
        await knock(house)

        # Its own sources say another price: both are named, and nothing moves.
        dear = write_feeds(tmp_path / "dear.toml", house.render, render=3 * E8)
        code, _, err = await house.convert("5", "--feeds", str(dear))
        assert code != 0
        assert "the maker gives $9.95" in err and "worth $15.00: 33.67 % less" in err
        # More than the maker gives at once, and more than it lets the contract take.
        code, _, err = await house.convert("51", "--feeds", str(feeds))
        assert (code != 0, "at most $100.00" in err) == (True, True), err
        code, _, err = await house.convert("20", "--feeds", str(feeds))
        assert (code != 0, "has $35.125 left" in err) == (True, True), err
        # The market's token is no dollar by its own sources.
        doubted = write_feeds(
            tmp_path / "off.toml", house.render, render=2 * E8, usdc=E8 * 95 // 100
        )
        code, _, err = await house.convert("5", "--feeds", str(doubted))
        assert (code != 0, "no dollar now" in err) == (True, True), err
        assert await house.renders(house.tenant.address) == 87_500_000_000_000_000_000


async def knock(house: House) -> None:
    """The door of the maker: who may ask for what."""
    good = QuoteWish(provider=house.provider, token=house.render, units=str(WHOLE))
    for wish, key, status, code in (
        (good, None, 401, "no_authorization"),
        (replace(good, token=house.chain.token), house.tenant, 400, "unknown_token"),
        (replace(good, units="1"), house.tenant, 400, "bad_deposit"),
        (replace(good, units="-1"), house.tenant, 400, "bad_field"),
    ):
        body = msgspec.json.encode(wish)
        found = await house.guest.post("/v1/convert/quote", body, key=key)
        assert (found[0], fault_code(found[1])) == (status, code)


async def test_node_that_is_no_maker_says_so(tmp_path: Path) -> None:
    world = World()
    async with running_node(tmp_path / "node", world) as guest:
        wish = QuoteWish(provider=world.operator.address, token=TOKEN, units="1")
        status, body = await guest.post(
            "/v1/convert/quote", msgspec.json.encode(wish), key=world.tenant
        )
        assert (status, fault_code(body)) == (403, "no_maker")


@pytest.mark.timeout(300)
async def test_token_without_permits_is_approved_first(tmp_path: Path) -> None:
    """In another escrow, whose converter the operator deploys."""
    async with running_house(tmp_path, is_plain=True) as house:
        feeds = write_feeds(tmp_path / "own.toml", house.render, render=2 * E8)
        code, out, err = await house.convert("10", "--feeds", str(feeds))
        assert code == 0, err
        assert "$19.90 came into the channel" in out and "$19.90 are there now" in out
        assert err.count("for $19.90 in the channel") == 2  # asked anew once approved
        assert await house.renders(house.maker.address) == 10 * WHOLE
        spender = find_converter(house.guest.world.market.contract)
        left = await find_allowance(
            house.chain.chain,
            house.render,
            owner=house.tenant.address,
            spender=spender,
        )
        assert left == 0


@pytest.mark.timeout(300)
async def test_no_dollar_is_deposited_while_it_is_none(tmp_path: Path) -> None:
    """Deposits are refused off the peg; what goes out of a channel does not ask."""
    async with running_house(tmp_path) as house:
        await house.chain.fund(house.tenant.address, usdc=20 * DOLLAR)
        rpc = ("--rpc", house.chain.rpc_url)
        put = ("escrow", "deposit", house.provider, "5.00", *rpc)
        code, _, err = await house.shell.type(*put)
        assert code == 0, err  # no sources in its home: nothing is asked
        place = house.shell.home / "prices.toml"
        write_feeds(place, house.render, render=2 * E8, usdc=E8 * 95 // 100)
        code, _, err = await house.shell.type(*put)
        assert (code != 0, "no dollar now" in err) == (True, True), err
        assert await house.dollars(house.chain.escrow) == 5 * DOLLAR
        back = ("escrow", "withdraw", house.provider, *rpc)
        code, _, err = await house.shell.type(*back)
        assert code == 0, err
        write_feeds(place, house.render, render=2 * E8)
        code, _, err = await house.shell.type(*put)
        assert code == 0, err
        assert await house.dollars(house.chain.escrow) == 10 * DOLLAR


async def wait_mirrored(house: House, amount: int) -> None:
    """The market's book has what came in, like every deposit."""
    async with asyncio.timeout(SEEN_S):
        while True:
            if (await house.guest.account(house.tenant)).balance == amount:
                return
            await asyncio.sleep(0.1)
