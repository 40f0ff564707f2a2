"""The only way out of a sandbox: a proxy that leads to what was agreed on.

It listens on a unix socket and speaks what ordinary tools speak (``egress_request``).
Names are resolved out here, once, and the address that came out is both judged and
dialled: a name that points at the provider's own network leads nowhere, now or later.
Where TLS is spoken, the name that the client asks for must be the one that was allowed.
Connections and bytes are limited, and counted for each destination.

The socket lies in a folder of its own, and the folder is what a sandbox is given: an
agent that was restarted listens at the same place again.
"""

import asyncio
import contextlib
import logging
import os
import socket
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Self

from sublet.adapter.client_hello import (
    RECORD_HEADER_BYTES,
    read_length,
    read_server_name,
)
from sublet.adapter.egress_request import (
    HEADER_BYTES_MAX,
    SOCKS_ADDRESS_BYTES,
    SOCKS_GREETED,
    SOCKS_NAME,
    SOCKS_UNWILLING,
    SOCKS_VERSION,
    Ask,
    Denied,
    parse_http,
    parse_socks,
    write_socks_answer,
)
from sublet.adapter.token_bucket import TokenBucket
from sublet.base import limits
from sublet.base.errors import PeerFault, Unavailable
from sublet.core.egress import Destination, EgressRow

_log = logging.getLogger(__name__)

REGISTRY = (
    Destination("pypi.org", 443),
    Destination("files.pythonhosted.org", 443),
)
BYTES_MAX = 16 << 30  # through one proxy, both ways together
CONNECTIONS_MAX = 64  # at one time
OPENED_PER_S = 50  # connections, on average
TLS_PORTS = (443,)
IDLE_TIMEOUT_S = 600
_HEADER_TIMEOUT_S = 15
_CONNECT_TIMEOUT_S = 20
_LOOKUPS_MAX = 4  # of names, at one time
_ADDRESSES_MAX = 4  # of one name, tried in turn
_REASONS_KEPT_MAX = 64
_BLOCK_BYTES = 65_536
_CONNECTED = b"HTTP/1.1 200 Connection established\r\n\r\n"

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]
FindFault = Callable[[Destination], str]
FindAddressFault = Callable[[str], str]


def _allow_all(_: object) -> str:
    return ""


class EgressProxy:
    """``async with EgressProxy(path=…)``: listens there until the block ends."""

    def __init__(
        self,
        *,
        path: Path,
        allow: Collection[Destination] = REGISTRY,
        find_fault: FindFault = _allow_all,
        find_address_fault: FindAddressFault = _allow_all,
        rows: Sequence[EgressRow] = (),
        bytes_max: int = BYTES_MAX,
        rate_bytes_s: int = 0,
        connections_max: int = CONNECTIONS_MAX,
        tls_ports: Collection[int] = TLS_PORTS,
    ) -> None:
        """Take the socket's path, and who may be reached; nothing is opened yet.

        Args:
            path: of the socket, in a folder that is there and holds nothing else.
            allow: what may be reached at all.
            find_fault: says why a destination may not be reached all the same, or "".
            find_address_fault: says it of an address that a name led to.
            rows: what an earlier proxy has counted.
            bytes_max: through this proxy and those before, both ways together.
            rate_bytes_s: both ways together; 0 for any.
            connections_max: at one time.
            tls_ports: where a client must speak TLS, and name whom it asked for.
        """
        self._path = path
        self._allow = tuple(allow)
        self._find_fault = find_fault
        self._find_address_fault = find_address_fault
        self._bytes_max = bytes_max
        self._connections_max = connections_max
        self._tls_ports = frozenset(tls_ports)
        self._rate = TokenBucket(per_s=rate_bytes_s, burst=max(rate_bytes_s, 1 << 20))
        self._opening = TokenBucket(per_s=OPENED_PER_S, burst=4 * OPENED_PER_S)
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        # Of its own: a name server that hangs must hold up nothing else here.
        self._names = ThreadPoolExecutor(_LOOKUPS_MAX, thread_name_prefix="names")
        self.refused: Counter[str] = Counter()  # by reason
        self.failures = 0  # allowed hosts that did not answer
        self._connections: Counter[str] = Counter()
        self._bytes_out: Counter[str] = Counter()
        self._bytes_in: Counter[str] = Counter()
        for row in rows:
            self._connections[row.destination] = row.connections
            self._bytes_out[row.destination] = row.bytes_out
            self._bytes_in[row.destination] = row.bytes_in
        self._bytes = sum(row.bytes_out + row.bytes_in for row in rows)

    async def __aenter__(self) -> Self:
        """Begin to listen; raises ``Unavailable`` where that is not possible."""
        listener = _listen(self._path)
        self._server = await asyncio.start_unix_server(
            self._accept, sock=listener, limit=HEADER_BYTES_MAX
        )
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
        self._names.shutdown(wait=False, cancel_futures=True)
        self._path.unlink(missing_ok=True)

    def rows(self) -> tuple[EgressRow, ...]:
        """Give what was counted so far, sorted by destination."""
        return tuple(
            EgressRow(name, count, self._bytes_out[name], self._bytes_in[name])
            for name, count in sorted(self._connections.items())
        )

    # ---- one connection -----------------------------------------------------------

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
            _log.debug("egress: a connection broke: %s", error)
        except PeerFault as fault:
            self._note_refused(fault.message)
        finally:
            writer.close()

    async def _serve(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        is_socks = False
        try:
            async with asyncio.timeout(_HEADER_TIMEOUT_S):
                first = await reader.readexactly(1)
                is_socks = first[0] == SOCKS_VERSION
                if is_socks:
                    ask = parse_socks(await _read_socks(reader, writer))
                else:
                    ask = parse_http(first + await _read_header(reader))
            far = await self._open(ask.target)
        except Denied as denied:
            self._note_refused(denied.reason)
            writer.write(denied.socks() if is_socks else denied.http())
            await writer.drain()
            return
        try:
            if is_socks:
                writer.write(write_socks_answer(0))
            elif not ask.head:
                writer.write(_CONNECTED)
            await self._splice(ask, (reader, writer), far)
        finally:
            far[1].close()

    def _note_refused(self, reason: str) -> None:
        is_new = reason not in self.refused
        known = not is_new or len(self.refused) < _REASONS_KEPT_MAX
        self.refused[reason if known else "and more"] += 1
        if is_new and known:  # once: a job may ask as often as it likes
            _log.warning("egress refused: %s", reason)

    async def _open(self, target: Destination) -> Streams:
        if len(self._tasks) > self._connections_max:
            raise Denied("429 Too Many Requests", "too many connections at one time")
        if self._opening.take(1):
            raise Denied("429 Too Many Requests", "too many connections a second")
        if not any(one.covers(target) for one in self._allow):
            raise Denied("403 Forbidden", f"{target} was not agreed on")
        if why := self._find_fault(target):
            raise Denied("403 Forbidden", f"{target} {why}")
        if self._bytes >= self._bytes_max:
            raise Denied("403 Forbidden", "more bytes than allowed")
        addresses = await self._resolve(target)
        for address in addresses[:_ADDRESSES_MAX]:
            try:
                async with asyncio.timeout(_CONNECT_TIMEOUT_S / len(addresses)):
                    return await asyncio.open_connection(address, target.port)
            except (OSError, TimeoutError) as error:
                _log.debug("egress: %s at %s: %s", target, address, error)
        self.failures += 1
        raise Denied("502 Bad Gateway", f"{target} does not answer")

    async def _resolve(self, target: Destination) -> list[str]:
        """Give the addresses that may be dialled; nobody resolves the name again."""
        look_up = partial(
            socket.getaddrinfo, target.host, target.port, type=socket.SOCK_STREAM
        )
        try:
            async with asyncio.timeout(_CONNECT_TIMEOUT_S):
                loop = asyncio.get_running_loop()
                found = await loop.run_in_executor(self._names, look_up)
        except (OSError, UnicodeError, TimeoutError) as error:
            self.failures += 1
            if isinstance(error, TimeoutError) or error.args[:1] == (socket.EAI_AGAIN,):
                why = f"no name server tells where {target.host} is; try again later"
            else:
                why = f"the name {target.host} leads nowhere"
            raise Denied("502 Bad Gateway", why) from error
        addresses = list(dict.fromkeys(str(each[4][0]) for each in found))
        faults = {one: self._find_address_fault(one) for one in addresses}
        allowed = [one for one in addresses if not faults[one]]
        if not allowed:
            why = next(iter(faults.values()), "has no address")
            raise Denied("403 Forbidden", f"{target} leads to what {why}")
        return allowed

    # ---- bytes --------------------------------------------------------------------

    async def _splice(self, ask: Ask, near: Streams, far: Streams) -> None:
        name = self._row_of(ask.target)
        self._connections[name] += 1
        reader, writer = near
        far_reader, far_writer = far
        if ask.target.port in self._tls_ports and not ask.head:
            hello = await self._read_hello(reader, host=ask.target.host)
            await self._carry_one(hello, far_writer, self._bytes_out, name)
        if ask.head:
            await self._carry_one(ask.head, far_writer, self._bytes_out, name)
        pulse, out, size = _Pulse(), self._bytes_out, ask.body_bytes
        both = (
            self._carry(reader, far_writer, out, name, pulse, size=size),
            self._carry(far_reader, writer, self._bytes_in, name, pulse),
        )
        tasks = [asyncio.create_task(each) for each in both]
        try:
            await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()

    def _row_of(self, target: Destination) -> str:
        """The name to count under: its own, or its rule's where there are too many."""
        name = str(target)
        rules = (str(one) for one in self._allow if one.covers(target))
        is_room = len(self._connections) < limits.EGRESS_ROWS_MAX - len(self._allow)
        return name if name in self._connections or is_room else next(rules)

    async def _read_hello(self, reader: asyncio.StreamReader, *, host: str) -> bytes:
        async with asyncio.timeout(_HEADER_TIMEOUT_S):
            header = await reader.readexactly(RECORD_HEADER_BYTES)
            record = await reader.readexactly(read_length(header))
        if not host.replace(".", "").isdigit() and ":" not in host:  # no address
            name = read_server_name(record)
            if name != host:
                raise PeerFault(f"{host}: the client asks for {name[:100]!r} behind it")
        return header + record

    async def _carry(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        count: Counter[str],
        name: str,
        pulse: "_Pulse",
        *,
        size: int = -1,
    ) -> None:
        """Carry one direction to its end; at most ``size`` bytes, where that is not -1."""
        while size:
            most = _BLOCK_BYTES if size < 0 else min(size, _BLOCK_BYTES)
            content = await pulse.read(reader, most)
            if not content:
                break
            size -= len(content) if size > 0 else 0
            await self._carry_one(content, writer, count, name)
        if size:  # of a request with a size nothing more may come, and its answer may
            with contextlib.suppress(OSError):
                writer.write_eof()

    async def _carry_one(
        self,
        content: bytes,
        writer: asyncio.StreamWriter,
        count: Counter[str],
        name: str,
    ) -> None:
        count[name] += len(content)
        self._bytes += len(content)
        if self._bytes > self._bytes_max:
            raise PeerFault("more bytes than allowed")
        if pause_s := self._rate.take(len(content)):
            await asyncio.sleep(pause_s)
        writer.write(content)
        await writer.drain()


class _Pulse:
    """When a connection last carried anything, either way: a long download is quiet."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._last_s = self._loop.time()

    async def read(self, reader: asyncio.StreamReader, most: int) -> bytes:
        while True:
            try:
                async with asyncio.timeout_at(self._last_s + IDLE_TIMEOUT_S):
                    content = await reader.read(most)
            except TimeoutError:
                if self._loop.time() - self._last_s >= IDLE_TIMEOUT_S:
                    raise
            else:
                self._last_s = self._loop.time()
                return content


async def _read_header(reader: asyncio.StreamReader) -> bytes:
    try:
        return await reader.readuntil(b"\r\n\r\n")
    except asyncio.LimitOverrunError as error:
        why = "a header too large"
        raise Denied("431 Request Header Fields Too Large", why) from error


async def _read_socks(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> bytes:
    """Greet a SOCKS5 client, and read its whole request."""
    methods = await reader.readexactly((await reader.readexactly(1))[0])
    if 0 not in methods:
        writer.write(SOCKS_UNWILLING)
        raise PeerFault("a SOCKS client that wants to log in")
    writer.write(SOCKS_GREETED)
    head = await reader.readexactly(4)
    if head[3] == SOCKS_NAME:
        length = await reader.readexactly(1)
        rest = length + await reader.readexactly(length[0])
    elif head[3] in SOCKS_ADDRESS_BYTES:
        rest = await reader.readexactly(SOCKS_ADDRESS_BYTES[head[3]])
    else:
        raise PeerFault("a SOCKS request with an address of no kind")
    return head + rest + await reader.readexactly(2)


def _listen(path: Path) -> socket.socket:
    """Listen at a path of any length; unix sockets themselves take short ones only.

    The job connects under a uid of its own; who gets this far is decided by the folder
    around the socket, and by what is bound into which sandbox.
    """
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        path.unlink(missing_ok=True)
        folder = os.open(path.parent, os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            listener.bind(f"/proc/self/fd/{folder}/{path.name}")
        finally:
            os.close(folder)
        path.chmod(0o666)
    except OSError as error:
        listener.close()
        raise Unavailable(f"cannot listen at {path}: {error.strerror}") from error
    return listener
