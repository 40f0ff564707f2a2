"""Runs one detached job: the tenant's own runner, in a delegate's hands.

It differs from a tenant's in four things: orders name the delegation; before an order
goes out it is in the vault, so that whoever takes over sends the same one and not a
second; what it fetches is ciphertext and stays in the vault; it can go on where
another left off.

Not here: which jobs there are (``controllers``), how a job goes (``core.job``).
"""

import asyncio
import contextlib
import secrets

from msgspec.structs import replace

from sublet.adapter.home_folder import Home
from sublet.base.errors import PeerFault, Refused, Unavailable
from sublet.base.ids import NO_DIGEST, Digest
from sublet.core.book.mode import SPOT
from sublet.core.job import job, order
from sublet.core.job.record import JobRecord
from sublet.core.job.state import Job, JobLimits
from sublet.node.controller.ledger import Ledger
from sublet.sdk.connection import Connection
from sublet.sdk.job_channel import ClientKey
from sublet.service.ports import Blobs, Clock
from sublet.wire.detached import Contract, DetachedPlan
from sublet.wire.manifest import commitment, size_chunks, tree_id
from sublet.wire.message import Manifest, Signed, Tree
from sublet.wire.typed_data import digest
from sublet.workload.run.contract import join_avoided
from sublet.workload.run.event import AnyEvent
from sublet.workload.run.harvest import Harvest
from sublet.workload.run.key_half import find_statement
from sublet.workload.run.log_copy import STREAMS, Log
from sublet.workload.run.market_desk import MarketDesk
from sublet.workload.run.plan import Program
from sublet.workload.run.purse import Purse
from sublet.workload.run.runner import Runner
from sublet.workload.run.wish import Needs, Terms
from sublet.workload.run.work import Mandate, Tenant, Work

SALT_BITS = 62
FLUSH_S = 0.5  # between two looks at what came of the streams


class Pilot(Runner):
    """Runs one detached job, from its beginning or from where it was left."""

    def __init__(
        self,
        plan: DetachedPlan,
        ledger: Ledger,
        *,
        home: Home,
        connection: Connection,
        clock: Clock,
        key: ClientKey,
    ) -> None:
        """Take the plan, what is known, and the delegate's way to the market.

        ``home`` is for what nobody misses once this pilot is gone.
        """
        work = _make_work(plan, ledger.job.blobs)
        tenant = Tenant(home, connection, clock)
        super().__init__(tenant=tenant, work=work, show=_ignore, key=key)
        self._ledger = ledger
        self._plan = plan
        self.harvest = NoHarvest(home=home, work=work)
        self._purse = Purse(
            channels=ledger, connection=connection, mandate=work.mandate
        )
        self._desk = self._delegated = DelegatedDesk(
            plan,
            ledger,
            connection=connection,
            clock=clock,
            work=work,
            ssh_key=key.public_line(),
            now_ms=self.now_ms,
            say=self._say,
            show=_ignore,
            is_stopped=self._is_stop_asked,
        )

    async def run(self) -> JobRecord:
        """Run the job to its end; raises as ``Runner.run``, and ``ClaimLost``."""
        known = self._ledger.state.job
        if known is not None:
            self._job = known
            for attempt in known.attempts:
                await self._delegated.recall(attempt.lease_id)
        flushing = asyncio.create_task(self._flush())
        try:
            return await super().run()
        finally:
            flushing.cancel()

    def _begin(self) -> tuple[order.Order, ...]:
        if self._ledger.state.job is None:
            return super()._begin()
        self._job, orders = job.resume(self._job, at_ms=self.now_ms())
        return orders

    async def _note_down(self) -> None:
        # Whoever takes over goes by this: what is not written is not done.
        await self._write()

    async def _write(self) -> None:
        state = self._ledger.state
        if not self._job.attempts and state.job is None and not state.order:
            return  # nothing happened yet; the plan says it all
        checkpoint = self._find_checkpoint(self._job.checkpoint)
        await self._ledger.change(job=self._job, checkpoint=checkpoint)
        kept = size_chunks(checkpoint, self._plan.manifest.inputs)
        for stale in size_chunks(state.checkpoint).keys() - kept:
            await asyncio.to_thread(self._ledger.job.blobs.drop, stale)

    async def _flush(self) -> None:
        while True:
            await asyncio.sleep(FLUSH_S)
            with contextlib.suppress(Unavailable, Refused):
                await self._ledger.flush()

    async def _part(self, one: order.CloseChannel) -> None:
        await super()._part(one)
        folder = self._home.job_folder(self._work.id)
        statement = find_statement(folder, one.lease_id)
        if statement.exists():
            await self._ledger.keep_statement(one.lease_id, statement.read_bytes())

    async def _lay_out(self, lease_id: Digest) -> None:
        await self._ledger.change(outputs=self._talks[lease_id].outputs)

    def _find_checkpoint(self, key: Digest) -> Tree:
        if key != NO_DIGEST and tree_id(self._ledger.state.checkpoint) == key:
            return self._ledger.state.checkpoint
        return super()._find_checkpoint(key)

    async def _open_logs(self, lease_id: Digest) -> list[Log]:
        logs = [
            Log(name, copy=self._ledger.open_copy(lease_id, name)) for name in STREAMS
        ]
        for log in logs:
            await asyncio.to_thread(log.go_on)
        return logs


class NoHarvest(Harvest):
    """Brings nothing home: what is kept stays for the tenant to fetch."""

    def tidy(self, job: Job, *, checkpoint: Tree) -> None:
        """Leave everything where it is."""


class DelegatedDesk(MarketDesk):
    """Orders in the tenant's name, each at most once."""

    def __init__(
        self, plan: DetachedPlan, ledger: Ledger, *, clock: Clock, **rest: object
    ) -> None:
        """Take the plan and what is known; the rest is as for a tenant's desk."""
        super().__init__(clock=clock, **rest)  # type: ignore[arg-type]
        self._plan = plan
        self._ledger = ledger
        self._own_clock = clock
        self._is_resent = ledger.state.order is None

    async def recall(self, lease_id: Digest) -> None:
        """Know a lease again that was granted before this process began.

        Raises:
            Unavailable: the market does not answer.
        """
        contract = self._ledger.state.contracts[lease_id]
        self.leases[lease_id] = await self._connection.lease(lease_id)
        self.manifests[lease_id] = make_manifest(self._plan, contract)
        newest = self._ledger.state.order
        if newest and digest(newest.document, await self.domain()) == lease_id:
            self.orders[lease_id] = newest

    async def abandon(self, job: Job) -> None:
        """Leave the lease to whoever takes over."""

    async def _forsake(self, order_id: Digest) -> None:
        """Leave the order that waits to whoever takes over, too: it is in the vault."""

    async def make_contract(
        self, one: order.PlaceOrder, resume: Tree
    ) -> tuple[Signed, Manifest]:
        """Sign the order of one attempt; it is in the vault when this returns.

        The first time after a takeover, that is the one which may have been sent
        already: the log knows it by its id, and gives no second lease for it.
        """
        state = self._ledger.state
        if not self._is_resent and state.order is not None:
            self._is_resent = True
            await self._ledger.change()  # under this claim, before it is sent again
            known = await self._find_sent(state.order)
            if known is not None:
                return known
        contract = Contract(salt=secrets.token_hex(16), resume=resume)
        manifest = make_manifest(self._plan, contract)
        template, now_s = self._plan.order, self._own_clock.now_s()
        waits_s = template.open_until_s - template.signed_at_s
        left_s = max(1, self._plan.expires_at_s - now_s)
        document = replace(
            template,
            manifest=commitment(manifest),
            avoid=join_avoided(template.avoid, one.avoid),
            total_max=max(template.total_max - one.spent, 0),
            duration_s_max=min(template.duration_s_max, left_s),
            open_until_s=now_s + waits_s if template.open_until_s else 0,
            ssh_key=self._ssh_key,
            signed_at_s=now_s,
            salt=secrets.randbits(SALT_BITS),
        )
        signed = await self._connection.sign(document)
        lease_id = digest(document, await self.domain())
        leases = {lease: state.contracts[lease] for lease in self.leases}
        await self._ledger.change(
            order=signed, contracts={**leases, lease_id: contract}
        )
        return signed, manifest

    async def _find_sent(self, signed: Signed) -> tuple[Signed, Manifest] | None:
        """Give the order that was written last, unless its attempt is known already."""
        lease_id = digest(signed.document, await self.domain())
        if lease_id in self.leases:
            return None
        manifest = make_manifest(self._plan, self._ledger.state.contracts[lease_id])
        try:
            await self._connection.lease(lease_id)
        except (Refused, PeerFault):
            # Never granted. If it is still good, it is the one to send: whoever was
            # about to send it a moment ago gets the same lease and no other.
            [result] = await self._connection.submit_signed(signed)
            if result.fault is not None:
                return None
        return signed, manifest


def make_manifest(plan: DetachedPlan, contract: Contract) -> Manifest:
    """Give what one attempt is handed over with."""
    return replace(plan.manifest, salt=contract.salt, resume=contract.resume)


def _make_work(plan: DetachedPlan, blobs: Blobs) -> Work:
    template = plan.order
    needs = Needs(
        cpus_milli=template.cpus_milli,
        memory_bytes=template.memory_bytes,
        disk_bytes=template.disk_bytes,
        gpu_models=template.gpu_models,
        gpu_count=template.gpu_count,
        gpu_memory_bytes=template.gpu_memory_bytes,
        regions=template.regions,
        price_hour_max=template.price_hour_max,
        total_max=template.total_max,
        timeout_s=template.duration_s_max,
    )
    limits = JobLimits(
        retries=plan.retries,
        retries_own=plan.retries_own,
        wait_ms=plan.wait_ms,
        gives_way=template.mode == SPOT,
    )
    terms = Terms(
        needs=needs,
        limits=limits,
        outputs=(),
        checkpoint=plan.manifest.checkpoint,
        env={},
        secrets={},
        name="",
    )
    channels = {one.document.receiver: one for one in plan.channels}  # type: ignore[union-attr]
    return Work(
        id=plan.id,
        program=Program(kind="sealed", argv=(), sources=(), command=""),
        terms=terms,
        inputs=plan.manifest.inputs,
        blobs=blobs,
        mandate=Mandate(tenant=template.tenant, channels=channels),
    )


async def _ignore(said: AnyEvent) -> None:
    """Nobody looks on."""
