"""The door over a chain in memory: what it lets through, and what it charges."""

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from sublet.adapter.escrow_chain import ChainEscrow
from sublet.adapter.x402_door import Door
from sublet.base.errors import Unavailable
from sublet.core.document import Channel, Voucher
from sublet.core.escrow import operation as op
from sublet.service.claimer import BestVoucher
from sublet.wire.signature import Key
from sublet.wire.typed_data import digest
from sublet.wire.x402 import (
    DEPOSIT_FAILED,
    PAYMENT_HEADER,
    REQUIRED_HEADER,
    RESPONSE_HEADER,
    BadPayment,
    Payment,
    Terms,
)
from tests.fakes.chain_memory import MemoryChain
from tests.fakes.escrow_memory import place_escrow
from tests.fakes.tabs_memory import MemoryTabs

PAYER, PROVIDER = Key.generate(b"\x01" * 32), Key.generate(b"\x02" * 32)
PRICE = 100
CONFIRMATIONS = 3


class World:
    """A payer, a provider, a chain, and a resource that answers as it is told."""

    def __init__(self, tabs: MemoryTabs | None = None) -> None:
        self.chain = MemoryChain()
        self.escrow, self.token = place_escrow(self.chain)
        self.chain.mine()
        self.terms = Terms(
            chain_id=self.chain.chain_id,
            escrow=self.escrow,
            receiver=PROVIDER.address,
            receiver_authorizer=PROVIDER.address,
            token=self.token,
            token_name="Test USD",
            token_version="2",
            withdraw_delay_s=86_400,
            deposit_min=500,
        )
        self.channel = Channel(
            payer=PAYER.address,
            payer_authorizer=PAYER.address,
            receiver=PROVIDER.address,
            receiver_authorizer=PROVIDER.address,
            token=self.token,
            withdraw_delay=86_400,
            salt="0x" + "00" * 32,
        )
        self.id = digest(self.channel, self.terms.domain)
        self.tabs = tabs or MemoryTabs()
        self.refused: Exception | None = None  # of the next deposits
        self.begun, self.go_on = asyncio.Event(), asyncio.Event()
        self.go_on.set()
        self.served = 0
        self.url = ""
        self.door = Door(
            self.terms,
            price=lambda request: int(request.query.get("price", PRICE)),
            chain=self.chain,
            escrow=ChainEscrow(self.chain, self.escrow),
            confirmations=CONFIRMATIONS,
            tabs=self.tabs,
            depositor=self,
        )

    async def deposit(self, payment: Payment) -> str:
        """As a depositor does, without what the payer has signed."""
        if self.refused is not None:
            raise self.refused
        assert payment.deposit is not None
        self.put_in(payment.deposit.amount)
        return "0x" + "77" * 32

    def put_in(self, amount: int, *, blocks: int = CONFIRMATIONS) -> None:
        contract: Any = self.chain.world.contracts[self.escrow]
        contract.do(op.Mint(self.token, PAYER.address, amount), at_s=0)
        contract.do(op.Deposit(self.id, self.channel, amount, PAYER.address), at_s=0)
        self.chain.mine(blocks)

    async def answer(self, request: web.Request) -> web.Response:
        self.served += 1
        self.begun.set()
        await self.go_on.wait()
        if request.path == "/missing":
            raise web.HTTPNotFound
        return web.Response(status=int(request.query.get("status", 200)))

    def pay(self, most: int, *, deposit: int = 0) -> dict[str, str]:
        voucher = Voucher(channel_id=self.id, max_claimable_amount=most)
        signature = PAYER.sign(digest(voucher, self.terms.domain))
        names = ("payer", "payerAuthorizer", "receiver", "receiverAuthorizer", "token")
        fields = [
            getattr(self.channel, name) for name in self.channel.__struct_fields__
        ]
        config = dict(zip((*names, "withdrawDelay", "salt"), fields, strict=True))
        payload: dict[str, Any] = {
            "type": "deposit" if deposit else "voucher",
            "channelConfig": config,
            "voucher": {
                "channelId": self.id,
                "maxClaimableAmount": str(most),
                "signature": f"0x{signature.hex()}",
            },
        }
        if deposit:
            authorization = {
                "validAfter": "0",
                "validBefore": "1900000000",
                "salt": "0x" + "05" * 32,
                "signature": "0x" + "11" * 65,
            }
            payload["deposit"] = {
                "amount": str(deposit),
                "authorization": {"erc3009Authorization": authorization},
            }
        said = {
            "x402Version": 2,
            "accepted": {
                "scheme": "batch-settlement",
                "network": self.terms.network,
            },
            "payload": payload,
        }
        raw = base64.b64encode(json.dumps(said).encode()).decode()
        return {PAYMENT_HEADER: raw}


@asynccontextmanager
async def serve(world: World) -> AsyncIterator[aiohttp.ClientSession]:
    app = web.Application(middlewares=[world.door.middleware])
    app.router.add_get("/{any}", world.answer)
    runner = web.AppRunner(app, shutdown_timeout=0)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    host, port = runner.addresses[0][:2]
    async with aiohttp.ClientSession(f"http://{host}:{port}") as http:
        yield http
    await runner.cleanup()


@pytest.fixture
async def world() -> World:
    return World()


@pytest.fixture
async def http(world: World) -> AsyncIterator[aiohttp.ClientSession]:
    async with serve(world) as http:
        yield http


async def get(
    http: aiohttp.ClientSession, path: str = "/x", **words: Any
) -> tuple[int, dict[str, Any], str]:
    """Give status, what is said in a header, and the reason of a refusal."""
    async with http.get(path, **words) as answer:
        header = answer.headers.get(REQUIRED_HEADER) or answer.headers.get(
            RESPONSE_HEADER
        )
        said = json.loads(base64.b64decode(header)) if header else {}
        reason = str(said.get("error", ""))
        return answer.status, said, reason.removeprefix("invalid_batch_settlement_evm_")


async def test_asks_for_payment(http: aiohttp.ClientSession, world: World) -> None:
    status, said, reason = await get(http)
    assert (status, reason) == (402, "")
    (asked,) = said["accepts"]
    assert (asked["amount"], asked["payTo"]) == ("100", PROVIDER.address)
    assert asked["extra"]["minDeposit"] == "500"
    assert (await get(http, "/x?price=0"))[0] == 200
    assert world.served == 1


async def test_vouchers_grow_and_are_kept(
    http: aiohttp.ClientSession, world: World
) -> None:
    status, said, _ = await get(http, headers=world.pay(100, deposit=500))
    assert (status, said["amount"], said["transaction"]) == (
        200,
        "500",
        "0x" + "77" * 32,
    )
    for most in (200, 300):
        status, said, _ = await get(http, headers=world.pay(most))
        assert status == 200
        assert said["extra"]["chargedAmount"] == "100"
        assert said["extra"]["channelState"]["chargedCumulativeAmount"] == str(most)
        tab = world.tabs.find(world.id)
        assert tab is not None
        assert (tab.channel, tab.amount) == (world.channel, most)


async def test_replayed_voucher_learns_where_it_stands(
    http: aiohttp.ClientSession, world: World
) -> None:
    world.put_in(1_000)
    assert (await get(http, headers=world.pay(100)))[0] == 200
    status, said, reason = await get(http, headers=world.pay(100))
    assert (status, reason) == (402, "cumulative_amount_mismatch")
    extra = said["accepts"][0]["extra"]
    assert extra["channelState"]["chargedCumulativeAmount"] == "100"
    assert extra["voucherState"]["signedMaxClaimable"] == "100"
    assert world.served == 1


async def test_counts_confirmed_deposits_only(
    http: aiohttp.ClientSession, world: World
) -> None:
    world.put_in(1_000, blocks=CONFIRMATIONS - 1)
    status, _, reason = await get(http, headers=world.pay(100))
    assert (status, reason) == (402, "channel_not_found")
    world.chain.mine()
    assert (await get(http, headers=world.pay(100)))[0] == 200


@pytest.mark.parametrize(
    ("error", "status", "reason"),
    [
        (BadPayment(DEPOSIT_FAILED), 402, "deposit_transaction_failed"),
        (Unavailable("nobody knows", code="deposit_pending"), 503, ""),
    ],
)
async def test_serves_nothing_before_the_deposit_is_there(
    http: aiohttp.ClientSession,
    world: World,
    error: Exception,
    status: int,
    reason: str,
) -> None:
    world.refused = error
    found = await get(http, headers=world.pay(100, deposit=500))
    assert (found[0], found[2]) == (status, reason)
    assert world.served == 0
    assert world.tabs.list_tabs() == {}


@pytest.mark.parametrize("path", ["/x?status=500", "/x?status=404", "/missing"])
async def test_what_failed_costs_nothing(
    http: aiohttp.ClientSession, world: World, path: str
) -> None:
    status, said, _ = await get(http, path, headers=world.pay(100, deposit=500))
    assert status in (404, 500)
    assert said["extra"]["chargedAmount"] == "0"  # and the deposit is told
    assert world.tabs.list_tabs() == {}
    assert (await get(http, headers=world.pay(100)))[0] == 200


async def test_one_request_of_a_channel_at_a_time(
    http: aiohttp.ClientSession, world: World
) -> None:
    world.put_in(1_000)
    world.go_on.clear()
    first = asyncio.create_task(get(http, headers=world.pay(100)))
    await world.begun.wait()
    status, _, reason = await get(http, headers=world.pay(100))
    assert (status, reason) == (402, "channel_busy")
    world.go_on.set()
    assert (await first)[0] == 200
    assert world.served == 1


async def test_an_rpc_that_is_down_stops_new_payers_only(
    http: aiohttp.ClientSession, world: World
) -> None:
    world.put_in(1_000)
    assert (await get(http, headers=world.pay(100)))[0] == 200
    world.chain.is_cut = True
    # What was seen a moment ago still counts.
    assert (await get(http, headers=world.pay(200)))[0] == 200
    stranger = World()
    stranger.chain.is_cut = True
    async with serve(stranger) as other:
        assert (await get(other, headers=stranger.pay(100)))[0] == 503


async def test_a_tab_that_cannot_be_kept_is_no_sale() -> None:
    class Full(MemoryTabs):
        def keep(self, channel_id: str, tab: BestVoucher) -> None:
            raise Unavailable("the disk is full", code="tab_not_kept")

    world = World(Full())
    world.put_in(1_000)
    async with serve(world) as http:
        status, said, _ = await get(http, headers=world.pay(100))
    assert (status, said) == (503, {})


async def test_a_lost_tab_goes_on_from_what_was_claimed(
    http: aiohttp.ClientSession, world: World
) -> None:
    world.put_in(1_000)
    status, said, reason = await get(http, headers=world.pay(300))
    assert (status, reason) == (402, "cumulative_amount_mismatch")
    assert said["accepts"][0]["extra"]["channelState"]["chargedCumulativeAmount"] == "0"
    assert "voucherState" not in said["accepts"][0]["extra"]
