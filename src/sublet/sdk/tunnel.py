"""A byte stream through a WebSocket, as a plain socket.

SSH wants a socket; the relay gives a WebSocket of binary frames. Two small loops
carry the bytes, with back-pressure: neither side runs ahead of the other.
"""

import asyncio
import contextlib
import socket

import aiohttp

READ_BYTES = 131_072  # a frame at most; the relay takes twice as much
CLOSE_S = 2.0  # for the relay to answer a close


class Tunnel:
    """One end is ``socket``, the other is wherever the relay leads."""

    def __init__(self, far: aiohttp.ClientWebSocketResponse) -> None:
        """Take an open WebSocket; carrying begins at once."""
        self.socket, self._near = socket.socketpair()
        self.socket.setblocking(False)
        self._near.setblocking(False)
        self._far = far
        self._loops = asyncio.gather(self._carry_out(), self._carry_in())
        self._loops.add_done_callback(_take_result)

    async def close(self) -> None:
        """End both directions; what was written before is sent. Twice is harmless."""
        with contextlib.suppress(TimeoutError, asyncio.CancelledError):
            await asyncio.wait_for(self._loops, CLOSE_S)
        self._near.close()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._far.close(), CLOSE_S)

    async def _carry_out(self) -> None:
        loop = asyncio.get_running_loop()
        with contextlib.suppress(OSError, aiohttp.ClientError):
            while content := await loop.sock_recv(self._near, READ_BYTES):
                await self._far.send_bytes(content)
        with contextlib.suppress(OSError, aiohttp.ClientError):
            await self._far.close()

    async def _carry_in(self) -> None:
        loop = asyncio.get_running_loop()
        with contextlib.suppress(OSError, aiohttp.ClientError):
            async for message in self._far:
                if message.type is not aiohttp.WSMsgType.BINARY:
                    break
                await loop.sock_sendall(self._near, message.data)
        with contextlib.suppress(OSError):
            self._near.shutdown(socket.SHUT_WR)


def _take_result(loops: "asyncio.Future[tuple[None, None]]") -> None:
    if not loops.cancelled():
        loops.exception()
