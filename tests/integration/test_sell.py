"""``sublet sell``: the real command before a real service, paid by x402's own client."""

import asyncio
import contextlib
import json
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from sublet.adapter.devchain import DevChain
from sublet.adapter.key_file import load_or_create_key
from sublet.adapter.tabs_folder import FolderTabs
from sublet.gateway.forward import Forwarder
from sublet.wire.x402 import RESPONSE_HEADER
from tests.integration.test_x402_client import PAYER, make_client
from tests.rig.anvil import Rig, need_anvil
from tests.rig.x402_chain import place_at_x402

LINE_S = 120


class _Told(Rig):
    """A rig of a chain that somebody else has started."""

    def __init__(self, url: str) -> None:
        self.url = url


@asynccontextmanager
async def upstream() -> AsyncIterator[str]:
    """A service that says what it was asked, whole or in pieces."""

    async def answer(request: web.Request) -> web.StreamResponse:
        if request.path == "/stream":
            stream = web.StreamResponse()
            await stream.prepare(request)
            for number in range(3):
                await stream.write(b"piece %d\n" % number)
            return stream
        if request.path == "/endless":
            stream = web.StreamResponse()
            await stream.prepare(request)
            with contextlib.suppress(ConnectionError):
                while True:
                    await stream.write(bytes(65_536))
            return stream
        if request.path == "/broken":
            return web.Response(status=500)
        return web.json_response(
            {
                "path": request.raw_path,
                "body": (await request.read()).decode(),
                "headers": sorted(name.lower() for name in request.headers),
            }
        )

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answer)
    runner = web.AppRunner(app, shutdown_timeout=0)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


async def test_sells_a_service_to_the_official_client(tmp_path: Path) -> None:
    need_anvil()
    home = tmp_path / "sell"
    home.mkdir(mode=0o700)
    receiver = load_or_create_key(home / "key").address
    async with DevChain(tmp_path / "chain") as devchain, upstream() as service:
        await place_at_x402(devchain, _Told(devchain.rpc_url))
        await devchain.fund(receiver, usdc=0)
        await devchain.fund(PAYER.address, usdc=1_000_000)
        gateway = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "sublet.cli.main", "sell", service, "--json",
            "--price", "0.001", "--free", "/free", "--home", str(home),
            "--rpc", devchain.rpc_url, "--chain-id", str(devchain.chain_id),
            "--token", devchain.token, "--listen", "127.0.0.1:0",
            "--deposit", "0.01", "--confirmations", "0",
            stdout=asyncio.subprocess.PIPE,
            env={**os.environ, "SUBLET_NO_WARM": "1"},
        )  # fmt: skip
        try:
            assert gateway.stdout is not None
            line = await asyncio.wait_for(gateway.stdout.readline(), LINE_S)
            told = json.loads(line)
            assert told["receiver"] == receiver
            await _buy(told["url"], FolderTabs(home / "tabs"))
        finally:
            gateway.send_signal(signal.SIGINT)
            assert await asyncio.wait_for(gateway.wait(), LINE_S) in (0, 130)


async def _buy(url: str, tabs: FolderTabs) -> None:
    async with aiohttp.ClientSession() as plain:
        async with plain.get(f"{url}/v1/models") as refused:
            assert refused.status == 402
        async with plain.get(f"{url}/free") as given:
            assert (given.status, (await given.json())["path"]) == (200, "/free")
    async with make_client() as http:
        paid = await http.post(f"{url}/v1/chat?n=1", content=b"a question")
        assert paid.status_code == 200
        said = paid.json()
        assert (said["path"], said["body"]) == ("/v1/chat?n=1", "a question")
        assert "payment-signature" not in said["headers"]
        assert paid.headers[RESPONSE_HEADER]
        broken = await http.get(f"{url}/broken")
        assert broken.status_code == 500
        [tab] = tabs.list_tabs().values()
        assert tab.amount == 1_000  # what failed cost nothing
        streamed = await http.get(f"{url}/stream")
        assert streamed.text == "piece 0\npiece 1\npiece 2\n"
        async with asyncio.timeout(LINE_S):  # it is kept once all is through
            while [tab.amount for tab in tabs.list_tabs().values()] != [2_000]:  # noqa: ASYNC110
                await asyncio.sleep(0.05)


@pytest.mark.parametrize("path", ["//evil.example/x", "/\\evil.example", "/@evil"])
async def test_no_path_leads_to_another_host(path: str) -> None:
    async with upstream() as service, Forwarder(service) as forwarder:
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", forwarder.forward)
        runner = web.AppRunner(app, shutdown_timeout=0)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        try:
            answer = await _ask(runner.addresses[0][1], path)
            assert f'"path": {json.dumps(path)}'.encode() in answer
            # A proxy's form of a request names another host, and is refused.
            answer = await _ask(runner.addresses[0][1], "http://evil.example/")
            assert b" 400 " in answer.splitlines()[0] or b"400" in answer
        finally:
            await runner.cleanup()


async def test_who_hangs_up_has_been_served() -> None:
    served: list[int] = []
    done = asyncio.Event()

    @web.middleware
    async def count(request: web.Request, handler: Any) -> web.StreamResponse:
        try:
            response = await handler(request)
            served.append(response.status)
            return response
        finally:
            done.set()

    async with upstream() as service, Forwarder(service) as forwarder:
        app = web.Application(middlewares=[count])
        app.router.add_get("/endless", forwarder.forward)
        runner = web.AppRunner(app, shutdown_timeout=0)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        try:
            port = runner.addresses[0][1]
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"GET /endless HTTP/1.1\r\nHost: h\r\n\r\n")
            await reader.readexactly(1_000)
            writer.transport.abort()
            await asyncio.wait_for(done.wait(), LINE_S)
            assert served == [200]
        finally:
            await runner.cleanup()


async def test_a_service_that_is_away_costs_nothing() -> None:
    with socket.socket() as door:
        door.bind(("127.0.0.1", 0))
        nobody = f"http://127.0.0.1:{door.getsockname()[1]}"
        async with Forwarder(nobody) as forwarder:
            app = web.Application()
            app.router.add_get("/", forwarder.forward)
            runner = web.AppRunner(app, shutdown_timeout=0)
            await runner.setup()
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            try:
                assert b" 502 " in await _ask(runner.addresses[0][1], "/")
            finally:
                await runner.cleanup()


async def _ask(port: int, path: str) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(
        f"GET {path} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n".encode()
    )
    await writer.drain()
    answer = await reader.read()
    writer.close()
    return answer
