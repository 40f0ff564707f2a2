"""Signed documents on their way to the market: in order, until they are answered.

A job does not wait for the log: what was signed goes into this queue, and a task of
its own posts it. While the market is away the queue grows in a folder, one file a
document, and a restarted agent goes on with it. Appending twice is harmless (documents
are deduplicated by their id), so what got no answer is sent again.

Not here: what documents say (``runner``), what an answer means for a lease.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable
from pathlib import Path

import msgspec
from msgspec import Struct

from sublet.base import limits
from sublet.base.errors import PeerFault, Refused, Unavailable
from sublet.base.ids import NO_DIGEST
from sublet.core.document import UsageRecord
from sublet.provider.journal import Journal
from sublet.provider.record import write_atomic
from sublet.wire.message import Appended, Fault, Signed

PAUSE_S = 0.2  # after the first failure; doubled each time
PAUSE_S_MAX = 10.0

Submit = Callable[[tuple[Signed, ...]], Awaitable[tuple[Appended, ...]]]
Heard = Callable[[Signed, Appended], None]


class _Item(Struct, frozen=True):
    number: int
    signed: Signed


class Outbox:
    """The queue of one agent; ``put`` never waits for the network."""

    def __init__(
        self, folder: Path, *, submit: Submit, heard: Heard, journal: Journal
    ) -> None:
        """Take the folder and the two ends; nothing is read yet.

        Args:
            folder: holds one file for each document that was not answered.
            submit: posts documents in order; raises Unavailable to be called again.
            heard: is told each document's answer.
            journal: is told what was refused.
        """
        self._folder = folder
        self._submit = submit
        self._heard = heard
        self._journal = journal
        self._items: list[_Item] = []
        self._next = 0
        self._under_way = 0  # of the items: those that are being posted
        self._filled = asyncio.Event()
        self._drained = asyncio.Event()
        self._drained.set()

    def load(self) -> None:
        """Take up what an earlier agent left, oldest first."""
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for path in sorted(self._folder.glob("[0-9]*.json")):
            try:
                signed = msgspec.json.decode(path.read_bytes(), type=Signed)
            except msgspec.MsgspecError as exc:
                self._journal.warn("outbox_damaged", file=path.name, why=str(exc))
                path.unlink()
                continue
            self._items.append(_Item(int(path.stem), signed))
        self._next = self._items[-1].number + 1 if self._items else 0
        self._note()

    def put(self, signed: Signed) -> None:
        """Queue a document; it survives this process, unless the disk is full.

        A usage record replaces one of the same lease that is still waiting: it says
        the same and more.
        """
        document = signed.document
        if isinstance(document, UsageRecord):
            for item in self._items[self._under_way :]:
                older = item.signed.document
                if (
                    isinstance(older, UsageRecord)
                    and older.lease_id == document.lease_id
                ):
                    self._forget(item)
        item = _Item(self._next, signed)
        self._next += 1
        try:
            write_atomic(self._path(item), msgspec.json.encode(signed))
        except Unavailable as fault:
            # It goes out all the same; only a restart before that would lose it.
            self._journal.warn("outbox_not_kept", why=fault.message)
        self._items.append(item)
        self._note()

    def size(self) -> int:
        """Count the documents that wait for an answer."""
        return len(self._items)

    async def wait_drained(self, *, timeout_s: float) -> bool:
        """Wait until every document was answered; False if that took too long."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._drained.wait()
        except TimeoutError:
            return False
        return True

    async def run(self) -> None:
        """Post what is queued, for ever."""
        pause_s, width = PAUSE_S, limits.BATCH_DOCUMENTS_MAX
        while True:
            await self._filled.wait()
            batch = self._items[:width]
            self._under_way = len(batch)
            try:
                results = await self._post(batch)
            except (Unavailable, PeerFault) as fault:
                self._journal.warn(
                    "market_away", waiting=self.size(), why=fault.message
                )
                # Jitter, so that a market that comes back is not met by all at once.
                await asyncio.sleep(pause_s * random.uniform(0.5, 1.5))  # noqa: S311
                pause_s = min(2 * pause_s, PAUSE_S_MAX)
                continue
            except Refused:
                width = 1  # one of them spoils the request: find out which
                continue
            pause_s, width = PAUSE_S, limits.BATCH_DOCUMENTS_MAX
            for item, result in zip(batch, results, strict=True):
                self._heard(item.signed, result)
                self._forget(item)
            self._under_way = 0
            self._note()

    async def _post(self, batch: list[_Item]) -> tuple[Appended, ...]:
        """Post some documents.

        Raises:
            Unavailable: the market did not answer.
            Refused: several documents, and the request was refused as a whole.
        """
        try:
            return await self._submit(tuple(item.signed for item in batch))
        except Refused as error:
            if len(batch) > 1:
                raise
            fault = Fault(
                code=error.code,
                message=error.message,
                field=error.field,
                detail=error.detail,
            )
            return (Appended(id=NO_DIGEST, fault=fault),)

    def _forget(self, item: _Item) -> None:
        self._items.remove(item)
        self._path(item).unlink(missing_ok=True)

    def _path(self, item: _Item) -> Path:
        return self._folder / f"{item.number:012d}.json"

    def _note(self) -> None:
        if self._items:
            self._filled.set()
            self._drained.clear()
        else:
            self._filled.clear()
            self._drained.set()
