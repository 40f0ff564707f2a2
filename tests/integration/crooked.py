"""A man in the middle: forwards HTTP and WebSockets to a node, and may do worse.

What a hostile node or relay can do to others it does on the wire, so it is done here:
answers are rewritten, frames are seen, changed, dropped, held, sent to somebody else.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import aiohttp
from aiohttp import web

FRAME_MAX = 1 << 26
_HOP = {"host", "content-length", "transfer-encoding", "connection", "upgrade"}

# (path with query, status, body) -> (status, body)
Rewrite = Callable[[str, int, bytes], tuple[int, bytes]]
# (path, is_to_node, frame) -> what goes on: any number of frames
Tamper = Callable[[str, bool, "str | bytes"], Awaitable["list[str | bytes]"]]


def honest(path: str, status: int, body: bytes) -> tuple[int, bytes]:
    """Change nothing."""
    return status, body


async def faithful(
    path: str, is_to_node: bool, frame: str | bytes
) -> list[str | bytes]:
    """Carry every frame as it is."""
    return [frame]


@dataclass
class Crooked:
    """One door; point it at another node whenever you like."""

    target: str
    rewrite: Rewrite = honest
    tamper: Tamper = faithful
    logs: str = ""  # the node whose log is shown, where it is another one
    url: str = ""
    seen: bytearray = field(default_factory=bytearray)  # all that was relayed
    frames: list[tuple[str, bool, bytes]] = field(default_factory=list)
    _sockets: list[aiohttp.ClientWebSocketResponse] = field(default_factory=list)

    def find_target(self, path: str) -> str:
        """Say which node answers this."""
        is_log = self.logs and path.startswith("/v1/log/")
        return self.logs if is_log else self.target

    async def cut(self) -> None:
        """Break every WebSocket that stands."""
        for socket in self._sockets:
            if (transport := socket._conn and socket._conn.transport) is not None:
                transport.abort()
        self._sockets.clear()


@asynccontextmanager
async def crooked_door(target: str) -> AsyncIterator[Crooked]:
    """Open a door to ``target`` for as long as the context lasts."""
    door = Crooked(target)
    async with aiohttp.ClientSession(auto_decompress=False) as http:

        async def serve(request: web.Request) -> web.StreamResponse:
            if request.headers.get("Upgrade", "").lower() == "websocket":
                return await _carry(door, http, request)
            headers = {
                k: v for k, v in request.headers.items() if k.lower() not in _HOP
            }
            async with http.request(
                request.method,
                door.find_target(request.path) + request.path_qs,
                data=await request.read(),
                headers=headers,
                allow_redirects=False,
            ) as answer:
                status, body = door.rewrite(
                    request.path_qs, answer.status, await answer.read()
                )
            kind = answer.headers.get("Content-Type", "application/json")
            return web.Response(
                status=status, body=body, headers={"Content-Type": kind}
            )

        app = web.Application(client_max_size=1 << 26)
        app.router.add_route("*", "/{rest:.*}", serve)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.2)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        door.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        try:
            yield door
        finally:
            await door.cut()
            await runner.cleanup()


async def _carry(
    door: Crooked, http: aiohttp.ClientSession, request: web.Request
) -> web.StreamResponse:
    headers = {
        name: request.headers[name]
        for name in ("Authorization",)
        if name in request.headers
    }
    try:
        far = await http.ws_connect(
            door.target + request.path_qs,
            headers=headers,
            autoping=False,
            max_msg_size=FRAME_MAX,
        )
    except aiohttp.WSServerHandshakeError as error:
        fault = (error.headers or {}).get("Sublet-Fault", "")
        return web.Response(status=error.status, headers={"Sublet-Fault": fault})
    near = web.WebSocketResponse(autoping=False, max_msg_size=FRAME_MAX)
    await near.prepare(request)
    door._sockets.append(far)
    tasks = [
        asyncio.create_task(_pump(door, request.path, near, far, is_to_node=True)),
        asyncio.create_task(_pump(door, request.path, far, near, is_to_node=False)),
    ]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.gather(near.close(), far.close(), return_exceptions=True)
    return near


async def _pump(
    door: Crooked, path: str, source: Any, target: Any, *, is_to_node: bool
) -> None:
    async for message in source:
        if message.type is aiohttp.WSMsgType.PING:
            await target.ping(message.data)
        elif message.type is aiohttp.WSMsgType.PONG:
            await target.pong(message.data)
        elif message.type is aiohttp.WSMsgType.TEXT:
            for text in await door.tamper(path, is_to_node, message.data):
                await target.send_str(str(text))
        elif message.type is aiohttp.WSMsgType.BINARY:
            door.seen += message.data
            door.frames.append((path, is_to_node, message.data))
            for data in await door.tamper(path, is_to_node, message.data):
                await target.send_bytes(data)
