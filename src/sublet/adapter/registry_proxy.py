"""A door from a sandbox to the package registry, and to nothing else.

An HTTP proxy on a unix socket that knows one method, CONNECT, and a short list of
hosts. Names are resolved out here, the sandbox has no resolver. What goes through is
TLS that the proxy cannot read, but for the name that the client asks for: it must be
the host that was allowed. Bytes and times are limited and counted per host.
"""

import asyncio
import contextlib
import logging
import re
from collections import Counter
from collections.abc import Collection
from pathlib import Path
from types import TracebackType
from typing import Self

from sublet.adapter.client_hello import (
    RECORD_HEADER_BYTES,
    read_length,
    read_server_name,
)
from sublet.base.errors import PeerFault

_log = logging.getLogger(__name__)

Endpoint = tuple[str, int]  # host in lower case, port
REGISTRY: frozenset[Endpoint] = frozenset(
    {("pypi.org", 443), ("files.pythonhosted.org", 443)}
)
BYTES_MAX = 16 << 30  # through one proxy, both ways together
CONNECTIONS_MAX = 64  # at one time
_HEADER_BYTES_MAX = 8_192
_HEADER_TIMEOUT_S = 15
_CONNECT_TIMEOUT_S = 20
_IDLE_TIMEOUT_S = 120
_BLOCK_BYTES = 65_536
_CONNECT = re.compile(
    rb"\ACONNECT ([A-Za-z0-9.-]{1,253}):([0-9]{1,5}) HTTP/1\.[01]\r\n"
)


class _Refusal(Exception):
    """What to answer a client instead of a connection."""

    def __init__(self, status: str, reason: str) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason


class RegistryProxy:
    """``async with RegistryProxy(path=…)``: listens there until the block ends."""

    def __init__(
        self,
        *,
        path: Path,
        allow: Collection[Endpoint] = REGISTRY,
        bytes_max: int = BYTES_MAX,
    ) -> None:
        """Take the socket's path (in a folder of our own) and who may be reached."""
        self._path = path
        self._allow = frozenset(allow)
        self._bytes_max = bytes_max
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self.bytes_by_host: Counter[str] = Counter()
        self.refused: Counter[str] = Counter()  # by what was asked for
        self.failures = 0  # allowed hosts that did not answer

    async def __aenter__(self) -> Self:
        """Begin to listen."""
        self._server = await asyncio.start_unix_server(
            self._accept, path=self._path, limit=_HEADER_BYTES_MAX
        )
        # The job connects under a uid of its own; who gets this far is decided by
        # the folder around the socket, and by what is bound into which sandbox.
        self._path.chmod(0o666)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Hang up on everybody and remove the socket."""
        assert self._server is not None
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._path.unlink(missing_ok=True)
        for host, count in self.bytes_by_host.items():
            _log.info("registry proxy: %s, %d bytes", host, count)

    def _accept(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        # A task of our own: those that asyncio makes complain when cancelled.
        task = asyncio.create_task(self._guard(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _guard(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        try:
            await self._serve(reader, writer)
        except (OSError, TimeoutError, asyncio.IncompleteReadError) as error:
            _log.debug("registry proxy: a connection broke: %s", error)
        finally:
            writer.close()

    async def _serve(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        try:
            if len(self._tasks) > CONNECTIONS_MAX:
                raise _Refusal("429 Too Many Requests", "too many connections")
            host, port = await self._read_target(reader)
            far_reader, far_writer = await self._connect(host, port)
        except _Refusal as refusal:
            self.refused[refusal.reason] += 1
            _log.warning("registry proxy refused: %s", refusal.reason)
            writer.write(f"HTTP/1.1 {refusal.status}\r\n\r\n".encode())
            await writer.drain()
            return
        try:
            writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
            far_writer.write(await self._read_hello(reader, host=host))
            await asyncio.gather(
                self._carry(reader, far_writer, host=host),
                self._carry(far_reader, writer, host=host),
            )
        except PeerFault as fault:
            self.refused[f"{host}: {fault.message}"] += 1
            _log.warning("registry proxy cut %s: %s", host, fault.message)
        finally:
            far_writer.close()

    async def _read_target(self, reader: asyncio.StreamReader) -> Endpoint:
        try:
            async with asyncio.timeout(_HEADER_TIMEOUT_S):
                header = await reader.readuntil(b"\r\n\r\n")
        except asyncio.LimitOverrunError as error:
            raise _Refusal("431 Header Too Large", "a header too large") from error
        match = _CONNECT.match(header)
        if match is None:
            raise _Refusal("405 Method Not Allowed", "something other than CONNECT")
        target = match.group(1).decode().lower(), int(match.group(2))
        if target not in self._allow:
            raise _Refusal("403 Forbidden", f"{target[0]}:{target[1]}")
        if sum(self.bytes_by_host.values()) >= self._bytes_max:
            raise _Refusal("403 Forbidden", "more bytes than allowed")
        return target

    async def _connect(
        self, host: str, port: int
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        try:
            async with asyncio.timeout(_CONNECT_TIMEOUT_S):
                return await asyncio.open_connection(host, port)
        except (OSError, TimeoutError) as error:
            self.failures += 1
            raise _Refusal("502 Bad Gateway", f"{host} does not answer") from error

    async def _read_hello(self, reader: asyncio.StreamReader, *, host: str) -> bytes:
        async with asyncio.timeout(_HEADER_TIMEOUT_S):
            header = await reader.readexactly(RECORD_HEADER_BYTES)
            record = await reader.readexactly(read_length(header))
        name = read_server_name(record)
        if name != host:
            raise PeerFault(f"the client asks for {name[:100]!r} behind it")
        return header + record

    async def _carry(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        *,
        host: str,
    ) -> None:
        while True:
            async with asyncio.timeout(_IDLE_TIMEOUT_S):
                content = await reader.read(_BLOCK_BYTES)
            if not content:
                break
            self.bytes_by_host[host] += len(content)
            if sum(self.bytes_by_host.values()) > self._bytes_max:
                raise TimeoutError("more bytes than allowed")
            writer.write(content)
            await writer.drain()
        with contextlib.suppress(OSError):
            writer.write_eof()
