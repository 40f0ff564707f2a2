"""The job channel: JSON lines between a tenant and the lease's reception.

Lines are bounded, decoded strictly and weighed by the reception; whoever talks
nonsense is told what was wrong, once, and the channel closes. The job goes on.
"""

import asyncio
from collections.abc import AsyncIterator

import asyncssh

from sublet.base import limits
from sublet.base.errors import PeerFault, Refused, SubletError, Unavailable
from sublet.provider.conversation import Listener
from sublet.provider.journal import Journal
from sublet.provider.reception import Reception
from sublet.wire import codec
from sublet.wire.manifest import commitment
from sublet.wire.message import (
    Close,
    Deliver,
    Kept,
    Missing,
    Paid,
    Replace,
    Replaced,
    TenantSays,
    Trouble,
    Uploaded,
)

LINE_BYTES_MAX = limits.MANIFEST_BYTES_MAX + 1_024  # a Deliver is the longest line
FIRST_LINE_S = 30  # for the tenant to deliver, once it has opened the channel
MESSAGE_LENGTH_MAX = 500  # of what a tenant is told
_READ_BYTES = 65_536

Process = asyncssh.SSHServerProcess[bytes]


async def serve_job(process: Process, reception: Reception, journal: Journal) -> None:
    """Talk with a tenant until one side ends it."""
    session = _JobSession(process, reception)
    try:
        await session.run()
    except (Refused, PeerFault) as fault:
        journal.warn("tenant_refused", code=fault.code)
        session.listener.push(
            Trouble(code=fault.code, message=fault.message[:MESSAGE_LENGTH_MAX])
        )
    except SubletError as fault:
        journal.warn("channel_failed", code=fault.code, why=fault.message)
        session.listener.push(Trouble(code=fault.code, message="try again later"))
    finally:
        await session.end()


class _JobSession:
    """One open job channel."""

    def __init__(self, process: Process, reception: Reception) -> None:
        self.listener = Listener()
        self._process = process
        self._reception = reception
        self._is_attached = False
        if (pledge := reception.make_pledge()) is not None:
            self.listener.push(pledge)
        self._writer = asyncio.create_task(self._write())

    async def run(self) -> None:
        """Hear the tenant until it ends the channel, or the lease does."""
        lines = _split_lines(self._process.stdin)
        hearing = asyncio.create_task(self._hear(lines))
        done, _ = await asyncio.wait(
            (hearing, self._writer), return_when=asyncio.FIRST_COMPLETED
        )
        if hearing in done:
            hearing.result()
        else:
            hearing.cancel()

    async def end(self) -> None:
        """Say what is still to be said, and close."""
        self._reception.detach(self.listener)
        self.listener.end()
        await asyncio.wait((self._writer,), timeout=5)
        self._writer.cancel()
        self._process.exit(0)

    async def _hear(self, lines: AsyncIterator[bytes]) -> None:
        try:
            async with asyncio.timeout(FIRST_LINE_S):
                first = await anext(lines, None)
        except TimeoutError:
            raise PeerFault("no manifest was delivered", code="too_slow") from None
        if first is None:
            return
        await self._take(first)
        async for line in lines:
            await self._take(line)

    async def _take(self, line: bytes) -> None:
        message: TenantSays = codec.decode(line, TenantSays, size_max=LINE_BYTES_MAX)
        reception = self._reception
        if isinstance(message, Deliver):
            self.listener.push(Missing(chunks=await reception.deliver(message)))
            if not self._is_attached:
                self._is_attached = True
                reception.attach(self.listener)
        elif not self._is_attached:
            raise PeerFault("the first word is Deliver", code="out_of_order")
        elif isinstance(message, Replace):
            self._replace(message)
        elif isinstance(message, Uploaded):
            if missing := reception.take_uploaded():
                self.listener.push(Missing(chunks=missing))
        elif isinstance(message, Paid):
            reception.take_payment(message)
        elif isinstance(message, Kept):
            reception.take_kept(message.number)
        elif isinstance(message, Close):
            reception.take_close(message.reason)
        else:
            raise PeerFault("the tenant is in trouble", code="tenant_trouble")

    def _replace(self, message: Replace) -> None:
        """Take another program, or say why not: the one that runs goes on."""
        try:
            missing = self._reception.take_replacement(message)
        except (Refused, Unavailable) as fault:
            refused = Replaced(
                manifest=commitment(message.manifest),
                code=fault.code,
                message=fault.message[:MESSAGE_LENGTH_MAX],
            )
            self.listener.push(refused)
        else:
            if missing is not None:
                self.listener.push(Missing(chunks=missing))

    async def _write(self) -> None:
        try:
            async for message in self.listener:
                self._process.stdout.write(codec.encode(message) + b"\n")
                await self._process.stdout.drain()
        except (asyncssh.Error, OSError):
            pass  # the tenant is gone; it may dial again


async def _split_lines(reader: asyncssh.SSHReader[bytes]) -> AsyncIterator[bytes]:
    """Give whole lines.

    Raises:
        PeerFault: one is too long; not more than that of it was read.
    """
    rest = bytearray()
    try:
        while content := await reader.read(_READ_BYTES):
            rest += content
            while (end := rest.find(b"\n")) >= 0:
                yield bytes(rest[:end])
                del rest[: end + 1]
            if len(rest) > LINE_BYTES_MAX:
                raise PeerFault(
                    f"a line of more than {LINE_BYTES_MAX} bytes", code="too_large"
                )
    except (asyncssh.Error, OSError):
        return
