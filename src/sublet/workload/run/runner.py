"""The shell around the job core: carries out its orders, brings it facts.

One loop takes facts in the order in which they come, lets the core step, and obeys.
What takes time runs beside it, under one supervisor, and comes back as a fact.

Not here: what follows from what (``core.job``), what is said to a provider (``talk``),
what is asked for (``wish``, ``plan``).
"""

import asyncio
import contextlib
import os
import time
from collections.abc import Callable, Coroutine
from typing import Any

from msgspec.structs import replace

from sublet.base.errors import PeerFault, Refused, Unavailable
from sublet.base.ids import Address, Digest
from sublet.core.job import fact, job, order
from sublet.core.job.record import JobRecord
from sublet.core.job.state import Job, JobPhase
from sublet.sdk.connection import Connection
from sublet.sdk.job_channel import ChannelLost, ClientKey
from sublet.wire.message import Kept, Tree
from sublet.workload.run import event
from sublet.workload.run.harvest import Harvest
from sublet.workload.run.line import Line, open_line
from sublet.workload.run.log_copy import Log, open_logs
from sublet.workload.run.market_desk import MarketDesk
from sublet.workload.run.news import find_news
from sublet.workload.run.purse import Purse
from sublet.workload.run.scrutiny import Scrutiny
from sublet.workload.run.talk import Show, Talk
from sublet.workload.run.work import Tenant, Work

WATCH_AFTER_S = 1.0  # a job that is over by then needs nobody to watch its lease
SETTLE_S = 3.0  # to hear what a lost attempt cost, once the job is over


class Runner:
    """Runs one job to its end."""

    def __init__(
        self,
        *,
        tenant: Tenant,
        work: Work,
        show: Show,
        avoided: tuple[Address, ...] = (),
        key: ClientKey | None = None,
    ) -> None:
        """Take who, what, and where events go; whom to avoid, and the leases' key."""
        self._avoided = avoided
        self._home = tenant.home
        self._connection = tenant.connection
        self._clock = tenant.clock
        self._work = work
        self._show_event = show
        self._purse = Purse(
            channels=tenant.home, connection=tenant.connection, mandate=work.mandate
        )
        self._key = key or ClientKey.generate()
        self._inbox: asyncio.Queue[fact.Fact] = asyncio.Queue()
        self._offset_ms = int(time.time() * 1_000) - tenant.clock.monotonic_ms()
        self._talks: dict[Digest, Talk] = {}
        self._watches: dict[Digest, asyncio.Task[None]] = {}
        self._passing: set[asyncio.Task[None]] = set()  # ends when the job does
        self._group = asyncio.TaskGroup()
        self._desk = MarketDesk(
            connection=tenant.connection,
            clock=tenant.clock,
            work=work,
            ssh_key=self._key.public_line(),
            now_ms=self.now_ms,
            say=self._say,
            show=self._show_event,
            is_stopped=self._is_stop_asked,
        )
        self._is_stopped = False
        self._job = Job()
        self._created_at_ms = self.now_ms()
        self.harvest = Harvest(home=tenant.home, work=work)
        self.scrutiny = Scrutiny(tenant, self._desk, now_ms=self.now_ms, show=show)

    def now_ms(self) -> int:
        """Milliseconds since the epoch, by a clock that never goes back."""
        return self._offset_ms + self._clock.monotonic_ms()

    @property
    def cost(self) -> int:
        """Micro-USD that the job has come to so far."""
        return self._job.cost

    async def open_line(self, lease_id: Digest) -> Line:
        """Reach a lease's provider beside its own channel; raises as ``open_line``."""
        lease = self._desk.leases[lease_id]
        return await open_line(self._connection, lease=lease, key=self._key)

    async def replace(self, work: Work) -> None:
        """Run another program from now on; Refused: why the old one goes on."""
        if self._job.phase is not JobPhase.RUNNING:
            raise Refused("no program runs just now", code="not_running")
        lease_id = self._job.attempt.lease_id
        contract = await self._desk.make_replacement(lease_id, work)
        await self._talks[lease_id].replace(*contract)
        self._work = self._desk.work = work
        await self._note_down()

    def stop(self) -> None:
        """Ask for the job to be stopped and settled; twice is harmless."""
        self._is_stopped = True
        self._inbox.put_nowait(fact.StopAsked(at_ms=self.now_ms()))

    def dismiss(self, fault: PeerFault) -> None:
        """Sign nothing more for the lease, and stop it; where there is none, ``stop``."""
        if self._job.phase in (JobPhase.SEEKING, JobPhase.FINISHED):
            self.stop()
            return
        lease_id = self._job.attempt.lease_id
        self._say(_accuse(fault, lease_id=lease_id, at_ms=self.now_ms()))

    async def run(self) -> JobRecord:
        """Run the job to its end; give what there is to remember of it."""
        place = self._home.job_folder(self._work.id) / "ssh_key"
        self._home.write_private(place, self._key.to_pem())
        await self._write()
        looking = asyncio.create_task(self.scrutiny.look())
        try:
            async with self._group:
                await self._live()
                for task in list(self._passing):
                    task.cancel()
        except BaseExceptionGroup as group:
            looking.cancel()
            fault = _first(group)
            if isinstance(fault, Unavailable):
                await self._desk.abandon(self._job)
            raise fault from None
        receipts = {lease_id: talk.receipt for lease_id, talk in self._talks.items()}
        await self.scrutiny.leave(receipts)
        await self._settle_up()
        await self._note_down()
        checkpoint = self._find_checkpoint(self._job.checkpoint)
        await asyncio.to_thread(self.harvest.tidy, self._job, checkpoint=checkpoint)
        await looking
        return self._record()

    async def _live(self) -> None:
        await self._obey(self._begin())
        await self._go_on()

    async def _go_on(self) -> None:
        """Take facts until the job is over."""
        while self._job.phase is not JobPhase.FINISHED:
            said = await self._inbox.get()
            before = self._job
            if isinstance(said, fact.OutputsStored):
                await self._lay_out(said.lease_id)
            try:
                self._job, orders = job.step(before, said)
            except job.IllegalStep as fault:
                if not isinstance(said, fact.LeaseFact):
                    raise
                # What has no place came from the provider: it broke the protocol.
                blamed = _accuse(fault, lease_id=said.lease_id, at_ms=said.at_ms)
                self._job, orders = job.step(before, blamed)
            await self._tell(before)
            await self._obey(orders)

    def _begin(self) -> tuple[order.Order, ...]:
        self._job, orders = job.start(
            self._work.terms.limits, at_ms=self.now_ms(), avoided=self._avoided
        )
        return orders

    # ---- orders -----------------------------------------------------------------

    async def _obey(self, orders: tuple[order.Order, ...]) -> None:
        for one in orders:
            match one:
                case order.PlaceOrder():
                    resume = self._find_checkpoint(one.resume)
                    self._spawn(self._place(one, resume))
                case order.AwaitSupply():
                    self._spawn(self._await_supply(one.delay_ms))
                case order.AwaitReceipt():
                    self._spawn(_miss_receipt(one, self._say, self.now_ms()))
                case order.Dial():
                    talk = await self._find_talk(one.lease_id)
                    self._spawn(self._dial(talk, one.delay_ms))
                case order.WatchLease():
                    self._watch(one.lease_id)
                case order.Deliver():
                    self._talks[one.lease_id].deliver()
                case order.SignVoucher():
                    await self._pay(one)
                case order.SignKept():
                    self._spawn(self._keep(one))
                case order.FetchOutputs():
                    self._talks[one.lease_id].fetch_outputs()
                case order.StopLease():
                    # The job does not end before the market has heard of it.
                    self._group.create_task(self._desk.stop(one))
                case order.CloseChannel():
                    await self._part(one)
                case order.Finish():
                    pass
                case _:
                    raise AssertionError(f"nobody obeys {type(one).__name__}")

    async def _place(self, one: order.PlaceOrder, resume: Tree) -> None:
        await self._desk.place(one, resume=resume)

    async def _dial(self, talk: Talk, delay_ms: int) -> None:
        await asyncio.sleep(delay_ms / 1_000)
        await talk.converse(self._connection)

    def _watch(self, lease_id: Digest) -> None:
        delay_s = WATCH_AFTER_S
        if lease_id in self._watches:
            self._watches[lease_id].cancel()
            delay_s = 0.0
        watching = self._desk.watch(lease_id, delay_s=delay_s)
        self._watches[lease_id] = self._spawn(watching)

    async def _pay(self, one: order.SignVoucher) -> None:
        talk = self._talks[one.lease_id]
        try:
            paid = await self._purse.pay(
                talk.lease, owed=one.owed, channel_total=one.channel_total
            )
        except PeerFault as fault:
            self._say(_accuse(fault, lease_id=one.lease_id, at_ms=self.now_ms()))
            return
        with contextlib.suppress(ChannelLost):
            await talk.send(paid)
            if one.channel_total is not None:
                return  # else it is through with the lease, and need not listen
        await self._desk.hand_in(paid)

    async def _keep(self, one: order.SignKept) -> None:
        # Vouched for in the market too: an owner whose machine dies in the next second
        # is paid for what it had secured. Without the market's word less is owed, and
        # nothing else is lost.
        lease = self._talks[one.lease_id].lease
        with contextlib.suppress(Unavailable, Refused):
            paid = await self._purse.pay(lease, owed=one.owed)
            await self._desk.keep(one, paid)
        with contextlib.suppress(ChannelLost):
            await self._talks[one.lease_id].send(Kept(number=one.number))

    async def _part(self, one: order.CloseChannel) -> None:
        if one.lease_id in self._talks:
            await self._talks[one.lease_id].finish(one.reason, one.message)
        with contextlib.suppress(Unavailable):
            await self._purse.close(self._desk.leases[one.lease_id])

    # ---- parts ------------------------------------------------------------------

    async def _find_talk(self, lease_id: Digest) -> Talk:
        if lease_id not in self._talks:
            self._talks[lease_id] = Talk(
                lease=self._desk.leases[lease_id],
                word=self._desk.word(lease_id),
                add_deposit=self._purse.add_deposit,
                domain=await self._desk.domain(),
                blobs=self._work.blobs,
                folder=self._home.job_folder(self._work.id),
                logs=await self._open_logs(lease_id),
                key=self._key,
                now_ms=self.now_ms,
                say=self._say,
                show=self._show_event,
                spawn=self._spawn,
            )
        return self._talks[lease_id]

    async def _open_logs(self, lease_id: Digest) -> list[Log]:
        return open_logs(self._home.job_folder(self._work.id))

    def _find_checkpoint(self, key: Digest) -> Tree:
        kept = (talk.checkpoints.get(key) for talk in self._talks.values())
        return next(filter(None, kept), Tree(files=()))

    def _say(self, said: fact.Fact) -> None:
        self._inbox.put_nowait(said)

    def _is_stop_asked(self) -> bool:
        """Say whether it is stopped, here or by another command."""
        if not self._is_stopped and self._home.is_stop_asked(self._work.id):
            self.stop()
        return self._is_stopped

    async def _await_supply(self, delay_ms: int) -> None:
        await asyncio.sleep(delay_ms / 1_000)
        if not self._is_stop_asked():
            self._say(fact.SupplyDue(at_ms=self.now_ms()))

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = self._group.create_task(work)
        self._passing.add(task)
        task.add_done_callback(self._passing.discard)
        return task

    async def _lay_out(self, lease_id: Digest) -> None:
        talk = self._talks[lease_id]
        missing = await asyncio.to_thread(
            self.harvest.store, talk.outputs, fault=talk.local_fault
        )
        for path in missing:
            await self._show_event(event.Missing(at_ms=self.now_ms(), path=path))

    # ---- what others see ----------------------------------------------------------

    async def _tell(self, before: Job) -> None:
        """Tell what the step changed, and keep it for the other commands."""
        after = self._job
        if news := find_news(before, after, at_ms=self.now_ms()):
            await self._show_event(news)
        if after.phase is not before.phase or after.checkpoint != before.checkpoint:
            await self._note_down()

    async def _note_down(self) -> None:
        with contextlib.suppress(Unavailable):  # the job goes on without the note
            await self._write()

    async def _write(self) -> None:
        self._home.write_job(self._record())

    def _record(self) -> JobRecord:
        made = _describe(self._work, self._connection)
        return replace(made, created_at_ms=self._created_at_ms, job=self._job)

    async def _settle_up(self) -> None:
        """Ask what attempts cost that did not end by a receipt."""
        await self._desk.settle_up(self._job.unpriced, limit_s=SETTLE_S)
        while not self._inbox.empty():
            if isinstance(said := self._inbox.get_nowait(), fact.LeaseSettled):
                self._job, _ = job.step(self._job, said)


def _describe(work: Work, connection: Connection) -> JobRecord:
    """Say of a job what does not change."""
    return JobRecord(
        id=work.id,
        name=work.terms.name,
        command=work.program.command,
        market=connection.url,
        tenant=connection.key.address,
        created_at_ms=0,
        pid=os.getpid(),
        job=Job(),
        disk_bytes=work.terms.needs.disk_bytes,
    )


async def _miss_receipt(
    one: order.AwaitReceipt, say: Callable[[fact.Fact], None], now_ms: int
) -> None:
    await asyncio.sleep(one.delay_ms / 1_000)
    at_ms = now_ms + one.delay_ms
    say(fact.ReceiptOverdue(at_ms=at_ms, lease_id=one.lease_id))


def _accuse(
    fault: PeerFault | Refused, *, lease_id: Digest, at_ms: int
) -> fact.PeerMisbehaved:
    return fact.PeerMisbehaved(
        at_ms=at_ms, lease_id=lease_id, code=fault.code, message=fault.message
    )


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """Of what fell at once, the one that is not a mere consequence."""
    found: BaseException = group
    while isinstance(found, BaseExceptionGroup):
        found = found.exceptions[0]
    return found
