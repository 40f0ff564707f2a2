"""Several machines that are one attempt: each member a job, ordered and begun together.

A member's own job goes as any other (``runner``); here they meet. Whoever needs a lease
waits until all do, and one order is placed for all. Where one begins again, all others
are called back and begin again with it, each from its own checkpoint: also those that
were done. Where one ends for good, and not well, the others are stopped.
"""

import asyncio
import secrets
from collections.abc import Sequence

from msgspec.structs import replace

from sublet.adapter.blobs_folder import FolderBlobs
from sublet.adapter.home_folder import Home
from sublet.base import limits
from sublet.base.ids import NO_DIGEST, Digest
from sublet.core.job import fact, job, order
from sublet.core.job.move import CANCELLED
from sublet.core.job.record import JobRecord
from sublet.sdk.job_channel import ClientKey
from sublet.wire.message import Own, Tree
from sublet.workload.run import event
from sublet.workload.run.gang_need import rank_env, rank_output
from sublet.workload.run.market_desk import Granted, MarketDesk
from sublet.workload.run.runner import Runner
from sublet.workload.run.talk import Show
from sublet.workload.run.work import Tenant, Work

JOB_ID_BYTES = 6
NAME_LENGTH_MAX = 60  # characters of a gang's name in the names of its members


class Member(Runner):
    """Runs one member's job; leases come from the gang."""

    def __init__(
        self, rank: int, *, gang: "Gang", tenant: Tenant, work: Work, key: ClientKey
    ) -> None:
        """Take its place in the gang; the rest is as for any job."""
        super().__init__(tenant=tenant, work=work, show=self._show_ranked, key=key)
        self.rank = rank
        self._gang = gang

    @property
    def desk(self) -> MarketDesk:
        """Where it deals with the market."""
        return self._desk

    def hear(self, said: fact.Fact) -> None:
        """Take a fact from the gang."""
        self._say(said)

    async def _show_ranked(self, said: event.AnyEvent) -> None:
        await self._gang.show(replace(said, rank=self.rank))

    async def _place(self, one: order.PlaceOrder, resume: Tree) -> None:
        await self._gang.place(self.rank, one, resume)

    async def _live(self) -> None:
        await super()._live()
        while self._job.exit_code == 0 and await self._gang.is_wanted(self.rank):
            self._job, orders = job.again(self._job, at_ms=self.now_ms())
            await self._note_down()
            await self._obey(orders)
            await self._go_on()
        if self._job.exit_code:
            self._gang.leave(self.rank)


class Gang:
    """Runs all members to their end."""

    def __init__(self, *, tenant: Tenant, works: Sequence[Work], show: Show) -> None:
        """Take who, what each member runs, by rank, and where events go."""
        key = ClientKey.generate()  # one order names one
        self.show = show
        self.first: int | None = None  # the rank that failed first, if one did
        self.members = [
            Member(rank, gang=self, tenant=tenant, work=work, key=key)
            for rank, work in enumerate(works)
        ]
        self._asked: dict[int, tuple[order.PlaceOrder, Tree]] = {}
        self._leases: dict[int, Digest] = {}  # of each rank, the newest
        self._done: dict[int, asyncio.Future[bool]] = {}  # who wait for the others
        self._gone: set[int] = set()  # who never come back
        self._is_ordering = False

    def stop(self) -> None:
        """Ask for all members to be stopped and settled; twice is harmless."""
        for member in self.members:
            member.stop()

    async def run(self) -> list[JobRecord]:
        """Run all members to their end; give what there is to remember, by rank.

        Raises:
            Broken: an invariant fell.
            Unavailable: this machine cannot go on; all were stopped.
        """
        records: list[JobRecord] = []
        for ended in await asyncio.gather(
            *map(self._run, self.members), return_exceptions=True
        ):
            if isinstance(ended, BaseException):
                raise ended
            records.append(ended)
        return records

    async def _run(self, member: Member) -> JobRecord:
        try:
            return await member.run()
        except BaseException:
            self.leave(member.rank)
            raise

    # ---- what members say -------------------------------------------------------------

    async def place(self, rank: int, one: order.PlaceOrder, resume: Tree) -> None:
        """Take a member's wish for a lease; once all have one, order all at once."""
        self._asked[rank] = (one, resume)
        if self.first is not None:
            self._answer(self._say_over())
        elif len(self._asked) == len(self.members):
            await self._order()
        else:
            self._recall()

    async def is_wanted(self, rank: int) -> bool:
        """Wait, when a member is done, for the others; say whether it begins again."""
        if self._asked:
            return True
        if self.first is not None:
            return False
        done: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._done[rank] = done
        if len(self._done) == len(self.members):
            self._release(is_again=False)
        return await done

    def leave(self, rank: int) -> None:
        """Hear that a member ended, and not well: no other goes on without it."""
        self._gone.add(rank)
        if self.first is None:
            self.first = rank
            self.stop()
        self._release(is_again=False)
        if not self._is_ordering:
            self._answer(self._say_over())

    # ---- what follows -----------------------------------------------------------------

    def _recall(self) -> None:
        """Have those come who do not want a lease yet."""
        self._release(is_again=True)
        for rank in self._leases.keys() - self._asked.keys():
            member = self.members[rank]
            member.hear(
                fact.Recalled(at_ms=member.now_ms(), lease_id=self._leases[rank])
            )

    def _release(self, *, is_again: bool) -> None:
        done, self._done = self._done, {}
        for future in done.values():
            if not future.done():
                future.set_result(is_again)

    async def _order(self) -> None:
        """Place one order for all who asked."""
        orders = [self._asked[member.rank][0] for member in self.members]
        avoided = dict.fromkeys(address for one in orders for address in one.avoid)
        joined = order.PlaceOrder(
            avoid=tuple(avoided)[-limits.LIST_LENGTH_MAX :],
            resume=NO_DIGEST,
            spent=sum(one.spent for one in orders),
        )
        self._is_ordering = True
        try:
            granted = await self.members[0].desk.seek(joined, Tree(files=()))
        finally:
            self._is_ordering = False
        if isinstance(granted, fact.Fact):
            self._answer(granted)
        else:
            await self._hand_out(granted)

    async def _hand_out(self, granted: tuple[Granted, ...]) -> None:
        asked, self._asked = self._asked, {}
        for member, one in zip(self.members, granted, strict=True):
            own = Own(
                env=rank_env(member.rank, len(granted)), resume=asked[member.rank][1]
            )
            self._leases[member.rank] = one.lease.id
            member.hear(member.desk.take(one, own))
        for rank in self._gone:  # it fell meanwhile: nobody looks after its lease
            stop = order.StopLease(lease_id=self._leases[rank], reason=CANCELLED)
            await self.members[rank].desk.stop(stop)

    def _answer(self, said: fact.Fact) -> None:
        asked, self._asked = self._asked, {}
        for rank in asked:
            self.members[rank].hear(said)

    def _say_over(self) -> fact.NoMatch:
        message = f"rank {self.first} of the gang has ended"
        at_ms = self.members[0].now_ms()
        return fact.NoMatch(at_ms=at_ms, message=message, detail={})


def part_work(work: Work, home: Home) -> tuple[Work, ...]:
    """Give each machine its own work: a job's id, chunks, and places for outputs.

    Blocks; nothing is copied.

    Raises:
        Unavailable: the disk did not answer.
    """
    if work.terms.needs.gang.machines == 1:
        return (work,)
    base = (work.terms.name or work.id)[:NAME_LENGTH_MAX]
    works: list[Work] = []
    for rank in range(work.terms.needs.gang.machines):
        job_id = secrets.token_hex(JOB_ID_BYTES) if rank else work.id
        blobs = work.blobs
        if rank and isinstance(blobs, FolderBlobs):
            blobs = blobs.share(home.job_folder(job_id) / "blobs")
        outputs = tuple(rank_output(one, rank) for one in work.terms.outputs)
        terms = replace(work.terms, name=f"{base}.{rank}", outputs=outputs)
        works.append(replace(work, id=job_id, terms=terms, blobs=blobs))
    return tuple(works)
