"""The WebSockets of a node: how many there may be, and one word to close them all."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiohttp import WSCloseCode, web

from sublet.base.errors import Unavailable


class Sockets:
    """The open WebSockets of one node."""

    def __init__(self, *, most: int) -> None:
        """Begin with none."""
        self._most = most
        self._open: set[web.WebSocketResponse] = set()

    @asynccontextmanager
    async def upgrade(
        self, request: web.Request, socket: web.WebSocketResponse
    ) -> AsyncIterator[None]:
        """Answer the upgrade and count the socket for as long as the context lasts.

        Raises:
            Unavailable: as many are open as may be, or the caller has gone.
        """
        if len(self._open) >= self._most:
            raise Unavailable(
                f"this node has {self._most} WebSockets open, which is the most; "
                "try again later",
                code="too_many_sockets",
                retry_after_s=5,
            )
        self._open.add(socket)
        try:
            await socket.prepare(request)
            yield
        finally:
            self._open.discard(socket)

    async def close_all(self) -> None:
        """Tell every peer that this node goes down; it may come again elsewhere."""
        await asyncio.gather(
            *(
                each.close(code=WSCloseCode.GOING_AWAY, message=b"shutdown")
                for each in tuple(self._open)
            )
        )
