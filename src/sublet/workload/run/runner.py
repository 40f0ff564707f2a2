"""The shell around the job core: carries out its orders, brings it facts.

One loop takes facts in the order in which they come, lets the core step, and obeys.
What takes time runs beside it, under one supervisor, and comes back as a fact.

Not here: what follows from what (``core.job``), what is said to a provider (``talk``),
what is asked for (``wish``, ``plan``).
"""

import asyncio
import contextlib
import os
import secrets
import time
from collections.abc import Coroutine
from typing import Any

from msgspec import Struct

from sublet.adapter.blobs_folder import FolderBlobs
from sublet.adapter.home_folder import Home
from sublet.base.errors import PeerFault, Refused, SubletError, Unavailable
from sublet.base.ids import Digest
from sublet.core.document import CheckpointKept, Stop
from sublet.core.job import fact, job, order
from sublet.core.job.move import OWN_REASONS
from sublet.core.job.record import JobRecord
from sublet.core.job.state import Job, JobPhase
from sublet.core.lease.phase import Fault, Lease, Phase
from sublet.sdk.connection import Connection
from sublet.sdk.job_channel import ChannelLost, ClientKey
from sublet.service.ports import Clock
from sublet.wire.message import Appended, Kept, Manifest, Tree
from sublet.wire.typed_data import Domain
from sublet.workload.run import event
from sublet.workload.run.contract import make_manifest, make_order
from sublet.workload.run.evidence import check_lease
from sublet.workload.run.layout import lay_out
from sublet.workload.run.plan import Program
from sublet.workload.run.purse import Purse
from sublet.workload.run.talk import Show, Talk
from sublet.workload.run.wish import Terms

WATCH_AFTER_S = 1.0  # a job that is over by then needs nobody to watch its lease
WATCH_PAUSE_S = 2.0
SETTLE_S = 3.0  # to hear what a lost attempt cost, once the job is over
SALT_BITS = 62

EXIT_REFUSED = 2
EXIT_UNAVAILABLE = 3
EXIT_PEER_FAULT = 4


class Tenant(Struct, frozen=True):
    """Who runs jobs: a home, an identity in a market, a clock."""

    home: Home
    connection: Connection
    clock: Clock


class Work(Struct, frozen=True):
    """What is to be run, ready to go."""

    id: str
    program: Program
    terms: Terms
    inputs: Tree
    blobs: FolderBlobs


class Runner:
    """Runs one job to its end."""

    def __init__(self, *, tenant: Tenant, work: Work, show: Show) -> None:
        """Take who, what, and where events go; nothing is started yet."""
        self._home = tenant.home
        self._connection = tenant.connection
        self._clock = tenant.clock
        self._work = work
        self._show_event = show
        self._purse = Purse(home=tenant.home, connection=tenant.connection)
        self._key = ClientKey.generate()
        self._inbox: asyncio.Queue[fact.Fact] = asyncio.Queue()
        self._offset_ms = int(time.time() * 1_000) - tenant.clock.monotonic_ms()
        self._leases: dict[Digest, Lease] = {}
        self._manifests: dict[Digest, Manifest] = {}
        self._talks: dict[Digest, Talk] = {}
        self._dials: dict[Digest, asyncio.Task[None]] = {}
        self._watches: dict[Digest, asyncio.Task[None]] = {}
        self._group = asyncio.TaskGroup()
        self._domain: Domain | None = None
        self._job = Job()
        self._created_at_ms = self.now_ms()
        self.local_fault = ""  # what could not be done on this machine

    def now_ms(self) -> int:
        """Milliseconds since the epoch, by a clock that never goes back."""
        return self._offset_ms + self._clock.monotonic_ms()

    def stop(self) -> None:
        """Ask for the job to be stopped and settled; twice is harmless."""
        self._inbox.put_nowait(fact.StopAsked(at_ms=self.now_ms()))

    async def run(self) -> JobRecord:
        """Run the job to its end; give what there is to remember of it.

        Raises:
            Broken: an invariant fell.
        """
        folder = self._home.job_folder(self._work.id)
        self._home.write_private(folder / "ssh_key", self._key.to_pem())
        try:
            async with self._group:
                await self._live()
                for task in (*self._dials.values(), *self._watches.values()):
                    task.cancel()
        except BaseExceptionGroup as group:
            raise _first(group) from None
        await self._settle_up()
        record = self._record()
        self._home.write_job(record)
        return record

    async def _live(self) -> None:
        self._job, orders = job.start(self._work.terms.limits, at_ms=self.now_ms())
        await self._obey(orders)
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
                blamed = fact.PeerMisbehaved(
                    at_ms=said.at_ms,
                    lease_id=said.lease_id,
                    code=fault.code,
                    message=fault.message,
                )
                self._job, orders = job.step(before, blamed)
            await self._tell(before)
            await self._obey(orders)

    # ---- orders -----------------------------------------------------------------

    async def _obey(self, orders: tuple[order.Order, ...]) -> None:
        for one in orders:
            match one:
                case order.PlaceOrder():
                    self._spawn(self._place(one))
                case order.AwaitSupply():
                    self._spawn(self._await_supply(one.delay_ms))
                case order.AwaitReceipt():
                    overdue = fact.ReceiptOverdue(
                        at_ms=self.now_ms() + one.delay_ms, lease_id=one.lease_id
                    )
                    self._spawn(self._say_later(overdue, one.delay_ms))
                case order.Dial():
                    talk = self._talk(one.lease_id)
                    dial = self._spawn(self._dial(talk, one.delay_ms))
                    self._dials[one.lease_id] = dial
                case order.WatchLease():
                    self._watch(one.lease_id)
                case order.Deliver():
                    await self._talk(one.lease_id).deliver()
                case order.SignVoucher():
                    await self._pay(one)
                case order.SignKept():
                    self._spawn(self._keep(one))
                case order.FetchOutputs():
                    self._talk(one.lease_id).fetch_outputs()
                case order.StopLease():
                    self._spawn(self._stop(one))
                case order.CloseChannel():
                    await self._part(one)
                case order.Finish():
                    pass
                case _:
                    raise AssertionError(f"nobody obeys {type(one).__name__}")

    async def _place(self, one: order.PlaceOrder) -> None:
        try:
            self._say(await self._order_lease(one))
        except SubletError as fault:
            self._say(
                fact.OrderRefused(
                    at_ms=self.now_ms(),
                    code=fault.code,
                    message=fault.message,
                    exit_code=exit_code_of(fault),
                )
            )

    async def _order_lease(self, one: order.PlaceOrder) -> fact.Fact:
        work, connection = self._work, self._connection
        manifest = make_manifest(
            work.program,
            work.terms,
            inputs=work.inputs,
            resume=self._find_checkpoint(one.resume),
            salt=secrets.token_hex(16),
        )
        document = make_order(
            work.terms.needs,
            tenant=connection.key.address,
            manifest=manifest,
            ssh_key=self._key.public_line(),
            avoid=one.avoid,
            spent=one.spent,
            at_s=self._clock.now_s(),
            salt=secrets.randbits(SALT_BITS),
        )
        [result] = await connection.submit(document)
        lease = result.lease
        if result.fault is not None:
            return self._refused(result)
        if lease is None:
            raise PeerFault("the market took the order and names no lease")
        check_lease(lease, order=document, order_id=result.id)
        self._domain = await connection.domain()
        self._leases[lease.id] = lease
        self._manifests[lease.id] = manifest
        return fact.LeaseGranted(
            at_ms=self.now_ms(),
            lease_id=lease.id,
            provider=lease.provider,
            machine=lease.machine,
            price_hour=lease.price_hour,
            hold=lease.hold,
            duration_s=lease.duration_s,
        )

    def _refused(self, result: Appended) -> fact.Fact:
        fault = result.fault
        if fault is None:
            raise AssertionError("only a refused document is explained")
        if fault.code == "no_match":
            return fact.NoMatch(
                at_ms=self.now_ms(), message=fault.message, detail=fault.detail
            )
        message = fault.message
        if fault.code == "insufficient_funds":
            message += "; where the market has a faucet: sublet wallet faucet"
        return fact.OrderRefused(
            at_ms=self.now_ms(),
            code=fault.code,
            message=message,
            exit_code=EXIT_UNAVAILABLE if fault.retry_after_s else EXIT_REFUSED,
        )

    async def _dial(self, talk: Talk, delay_ms: int) -> None:
        await asyncio.sleep(delay_ms / 1_000)
        await talk.converse(self._connection)

    def _watch(self, lease_id: Digest) -> None:
        is_hurried = lease_id in self._watches
        if is_hurried:
            self._watches[lease_id].cancel()
        delay_s = 0.0 if is_hurried else WATCH_AFTER_S
        self._watches[lease_id] = self._spawn(self._watch_lease(lease_id, delay_s))

    async def _watch_lease(self, lease_id: Digest, delay_s: float) -> None:
        await asyncio.sleep(delay_s)
        while True:
            with contextlib.suppress(Unavailable, Refused, PeerFault):
                async for lease in self._connection.watch_lease(lease_id):
                    if self._note_lease(lease):
                        return
            await asyncio.sleep(WATCH_PAUSE_S)

    def _note_lease(self, lease: Lease) -> bool:
        """Say so where a lease is settled."""
        if lease.phase is not Phase.SETTLED:
            return False
        self._say(
            fact.LeaseSettled(
                at_ms=self.now_ms(),
                lease_id=lease.id,
                reason=lease.reason,
                is_provider_fault=lease.fault is Fault.PROVIDER,
                ran_ms=lease.ran_ms,
                paid=lease.paid,
            )
        )
        return True

    async def _pay(self, one: order.SignVoucher) -> None:
        talk = self._talk(one.lease_id)
        try:
            paid = await self._purse.pay(
                talk.lease, owed=one.owed, channel_total=one.channel_total
            )
        except PeerFault as fault:
            self._say(
                fact.PeerMisbehaved(
                    at_ms=self.now_ms(),
                    lease_id=one.lease_id,
                    code=fault.code,
                    message=fault.message,
                )
            )
            return
        try:
            await talk.send(paid)
        except ChannelLost:
            # The market takes a voucher from anyone; the provider need not be there.
            documents = (
                [paid.voucher]
                if paid.channel is None
                else [
                    paid.channel,
                    paid.voucher,
                ]
            )
            with contextlib.suppress(Unavailable, Refused):
                await self._connection.submit_signed(*documents)

    async def _keep(self, one: order.SignKept) -> None:
        document = CheckpointKept(
            lease_id=one.lease_id,
            ran_ms=one.ran_ms,
            checkpoint=one.tree_id,
            signed_at_s=self._clock.now_s(),
            salt=secrets.randbits(SALT_BITS),
        )
        # Without the market's word less is owed, and nothing else is lost.
        with contextlib.suppress(Unavailable, Refused):
            await self._connection.submit(document)
        with contextlib.suppress(ChannelLost):
            await self._talk(one.lease_id).send(Kept(number=one.number))

    async def _stop(self, one: order.StopLease) -> None:
        document = Stop(
            lease_id=one.lease_id,
            reason=one.reason,
            signed_at_s=self._clock.now_s(),
            salt=secrets.randbits(SALT_BITS),
        )
        with contextlib.suppress(Unavailable, Refused):
            [result] = await self._connection.submit(document)
            if result.lease is not None:
                self._note_lease(result.lease)

    async def _part(self, one: order.CloseChannel) -> None:
        if one.lease_id in self._talks:
            await self._talk(one.lease_id).finish(one.reason, one.message)
        lease = self._leases[one.lease_id]
        with contextlib.suppress(Unavailable):
            await self._purse.close(lease)

    # ---- parts ------------------------------------------------------------------

    def _talk(self, lease_id: Digest) -> Talk:
        if lease_id not in self._talks:
            if self._domain is None:
                raise AssertionError("a lease was signed in a domain")
            self._talks[lease_id] = Talk(
                lease=self._leases[lease_id],
                manifest=self._manifests[lease_id],
                domain=self._domain,
                blobs=self._work.blobs,
                folder=self._home.job_folder(self._work.id),
                key=self._key,
                now_ms=self.now_ms,
                say=self._say,
                show=self._show_event,
                spawn=self._spawn,
            )
        return self._talks[lease_id]

    def _find_checkpoint(self, key: Digest) -> Tree:
        for talk in self._talks.values():
            if key in talk.checkpoints:
                return talk.checkpoints[key]
        return Tree(files=())

    def _say(self, said: fact.Fact) -> None:
        self._inbox.put_nowait(said)

    async def _await_supply(self, delay_ms: int) -> None:
        await asyncio.sleep(delay_ms / 1_000)
        if self._home.is_stop_asked(self._work.id):
            self.stop()
        else:
            self._say(fact.SupplyDue(at_ms=self.now_ms()))

    async def _say_later(self, said: fact.Fact, delay_ms: int) -> None:
        await asyncio.sleep(delay_ms / 1_000)
        self._say(said)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        return self._group.create_task(work)

    async def _lay_out(self, lease_id: Digest) -> None:
        """Put fetched outputs where they were asked for."""
        tree = self._talk(lease_id).outputs
        try:
            missing = await asyncio.to_thread(
                lay_out, tree, self._work.terms.outputs, blobs=self._work.blobs
            )
        except (Refused, Unavailable) as fault:
            # The provider did its part and is paid; the files are still in the home.
            self.local_fault = fault.message
            return
        for path in missing:
            await self._show_event(event.Missing(at_ms=self.now_ms(), path=path))

    # ---- what others see ----------------------------------------------------------

    async def _tell(self, before: Job) -> None:
        """Tell what the step changed, and keep it for the other commands."""
        after = self._job
        if len(after.attempts) > len(before.attempts):
            one = after.attempt
            await self._show_event(
                event.Matched(
                    at_ms=self.now_ms(),
                    lease_id=one.lease_id,
                    provider=one.provider,
                    machine=one.machine,
                    price_hour=one.price_hour,
                    attempt=len(after.attempts),
                )
            )
        elif before.attempts and before.phase is not after.phase is JobPhase.SEEKING:
            one = after.attempt
            await self._show_event(
                event.Left(
                    at_ms=self.now_ms(),
                    provider=one.provider,
                    outcome=one.outcome,
                    note=one.note,
                )
            )
        elif after.is_waiting and not before.is_waiting:
            await self._show_event(
                event.Waiting(at_ms=self.now_ms(), message=after.message)
            )
        if after.phase is not before.phase:
            self._home.write_job(self._record())

    def _record(self) -> JobRecord:
        return JobRecord(
            id=self._work.id,
            name=self._work.terms.name,
            command=self._work.program.command,
            market=self._connection.url,
            tenant=self._connection.key.address,
            created_at_ms=self._created_at_ms,
            pid=os.getpid(),
            job=self._job,
            disk_bytes=self._work.terms.needs.disk_bytes,
        )

    async def _settle_up(self) -> None:
        """Ask what attempts cost that did not end by a receipt."""
        unknown = [
            attempt.lease_id
            for attempt in self._job.attempts
            if attempt.paid < 0 and attempt.outcome not in OWN_REASONS
        ]
        with contextlib.suppress(SubletError, TimeoutError):
            async with asyncio.timeout(SETTLE_S):
                for lease_id in unknown:
                    self._note_lease(await self._connection.lease(lease_id))
        while not self._inbox.empty():
            said = self._inbox.get_nowait()
            if isinstance(said, fact.LeaseSettled):
                self._job, _ = job.step(self._job, said)


def exit_code_of(fault: SubletError) -> int:
    """Say what the command line ends with for an error."""
    if isinstance(fault, PeerFault):
        return EXIT_PEER_FAULT
    return EXIT_REFUSED if isinstance(fault, Refused) else EXIT_UNAVAILABLE


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """Of what fell at once, the one that is not a mere consequence."""
    found: BaseException = group
    while isinstance(found, BaseExceptionGroup):
        found = found.exceptions[0]
    return found
