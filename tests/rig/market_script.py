"""What happens on a market, document by document, for a store that fails meanwhile.

Each document is submitted again until it is acknowledged, as every party does; what was
acknowledged, and where, is remembered.
"""

from collections.abc import AsyncIterator, Awaitable, Callable

from sublet.adapter.clock_system import SystemClock
from sublet.base.ids import Digest
from sublet.core.book.book import Book
from sublet.core.book.invariant import check_invariants
from sublet.core.book.step import step
from sublet.core.lease.phase import Lease
from sublet.core.ledger.ledger import ISSUED
from sublet.service.audit import verify
from sublet.service.ports import Log
from sublet.service.submission import Candidate, Result
from sublet.wire.codec import DocumentCodec
from sublet.wire.note import read_checkpoint
from tests.fakes.world import World

CREDITS = 500_000_000
Submit = Callable[[Candidate], Awaitable[Result]]


class Script:
    """One market's life; ``say`` brings a document through whatever happens."""

    def __init__(self, world: World, say: Submit) -> None:
        self.world = world
        self.acknowledged: dict[Digest, int] = {}
        self.owed: dict[Digest, int] = {}  # micro-USD, of leases that are over
        self._say = say

    async def _do(self, candidate: Candidate) -> Lease | None:
        result = await self._say(candidate)
        assert result.refusal is None, result.refusal
        assert self.acknowledged.setdefault(result.id, result.index) == result.index
        return result.lease

    async def _move(self, candidate: Candidate) -> Lease:
        lease = await self._do(candidate)
        assert lease is not None
        return lease

    async def play(self, *, leases: int) -> AsyncIterator[int]:
        """Found a market, and let leases live from order to last voucher; count them."""
        world = self.world
        for one in (world.found(), world.credit(world.tenant.address, CREDITS)):
            await self._do(one)
        for number, provider in enumerate(world.providers):
            await self._do(world.seen(provider))
            await self._do(world.offer(provider, gpu_price=400_000 + 10_000 * number))
        for number in range(leases):
            lease = await self._move(world.order())
            for one in (world.terms, world.delivery, world.start):
                lease = await self._move(one(lease))
            world.clock.at_s += 10
            lease = await self._move(world.usage(lease, ran_ms=10_000, sequence=1))
            await self._move(world.kept(lease, ran_ms=5_000))
            lease = await self._move(world.receipt(lease, ran_ms=10_000))
            if number == 0:
                await self._do(world.channel(lease))
            # Said again it names no lease: whose it settles is in the book.
            await self._do(world.voucher(lease, amount=lease.channel_total))
            self.owed[lease.id] = lease.owed
            yield number

    def check(self, log: Log) -> None:
        """Assert: all that was acknowledged is there; signatures, tree, book, money."""
        rows = log.read(first=0, limit=100_000)
        found = {row.id: row.index for row in rows}
        assert len(found) == len(rows)
        missing = {k: v for k, v in self.acknowledged.items() if found.get(k) != v}
        assert not missing, "acknowledged facts are lost"
        if not rows:
            return  # nothing was said so far
        verdict = verify(log, DocumentCodec(), SystemClock(), read_note=read_checkpoint)
        assert verdict.is_good, verdict.finding
        book, codec = Book(), DocumentCodec()
        for row in rows:
            step(book, codec.read_entry(row.body).fact)
        check_invariants(book)
        wallets = [x for x in book.ledger.accounts.values() if x.id != ISSUED]
        total = sum(x.credits_posted - x.debits_posted for x in wallets)
        if book.ledger.issued_total:
            assert total == book.ledger.issued_total == CREDITS, "made or lost money"
        for lease_id, owed in self.owed.items():
            assert book.settled[lease_id].paid == owed > 0
