"""Ports of a running job on this machine: listens here, connects there.

The listening sockets stay while the job moves: when its machine is lost and it goes
on elsewhere, the next connection goes there.
"""

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack

import asyncssh
from msgspec import Struct

from sublet.base.errors import Refused, SubletError, Unavailable
from sublet.core.job.record import JobRecord
from sublet.sdk.job_channel import JobChannel
from sublet.workload.client import AsyncClient
from sublet.workload.reach import reach_job
from sublet.workload.run.state import find_state

PORT_MAX = 65_535
PORTS_MAX = 32  # at a time
AGAIN_S = 1.0  # between two tries to find where the job runs now
WAIT_S = 20  # for a job that moves: so long a connection waits for it
_BLOCK_BYTES = 65_536


class Forward(Struct, frozen=True):
    """One port: ``local`` on this machine (0: any that is free), ``remote`` there."""

    local: int
    remote: int


def parse_forward(text: str) -> Forward:
    """Read ``REMOTE`` or ``LOCAL:REMOTE``.

    Raises:
        Refused: it is no such thing.

    >>> parse_forward("8888"), parse_forward("0:80")
    (Forward(local=8888, remote=8888), Forward(local=0, remote=80))
    """
    first, colon, second = text.partition(":")
    local, remote = (first, second) if colon else (text, text)
    if not _is_port(local, least=0) or not _is_port(remote, least=1):
        raise Refused(
            f"{text[:40]!r} is no port; write 8888, or 9000:8888 to have the job's "
            "port 8888 at 9000 here",
            code="bad_port",
            field="[LOCAL:]REMOTE",
        )
    return Forward(int(local), int(remote))


def _is_port(text: str, *, least: int) -> bool:
    is_number = text.isascii() and text.isdigit() and len(text) <= len(str(PORT_MAX))
    return is_number and least <= int(text) <= PORT_MAX


class PortRoom:
    """Listens for one job; connects wherever it runs now."""

    def __init__(
        self, client: AsyncClient, record: JobRecord, *, tell: Callable[[str], None]
    ) -> None:
        """Take the tenant's client, the job, and whom to tell of trouble."""
        self._client = client
        self._id = record.id
        self._tell = tell
        self._told = ""
        self._channel: JobChannel | None = None
        self._reached = asyncio.Event()

    async def listen(self, stack: AsyncExitStack, forward: Forward) -> int:
        """Listen for one port; give the number on this machine.

        Raises:
            Refused: the port is taken.
        """

        async def serve(
            reader: asyncio.StreamReader, writer: asyncio.StreamWriter
        ) -> None:
            try:
                await self._carry(reader, writer, forward.remote)
            finally:
                writer.close()

        try:
            server = await asyncio.start_server(serve, "127.0.0.1", forward.local)
        except OSError as exc:
            raise Refused(
                f"port {forward.local} of this machine is taken; choose another, such "
                f"as 0:{forward.remote} for any that is free",
                code="port_taken",
                field="[LOCAL:]REMOTE",
            ) from exc
        stack.callback(server.close)
        port: int = server.sockets[0].getsockname()[1]
        return port

    async def run(self, reached: Callable[[], None]) -> None:
        """Stay connected to the job until it is over.

        Args:
            reached: told once the job is reached for the first time.

        Raises:
            Refused: it is over, or nothing of it runs at the start.
        """
        is_first = True
        while True:
            record = self._client.home.get_job(self._id)
            if find_state(record) == "over":
                raise Refused(f"job {self._id} is over", code="job_over")
            try:
                async with reach_job(self._client, record) as channel:
                    self._channel, self._told = channel, ""
                    self._reached.set()
                    if is_first:
                        is_first = False
                        reached()
                    try:
                        await channel.wait_closed()
                    finally:
                        self._reached.clear()
            except (Refused, Unavailable) as fault:
                if is_first:
                    raise
                self._say(f"{fault.message}; trying again")
            await asyncio.sleep(AGAIN_S)

    async def _carry(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, remote: int
    ) -> None:
        try:
            async with asyncio.timeout(WAIT_S):
                await self._reached.wait()
        except TimeoutError:
            return  # told of already; the browser tries again
        if self._channel is None:
            raise AssertionError("it was reached")
        try:
            far_reader, far_writer = await self._channel.open_port(remote)
        except SubletError as fault:
            self._say(fault.message)
            return
        self._told = ""
        try:
            await asyncio.gather(
                _pump_out(reader, far_writer), _pump_in(far_reader, writer)
            )
        finally:
            far_writer.close()

    def _say(self, text: str) -> None:
        """Tell of trouble once: a browser tries many times."""
        if text != self._told:
            self._told = text
            self._tell(text)


async def _pump_out(
    reader: asyncio.StreamReader, writer: asyncssh.SSHWriter[bytes]
) -> None:
    with contextlib.suppress(asyncssh.Error, OSError):
        while content := await reader.read(_BLOCK_BYTES):
            writer.write(content)
            await writer.drain()
        writer.write_eof()


async def _pump_in(
    reader: asyncssh.SSHReader[bytes], writer: asyncio.StreamWriter
) -> None:
    with contextlib.suppress(asyncssh.Error, OSError):
        while content := await reader.read(_BLOCK_BYTES):
            writer.write(content)
            await writer.drain()
        if writer.can_write_eof():
            writer.write_eof()


async def forward_ports(
    client: AsyncClient,
    record: JobRecord,
    forwards: Sequence[Forward],
    *,
    ready: Callable[[Sequence[Forward]], None],
    tell: Callable[[str], None],
) -> None:
    """Forward ports until the job is over, or this is cancelled.

    Args:
        client: the tenant's.
        record: of the job.
        forwards: at most ``PORTS_MAX``.
        ready: told once, with the ports as they are on this machine.
        tell: told of trouble that may pass, one line at a time.

    Raises:
        Refused: a port is taken, nothing of the job runs, or it is over.
        Unavailable: the provider is not reached.
    """
    if not 0 < len(forwards) <= PORTS_MAX:
        raise Refused(f"name 1 to {PORTS_MAX} ports", code="bad_port")
    room = PortRoom(client, record, tell=tell)
    async with AsyncExitStack() as stack:
        made = [
            Forward(await room.listen(stack, forward), forward.remote)
            for forward in forwards
        ]
        await room.run(lambda: ready(made))
