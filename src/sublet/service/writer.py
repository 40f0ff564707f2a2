"""The one task that writes: from a queue of documents to answered results.

It takes whatever arrived while the commit before was in flight, looks at each
document against the book, appends all of them in one fsynced commit, folds them in
the order of the log and answers. So a single order on an idle node waits for one
fsync and nothing else, and a thousand at once share a few.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from typing import TypeVar

from sublet.base import limits
from sublet.base.errors import Broken, Refused, Unavailable
from sublet.base.ids import Digest
from sublet.core.book.snapshot import dump
from sublet.core.book.step import LeaseMoved, Step, check, next_deadline_s
from sublet.core.book.view import find_lease
from sublet.core.document import AnyDocument, Entry, Fact, Order, Seal, Tick
from sublet.core.lease.phase import Lease
from sublet.core.merkle import leaf_hash
from sublet.service.fold import Fold
from sublet.service.keeper import Keeper
from sublet.service.ports import Clock, Codec, Log, Snapshot
from sublet.service.submission import (
    Candidate,
    Result,
    Waiting,
    check_age,
    find_lease_id,
    wait_together,
)

T = TypeVar("T")
Sign = Callable[[AnyDocument], Candidate]  # with the operator's key
Listener = Callable[[Lease], None]

_LOGGER = logging.getLogger(__name__)


@dataclass(slots=True)
class _Admitted:
    """A document that passed the dry run, as it will stand in the log."""

    waiting: Waiting
    fact: Fact
    body: bytes
    leaf: bytes


_Refusals = list[tuple[Waiting, Refused]]
_Repeated = list[tuple[Waiting, int]]  # with the index that the log has it under


class Writer:
    """Owns the queue and the fold; nobody else changes the book."""

    def __init__(
        self, log: Log, codec: Codec, clock: Clock, *, sign: Sign, seal_every: int
    ) -> None:
        """Take the ports; ``run`` does the work on ``fold``, set before."""
        self.fold = Fold()
        self.queue: deque[Waiting] = deque()
        self.listeners: list[Listener] = []
        self.keeper = Keeper(log, codec)
        self.sealed_size = 0  # entries up to and with the last Seal
        self.thread = ThreadPoolExecutor(1, thread_name_prefix="sublet-log")
        self._log = log
        self._codec = codec
        self._clock = clock
        self._sign = sign
        self._seal_every = seal_every
        self._arrived = asyncio.Event()
        self._is_closing = False
        self._in_flight: list[Waiting] = []
        self._kept: asyncio.Future[None] | None = None

    def wake(self) -> None:
        """Say that something was queued."""
        self._arrived.set()

    def stop(self) -> None:
        """End ``run`` once the queue is empty."""
        self._is_closing = True
        self._arrived.set()

    async def run(self) -> None:
        """Commit what is queued until ``stop``; then seal.

        Raises:
            Broken: an invariant fell; what was in flight is in the log, not answered.
        """
        try:
            while not self._is_closing:
                await self._arrived.wait()
                self._arrived.clear()
                while self.queue:
                    await self._commit_next()
                    if self.fold.size - self.sealed_size >= self._seal_every:
                        await self._seal()
                await self.wait_kept()
            if self.fold.size > self.sealed_size:
                await self._seal()
            await self.wait_kept()
        finally:
            # Let nobody wait for a writer that has stopped.
            for waiting in [*self._in_flight, *self.queue]:
                waiting.fail(
                    Unavailable("the market has stopped", code="market_closed")
                )
            self.queue.clear()

    async def keep(self, moved: Sequence[Lease] = ()) -> None:
        """Begin to sign and keep a checkpoint of the tree as it is now.

        The log's thread does it while the next commit is looked at; its place there is
        behind the checkpoint before and ahead of that commit.
        """
        await self.wait_kept()
        keep = partial(
            self.keeper.keep,
            size=self.fold.size,
            root=self.fold.tree.root(),
            moved=moved,
        )
        self._kept = asyncio.get_running_loop().run_in_executor(self.thread, keep)

    async def wait_kept(self) -> None:
        """Wait until the last checkpoint is kept.

        Raises:
            Broken: the store is damaged.
        """
        if self._kept is not None:
            await self._kept

    async def in_thread(self, work: Callable[[], T]) -> T:
        """Run blocking work in the log's thread, in the order of the calls."""
        return await asyncio.get_running_loop().run_in_executor(self.thread, work)

    def now_s(self) -> int:
        """Give the time for the next entry: it never goes back, whatever the clock."""
        return max(self._clock.now_s(), self.fold.at_s)

    def is_due(self, now_s: int) -> bool:
        """Say whether a deadline of the book has come."""
        deadline_s = next_deadline_s(self.fold.book)
        return deadline_s is not None and deadline_s <= now_s

    # ---- one commit -----------------------------------------------------------

    async def _commit_next(self) -> None:
        """Take from the queue what fits one commit, store it, fold it, answer it."""
        admitted, refused = self._admit()
        self._in_flight = [item.waiting for item in admitted]
        self._in_flight += [waiting for waiting, _ in refused]
        try:
            indexes, known = await self.in_thread(
                lambda: self._store(admitted, refused)
            )
        except Unavailable as error:
            # The commit left no trace in the log, so it leaves none in the book.
            for waiting in self._in_flight:
                waiting.fail(error)
        else:
            repeated, moved = self._fold_in(admitted, indexes)
            for (waiting, refusal), index in zip(refused, known, strict=True):
                if index is None:
                    waiting.resolve(Result(waiting.candidate.id, refusal=refusal))
                else:
                    repeated.append((waiting, index))
            if repeated:
                await self._recall(repeated)
            if admitted:
                await self.keep(moved)
        self._in_flight = []

    def _admit(self) -> tuple[list[_Admitted], _Refusals]:
        """Look at what waits, in order, against the book.

        A refusal stands only if nothing before it is still to be folded: what this
        commit holds may be just what the document needs. Then it waits for the next.
        """
        now_s = self.now_s()
        admitted: list[_Admitted] = []
        refused: _Refusals = []
        while self.queue and len(admitted) + len(refused) < limits.BATCH_DOCUMENTS_MAX:
            waiting = self.queue[0]
            candidate = waiting.candidate
            fact = Fact(now_s, candidate.id, candidate.signer, candidate.document)
            try:
                check_age(candidate.document, now_s=self._clock.now_s())
                check(self.fold.book, fact)
            except Refused as refusal:
                if admitted:
                    break
                refused.append((waiting, refusal))
            else:
                body = self._codec.write_entry(Entry(fact, candidate.signature))
                admitted.append(_Admitted(waiting, fact, body, leaf_hash(body)))
            self.queue.popleft()
        return admitted, refused

    def _store(
        self, admitted: list[_Admitted], refused: _Refusals
    ) -> tuple[list[int], list[int | None]]:
        """Append, and look whether the log already knows what was refused."""
        rows = [(item.fact.id, item.body, item.leaf) for item in admitted]
        indexes = self._log.append(rows) if rows else []
        return indexes, [self._log.find(each.candidate.id) for each, _ in refused]

    def _fold_in(
        self, admitted: list[_Admitted], indexes: list[int]
    ) -> tuple[_Repeated, list[Lease]]:
        """Fold what is new and answer it; give what the log had, and what moved."""
        repeated: _Repeated = []
        moved: list[Lease] = []
        for item, index in zip(admitted, indexes, strict=True):
            if index < self.fold.size:
                repeated.append((item.waiting, index))
                continue
            if index > self.fold.size:
                raise Broken(
                    f"the log gave index {index} where {self.fold.size} was next; "
                    "somebody else appends to it"
                )
            step = self.fold.take(item.fact, leaf=item.leaf)
            moved += _moved(step)
            item.waiting.resolve(self._result(item, index, step))
        for lease in moved:
            for listener in self.listeners:
                listener(lease)
        return repeated, moved

    def _result(self, item: _Admitted, index: int, step: Step) -> Result:
        lease_id = find_lease_id(item.waiting.candidate)
        if lease_id is not None:
            lease = find_lease(self.fold.book, lease_id)
        else:
            lease = next(iter(reversed(_moved(step))), None)  # a voucher may settle one
        return Result(item.fact.id, index, item.fact.at_s, lease, step.refusal)

    async def _recall(self, repeated: _Repeated) -> None:
        """Answer documents that the log already holds: as they stand there, and now."""

        def look(waiting: Waiting, index: int) -> tuple[int, Lease | None]:
            (row,) = self._log.read(first=index, limit=1)
            lease_id = find_lease_id(waiting.candidate)
            settled = lease_id and self.keeper.find_settled(lease_id)
            return self._codec.read_entry(row.body).fact.at_s, settled or None

        found = await self.in_thread(lambda: [look(*each) for each in repeated])
        for (waiting, index), (at_s, settled) in zip(repeated, found, strict=True):
            candidate = waiting.candidate
            lease_id = find_lease_id(candidate)
            lease = find_lease(self.fold.book, lease_id) if lease_id else None
            lease = lease or settled
            refusal = None
            if lease is None and isinstance(candidate.document, Order):
                refusal = Refused(
                    f"this order stands in the log as entry {index}, where the market "
                    "refused it; sign a new one",
                    code="void_order",
                )
            waiting.resolve(Result(candidate.id, index, at_s, lease, refusal))

    # ---- the operator's own word ----------------------------------------------

    async def _seal(self) -> None:
        """Append a Seal of the book as it is, and keep the snapshot that it names.

        Dumping the book and checking the seal are long: they run in the log's thread.
        Commits wait for it, the event loop does not, and nobody else changes the book.
        A seal that the store does not take is tried again after the next commit.
        """
        now_s = self.now_s()
        if self.is_due(now_s):  # what is due happens before the seal, not within it
            await self._commit_tick(now_s)
        size, tree = self.fold.size, self.fold.tree.to_bytes()
        if await self.in_thread(lambda: self._append_seal(size, now_s, tree)):
            self.sealed_size = self.fold.size
            await self.keep()

    def _append_seal(self, size: int, now_s: int, tree: bytes) -> bool:
        book = dump(self.fold.book)
        book_hash = sha256(book).digest()
        digest: Digest = "0x" + book_hash.hex()
        seal = self._sign(Seal(size=size, book=digest, signed_at_s=now_s, salt=size))
        fact = Fact(now_s, seal.id, seal.signer, seal.document)
        body = self._codec.write_entry(Entry(fact, seal.signature))
        leaf = leaf_hash(body)
        try:
            self._log.append([(fact.id, body, leaf)])
        except Unavailable as error:
            values = {"code": error.code, "why": error.message}
            _LOGGER.warning("seal_not_kept", extra={"values": values})
            return False
        self.fold.take(fact, leaf=leaf)
        self.keeper.keep_snapshot(Snapshot(size, book, book_hash, tree))
        return True

    async def _commit_tick(self, now_s: int) -> None:
        """Let due deadlines pass, before all that waits."""
        tick = self._sign(Tick(signed_at_s=now_s, salt=self.fold.size))
        waiting, answer = wait_together([tick])
        self.queue.extendleft(waiting)
        await self._commit_next()
        with suppress(Unavailable):
            await answer


def _moved(step: Step) -> list[Lease]:
    return [out.lease for out in step.outcomes if isinstance(out, LeaseMoved)]
