"""The official x402 client pays our door, on a real chain with our contract."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import aiohttp
import pytest
from aiohttp import web

from sublet.adapter.devchain import DevChain
from sublet.adapter.escrow_chain import ChainEscrow, find_balance, find_token_domain
from sublet.adapter.tabs_folder import FolderTabs
from sublet.adapter.x402_door import Door, SenderDepositor
from sublet.base.units import MicroUsd
from sublet.core.rail.sending import Phase, Policy
from sublet.service.claimer import Claimer, Words
from sublet.service.escrow_follower import Follower
from sublet.service.sender import Sender
from sublet.wire import escrow_call
from sublet.wire.signature import Key
from sublet.wire.x402 import PAYMENT_HEADER, RESPONSE_HEADER, Terms
from tests.fakes.journal_memory import MemoryJournal
from tests.rig.anvil import Rig, need_anvil
from tests.rig.sender_house import make_sender
from tests.rig.x402_chain import COLLECTOR, ESCROW, place_at_x402

PROVIDER = Key.generate(b"\x07" * 32)
PAYER = Key.generate(b"\x08" * 32)
PRICE = 1_000  # a tenth of a cent
DEPOSIT = 3_000
POLICY = Policy(fee_max_wei=10**12, confirmations=1, patience_blocks=3)
MINE_S = 0.5
WAIT_S = 90


class House(NamedTuple):
    """A resource behind a door, and what pays it."""

    url: str
    client: Any  # httpx, with the official payment transport
    tabs: FolderTabs
    escrow: ChainEscrow
    sender: Sender
    journal: MemoryJournal
    devchain: DevChain
    sent: list[str]  # payments, as they came


@asynccontextmanager
async def keep_mining(rig: Rig) -> AsyncIterator[None]:
    async def mine() -> None:
        while True:
            await asyncio.to_thread(rig.mine)
            await asyncio.sleep(MINE_S)

    task = asyncio.create_task(mine())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def make_client(rpc_url: str = "") -> Any:
    """Make an official client that remembers nothing; with an RPC it can look."""
    from eth_account import Account
    from x402 import x402Client
    from x402.http.clients import x402HttpxClient
    from x402.mechanisms.evm import EthAccountSigner, EthAccountSignerWithRPC
    from x402.mechanisms.evm.batch_settlement.client import BatchSettlementEvmScheme

    payer = Account.from_key(PAYER.to_hex())
    signer = (
        EthAccountSignerWithRPC(payer, rpc_url) if rpc_url else EthAccountSigner(payer)
    )
    client = x402Client()
    client.register("eip155:31337", BatchSettlementEvmScheme(signer))
    client.set_spend_controls(False)
    return x402HttpxClient(client, timeout=WAIT_S)


def make_claimer(house: House) -> Claimer:
    """Claims what costs next to nothing at once."""
    chain = house.devchain.chain
    return Claimer(
        chain,
        house.escrow,
        Follower(chain, house.escrow, confirmations=POLICY.confirmations),
        house.sender,
        words=Words(
            claim=lambda claims: escrow_call.claim(ESCROW, claims),
            settle=lambda receiver, token: escrow_call.settle(
                ESCROW, receiver=receiver, token=token
            ),
        ),
        ether_usd=lambda: MicroUsd(1),
    )


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    need_anvil()
    async with DevChain(tmp_path / "chain") as devchain:
        rig = _Told(devchain.rpc_url)
        await place_at_x402(devchain, rig)
        await devchain.fund(PROVIDER.address, usdc=0)
        await devchain.fund(PAYER.address, usdc=100_000)
        domain = await find_token_domain(devchain.chain, devchain.token)
        terms = Terms(
            chain_id=devchain.chain_id,
            escrow=ESCROW,
            receiver=PROVIDER.address,
            receiver_authorizer=PROVIDER.address,
            token=devchain.token,
            token_name=domain.name,
            token_version=domain.version,
            withdraw_delay_s=86_400,
            deposit_min=DEPOSIT,
        )
        journal = MemoryJournal()
        sender = make_sender(devchain.chain, journal, PROVIDER, POLICY)
        escrow = ChainEscrow(devchain.chain, ESCROW)
        tabs = FolderTabs(tmp_path / "tabs")
        door = Door(
            terms,
            price=lambda request: PRICE if request.path != "/free" else 0,
            chain=devchain.chain,
            escrow=escrow,
            confirmations=POLICY.confirmations,
            tabs=tabs,
            depositor=SenderDepositor(sender, escrow=ESCROW, collector=COLLECTOR),
        )
        sent: list[str] = []
        running = asyncio.create_task(sender.run(poll_s=0.1))
        try:
            async with (
                keep_mining(rig),
                serve(door, sent) as url,
                make_client() as http,
            ):
                yield House(url, http, tabs, escrow, sender, journal, devchain, sent)
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)


class _Told(Rig):
    """A rig of a chain that somebody else has started."""

    def __init__(self, url: str) -> None:
        self.url = url


@asynccontextmanager
async def serve(door: Door, sent: list[str]) -> AsyncIterator[str]:
    @web.middleware
    async def listen(request: web.Request, handler: Any) -> web.StreamResponse:
        sent.extend(request.headers.getall(PAYMENT_HEADER, []))
        return await handler(request)

    async def answer(request: web.Request) -> web.Response:
        if request.path == "/broken":
            return web.json_response({"error": "it did not work"}, status=500)
        return web.json_response({"token": "of a model"})

    app = web.Application(middlewares=[listen, door.middleware])
    app.router.add_get("/{any}", answer)
    runner = web.AppRunner(app, shutdown_timeout=0)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    host, port = runner.addresses[0][:2]
    try:
        yield f"http://{host}:{port}"
    finally:
        await runner.cleanup()


async def test_official_client_pays_and_provider_claims(house: House) -> None:
    http, url = house.client, house.url
    assert (await http.get(f"{url}/free")).status_code == 200
    for number in range(1, 6):
        answer = await http.get(f"{url}/paid")
        assert (answer.status_code, answer.json()) == (200, {"token": "of a model"})
        assert answer.headers[RESPONSE_HEADER]
        ((channel_id, tab),) = house.tabs.list_tabs().items()
        assert tab.amount == number * PRICE
    # Three requests are paid by the first deposit, the other two by a second one.
    state = await house.escrow.channel(channel_id, at=None)
    assert (state.balance, state.claimed) == (2 * DEPOSIT, 0)
    token = house.devchain.token
    chain = house.devchain.chain
    assert await find_balance(chain, token, PAYER.address) == 100_000 - 2 * DEPOSIT

    # What was paid once pays for nothing again.
    payments = list(house.sent)
    assert len(payments) == 5
    async with aiohttp.ClientSession() as plain:
        for payment in payments:
            headers = {PAYMENT_HEADER: payment}
            async with plain.get(f"{url}/paid", headers=headers) as refused:
                assert refused.status == 402
                told = await refused.json()
                assert told["error"].endswith("cumulative_amount_mismatch")
    assert house.tabs.list_tabs() == {channel_id: tab}

    _, wishes = await make_claimer(house).step(house.tabs.list_tabs())
    ended = await house.sender.wait_ended(wishes[0].id)
    assert ended.phase is Phase.CONFIRMED
    earned = await house.escrow.earned(PROVIDER.address, token, at=None)
    assert earned.claimed == 5 * PRICE
    # A claim changes nothing for the payer: it goes on where it was.
    assert (await http.get(f"{url}/paid")).status_code == 200
    assert house.tabs.list_tabs()[channel_id].amount == 6 * PRICE

    # One that has forgotten all finds its place by its own last voucher, in our 402.
    async with make_client(house.devchain.rpc_url) as again:
        for number in (7, 8):
            assert (await again.get(f"{url}/paid")).status_code == 200
            assert house.tabs.list_tabs()[channel_id].amount == number * PRICE


async def test_what_failed_is_not_charged(house: House) -> None:
    http, url = house.client, house.url
    answer = await http.get(f"{url}/broken")
    assert answer.status_code == 500
    assert house.tabs.list_tabs() == {}
    # The deposit stands, and the client knows: it makes no second one.
    assert (await http.get(f"{url}/paid")).status_code == 200
    ((channel_id, tab),) = house.tabs.list_tabs().items()
    assert tab.amount == PRICE
    state = await house.escrow.channel(channel_id, at=None)
    assert state.balance == DEPOSIT
