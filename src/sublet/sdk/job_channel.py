"""A conversation with a provider: SSH over any byte stream, pinned to the lease.

The lease carries the only host key that is believed and the only client key that is
admitted, so whoever carries the bytes reads and changes nothing. Over it: the job
channel (JSON lines), live logs from any offset, chunks by SFTP, a shell. Foreign
exceptions end here.

Not here: what the messages mean (``core.job``), when to dial again (its runner).
"""

import asyncio
import contextlib
import os
import select
import shlex
import socket
import threading
from collections.abc import (
    AsyncIterator,
    Callable,
    Coroutine,
    Iterable,
    Iterator,
    Sequence,
)
from typing import Any, Self

import asyncssh
from msgspec import Struct

from sublet.base.errors import PeerFault, Refused, SubletError, Unavailable
from sublet.base.ids import Digest
from sublet.core.lease.phase import Lease
from sublet.sdk.chunk_files import keep_chunk, read_chunk, start_sftp, write_chunk
from sublet.service.ports import Blobs
from sublet.wire import codec
from sublet.wire.message import JobSays, TenantSays

Carry = Callable[[asyncssh.SFTPClient, Digest], Coroutine[Any, Any, None]]

LINE_BYTES_MAX = 64 * 1024 * 1024  # a tree of 100,000 files is one line
LOG_READ_BYTES = 65_536
CHUNKS_AT_ONCE = 4
LOGIN_S = 15
KEEPALIVE_S = 15  # a silent link is given up after three of them
ENDPOINT_S = 1.0  # to reach a provider directly before the relay is used
CLOSE_S = 2.0

# What both ends of Sublet speak; nothing is negotiated down to something weaker.
_CIPHERS = ("aes128-gcm@openssh.com", "chacha20-poly1305@openssh.com")


class ChannelLost(Unavailable):
    """The connection to the provider is gone; dial again."""

    code = "channel_lost"


class ClientKey:
    """The key that one job's leases admit; it never leaves this machine."""

    def __init__(self, key: asyncssh.SSHKey) -> None:
        """Take the key; use ``generate`` or ``from_pem``."""
        self.key = key

    @classmethod
    def generate(cls) -> Self:
        """Draw a new Ed25519 key."""
        return cls(asyncssh.generate_private_key("ssh-ed25519"))

    @classmethod
    def from_pem(cls, pem: bytes) -> Self:
        """Read a key as ``to_pem`` wrote it.

        Raises:
            Refused: it is no key. Nothing of it is shown.
        """
        try:
            return cls(asyncssh.import_private_key(pem))
        except (asyncssh.KeyImportError, ValueError):
            raise Refused("the job's SSH key is damaged", code="bad_ssh_key") from None

    def to_pem(self) -> bytes:
        """Write it for a private file."""
        return self.key.export_private_key()

    def public_line(self) -> str:
        """Give the public half as one OpenSSH line, without a comment."""
        parts = self.key.export_public_key().decode().split()
        return " ".join(parts[:2])


async def find_direct(endpoint: str) -> socket.socket | None:
    """Reach a provider that says it can be reached; None where it cannot."""
    host, _, port = endpoint.rpartition(":")
    if not host or not port.isdigit():
        return None
    try:
        async with asyncio.timeout(ENDPOINT_S):
            return await _connect(host.strip("[]"), int(port))
    except (OSError, TimeoutError, ValueError):
        return None


async def _connect(host: str, port: int) -> socket.socket:
    loop = asyncio.get_running_loop()
    last: OSError = OSError("no address")
    for family, kind, protocol, _, address in await loop.getaddrinfo(
        host, port, type=socket.SOCK_STREAM
    ):
        sock = socket.socket(family, kind, protocol)
        sock.setblocking(False)
        try:
            await loop.sock_connect(sock, address)
        except OSError as exc:
            sock.close()
            last = exc
        except BaseException:
            sock.close()
            raise
        else:
            return sock
    raise last


class JobChannel:
    """One SSH connection to the provider of one lease."""

    def __init__(self, connection: asyncssh.SSHClientConnection) -> None:
        """Take an open connection; use ``connect``."""
        self._connection = connection
        self._writer: asyncssh.SSHWriter[bytes] | None = None
        self._lines: AsyncIterator[bytes] | None = None
        self._sftp: asyncssh.SFTPClient | None = None
        self._sftp_lock = asyncio.Lock()
        self._busy = asyncio.Semaphore(CHUNKS_AT_ONCE)

    @classmethod
    async def connect(
        cls, sock: socket.socket, *, lease: Lease, key: ClientKey
    ) -> Self:
        """Shake hands over a byte stream; both sides prove their keys.

        Raises:
            ChannelLost: the stream broke.
            PeerFault: whoever answers does not hold the provider's key, or does not
                admit this one.
        """
        try:
            host_key = asyncssh.import_public_key(lease.ssh_host_key)
            connection = await asyncssh.connect(
                lease.provider,  # a name for errors: run_client finds none on a tunnel
                sock=sock,
                config=None,
                username=lease.id[2:],
                client_keys=[key.key],
                known_hosts=([host_key], [], []),
                server_host_key_algs=[host_key.get_algorithm()],
                kex_algs=["curve25519-sha256"],
                encryption_algs=_CIPHERS,
                compression_algs=None,
                preferred_auth="publickey",
                agent_path=None,
                login_timeout=LOGIN_S,
                keepalive_interval=KEEPALIVE_S,
            )
        except asyncssh.HostKeyNotVerifiable as exc:
            raise PeerFault(
                "whoever answers is not the provider that the lease names; nothing "
                "was sent",
                code="wrong_host_key",
            ) from exc
        except asyncssh.PermissionDenied as exc:
            raise PeerFault(
                "the provider does not admit this job's key", code="not_admitted"
            ) from exc
        except asyncssh.KeyImportError as exc:
            raise PeerFault(
                "the lease names no usable host key", code="bad_host_key"
            ) from exc
        except (asyncssh.Error, OSError, TimeoutError) as exc:
            raise ChannelLost(f"the provider did not answer: {brief(exc)}") from exc
        return cls(connection)

    async def close(self) -> None:
        """Say goodbye; what was said before is sent. Twice is harmless."""
        self._connection.close()
        with contextlib.suppress(TimeoutError, asyncssh.Error, OSError):
            await asyncio.wait_for(self._connection.wait_closed(), CLOSE_S)

    # ---- the job channel --------------------------------------------------------

    async def open_job(self) -> None:
        """Open the job channel, once.

        Raises:
            ChannelLost: the connection is gone.
        """
        with translate():
            writer, reader, _ = await self._connection.open_session(
                "sublet job", encoding=None
            )
        self._writer = writer
        self._lines = _split_lines(reader)

    async def say(self, message: TenantSays) -> None:
        """Send one message.

        Raises:
            ChannelLost: the connection is gone.
        """
        if self._writer is None:
            raise ChannelLost("the job channel is not open")
        with translate():
            self._writer.write(codec.encode(message) + b"\n")
            await self._writer.drain()

    async def hear(self) -> JobSays:
        """Wait for the provider's next message.

        Raises:
            ChannelLost: there is none; the channel was closed.
            PeerFault: it is not one.
        """
        if self._lines is None:
            raise ChannelLost("the job channel is not open")
        with translate():
            async for line in self._lines:
                message: JobSays = codec.decode(line, JobSays, size_max=LINE_BYTES_MAX)
                return message
        raise ChannelLost("the provider closed the job channel")

    # ---- logs -------------------------------------------------------------------

    async def follow_log(self, stream: str, *, offset: int) -> AsyncIterator[bytes]:
        """Give ``stdout`` or ``stderr`` from a byte on, live, until the job is over.

        Raises:
            ChannelLost: the connection went before the stream was through.
        """
        with translate():
            process = await self._connection.create_process(
                f"sublet logs {stream} {offset}", encoding=None
            )
            while content := await process.stdout.read(LOG_READ_BYTES):
                yield content
            await process.wait_closed()
            if process.exit_status != 0:
                raise ChannelLost(f"{stream} broke off")

    # ---- chunks -----------------------------------------------------------------

    async def put_chunks(self, keys: Sequence[Digest], *, blobs: Blobs) -> None:
        """Send chunks; a broken connection loses at most those under way.

        Raises:
            ChannelLost: the connection is gone; dial again and send what is missing.
            Refused: a chunk is not in ``blobs``.
        """

        async def put(sftp: asyncssh.SFTPClient, key: Digest) -> None:
            async with self._busy:
                content = await asyncio.to_thread(blobs.get, key)
                await write_chunk(sftp, key, content)

        await self._each_chunk(keys, put)

    async def get_chunks(self, keys: Iterable[Digest], *, blobs: Blobs) -> None:
        """Fetch those chunks that ``blobs`` lacks; each is checked and kept at once.

        Raises:
            ChannelLost: the connection is gone; what came is kept.
            PeerFault: a chunk is not what its name says.
            Unavailable: the local disk is full.
        """

        async def get(sftp: asyncssh.SFTPClient, key: Digest) -> None:
            async with self._busy:
                content = await read_chunk(sftp, key)
                await asyncio.to_thread(keep_chunk, content, key, blobs=blobs)

        missing = await asyncio.to_thread(
            lambda: [key for key in dict.fromkeys(keys) if not blobs.has(key)]
        )
        await self._each_chunk(missing, get)

    async def _each_chunk(self, keys: Sequence[Digest], carry: Carry) -> None:
        if not keys:
            return
        sftp = await self.open_sftp()
        with translate():
            try:
                async with asyncio.TaskGroup() as group:
                    for key in dict.fromkeys(keys):
                        group.create_task(carry(sftp, key))
            except* (asyncssh.Error, OSError, SubletError) as faults:
                raise _first(faults) from None

    # ---- a shell ----------------------------------------------------------------

    async def run_command(
        self, argv: Sequence[str], *, terminal: "Terminal | None"
    ) -> int:
        """Run a command, or with no ``argv`` a shell, beside the job; give its code.

        Standard input, output and error of this process are its own.

        Raises:
            ChannelLost: the connection is gone, or the provider refused.
        """
        command = "sublet shell" if not argv else "sublet exec " + _quote(argv)
        with translate(), _blocking_streams():
            process = await self._connection.create_process(
                command,
                encoding=None,
                stdin=_pipe_stdin(),
                stdout=1,
                stderr=2,
                term_type=terminal.kind if terminal else None,
                term_size=terminal.size if terminal else (0, 0),
            )
            if terminal:
                terminal.on_resize = process.change_terminal_size
            done = await process.wait()
        return 255 if done.exit_status is None else max(done.exit_status, 0)

    async def open_command(
        self, argv: Sequence[str], *, line_bytes_max: int
    ) -> tuple[asyncssh.SSHWriter[bytes], AsyncIterator[bytes]]:
        """Run a command beside the job; give its standard input, and lines of output.

        Raises:
            ChannelLost: the connection is gone.
            PeerFault: while reading: a line is longer than it may be.
        """
        with translate():
            writer, reader, _ = await self._connection.open_session(
                "sublet exec " + _quote(argv), encoding=None
            )
        return writer, _split_lines(reader, line_bytes_max=line_bytes_max)

    # ---- ports ------------------------------------------------------------------

    async def open_port(
        self, port: int
    ) -> tuple[asyncssh.SSHReader[bytes], asyncssh.SSHWriter[bytes]]:
        """Connect to a port that the job listens on, at its own loopback.

        Raises:
            Refused: nothing listens there, or this provider forwards no ports.
            ChannelLost: the connection is gone.
        """
        with translate():
            try:
                return await self._connection.open_connection("localhost", port)
            except asyncssh.ChannelOpenError as exc:
                raise Refused(brief(exc), code="port_closed") from exc

    async def wait_closed(self) -> None:
        """Wait until the connection is gone, whoever closed it."""
        await self._connection.wait_closed()

    # ---- the work folder --------------------------------------------------------

    async def open_sftp(self) -> asyncssh.SFTPClient:
        """Give the SFTP session of this connection."""
        async with self._sftp_lock:
            if self._sftp is None:
                with translate():
                    self._sftp = await start_sftp(self._connection)
            return self._sftp


class Terminal(Struct):
    """The terminal of the person at this end."""

    kind: str  # such as xterm-256color
    size: tuple[int, int]  # columns, rows
    on_resize: Callable[[int, int], None] | None = None  # set while a shell runs


@contextlib.contextmanager
def translate() -> Iterator[None]:
    """Turn what asyncssh raises into what Sublet raises."""
    try:
        yield
    except asyncssh.SFTPConnectionLost as exc:
        raise ChannelLost("the connection to the provider is gone") from exc
    except asyncssh.SFTPNoSuchFile as exc:
        raise Refused("the provider has no such file", code="no_such_file") from exc
    except asyncssh.SFTPError as exc:
        raise PeerFault(
            f"the provider refused a file: {brief(exc)}", code="file_refused"
        ) from exc
    except (asyncssh.Error, OSError, EOFError, TimeoutError) as exc:
        raise ChannelLost(
            f"the connection to the provider is gone: {brief(exc)}"
        ) from exc


def brief(exc: BaseException) -> str:
    """One printable line of a foreign error: part of it may come from a stranger."""
    text = str(exc).splitlines()[0] if str(exc) else type(exc).__name__
    return "".join(char for char in text if char.isprintable())[:200]


def _pipe_stdin() -> int:
    """Give a pipe into which a thread copies standard input, whatever that is.

    asyncssh takes descriptor 0 for none, an event loop cannot wait for /dev/null, and
    waiting for a terminal would make it non-blocking for the shell that called us.
    """
    source, sink = os.pipe()

    def copy() -> None:
        with contextlib.suppress(OSError):  # nobody reads any more
            while content := _read_stdin():
                while content:
                    content = content[os.write(sink, content) :]
        os.close(sink)

    threading.Thread(target=copy, daemon=True).start()
    return source


def _read_stdin() -> bytes:
    """Wait for input, though a terminal's other streams have made it non-blocking."""
    while True:
        with contextlib.suppress(BlockingIOError):
            return os.read(0, LOG_READ_BYTES)
        select.select([0], [], [])


@contextlib.contextmanager
def _blocking_streams() -> Iterator[None]:
    """Leave standard output and error as they were: they are others' too."""
    before = [(fd, os.get_blocking(fd)) for fd in (1, 2)]
    try:
        yield
    finally:
        for fd, is_blocking in before:
            with contextlib.suppress(OSError):
                os.set_blocking(fd, is_blocking)


def _quote(argv: Sequence[str]) -> str:
    return " ".join(shlex.quote(word) for word in argv)


def _first(faults: ExceptionGroup[Exception]) -> Exception:
    """Of several things that went wrong at once, the one that says the most."""
    found = list(faults.exceptions)
    for kind in (PeerFault, Refused, Unavailable):
        for fault in found:
            if isinstance(fault, kind):
                return fault
    return found[0]


async def _split_lines(
    reader: asyncssh.SSHReader[bytes], *, line_bytes_max: int = LINE_BYTES_MAX
) -> AsyncIterator[bytes]:
    """Give whole lines; one that is too long ends the conversation."""
    rest = bytearray()
    while part := await reader.read(LOG_READ_BYTES):
        rest += part
        while (end := rest.find(b"\n")) >= 0:
            yield bytes(rest[:end])
            del rest[: end + 1]
        if len(rest) > line_bytes_max:
            raise PeerFault("the provider sent an endless line", code="line_too_long")
