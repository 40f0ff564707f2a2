"""The tenant's half of a scratch's key, and the statement that comes of it in the end.

The half is drawn for one lease, sent once its channel is proven to be the provider's,
and wiped when the conversation is over. The statement is checked before it is kept.

Of a detached job it is the node's controller that draws the half and wipes it: it is no
key to anything without the provider's own half, and is written down nowhere. Where
another controller takes over, the first one's half is gone with it, and the scratch that
was made of it goes on.
"""

import asyncio
import hashlib
import os
import secrets
from collections.abc import Awaitable, Callable
from pathlib import Path

from msgspec.structs import replace

from sublet.base.errors import PeerFault, SubletError, Unavailable
from sublet.base.ids import Digest
from sublet.core.lease.phase import Lease
from sublet.core.lease.table import ERASURE
from sublet.wire.message import Deliver, Sanitized
from sublet.wire.sanitization import CLEAR, find_faults, open_envelope
from sublet.workload.run import event

KEY_BYTES = 32
_NONCE_LENGTH = 32  # hex digits
WAIT_S = 60.0  # for the statement, once everything was fetched
# What only the log can tell; asked by ``sublet audit erasure``.
_LOGGED = frozenset({"the log holds no Erasure of this lease"})


class KeyHalf:
    """Of one lease; nothing at all where its order requires no erasure."""

    def __init__(self, lease: Lease, *, salt: str, folder: Path) -> None:
        """Draw what is needed; the statement will lie in the job's folder.

        The nonce is made of the manifest's salt: whoever knows that can tell, also in
        another process, whether a statement is about this very delivery.
        """
        self._lease = lease
        self._path = find_statement(folder, lease.id)
        self._half = bytearray()
        self._nonce = ""
        self._heard = asyncio.Event()
        if ERASURE in lease.features:
            self._half[:] = secrets.token_bytes(KEY_BYTES)
            named = hashlib.sha256(b"sublet nonce|" + salt.encode()).hexdigest()
            self._nonce = named[:_NONCE_LENGTH]

    def deliver(self, word: Deliver) -> Deliver:
        """Give what the provider is told, with this half in it."""
        return replace(word, half=self._half.hex(), nonce=self._nonce)

    def wipe(self) -> None:
        """Overwrite this half where it lies: from now on nobody can make the key."""
        self._half[:] = bytes(len(self._half))

    async def wait_statement(self, *, warn: Callable[[str], Awaitable[None]]) -> None:
        """Wait for the provider's statement; warn where none comes."""
        if not self._nonce:
            return
        try:
            async with asyncio.timeout(WAIT_S):
                await self._heard.wait()
        except TimeoutError:
            await warn(
                f"no statement of erasure came within {WAIT_S:.0f} s; the machine stays "
                f"bound until there is one: sublet audit erasure {self._lease.id[:14]}"
            )

    def hear(self, said: Sanitized, *, at_ms: int) -> event.AnyEvent:
        """Check and keep a statement; give what there is to tell of it.

        Raises:
            PeerFault: it is no statement of this lease's provider about this lease.
        """
        try:
            claim = self._take(said.envelope)
        except Unavailable as fault:
            return event.Unkept(at_ms=at_ms, message=fault.message)
        return event.Erased(at_ms=at_ms, claim=claim, path=str(self._path))

    def _take(self, envelope: str) -> str:
        if not self._nonce:
            raise PeerFault("nobody asked for a statement of erasure", code="unasked")
        try:
            read = open_envelope(envelope.encode())
            said = read.statement.predicate
            faults = find_faults(read, self._lease, logged_at_s=0, nonce=self._nonce)
            wrong = [fault for fault in faults if fault not in _LOGGED]
            if wrong and said.category == CLEAR:
                raise PeerFault(
                    f"the statement of erasure is wrong: {'; '.join(wrong)}",
                    code="bad_statement",
                )
            _keep(self._path, envelope.encode())
        except SubletError:
            self._heard.set()
            raise
        if said.category == CLEAR:
            self._heard.set()
        return f"{said.category}, level {said.level}"


def find_statement(folder: Path, lease_id: Digest) -> Path:
    """Give the place of a lease's statement in its job's folder."""
    return folder / f"erasure-{lease_id[2:14]}.json"


def _keep(path: Path, content: bytes) -> None:
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(fd, "wb") as file:
            file.write(content)
    except OSError as exc:
        raise Unavailable(
            f"the statement of erasure cannot be kept: {exc.strerror}",
            code="disk_failed",
        ) from exc
