"""A TCP proxy that can go silent: no byte and no FIN, as when a machine loses power."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

READ_BYTES = 65_536


@dataclass
class SilentProxy:
    """One door to one address; connections that went silent stay so for ever."""

    host: str
    port: int
    url: str = ""
    opened: int = 0
    _speaks: asyncio.Event = field(default_factory=asyncio.Event)
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    def go_silent(self) -> None:
        """From now on nothing passes on the connections that stand, nor on new ones."""
        self._speaks.clear()

    def come_back(self) -> None:
        """New connections are served again; those that stood are gone for good."""
        self._speaks = asyncio.Event()
        self._speaks.set()

    async def serve(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        """Carry one connection, until ``close``."""
        with contextlib.suppress(asyncio.CancelledError, OSError):
            await self._serve(reader, writer)

    async def _serve(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self.opened += 1
        speaks, task = self._speaks, asyncio.current_task()
        if task is not None:
            self._tasks.add(task)
        await speaks.wait()
        far_reader, far_writer = await asyncio.open_connection(self.host, self.port)
        pumps = [
            asyncio.create_task(_pump(reader, far_writer, speaks)),
            asyncio.create_task(_pump(far_reader, writer, speaks)),
        ]
        try:
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
            await speaks.wait()  # an end is not passed on in silence either
        finally:
            for pump in pumps:
                pump.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)
            writer.close()
            far_writer.close()

    async def close(self) -> None:
        """End everything."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


async def _pump(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, speaks: asyncio.Event
) -> None:
    with contextlib.suppress(OSError):
        while content := await reader.read(READ_BYTES):
            await speaks.wait()
            writer.write(content)
            await writer.drain()


@contextlib.asynccontextmanager
async def silent_proxy(url: str) -> AsyncIterator[SilentProxy]:
    """Open a door to a node (``http://host:port``) while the context lasts."""
    host, _, port = url.removeprefix("http://").partition(":")
    proxy = SilentProxy(host, int(port))
    proxy.come_back()
    server = await asyncio.start_server(proxy.serve, "127.0.0.1", 0)
    proxy.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield proxy
    finally:
        server.close()
        await proxy.close()
