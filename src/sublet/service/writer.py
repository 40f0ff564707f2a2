"""The one task that writes: from a queue of documents to answered results.

It takes whatever arrived while the commit before was in flight, looks at each
document against the book, appends all of them in one fsynced commit, folds them in
the order of the log and answers. So a single order on an idle node waits for one
fsync and nothing else, and a thousand at once share a few.

Where the log is shared, others append between: what they said is folded first, in its
order, and nothing is refused before all of it was heard.
"""

import asyncio
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial

from msgspec.structs import replace

from sublet.base import limits
from sublet.base.errors import Refused, Unavailable
from sublet.base.ids import Digest
from sublet.core.book.book import Book
from sublet.core.book.step import BEFORE_TIME, check, pass_time
from sublet.core.book.view import find_lease
from sublet.core.document import Entry, Fact, Order, Tick
from sublet.core.lease.phase import Lease
from sublet.core.merkle import leaf_hash
from sublet.service.follower import Follower
from sublet.service.own_word import OwnWord, Sign
from sublet.service.ports import (
    ANY_GROUND,
    Clock,
    Codec,
    Ground,
    Log,
    LogForked,
    Overtaken,
    Placing,
    Unattended,
)
from sublet.service.submission import (
    Result,
    Waiting,
    check_age,
    find_lease_id,
    find_order_id,
    wait_together,
)

AWAY_MS = 10_000  # since a process was last seen to run, until it was away


@dataclass(slots=True)
class _Admitted:
    """A document that passed the dry run, as it will stand in the log."""

    waiting: Waiting
    fact: Fact
    body: bytes
    leaf: bytes


_Refusals = list[tuple[Waiting, Refused]]
_Repeated = list[tuple[Waiting, int]]  # with the index that the log has it under


@dataclass(slots=True)
class _Stored:
    """What the log said to one commit."""

    placing: Placing
    known: list[int | None] = field(default_factory=list)  # where refused ones stand


class Writer:
    """Owns the queue, and what is folded; nobody else changes the book."""

    def __init__(
        self, log: Log, codec: Codec, clock: Clock, *, sign: Sign, seal_every: int
    ) -> None:
        """Take the ports; ``run`` does the work on ``follower.fold``, set before."""
        self.follower = Follower(log, codec, clock)
        self.own_word = OwnWord(log, codec, sign=sign, follower=self.follower)
        self.queue: deque[Waiting] = deque()
        self._log = log
        self._codec = codec
        self._clock = clock
        self._sign = sign
        self._seal_every = seal_every
        self._looked_ms = 0  # when ``look`` was called last; 0: never
        self._was_away = False
        self._arrived = asyncio.Event()
        self._is_closing = False
        self._in_flight: list[Waiting] = []
        self._asked: list[asyncio.Future[None]] = []  # to hear what others said

    def wake(self) -> None:
        """Say that something was queued."""
        self._arrived.set()

    def look(self) -> None:
        """Say that this process runs; whoever serves says so every second.

        After a gap in that (it was frozen, or the machine slept) nobody was heard
        here, so that nobody is late: ``Resume`` comes before all else. A shared log
        sees by itself whether a node was there.
        """
        now_ms = self._clock.monotonic_ms()
        if self._looked_ms and now_ms - self._looked_ms > AWAY_MS:
            self._was_away = not self._log.is_shared
        self._looked_ms = now_ms

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
                while self.queue or self._asked:
                    await self._answer_asked()
                    if self.queue:
                        await self._commit_next()
                    if self.follower.count_unsealed() >= self._seal_every:
                        await self._seal()
                await self.follower.wait_kept()
            if self.follower.count_unsealed():
                await self._seal()
            await self.follower.wait_kept()
        finally:
            # Let nobody wait for a writer that has stopped.
            closed = Unavailable("the market has stopped", code="market_closed")
            for waiting in [*self._in_flight, *self.queue]:
                waiting.fail(closed)
            self.queue.clear()
            for asked in self._asked:
                _answer(asked, closed)

    # ---- what others said -----------------------------------------------------

    async def hear_others(self) -> None:
        """Wait until all is folded that the log holds now.

        Raises:
            Unavailable: the store does not answer, or the market has stopped.
        """
        asked: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._asked.append(asked)
        self.wake()
        await asked

    async def _answer_asked(self) -> None:
        asked, self._asked = self._asked, []
        error: Unavailable | None = None
        if asked:
            try:
                await self.follower.catch_up()
                await self.follower.in_thread(partial(self._log.append, ()))
            except Unattended:
                await self._begin_anew(Unattended(), conditional=())
            except Unavailable as fault:
                error = fault
        for each in asked:
            _answer(each, error)

    # ---- one commit -----------------------------------------------------------

    async def _commit_next(self) -> None:
        """Take from the queue what fits one commit, store it, fold it, answer it."""
        if self._looked_ms:
            self.look()  # the gap may end with a document
        if self._was_away and not await self._come_back():
            return
        admitted, refused = self._admit()
        self._in_flight = [waiting for waiting, _ in refused]
        self._in_flight += [item.waiting for item in admitted]
        try:
            stored = await self.follower.in_thread(
                partial(self._store, admitted, refused)
            )
            heard = await self.follower.catch_up(stored.placing.size)
        except (Overtaken, Unattended) as refusal:
            await self._begin_anew(refusal, conditional=[i.waiting for i in admitted])
        except Unavailable as error:
            # Not acknowledged; what was taken all the same is heard of later.
            for waiting in self._in_flight:
                waiting.fail(error)
        else:
            if heard and not admitted and refused:
                self._put_back()  # what others said may be just what was missing
                await self.follower.keep()
            else:
                await self._finish(admitted, refused, stored, heard)
        self._in_flight = []

    async def _come_back(self) -> bool:
        """Say Resume; where it cannot be said, nothing else is."""
        try:
            await self.own_word.resume()
        except Unavailable as error:
            while self.queue:
                self.queue.popleft().fail(error)
        else:
            self._was_away = False
        return not self._was_away

    async def _finish(
        self,
        admitted: list[_Admitted],
        refused: _Refusals,
        stored: _Stored,
        heard: dict[Digest, Result],
    ) -> None:
        repeated, moved = self._fold_in(admitted, stored.placing)
        for (waiting, refusal), index in zip(refused, stored.known, strict=True):
            if index is None:
                waiting.resolve(Result(waiting.candidate.id, refusal=refusal))
            else:
                repeated.append((waiting, index))
        for waiting, _ in repeated:
            if waiting.candidate.id in heard:
                waiting.resolve(heard[waiting.candidate.id])
        unheard = [each for each in repeated if each[0].candidate.id not in heard]
        if unheard:
            await self._recall(unheard)
        if admitted or heard:
            await self.follower.keep(moved)

    def _put_back(self) -> None:
        self.queue.extendleft(reversed(self._in_flight))

    async def _begin_anew(
        self, refusal: Refused, *, conditional: Sequence[Waiting]
    ) -> None:
        """After others came first: hear them, and look at everything again."""
        for waiting in conditional:
            if waiting.ground is not ANY_GROUND and isinstance(refusal, Overtaken):
                self._in_flight.remove(waiting)
                waiting.resolve(Result(waiting.candidate.id, refusal=refusal))
        self._put_back()
        with suppress(Unavailable):
            await self.follower.catch_up()
            if isinstance(refusal, Unattended):
                await self.own_word.resume()

    def _admit(self) -> tuple[list[_Admitted], _Refusals]:
        """Look at what waits, in order, against the book.

        A refusal stands only if nothing before it is still to be folded: what this
        commit holds may be just what the document needs. Then it waits for the next.
        """
        now_s, book = self.follower.now_s(), self.follower.fold.book
        passed: Book | None = None  # the same, once what is due has passed
        admitted: list[_Admitted] = []
        refused: _Refusals = []
        while self.queue and len(admitted) + len(refused) < limits.BATCH_DOCUMENTS_MAX:
            waiting = self.queue[0]
            if waiting.ground is not ANY_GROUND and (admitted or refused):
                break  # what stands on a ground of its own is committed alone
            candidate = waiting.candidate
            fact = Fact(now_s, candidate.id, candidate.signer, candidate.document)
            try:
                if candidate.signer != book.operator:
                    check_age(candidate.document, now_s=self._clock.now_s())
                if type(fact.document) in BEFORE_TIME:
                    check(book, fact)
                else:
                    passed = passed or pass_time(book, now_s)
                    check(passed, fact)
            except Refused as refusal:
                if admitted:
                    break
                refused.append((waiting, refusal))
            else:
                body = self._codec.write_entry(Entry(fact, candidate.signature))
                admitted.append(_Admitted(waiting, fact, body, leaf_hash(body)))
            self.queue.popleft()
            if waiting.ground is not ANY_GROUND:
                break
        return admitted, refused

    def _store(self, admitted: list[_Admitted], refused: _Refusals) -> _Stored:
        """Append, and look whether the log already knows what was refused."""
        rows = [(item.fact.id, item.body, item.leaf) for item in admitted]
        if not rows and not self._log.is_shared:
            placing = Placing(self.follower.fold.size, [])
        else:
            placing = self._log.append(rows, ground=self._ground(admitted))
        return _Stored(
            placing, [self._log.find(each.candidate.id) for each, _ in refused]
        )

    def _ground(self, admitted: list[_Admitted]) -> Ground:
        if not admitted:
            return ANY_GROUND
        ground = self.follower.ground(admitted[0].fact.at_s)
        own = admitted[0].waiting.ground
        if own is ANY_GROUND:
            return ground
        return replace(own, size=ground.size, leaf=ground.leaf, at_s=ground.at_s)

    def _fold_in(
        self, admitted: list[_Admitted], placing: Placing
    ) -> tuple[_Repeated, list[Lease]]:
        """Fold what is new and answer it; give what the log had, and what moved."""
        repeated: _Repeated = []
        moved: list[Lease] = []
        for item, index in zip(admitted, placing.indexes, strict=True):
            if index < self.follower.fold.size:
                repeated.append((item.waiting, index))
                continue
            if index > self.follower.fold.size:
                raise LogForked(
                    f"the log gave index {index} where {self.follower.fold.size} was next"
                )
            step, leases = self.follower.take(item.fact, item.leaf)
            moved += leases
            item.waiting.resolve(self.follower.result(item.fact, index, step))
        self.follower.tell(moved)
        return repeated, moved

    async def _recall(self, repeated: _Repeated) -> None:
        """Answer documents that the log already holds: as they stand there, and now."""

        def look(waiting: Waiting, index: int) -> tuple[int, Lease | None]:
            (row,) = self._log.read(first=index, limit=1)
            lease_id = find_lease_id(waiting.candidate)
            settled = lease_id and self.follower.keeper.find_settled(lease_id)
            return self._codec.read_entry(row.body).fact.at_s, settled or None

        found = await self.follower.in_thread(
            lambda: [look(*each) for each in repeated]
        )
        for (waiting, index), (at_s, settled) in zip(repeated, found, strict=True):
            candidate = waiting.candidate
            lease_id = find_lease_id(candidate)
            lease = find_lease(self.follower.fold.book, lease_id) if lease_id else None
            lease = lease or settled
            order_id = find_order_id(candidate)
            book = self.follower.fold.book
            order = None if order_id is None else book.find_order(order_id)
            refusal = None
            if not (lease or order) and isinstance(candidate.document, Order):
                refusal = Refused(
                    f"this order stands in the log as entry {index}, where the market "
                    "refused it; sign a new one",
                    code="void_order",
                )
            waiting.resolve(Result(candidate.id, index, at_s, lease, refusal, order))

    # ---- the operator's own word ----------------------------------------------

    async def _seal(self) -> None:
        now_s = self.follower.now_s()
        if self.follower.is_due(now_s):  # what is due happens before, not within it
            await self._commit_tick(now_s)
        await self.own_word.seal()

    async def _commit_tick(self, now_s: int) -> None:
        """Let due deadlines pass, before all that waits."""
        tick = self._sign(Tick(signed_at_s=now_s, salt=self.follower.fold.size))
        waiting, answer = wait_together([tick])
        self.queue.extendleft(waiting)
        await self._commit_next()
        with suppress(Unavailable):
            await answer


def _answer(asked: asyncio.Future[None], error: Unavailable | None) -> None:
    if asked.done():
        return  # whoever asked has gone
    if error is None:
        asked.set_result(None)
    else:
        asked.set_exception(error)
