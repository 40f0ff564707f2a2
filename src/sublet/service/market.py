"""The market of one node: what a face calls. Opens a log, takes documents, tells.

Readers look at ``book`` and the core's views of it: it changes only between two
awaits of the writer's task, so what is read in one go is consistent.
Not here: the commit itself (``writer``), HTTP (``node``), signatures (``wire``), what
documents mean (``core``).
"""

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from sublet.base import limits
from sublet.base.errors import Unavailable
from sublet.base.ids import Address, Digest
from sublet.core.book.book import Book
from sublet.core.book.quote import Match, count_fitting, quote
from sublet.core.book.view import find_lease
from sublet.core.document import AnyDocument, Order, Tick
from sublet.core.lease.phase import Lease
from sublet.service.follower import Listener, OrderListener
from sublet.service.keeper import read_lease
from sublet.service.own_word import Sign
from sublet.service.ports import ANY_GROUND, Clock, Codec, Ground, Log
from sublet.service.replay import ReadNote, replay
from sublet.service.submission import Candidate, Result, wait_together
from sublet.service.writer import Writer

SEAL_EVERY = 4_096  # entries between two Seals, each with a snapshot
QUEUED_MAX = 16_384  # documents that may wait for a commit
FOLLOW_S = 1.0  # a shared log is looked at so often, even if nobody tells us


class ClockBehind(Unavailable):
    """The log is ahead of this machine's clock: one of the two was set wrong."""

    code = "clock_behind"


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
        self._following: asyncio.Task[None] | None = None
        self._is_closing = False

    # ---- life -----------------------------------------------------------------

    async def open(
        self, *, is_attended: bool = False, kept: bytes | None = None
    ) -> None:
        """Replay the log and begin to take documents.

        Args:
            is_attended: another node was there all the time, and took documents.
            kept: a checkpoint that was kept elsewhere; the log must go on from it.

        Raises:
            Unavailable: the log does not answer.
            LogInconsistent: the stored log contradicts itself.
            ClockBehind: this machine's clock is behind the log.
            Broken: an invariant of the book fell during the replay.
        """
        writer = self._writer
        replayed = await writer.follower.in_thread(
            lambda: replay(self._log, self._codec, read_note=self._read_note, kept=kept)
        )
        _check_clock(replayed.fold.at_s, now_s=self._clock.now_s())
        writer.follower.fold = replayed.fold
        writer.follower.sealed_size = replayed.sealed_size
        if replayed.fold.size:
            await writer.follower.keep(replayed.settled)
            await writer.follower.wait_kept()
        if not is_attended:  # nobody is late for what nobody could hear
            await writer.own_word.resume()
        self._task = asyncio.create_task(writer.run(), name="market-writer")
        if self._log.is_shared:
            self._following = asyncio.create_task(self._follow(), name="market-follow")

    async def close(self) -> None:
        """Commit what waits, seal, stop. Calling it twice is harmless."""
        self._is_closing = True
        self._writer.stop()
        if self._following is not None:
            self._following.cancel()
            await asyncio.wait([self._following])
        if self._task is not None:
            await asyncio.wait([self._task])
        self._writer.follower.thread.shutdown(wait=False)

    async def _follow(self) -> None:
        """Hear what other nodes append, soon after they did."""
        thread = ThreadPoolExecutor(1, thread_name_prefix="sublet-follow")
        loop = asyncio.get_running_loop()
        try:
            while True:
                try:
                    wait = partial(
                        self._log.wait_more, size=self.size, timeout_s=FOLLOW_S
                    )
                    if await loop.run_in_executor(thread, wait):
                        await self._writer.hear_others()
                except Unavailable:
                    await asyncio.sleep(FOLLOW_S)  # whoever appends reports it
        finally:
            thread.shutdown(wait=False)

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
        return self._writer.follower.fold.book

    @property
    def is_shared(self) -> bool:
        """Whether other nodes append to the log, too."""
        return self._log.is_shared

    @property
    def size(self) -> int:
        """Entries in the log, all of them folded."""
        return self._writer.follower.fold.size

    @property
    def leaves(self) -> Sequence[bytes]:
        """All leaf hashes, 32 bytes each; grows at its end only."""
        return self._writer.follower.fold.leaves

    @property
    def checkpoint(self) -> tuple[int, bytes] | None:
        """The newest signed note, after the size that it speaks of."""
        return self._writer.follower.keeper.checkpoint

    def quote(self, order: Order) -> Match:
        """Say what an order would get now.

        Raises:
            NoMatch: no offer fits; says how many each requirement excluded.
        """
        return quote(self.book, order, now_s=self._writer.follower.now_s())

    def count_fitting(self, order: Order) -> int:
        """Count the offers that fit an order now, the one that would win included."""
        now_s = self._writer.follower.now_s()
        return count_fitting(self.book, order, now_s=now_s)

    async def find_lease(self, lease_id: Digest) -> Lease | None:
        """Give a lease, also a settled one that the book has forgotten; or None.

        Where it is not known, another node may just have heard of it: so that is
        looked at first.
        """
        lease = find_lease(self.book, lease_id)
        if lease is None and self._log.is_shared:
            await self.hear_others()
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
        self._writer.follower.listeners.append(listener)
        return lambda: self._writer.follower.listeners.remove(listener)

    def listen_orders(self, listener: OrderListener) -> Callable[[], None]:
        """Call ``listener`` with each order that opens for bids; as ``listen``."""
        self._writer.follower.order_listeners.append(listener)
        return lambda: self._writer.follower.order_listeners.remove(listener)

    # ---- what it takes --------------------------------------------------------

    async def submit(
        self, candidates: Sequence[Candidate], *, ground: Ground = ANY_GROUND
    ) -> list[Result]:
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
        waiting, answer = wait_together(candidates, ground=ground)
        queue.extend(waiting)
        self._writer.wake()
        return await answer

    async def say(
        self, document: AnyDocument, *, ground: Ground = ANY_GROUND
    ) -> Result:
        """Sign a document as the operator and submit it.

        With a ``ground``, it is refused (``overtaken``) where that does not hold.

        Raises:
            Unavailable: as ``submit``.
        """
        (result,) = await self.submit([self._sign(document)], ground=ground)
        return result

    async def hear_others(self) -> None:
        """Wait until all is folded that a shared log holds now; else do nothing.

        Raises:
            Unavailable: the log does not answer.
        """
        if self._log.is_shared and self._task is not None and not self._task.done():
            await self._writer.hear_others()

    async def tick(self) -> None:
        """Let the book know that time passed, if one of its deadlines is due.

        Once this was called, it is to be called every second (``Writer.look``).

        Raises:
            Unavailable: as ``submit``.
        """
        self._writer.look()
        now_s = self._clock.now_s()
        if self._writer.follower.is_due(now_s):
            await self.say(Tick(signed_at_s=now_s, salt=self.size))


def _check_clock(log_at_s: int, *, now_s: int) -> None:
    """Refuse to go on while time would stand still.

    Stamps never go back. A node that is behind would stamp all with one second: no
    deadline would pass, and what jobs run could not be claimed.
    """
    ahead_s = log_at_s - now_s
    if ahead_s > limits.CLOCK_SKEW_S_MAX:
        raise ClockBehind(
            f"the log's last entry is {ahead_s} s ahead of this machine's clock: set the "
            "clock, or start again once that time has come; jobs run on meanwhile, and "
            "nobody is late for it",
            retry_after_s=ahead_s,
        )
