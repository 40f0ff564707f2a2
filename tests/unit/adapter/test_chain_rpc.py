"""A hostile RPC: silent, slow, huge, wrong, lying, or of another chain."""

import asyncio
import json
import traceback
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import web

from sublet.adapter import json_rpc
from sublet.adapter.chain_rpc import RpcChain
from sublet.adapter.json_rpc import RpcUrl
from sublet.base.errors import Refused, Unavailable
from sublet.core.rail.transaction import Call
from sublet.service.chain_port import ChainLied, NotTaken, Reverted, WrongChain

SECRET = "k3y-of-somebody-0123456789"
ADDRESS = "0x" + "11" * 20
WORD, OTHER = "0x" + "aa" * 32, "0x" + "bb" * 32
HEADER = {
    "number": "0x5",
    "hash": WORD,
    "parentHash": OTHER,
    "timestamp": "0x64",
    "baseFeePerGas": "0x7",
}
RECEIPT = {
    "transactionHash": OTHER,
    "blockNumber": "0x5",
    "blockHash": WORD,
    "status": "0x1",
    "gasUsed": "0x5208",
    "contractAddress": None,
}
EVENT = {
    "address": ADDRESS,
    "topics": [WORD],
    "data": "0x01",
    "blockNumber": "0x5",
    "blockHash": WORD,
    "transactionHash": OTHER,
    "logIndex": "0x0",
}
Say = Callable[[str, Any], Any]  # from method and params to a result, or a Response


@pytest.fixture(autouse=True)
def _is_quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_rpc, "PAUSE_S", 0.001)


class Server:
    """Answers what it is told to; ``asked`` counts by method."""

    def __init__(self, say: Say) -> None:
        self.say = say
        self.asked: list[str] = []
        self.url = ""

    async def handle(self, request: web.Request) -> web.StreamResponse:
        question = json.loads(await request.read())
        method = question["method"]
        self.asked.append(method)
        if method == "eth_chainId":
            result = self.say(method, ())
            result = "0x1" if result is None else result
        else:
            result = self.say(method, question["params"])
        if isinstance(result, web.StreamResponse):
            return result
        if isinstance(result, dict) and "jsonrpc" in result:
            return web.json_response(result)
        return web.json_response(
            {"jsonrpc": "2.0", "id": question["id"], "result": result}
        )


@asynccontextmanager
async def serve(say: Say) -> AsyncIterator[Server]:
    server = Server(say)
    app = web.Application()
    app.router.add_post("/{tail:.*}", server.handle)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    server.url = f"http://127.0.0.1:{port}/v2/{SECRET}?apikey={SECRET}"
    try:
        yield server
    finally:
        await runner.cleanup()


def says(**results: Any) -> Say:
    """Answer by method; the chain's id is 1."""
    return lambda method, params: results.get(method)


def error(code: Any, message: Any, *, data: Any = None) -> dict[str, Any]:
    body = {"code": code, "message": message, "data": data}
    return {"jsonrpc": "2.0", "id": 1, "error": body}


def text(body: str, status: int = 200) -> web.Response:
    return web.Response(text=body, status=status)


BLOCK = "eth_getBlockByNumber"


@pytest.mark.parametrize(
    ("result", "fault"),
    [
        (lambda: text("<html>gone</html>"), Unavailable),
        (lambda: text("[" * 3_000), Unavailable),  # deeper than Python goes
        (lambda: text("{}", status=500), Unavailable),
        (lambda: text("{}", status=302), Unavailable),
        (lambda: text("{}"), ChainLied),  # neither result nor error
        (lambda: text("[]"), ChainLied),
        (lambda: error(-32005, "limit exceeded"), Unavailable),
        (lambda: error("no", 5), ChainLied),
        (lambda: {"jsonrpc": "2.0", "id": 10**6, "result": HEADER}, ChainLied),
        (lambda: {**HEADER, "number": "0x6"}, ChainLied),  # another block
        (lambda: {**HEADER, "number": 5}, ChainLied),
        (lambda: {**HEADER, "number": "0x" + "f" * 65}, ChainLied),
        (lambda: {**HEADER, "hash": "0xaa"}, ChainLied),
        (lambda: {**HEADER, "timestamp": None}, ChainLied),
        (lambda: "0x", ChainLied),
    ],
)
async def test_bad_answer_ends_in_a_named_fault(
    result: Callable[[], Any], fault: type[Exception]
) -> None:
    async with serve(
        lambda method, params: result() if method == BLOCK else None
    ) as server:
        async with RpcChain([server.url], chain_id=1) as chain:
            with pytest.raises(fault):
                await chain.block(5)
        assert server.asked.count(BLOCK) == json_rpc.ROUNDS_MAX


async def test_too_much_is_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_rpc.limits, "RPC_BYTES_MAX", 1_000)
    async with (
        serve(says(**{BLOCK: {**HEADER, "extra": "x" * 2_000}})) as server,
        RpcChain([server.url], chain_id=1) as chain,
    ):
        with pytest.raises(ChainLied, match="1000 bytes"):
            await chain.block(5)


async def test_silence_ends_in_time() -> None:
    held = asyncio.Event()

    async def hold(request: web.Request) -> web.Response:
        await held.wait()
        return web.Response()

    app = web.Application()
    app.router.add_post("/", hold)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    url = f"http://127.0.0.1:{runner.addresses[0][1]}/"
    try:
        async with RpcChain([url], chain_id=1, timeout_s=0.05) as chain:
            with pytest.raises(Unavailable) as silent:
                await chain.block()
        assert silent.value.code == "rpc_unavailable"
    finally:
        held.set()
        await runner.cleanup()


async def test_next_one_is_asked() -> None:
    async with (
        serve(lambda method, params: text("", 503)) as down,
        serve(says(**{BLOCK: {**HEADER, "number": "0x6"}})) as lying,
        serve(says(**{BLOCK: HEADER})) as sound,
        RpcChain([down.url, lying.url, sound.url], chain_id=1) as chain,
    ):
        for _ in range(2):
            block = await chain.block(5)
            assert block is not None and block.hash == WORD
        assert (len(down.asked), lying.asked.count(BLOCK)) == (1, 1)
        assert sound.asked == ["eth_chainId", BLOCK, BLOCK]


async def test_other_chain_is_refused() -> None:
    async with (
        serve(says(eth_chainId="0x2", **{BLOCK: HEADER})) as server,
        RpcChain([server.url], chain_id=1) as chain,
    ):
        with pytest.raises(WrongChain, match="chain 2"):
            await chain.block()
        assert server.asked == ["eth_chainId"]


@pytest.mark.parametrize(
    "lie",
    [
        {"address": "0x" + "22" * 20},  # another contract's
        {"topics": [OTHER]},
        {"topics": []},
        {"blockNumber": "0x9"},  # outside of what was asked
        {"removed": True},
        {"data": "0x1"},  # half a byte
        {"logIndex": "-0x1"},
    ],
)
async def test_event_nobody_asked_for_is_a_lie(lie: dict[str, Any]) -> None:
    async with (
        serve(says(eth_getLogs=[{**EVENT, **lie}])) as server,
        RpcChain([server.url], chain_id=1) as chain,
    ):
        with pytest.raises(ChainLied):
            await chain.logs(ADDRESS, [[WORD]], first=0, last=8)


async def test_events_come_once_and_in_order() -> None:
    second = {**EVENT, "logIndex": "0x1"}
    forked = {**second, "blockHash": OTHER}
    for events in ([EVENT, EVENT], [second, EVENT], [EVENT, forked]):
        async with (
            serve(says(eth_getLogs=events)) as server,
            RpcChain([server.url], chain_id=1) as chain,
        ):
            with pytest.raises(ChainLied):
                await chain.logs(ADDRESS, [[WORD]], first=0, last=8)


async def test_receipt_without_its_block_is_a_lie() -> None:
    answers = {"eth_getTransactionReceipt": RECEIPT}
    elsewhere = {**HEADER, "hash": OTHER}
    async with (
        serve(says(**answers, **{BLOCK: elsewhere})) as lying,
        serve(says(**answers, **{BLOCK: HEADER})) as sound,
        RpcChain([lying.url], chain_id=1) as alone,
        RpcChain([lying.url, sound.url], chain_id=1) as both,
    ):
        with pytest.raises(ChainLied):
            await alone.receipt(OTHER)
        receipt = await both.receipt(OTHER)
        assert receipt is not None and receipt.block_hash == WORD
        with pytest.raises(ChainLied):  # it gives the receipt of something else
            await alone.receipt(WORD)


@pytest.mark.parametrize(
    ("message", "code"),
    [  # as geth, reth, nethermind, erigon and anvil put it
        ("nonce too low: next nonce 5, tx nonce 4", "nonce_used"),
        ("OldNonce", "nonce_used"),
        ("replacement transaction underpriced", "underpriced"),
        ("insufficient funds for gas * price + value", "no_gas_money"),
        ("exceeds block gas limit", "not_taken"),
    ],
)
async def test_says_why_it_was_not_taken(message: str, code: str) -> None:
    async with (
        serve(says(eth_sendRawTransaction=error(-32000, message))) as server,
        RpcChain([server.url], chain_id=1) as chain,
    ):
        with pytest.raises(NotTaken) as refused:
            await chain.send(b"\x02")
        assert refused.value.code == code


async def test_known_transaction_is_taken_and_a_renamed_one_is_not() -> None:
    async with (
        serve(says(eth_sendRawTransaction=error(-32000, "already known"))) as server,
        RpcChain([server.url], chain_id=1) as chain,
    ):
        name = await chain.send(b"\x02")
        server.say = says(eth_sendRawTransaction=name)
        assert await chain.send(b"\x02") == name
        server.say = says(eth_sendRawTransaction=WORD)
        with pytest.raises(ChainLied):
            await chain.send(b"\x02")


async def test_refusal_of_a_contract_keeps_its_words() -> None:
    answer = error(3, "execution reverted: stale", data="0x08c379a0")
    async with (
        serve(says(eth_call=answer)) as server,
        RpcChain([server.url], chain_id=1) as chain,
    ):
        with pytest.raises(Reverted, match="stale") as refused:
            await chain.call(Call(ADDRESS))
        assert refused.value.detail == {"data": "0x08c379a0"}


async def test_key_in_the_address_is_never_shown(
    caplog: pytest.LogCaptureFixture,
) -> None:
    echo = error(-32000, f"bad key {SECRET} in /v2/{SECRET}\n\x1b[31m")
    seen = []
    async with serve(says(eth_call=echo, eth_getBalance="no")) as server:
        address = f"{server.url}&user={SECRET}"
        chain = RpcChain([address], chain_id=1)
        seen.append(repr(chain))
        async with chain:
            for ask in (chain.call(Call(ADDRESS)), chain.balance(ADDRESS)):
                with pytest.raises((Refused, ChainLied)) as fault:
                    await ask
                seen.append("".join(traceback.format_exception(fault.value)))
    async with RpcChain([address], chain_id=1) as gone:
        with pytest.raises(Unavailable) as fault:
            await gone.block()
        seen.append("".join(traceback.format_exception(fault.value)))
    for bad in (f"ftp://{SECRET}", f"http://[{SECRET}", SECRET):
        with pytest.raises(Refused) as refused:
            RpcUrl(bad)
        seen.append("".join(traceback.format_exception(refused.value)))
    assert "bad key" in seen[1] and "127.0.0.1" in seen[0]
    assert "\x1b" not in seen[1]
    assert SECRET not in "".join(seen) + caplog.text
