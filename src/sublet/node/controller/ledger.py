"""What is written down of one job, so that any node can take it over.

State before order: whatever is sent, signed or paid was durable before, under a claim
that still held. Streams are the exception: they are written soon, at the latest before
the next change of the state, and what is missing is fetched again.
"""

import asyncio
import threading
from typing import TypeVar

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from sublet.base.errors import Broken, Unavailable
from sublet.base.ids import Digest
from sublet.core.job.bill import ChannelRecord
from sublet.core.job.state import Job
from sublet.node.controller.claim import Claim
from sublet.service.vault_port import JobVault
from sublet.wire.detached import Contract
from sublet.wire.message import Signed, Tree
from sublet.workload.run.purse import Change

T = TypeVar("T", bound=Struct)

STATE = "state"
PIECE_BYTES = 65_536  # of a stream, at one time
WAITING_BYTES_MAX = 1 << 24  # of a stream, while the vault does not answer
EMPTY = Tree(files=())


class DetachedState(Struct, frozen=True):
    """What whoever takes a job over has to know."""

    job: Job | None = None
    order: Signed | None = None  # of the newest attempt, written before it was sent
    contracts: dict[Digest, Contract] = {}  # by lease
    checkpoint: Tree = EMPTY
    outputs: Tree = EMPTY


def read_state(job: JobVault) -> DetachedState:
    """Give the state of a job as it is kept. Blocks.

    Raises:
        Broken: it is there and cannot be read.
        Unavailable: the vault does not answer.
    """
    return _decode(job, STATE, DetachedState) or DetachedState()


def read_statements(job: JobVault, state: DetachedState) -> dict[Digest, str]:
    """Give the statements of erasure that are kept, by lease. Blocks."""
    leases = [attempt.lease_id for attempt in state.job.attempts] if state.job else []
    found = {lease: job.read(f"erasure-{lease}") for lease in leases}
    return {lease: raw.decode() for lease, raw in found.items() if raw is not None}


class Ledger:
    """The records of one job under one claim."""

    def __init__(self, job: JobVault, claim: Claim) -> None:
        """Read the state. Blocks; raises as ``read_state``."""
        self.job = job
        self.claim = claim
        self.state = read_state(job)
        self._copies: list[StreamCopy] = []

    async def change(self, **changes: object) -> None:
        """Change the state; durable when this returns, streams before it.

        Raises:
            ClaimLost: another node looks after the job.
            Unavailable: the vault does not answer; nothing changed.
        """
        state = replace(self.state, **changes)
        await self.flush()
        await asyncio.to_thread(self._write, STATE, state)
        self.claim.check()
        self.state = state

    def update_channel(self, channel_id: Digest, change: Change) -> int:
        """Change what was authorised on a channel (``purse.Channels``). Blocks.

        Raises:
            ClaimLost: another node looks after the job; nothing changed.
            Unavailable: the vault does not answer; nothing changed.
            Broken: the record is damaged. No voucher can be signed safely.
        """
        name = f"channel-{channel_id}"
        record = _decode(self.job, name, ChannelRecord) or ChannelRecord()
        changed, answer = change(record)
        self._write(name, changed)
        return answer

    def open_copy(self, lease: Digest, stream: str) -> "StreamCopy":
        """Give the copy of a stream; it is written by ``flush``."""
        copy = StreamCopy(self.job, self.claim, lease, stream)
        self._copies.append(copy)
        return copy

    async def flush(self) -> None:
        """Write what has come of the streams; raises as ``change``."""
        for copy in self._copies:
            if copy.is_behind:
                await asyncio.to_thread(copy.flush)

    async def keep_statement(self, lease: Digest, envelope: bytes) -> None:
        """Keep a provider's statement of erasure for the tenant; raises as ``change``."""
        record = f"erasure-{lease}"
        await asyncio.to_thread(
            self.job.write, record, envelope, epoch=self.claim.epoch
        )

    async def end(self) -> None:
        """Note that it is over, and all of it written; raises as ``change``."""
        await asyncio.to_thread(self.job.end, epoch=self.claim.epoch)

    def _write(self, name: str, value: Struct) -> None:
        self.claim.check()
        self.job.write(name, msgspec.json.encode(value), epoch=self.claim.epoch)


class StreamCopy:
    """One sealed stream on its way into the vault (``log_copy.Copy``)."""

    def __init__(self, job: JobVault, claim: Claim, lease: Digest, stream: str) -> None:
        """Take where it goes; ``read`` it to its end before adding to it."""
        self._job = job
        self._claim = claim
        self._place = (lease, stream)
        self._done = 0  # bytes that are there
        self._waiting = bytearray()
        self._writing = threading.Lock()

    @property
    def is_behind(self) -> bool:
        """Say whether something is still to be written."""
        return bool(self._waiting)

    def read(self, *, offset: int) -> bytes:
        """Give a piece of what is there, or nothing where it ends. Blocks."""
        lease, stream = self._place
        content = self._job.read_stream(
            lease, stream, offset=offset, limit=WAITING_BYTES_MAX
        )
        self._done = max(self._done, offset + len(content))
        return content

    def append(self, content: bytes) -> None:
        """Add to it, soon.

        Raises:
            Unavailable: too much is waiting already.
        """
        if len(self._waiting) + len(content) > WAITING_BYTES_MAX:
            raise Unavailable("a stream cannot be kept", code="vault_behind")
        self._waiting += content

    def flush(self) -> None:
        """Write what is waiting; one thread at a time. Raises as ``Ledger.change``."""
        with self._writing:
            while piece := bytes(self._waiting[:PIECE_BYTES]):
                self._claim.check()
                self._job.append_stream(
                    *self._place, piece, offset=self._done, epoch=self._claim.epoch
                )
                self._done += len(piece)
                del self._waiting[: len(piece)]


def _decode(job: JobVault, name: str, kind: type[T]) -> T | None:
    raw = job.read(name)
    if raw is None:
        return None
    try:
        return msgspec.json.decode(raw, type=kind)
    except msgspec.MsgspecError as exc:
        raise Broken(
            f"record {name} of job {job.id} of {job.tenant} cannot be read: {exc}",
            code="bad_record",
        ) from exc
