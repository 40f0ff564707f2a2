"""What a node knows of its log: folded, kept, told; what others append included.

One fold, changed between two awaits of one task, and the one thread in which the log
is used. Not here: what this node itself appends (``writer``, ``own_word``).
"""

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TypeVar

from sublet.base.ids import Digest
from sublet.core.book.open_order import OpenOrder, OrderPhase
from sublet.core.book.step import LeaseMoved, OrderMoved, Step, next_deadline_s
from sublet.core.book.view import find_lease
from sublet.core.document import Fact, Seal
from sublet.core.lease.phase import Lease
from sublet.service.fold import Fold
from sublet.service.keeper import Keeper
from sublet.service.others import Others
from sublet.service.ports import Clock, Codec, Ground, Log
from sublet.service.submission import Result, find_lease_id, find_order_id

T = TypeVar("T")
Listener = Callable[[Lease], None]
OrderListener = Callable[[OpenOrder], None]


class Follower:
    """Owns the fold; one task takes entries into it."""

    def __init__(self, log: Log, codec: Codec, clock: Clock) -> None:
        """Take the ports; ``fold`` is set before there is work."""
        self.fold = Fold()
        self.listeners: list[Listener] = []
        self.order_listeners: list[OrderListener] = []
        self.keeper = Keeper(log, codec)
        self.sealed_size = 0  # entries up to and with the last Seal
        self.thread = ThreadPoolExecutor(1, thread_name_prefix="sublet-log")
        self._others = Others(log, codec)
        self._clock = clock
        self._kept: asyncio.Future[None] | None = None
        # Heard from others since a checkpoint was last kept: so much, what it moved.
        self._heard = 0
        self._moved: list[Lease] = []
        self._opened: list[OpenOrder] = []  # for bids; not told yet

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

    def count_unsealed(self) -> int:
        """Count the entries behind the last Seal."""
        return self.fold.size - self.sealed_size

    def ground(self, at_s: int) -> Ground:
        """Say what an append is decided on: all that is folded."""
        leaves = self.fold.leaves
        return Ground(size=len(leaves), leaf=leaves[-1] if leaves else b"", at_s=at_s)

    async def keep(self, moved: Sequence[Lease] = ()) -> None:
        """Begin to sign and keep a checkpoint of the tree as it is now.

        The log's thread does it while the next commit is looked at; its place there is
        behind the checkpoint before and ahead of that commit.
        """
        await self.wait_kept()
        self._heard, heard, self._moved = 0, self._moved, []
        keep = partial(
            self.keeper.keep,
            size=self.fold.size,
            root=self.fold.tree.root(),
            moved=[*heard, *moved],
        )
        self._kept = asyncio.get_running_loop().run_in_executor(self.thread, keep)

    async def wait_kept(self) -> None:
        """Wait until the last checkpoint is kept.

        Raises:
            Broken: the store is damaged.
        """
        if self._kept is not None:
            await self._kept

    async def catch_up(self, size: int | None = None) -> dict[Digest, Result]:
        """Fold what others have appended (below ``size``); give what became of it.

        Up to a ``size`` that the caller's own entries follow, it is the caller who
        keeps a checkpoint, of both: one instead of two on the way of each commit.

        Raises:
            LogForked: the log does not go on from what was folded here.
            Unavailable: the store does not answer; what was read so far is folded.
        """
        results: dict[Digest, Result] = {}
        while size != self.fold.size:
            read = partial(self._others.read, self.fold, size)
            page = await self.in_thread(read)
            if not page:
                break
            moved: list[Lease] = []
            for fact, leaf in page:
                index = self.fold.size
                step, leases = self.take(fact, leaf)
                moved += leases
                results[fact.id] = self.result(fact, index, step)
            self.tell(moved)
            self._heard += len(page)
            self._moved += moved
        if self._heard and size is None:
            await self.keep()
        return results

    def take(self, fact: Fact, leaf: bytes) -> tuple[Step, list[Lease]]:
        """Fold the next entry; give the leases that it moved, too.

        Raises:
            Broken: an invariant of the book fell.
        """
        step = self.fold.take(fact, leaf=leaf)
        if isinstance(fact.document, Seal) and step.refusal is None:
            self.sealed_size = self.fold.size
        self._opened += _opened(step)
        return step, _moved(step)

    def tell(self, moved: Sequence[Lease]) -> None:
        """Tell all who listen, in the order of the log."""
        for lease in moved:
            for listener in self.listeners:
                listener(lease)
        opened, self._opened = self._opened, []
        for order in opened:
            for tell in self.order_listeners:
                tell(order)

    def result(self, fact: Fact, index: int, step: Step) -> Result:
        """Say what became of an entry that was folded just now."""
        lease_id = find_lease_id(fact)
        if lease_id is not None:
            lease = find_lease(self.fold.book, lease_id)
        else:
            lease = next(iter(reversed(_moved(step))), None)  # a voucher may settle one
        order_id = find_order_id(fact)
        order = None if order_id is None else self.fold.book.find_order(order_id)
        return Result(fact.id, index, fact.at_s, lease, step.refusal, order)


def _moved(step: Step) -> list[Lease]:
    return [out.lease for out in step.outcomes if isinstance(out, LeaseMoved)]


def _opened(step: Step) -> list[OpenOrder]:
    """Give the orders whose window for bids has just opened."""
    return [
        out.order
        for out in step.outcomes
        if isinstance(out, OrderMoved)
        and out.order.phase is OrderPhase.BIDDING
        and not out.order.bids
    ]
