"""The market of one node: takes documents in, group-commits them, folds the log.

One task writes. It takes whatever arrived while the commit before was in flight,
looks at each document against the book, appends all of them in one fsynced commit,
folds them in the order of the log and answers. So a single order on an idle node
waits for one fsync and nothing else, and a thousand at once share a few.

Readers look at ``book``: it is changed between two awaits only, by that task.
Not here: HTTP (``node``), signatures (``wire``), what documents mean (``core``).
"""

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from hashlib import sha256
from typing import TypeVar

import msgspec

from sublet.base import limits
from sublet.base.errors import Broken, Refused, SubletError, Unavailable
from sublet.base.ids import Digest
from sublet.core.book.book import Book
from sublet.core.book.quote import Match, quote
from sublet.core.book.snapshot import dump
from sublet.core.book.step import LeaseMoved, check, next_deadline_s
from sublet.core.book.view import find_lease
from sublet.core.document import AnyDocument, Entry, Fact, Order, Seal, Tick
from sublet.core.lease.phase import Lease, Phase
from sublet.core.merkle import leaf_hash
from sublet.service.fold import Fold
from sublet.service.ports import Clock, Codec, Log, Snapshot
from sublet.service.replay import ReadNote, replay
from sublet.service.submission import Candidate, Result, check_age, find_lease_id

SNAPSHOT_EVERY = 4_096  # entries between two Seals
QUEUED_MAX = 16_384  # documents that may wait for a commit

T = TypeVar("T")
Sign = Callable[[AnyDocument], Candidate]  # with the operator's key
Listener = Callable[[Lease], None]

_LOGGER = logging.getLogger(__name__)


@dataclass(slots=True)
class _Waiting:
    """A document on its way, and who waits for its result."""

    candidate: Candidate
    answer: asyncio.Future[Result]


@dataclass(slots=True)
class _Admitted:
    """A document that passed the dry run, as it will stand in the log."""

    waiting: _Waiting
    fact: Fact
    body: bytes
    leaf: bytes


class MarketService:
    """Opens a log, takes documents, tells who listens; one per process and log."""

    def __init__(
        self,
        log: Log,
        codec: Codec,
        clock: Clock,
        *,
        sign: Sign,
        read_note: ReadNote,
        snapshot_every: int = SNAPSHOT_EVERY,
    ) -> None:
        """Take the ports; ``open`` does the work.

        Args:
            log: opened for writing; closing it stays with the caller.
            codec: of the market, with the note key.
            clock: stamps entries.
            sign: signs what the operator says (ticks, seals, ``say``).
            read_note: checks the newest stored checkpoint.
            snapshot_every: entries between two Seals.
        """
        self._log = log
        self._codec = codec
        self._clock = clock
        self._sign = sign
        self._read_note = read_note
        self._snapshot_every = snapshot_every
        self._fold = Fold()
        self._sealed_size = 0  # entries up to and with the last Seal
        self._checkpoint: tuple[int, bytes] | None = None
        self._unkept: list[Lease] = []  # settled, not yet in the read model
        self._queue: deque[_Waiting] = deque()
        self._in_flight: list[_Waiting] = []
        self._arrived = asyncio.Event()
        self._listeners: list[Listener] = []
        self._is_closing = False
        self._writer: asyncio.Task[None] | None = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="sublet-log")

    # ---- life -----------------------------------------------------------------

    async def open(self) -> None:
        """Replay the log and begin to take documents.

        Raises:
            LogInconsistent: the stored log contradicts itself.
            Broken: an invariant of the book fell during the replay.
        """
        self._fold, self._unkept = await self._run(
            lambda: replay(self._log, self._codec, read_note=self._read_note)
        )
        if self._fold.size:
            snapshot = await self._run(self._log.find_snapshot)
            self._sealed_size = snapshot.size + 1 if snapshot is not None else 0
            await self._keep()
        self._writer = asyncio.create_task(self._write(), name="market-writer")
        self._writer.add_done_callback(self._on_writer_done)

    async def close(self) -> None:
        """Commit what waits, seal, stop. Calling it twice is harmless."""
        self._is_closing = True
        self._arrived.set()
        if self._writer is not None:
            await asyncio.wait([self._writer])
        self._thread.shutdown(wait=False)

    async def wait_stopped(self) -> None:
        """Wait until the service stops; for the face's supervisor.

        Raises:
            Broken: an invariant fell; nothing more is accepted, the process must end.
        """
        if self._writer is not None:
            await asyncio.shield(self._writer)

    # ---- what it knows --------------------------------------------------------

    @property
    def book(self) -> Book:
        """The state after all entries; for readers on the event loop."""
        return self._fold.book

    @property
    def size(self) -> int:
        """Entries in the log, all of them folded."""
        return self._fold.size

    @property
    def leaves(self) -> Sequence[bytes]:
        """All leaf hashes, 32 bytes each; grows at its end only."""
        return self._fold.leaves

    @property
    def checkpoint(self) -> tuple[int, bytes] | None:
        """The newest signed note and the size that it speaks of."""
        return self._checkpoint

    def quote(self, order: Order) -> Match:
        """Say what an order would get now.

        Raises:
            NoMatch: no offer fits; says how many each requirement excluded.
        """
        return quote(self.book, order, now_s=self._now_s())

    def listen(self, listener: Listener) -> Callable[[], None]:
        """Call ``listener`` with each lease that was made or moved; give the way out.

        It is called on the event loop, in the order of the log, once the entry is
        durable. It must neither wait nor raise.
        """
        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener)

    # ---- what it takes --------------------------------------------------------

    async def submit(self, candidates: Sequence[Candidate]) -> list[Result]:
        """Append documents whose signatures were verified; answer once they count.

        A document that the log already holds gives its old index and the lease as it
        is now. One that is refused does not hold up the others.

        Raises:
            Unavailable: the store failed, or too much waits; submit again: what was
                appended all the same is recognised.
        """
        if self._is_closing or self._writer is None or self._writer.done():
            raise Unavailable(
                "the market is not open; try again soon",
                code="market_closed",
                retry_after_s=1,
            )
        if len(self._queue) + len(candidates) > QUEUED_MAX:
            raise Unavailable(
                f"{len(self._queue)} documents wait already; try again soon",
                code="market_busy",
                retry_after_s=1,
            )
        loop = asyncio.get_running_loop()
        waiting = [
            _Waiting(candidate, loop.create_future()) for candidate in candidates
        ]
        self._queue.extend(waiting)
        self._arrived.set()
        return await asyncio.gather(*(each.answer for each in waiting))

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
        if self._is_due(now_s):
            await self.say(Tick(signed_at_s=now_s, salt=self.size))

    # ---- the writer -----------------------------------------------------------

    async def _write(self) -> None:
        while not self._is_closing:
            await self._arrived.wait()
            self._arrived.clear()
            while self._queue:
                await self._commit_next()
                if self.size - self._sealed_size >= self._snapshot_every:
                    await self._seal()
        if self.size > self._sealed_size:
            await self._seal()

    async def _commit_next(self) -> None:
        """Take from the queue what fits one commit, store it, fold it, answer it."""
        admitted, refused = self._admit()
        self._in_flight = [item.waiting for item in admitted]
        self._in_flight += [waiting for waiting, _ in refused]
        try:
            indexes, known = await self._run(lambda: self._store(admitted, refused))
        except Unavailable as error:
            # The commit left no trace, so neither does the book.
            for waiting in self._in_flight:
                _fail(waiting, error)
            return
        repeated = [
            (waiting, index)
            for (waiting, _), index in zip(refused, known, strict=True)
            if index is not None
        ]
        for (waiting, refusal), index in zip(refused, known, strict=True):
            if index is None:
                _answer(waiting, Result(waiting.candidate.id, refusal=refusal))
        repeated += self._fold_in(admitted, indexes)
        if repeated:
            await self._recall(repeated)
        self._in_flight = []
        if admitted:
            await self._keep()

    def _admit(self) -> tuple[list[_Admitted], list[tuple[_Waiting, Refused]]]:
        """Look at what waits, in order, against the book.

        A refusal stands only if nothing before it is still to be folded: what this
        commit holds may be just what the document needs. Then it waits for the next.
        """
        now_s = self._now_s()
        admitted: list[_Admitted] = []
        refused: list[tuple[_Waiting, Refused]] = []
        while self._queue and len(admitted) + len(refused) < limits.BATCH_DOCUMENTS_MAX:
            waiting = self._queue[0]
            candidate = waiting.candidate
            fact = Fact(now_s, candidate.id, candidate.signer, candidate.document)
            try:
                check_age(candidate.document, now_s=self._clock.now_s())
                check(self.book, fact)
            except Refused as refusal:
                if admitted:
                    break
                refused.append((waiting, refusal))
            else:
                body = self._codec.write_entry(Entry(fact, candidate.signature))
                admitted.append(_Admitted(waiting, fact, body, leaf_hash(body)))
            self._queue.popleft()
        return admitted, refused

    def _store(
        self, admitted: list[_Admitted], refused: list[tuple[_Waiting, Refused]]
    ) -> tuple[list[int], list[int | None]]:
        """Append, and look whether the log already knows what was refused."""
        rows = [(item.fact.id, item.body, item.leaf) for item in admitted]
        indexes = self._log.append(rows) if rows else []
        return indexes, [self._log.find(w.candidate.id) for w, _ in refused]

    def _fold_in(
        self, admitted: list[_Admitted], indexes: list[int]
    ) -> list[tuple[_Waiting, int]]:
        """Fold what is new and answer it; give what the log had already."""
        repeated: list[tuple[_Waiting, int]] = []
        moved: list[Lease] = []
        for item, index in zip(admitted, indexes, strict=True):
            if index < self.size:
                repeated.append((item.waiting, index))
                continue
            if index > self.size:
                raise Broken(
                    f"the log gave index {index} where {self.size} was next; "
                    "somebody else appends to it"
                )
            step = self._fold.take(item.fact, leaf=item.leaf)
            mine = [o.lease for o in step.outcomes if isinstance(o, LeaseMoved)]
            moved += mine
            _answer(item.waiting, self._result(item, index, step.refusal, mine))
        self._unkept += [lease for lease in moved if lease.phase is Phase.SETTLED]
        for lease in moved:
            for listener in self._listeners:
                listener(lease)
        return repeated

    def _result(
        self,
        item: _Admitted,
        index: int,
        refusal: Refused | None,
        moved: list[Lease],
    ) -> Result:
        lease_id = find_lease_id(item.waiting.candidate)
        lease = find_lease(self.book, lease_id) if lease_id is not None else None
        if lease_id is None and moved:
            lease = moved[-1]  # a voucher, say, that settled a lease
        return Result(item.fact.id, index, item.fact.at_s, lease, refusal)

    async def _recall(self, repeated: list[tuple[_Waiting, int]]) -> None:
        """Answer documents that the log already holds."""

        def look() -> list[tuple[int, Lease | None]]:
            found = []
            for waiting, index in repeated:
                (row,) = self._log.read(first=index, limit=1)
                at_s = self._codec.read_entry(row.body).fact.at_s
                found.append((at_s, self._find_settled(waiting.candidate)))
            return found

        for (waiting, index), (at_s, settled) in zip(
            repeated, await self._run(look), strict=True
        ):
            candidate = waiting.candidate
            lease_id = find_lease_id(candidate)
            lease = find_lease(self.book, lease_id) if lease_id is not None else None
            lease = lease or settled
            refusal = None
            if lease is None and isinstance(candidate.document, Order):
                refusal = Refused(
                    f"this order stands in the log as entry {index}, where the market "
                    "refused it; sign a new one",
                    code="void_order",
                )
            _answer(waiting, Result(candidate.id, index, at_s, lease, refusal))

    def _find_settled(self, candidate: Candidate) -> Lease | None:
        lease_id = find_lease_id(candidate)
        raw = self._log.find_settled(lease_id) if lease_id is not None else None
        return msgspec.json.decode(raw, type=Lease) if raw is not None else None

    # ---- what follows a commit ------------------------------------------------

    async def _keep(self) -> None:
        """Sign the tree as it is now; keep the note and the settled leases.

        Both can be made again from the log, so a store that fails here costs nothing
        but another try after the next commit.
        """
        size, root, settled = self.size, self._fold.tree.root(), self._unkept

        def keep() -> bytes:
            note = self._codec.sign_note(size=size, root=root)
            self._log.put_checkpoint(size=size, note=note)
            if settled:
                self._log.put_settled([_settled_row(lease) for lease in settled])
            return note

        try:
            note = await self._run(keep)
        except Unavailable as error:
            _LOGGER.warning(
                "checkpoint_not_kept", extra={"values": {"why": str(error)}}
            )
            return
        self._checkpoint = (size, note)
        self._unkept = self._unkept[len(settled) :]

    async def _seal(self) -> None:
        """Append the operator's word for the book as it is, and keep a snapshot.

        The dump runs in the log's thread: commits wait for it, the event loop does
        not, and nobody else changes the book.
        """
        now_s = self._now_s()
        if self._is_due(now_s):
            await self._commit_own(Tick(signed_at_s=now_s, salt=self.size))
        size, tree = self.size, self._fold.tree.to_bytes()
        book = await self._run(lambda: dump(self.book))
        book_hash = sha256(book).digest()
        digest: Digest = "0x" + book_hash.hex()
        seal = Seal(size=size, book=digest, signed_at_s=self._now_s(), salt=size)
        if not await self._commit_own(seal):
            return
        self._sealed_size = self.size
        try:
            snapshot = Snapshot(size, book, book_hash, tree)
            await self._run(lambda: self._log.put_snapshot(snapshot))
        except Unavailable as error:
            _LOGGER.warning("snapshot_not_kept", extra={"values": {"why": str(error)}})

    async def _commit_own(self, document: AnyDocument) -> bool:
        """Commit the operator's own document before all that waits; say if it counts."""
        answer: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        self._queue.appendleft(_Waiting(self._sign(document), answer))
        await self._commit_next()
        try:
            result = await answer
        except Unavailable:
            return False
        if result.refusal is not None:
            _LOGGER.error(
                "own_word_refused", extra={"values": {"code": result.refusal.code}}
            )
        return result.refusal is None

    def _is_due(self, now_s: int) -> bool:
        deadline_s = next_deadline_s(self.book)
        return deadline_s is not None and deadline_s <= now_s

    def _now_s(self) -> int:
        # Time in the log never goes back, whatever the clock does.
        return max(self._clock.now_s(), self._fold.at_s)

    async def _run(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    def _on_writer_done(self, writer: asyncio.Task[None]) -> None:
        """Let nobody wait for a writer that has stopped."""
        error = None if writer.cancelled() else writer.exception()
        for waiting in [*self._in_flight, *self._queue]:
            stopped = Unavailable("the market has stopped", code="market_stopped")
            stopped.__cause__ = error
            _fail(waiting, stopped)
        self._queue.clear()


def _answer(waiting: _Waiting, result: Result) -> None:
    # Who waited may have gone away meanwhile; the document counts all the same.
    if not waiting.answer.done():
        waiting.answer.set_result(result)


def _fail(waiting: _Waiting, error: SubletError) -> None:
    if not waiting.answer.done():
        waiting.answer.set_exception(error)


def _settled_row(lease: Lease) -> tuple[Digest, Digest, Digest, int, bytes]:
    return (
        lease.id,
        lease.tenant,
        lease.provider,
        lease.ended_at_s,
        msgspec.json.encode(lease),
    )
