"""The market of one node: what a face calls. Opens a log, takes documents, tells.

Readers look at ``book`` and the core's views of it: it changes only between two
awaits of the writer's task, so what is read in one go is consistent.
Not here: the commit itself (``writer``), HTTP (``node``), signatures (``wire``), what
documents mean (``core``).
"""

import asyncio
from collections.abc import Callable, Sequence

from sublet.base.errors import Unavailable
from sublet.base.ids import Address, Digest
from sublet.core.book.book import Book
from sublet.core.book.quote import Match, quote
from sublet.core.book.view import find_lease
from sublet.core.document import AnyDocument, Order, Resume, Tick
from sublet.core.lease.phase import Lease
from sublet.service.keeper import read_lease
from sublet.service.ports import Clock, Codec, Log
from sublet.service.replay import ReadNote, replay
from sublet.service.submission import Candidate, Result, wait_together
from sublet.service.writer import Listener, Sign, Writer

SEAL_EVERY = 4_096  # entries between two Seals, each with a snapshot
QUEUED_MAX = 16_384  # documents that may wait for a commit


class MarketService:
    """One per process and log."""

    def __init__(
        self,
        log: Log,
        codec: Codec,
        clock: Clock,
        *,
        sign: Sign,
        read_note: ReadNote,
        seal_every: int = SEAL_EVERY,
    ) -> None:
        """Take the ports; ``open`` does the work.

        Args:
            log: opened for writing; closing it stays with the caller.
            codec: of the market, with the note key.
            clock: stamps entries.
            sign: signs what the operator says (ticks, seals, ``say``).
            read_note: checks the newest stored checkpoint (``wire.note``).
            seal_every: entries between two Seals.
        """
        self._log = log
        self._codec = codec
        self._clock = clock
        self._sign = sign
        self._read_note = read_note
        self._writer = Writer(log, codec, clock, sign=sign, seal_every=seal_every)
        self._task: asyncio.Task[None] | None = None
        self._is_closing = False

    # ---- life -----------------------------------------------------------------

    async def open(self) -> None:
        """Replay the log and begin to take documents.

        Raises:
            LogInconsistent: the stored log contradicts itself.
            Broken: an invariant of the book fell during the replay.
        """
        writer = self._writer
        replayed = await writer.in_thread(
            lambda: replay(self._log, self._codec, read_note=self._read_note)
        )
        writer.fold = replayed.fold
        writer.sealed_size = replayed.sealed_size
        if replayed.fold.size:
            await writer.keep(replayed.settled)
            await writer.wait_kept()
        self._task = asyncio.create_task(writer.run(), name="market-writer")
        if self.book.leases:  # nobody is late for what nobody could hear
            now_s = self._clock.now_s()
            await self.say(Resume(signed_at_s=now_s, salt=self.size))

    async def close(self) -> None:
        """Commit what waits, seal, stop. Calling it twice is harmless."""
        self._is_closing = True
        self._writer.stop()
        if self._task is not None:
            await asyncio.wait([self._task])
        self._writer.thread.shutdown(wait=False)

    async def wait_stopped(self) -> None:
        """Wait until the service stops; for the face's supervisor.

        Raises:
            Broken: an invariant fell; nothing more is accepted, the process must end.
        """
        if self._task is not None:
            await asyncio.shield(self._task)

    # ---- what it knows --------------------------------------------------------

    @property
    def book(self) -> Book:
        """The state after all entries; for readers on the event loop."""
        return self._writer.fold.book

    @property
    def size(self) -> int:
        """Entries in the log, all of them folded."""
        return self._writer.fold.size

    @property
    def leaves(self) -> Sequence[bytes]:
        """All leaf hashes, 32 bytes each; grows at its end only."""
        return self._writer.fold.leaves

    @property
    def checkpoint(self) -> tuple[int, bytes] | None:
        """The newest signed note, after the size that it speaks of."""
        return self._writer.keeper.checkpoint

    def quote(self, order: Order) -> Match:
        """Say what an order would get now.

        Raises:
            NoMatch: no offer fits; says how many each requirement excluded.
        """
        return quote(self.book, order, now_s=self._writer.now_s())

    async def find_lease(self, lease_id: Digest) -> Lease | None:
        """Give a lease, also a settled one that the book has forgotten; or None."""
        lease = find_lease(self.book, lease_id)
        if lease is None:
            raw = await asyncio.to_thread(self._log.find_settled, lease_id)
            lease = None if raw is None else read_lease(raw)
        return lease

    async def read_settled(
        self, *, party: Address, before_s: int | None, limit: int
    ) -> list[Lease]:
        """Give a party's settled leases, newest first."""
        rows = await asyncio.to_thread(
            lambda: self._log.read_settled(party=party, before_s=before_s, limit=limit)
        )
        return [read_lease(raw) for raw in rows]

    def listen(self, listener: Listener) -> Callable[[], None]:
        """Call ``listener`` with each lease that was made or moved; give the way out.

        It is called on the event loop, in the order of the log, once the entry is
        durable and the book is past it. It must neither wait nor raise.
        """
        self._writer.listeners.append(listener)
        return lambda: self._writer.listeners.remove(listener)

    # ---- what it takes --------------------------------------------------------

    async def submit(self, candidates: Sequence[Candidate]) -> list[Result]:
        """Append documents whose signatures were verified; answer once they count.

        A document that the log already holds gives its old index and the lease as it
        is now. One that is refused does not hold up the others.

        Raises:
            Unavailable: the store failed, or too much waits; submit again: what was
                appended all the same is recognised.
        """
        if self._is_closing or self._task is None or self._task.done():
            raise Unavailable(
                "the market is not open; try again soon",
                code="market_closed",
                retry_after_s=1,
            )
        queue = self._writer.queue
        if len(queue) + len(candidates) > QUEUED_MAX:
            raise Unavailable(
                f"{len(queue)} documents wait already; try again soon",
                code="market_busy",
                retry_after_s=1,
            )
        waiting, answer = wait_together(candidates)
        queue.extend(waiting)
        self._writer.wake()
        return await answer

    async def say(self, document: AnyDocument) -> Result:
        """Sign a document as the operator and submit it.

        Raises:
            Unavailable: as ``submit``.
        """
        (result,) = await self.submit([self._sign(document)])
        return result

    async def tick(self) -> None:
        """Let the book know that time passed, if one of its deadlines is due.

        Raises:
            Unavailable: as ``submit``.
        """
        now_s = self._clock.now_s()
        if self._writer.is_due(now_s):
            await self.say(Tick(signed_at_s=now_s, salt=self.size))
