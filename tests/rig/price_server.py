"""Pyth's and CoinGecko's interfaces on this machine, and Chainlink's contracts in memory.

The servers answer by the shapes that are recorded in ``tests/data/prices``.
"""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from decimal import Decimal

from aiohttp import web

from sublet.adapter.feed_chainlink import DECIMALS, DESCRIPTION, LATEST_ROUND_DATA
from sublet.base.errors import Unavailable

E8 = Decimal(10) ** 8


class PriceServer:
    """Both interfaces; each id has one price."""

    def __init__(self) -> None:
        self.url = ""
        self.said: dict[str, tuple[int, int]] = {}
        self.seen: list[web.Request] = []
        self.answer: web.Response | None = None  # instead of every other
        self.chain = Aggregators()

    def say(self, id_: str, price_e8: int, *, at_s: int) -> None:
        self.said[id_] = (price_e8, at_s)

    async def pyth(self, request: web.Request) -> web.StreamResponse:
        self.seen.append(request)
        asked = [one for one in request.query.getall("ids[]") if one in self.said]
        parsed = [
            {
                "id": one,
                "price": {
                    "price": str(self.said[one][0]),
                    "conf": "0",
                    "expo": -8,
                    "publish_time": self.said[one][1],
                },
            }
            for one in asked
        ]
        return self.answer or web.json_response({"parsed": parsed})

    async def coingecko(self, request: web.Request) -> web.StreamResponse:
        self.seen.append(request)
        asked = [x for x in request.query["ids"].split(",") if x in self.said]
        rows = ", ".join(
            f'{json.dumps(one)}: {{"usd": {Decimal(self.said[one][0]) / E8:f}, '
            f'"last_updated_at": {self.said[one][1]}}}'
            for one in asked
        )
        text = f"{{{rows}}}"
        return self.answer or web.Response(text=text, content_type="application/json")

    async def rpc(self, request: web.Request) -> web.StreamResponse:
        """Answer as an Ethereum node with chain id 31337 does, the two calls it needs."""
        question = await request.json()
        result = "0x7a69"
        if question["method"] == "eth_call":
            to, data = question["params"][0]["to"], question["params"][0]["data"]
            said = await self.chain.call(to, bytes.fromhex(data[2:]))
            result = f"0x{said.hex()}"
        return web.json_response(
            {"jsonrpc": "2.0", "id": question["id"], "result": result}
        )


@asynccontextmanager
async def serve_prices() -> AsyncIterator[PriceServer]:
    """Serve on a free port of this machine."""
    server = PriceServer()
    app = web.Application()
    app.router.add_get("/v2/updates/price/latest", server.pyth)
    app.router.add_get("/simple/price", server.coingecko)
    app.router.add_post("/rpc", server.rpc)
    runner = web.AppRunner(app, shutdown_timeout=0)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0][:2]
    server.url = f"http://{host}:{port}"
    try:
        yield server
    finally:
        await runner.cleanup()


def pack_words(*values: int) -> bytes:
    """Write numbers as a contract returns them, 32 bytes each."""
    return b"".join(
        value.to_bytes(32, signed=True) if value < 0 else value.to_bytes(32)
        for value in values
    )


def pack_text(text: str) -> bytes:
    """Write a string as a contract returns one."""
    padded = text.encode() + b"\0" * (-len(text) % 32)
    return pack_words(32, len(text)) + padded


class Aggregators:
    """Chainlink's contracts: address to what they answer."""

    def __init__(self) -> None:
        self.is_down = False
        self.calls: list[tuple[str, bytes]] = []
        self._answers: dict[tuple[str, bytes], bytes] = {}

    def place(self, address: str, *, pair: str, decimals: int = 8) -> None:
        self._answers[address, DESCRIPTION] = pack_text(pair)
        self._answers[address, DECIMALS] = pack_words(decimals)

    def put(self, address: str, data: bytes, answer: bytes) -> None:
        self._answers[address, data] = answer

    def say(
        self, address: str, answer: int, *, at_s: int, started_at_s: int = 1
    ) -> None:
        words = pack_words(7, answer, started_at_s, at_s, 7)
        self._answers[address, LATEST_ROUND_DATA] = words

    async def call(self, to: str, data: bytes) -> bytes:
        self.calls.append((to, data))
        if self.is_down:
            raise Unavailable("the chain does not answer", code="rpc_down")
        return self._answers.get((to, data), b"")
