"""Carries out the table's orders for one lease: each reports back by a fact.

Each may be carried out twice without harm: documents are deduplicated by the log or
refused by its table, a sandbox is stopped once, a folder is erased once.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping
from functools import partial

from sublet.adapter.remains import remove_folder
from sublet.base.errors import Broken, PeerFault, Refused, SubletError, Unavailable
from sublet.core.document import Delivery, Start
from sublet.core.egress import EgressTable
from sublet.core.lease.phase import Phase
from sublet.provider import lease_state as ls
from sublet.provider import meter
from sublet.provider.account import SECURED_ONLY
from sublet.provider.collection import Leftovers, collect, make_failure, make_receipt
from sublet.provider.desk import Desk
from sublet.provider.erasure import Eraser, must_erase
from sublet.provider.image_program import check_image
from sublet.provider.lease_state import Order, find_reason
from sublet.provider.preparation import find_wanted, lay_out
from sublet.provider.reception import Reception
from sublet.provider.replacing import Replacer, ready
from sublet.provider.surroundings import draw_salt
from sublet.provider.watch import JobWatch
from sublet.service.ports import SandboxState
from sublet.wire.message import Manifest

STOP_GRACE_S = 10  # from SIGTERM to SIGKILL, to save work
ERASE_AGAIN_S = 60  # until an erasure that failed is tried again
LAST_CHECKPOINT_S = 15  # for the tenant to fetch the last one, on a give-back


class Effects:
    """What the orders of one lease do to the world."""

    def __init__(self, desk: Desk, reception: Reception) -> None:
        """Take the lease and its tenant's door."""
        self._desk = desk
        self._around = desk.around
        self._reception = reception
        self._replacer = Replacer(desk, reception)
        self._orders: Mapping[Order, Callable[[], Awaitable[None]]] = {
            Order.SUBMIT_DELIVERY: self._submit_delivery,
            Order.PREPARE: self._prepare,
            Order.SUBMIT_START: self._submit_start,
            Order.METER: self.watch,
            Order.REPLACE: self._replace,
            Order.STOP_PREPARING: self._stop_preparing,
            Order.STOP_PROGRAM: self._stop_program,
            Order.KILL_PROGRAM: self._kill_program,
            Order.COLLECT: self._collect,
            Order.FAIL: self._fail,
            Order.FINISH: self._finish,
            Order.ERASE: self._erase,
        }

    async def carry_out(self, order: Order) -> None:
        """Carry out one order, or begin to; what lasts runs beside the loop."""
        await self._orders[order]()

    # ---- before the program runs --------------------------------------------------

    async def _submit_delivery(self) -> None:
        if self._desk.record.lease.phase not in (Phase.MATCHED, Phase.ACCEPTED):
            return  # delivered once more, after a restart of this agent
        self._around.put(
            Delivery(
                lease_id=self._desk.record.lease.id,
                manifest=self._desk.record.lease.manifest,
                signed_at_s=self._around.clock.now_s(),
                salt=draw_salt(),
            )
        )

    async def _prepare(self) -> None:
        self._desk.begin("prepare", self._prepare_and_start)

    async def _prepare_and_start(self) -> None:
        desk, manifest = self._desk, self._desk.manifest
        try:
            if manifest is None:
                raise Broken("a lease is prepared without its manifest")
            await self._start(manifest)
        except (Refused, Unavailable, PeerFault) as fault:
            desk.warn("preparation_failed", code=fault.code)
            desk.say("preparing", fault.message)
            if desk.cover is not None:
                desk.cover.note(f"preparing failed: {fault.message}")
            await self.stop_sandbox(grace_s=0)
            desk.tell(ls.PrepareFailed())
        else:
            desk.tell(ls.Started())

    async def _start(self, manifest: Manifest) -> None:
        desk = self._desk

        def say(text: str) -> None:
            desk.say("preparing", text)

        say("laying out the job")
        if manifest.sealed is not None:
            manifest = await asyncio.to_thread(self._open, manifest)
        await lay_out(manifest, desk.folder, blobs=desk.plain)
        self._reception.watch = JobWatch(desk, manifest)
        if manifest.resume.files:
            await asyncio.to_thread(self._reception.watch.pass_over_resumed)
        spec, environment = await ready(desk, manifest, folder=desk.folder, say=say)
        desk.update(environment=environment)
        if not desk.record.lease.is_funded:
            say("waiting for the deposit on the chain")
            await self._wait_funded()
        await self._check_funded()
        await desk.sandbox.start(spec, folder=desk.folder.job)

    async def _wait_funded(self) -> None:
        """Wait for the market's word, or for the chain's that there will be none."""
        desk, cashier = self._desk, self._around.cashier
        if cashier is None:
            await desk.wait_funded()
            return
        lost = asyncio.create_task(cashier.wait_lost(desk.record.lease.id))
        funded = asyncio.create_task(desk.wait_funded())
        try:
            done, _ = await asyncio.wait(
                (lost, funded), return_when=asyncio.FIRST_COMPLETED
            )
            for one in done:
                one.result()
        finally:
            lost.cancel()
            funded.cancel()

    async def _check_funded(self) -> None:
        """Look at the chain, too: a job that nobody pays for is not begun."""
        lease = self._desk.record.lease
        if self._around.cashier is not None and lease.hold:
            channel = self._around.till.channel(lease)
            await self._around.cashier.check_funded(lease, channel)

    def _open(self, outer: Manifest) -> Manifest:
        """Open a sealed job and its folders; blocks."""
        desk = self._desk
        desk.open_job(outer)
        if desk.cover is None:
            raise Broken("a sealed job was opened and has no cover")
        inner = desk.cover.open_trees(outer, desk.find_manifest(), source=desk.blobs)
        for chunk in find_wanted(outer):
            desk.blobs.drop(chunk)
        check_image(inner, self._around)  # nobody could before
        desk.manifest = inner
        return inner

    async def _stop_preparing(self) -> None:
        await self._desk.wait_cancelled("prepare")
        await self.stop_sandbox(grace_s=0)
        self._desk.tell(ls.PrepareFailed())

    async def _fail(self) -> None:
        desk = self._desk
        receipt = make_failure(
            desk.record,
            reason=desk.record.stop_reason or "failed",
            now_s=self._around.clock.now_s(),
            salt=draw_salt(),
        )
        desk.ended.set()
        desk.logs_ended.set()
        desk.update(
            receipt=self._around.put(receipt),
            owed=0,
            ended_at_s=self._around.clock.now_s(),
        )
        desk.push_ended()

    # ---- while it runs ------------------------------------------------------------

    async def _submit_start(self) -> None:
        self._around.put(
            Start(
                lease_id=self._desk.record.lease.id,
                signed_at_s=self._around.clock.now_s(),
                salt=draw_salt(),
            )
        )
        self._desk.say("running", "the program runs")

    async def watch(self) -> None:
        """Watch a program that runs; a restarted agent does so again."""
        if self._reception.watch is None:
            manifest = self._desk.find_manifest()
            if manifest is None:
                raise Broken("a job runs without a manifest")
            self._reception.watch = JobWatch(self._desk, manifest)
            if manifest.egress:
                await self._desk.way_out.open(manifest.egress)
        self._reception.watch.begin()

    async def _replace(self) -> None:
        self._desk.begin("replace", self._replacer.run)

    async def _stop_program(self) -> None:
        await self._desk.wait_cancelled("replace")
        grace_s = 0 if self._desk.is_hurried else STOP_GRACE_S
        self._desk.begin("stop", partial(self.stop_sandbox, grace_s=grace_s))

    async def _kill_program(self) -> None:
        await self._desk.wait_cancelled("replace")
        self._desk.begin("stop", self._kill_and_tell)

    async def _kill_and_tell(self) -> None:
        await self.stop_sandbox(grace_s=0)
        self._desk.tell(ls.ProgramEnded())

    async def stop_sandbox(self, *, grace_s: int) -> None:
        """End the program, if there is one; twice is harmless."""
        with contextlib.suppress(Refused):  # nothing was ever started
            await self._desk.sandbox.stop(self._desk.folder.job, grace_s=grace_s)

    # ---- after it -----------------------------------------------------------------

    async def _collect(self) -> None:
        await self._desk.wait_cancelled("replace")
        await self.stop_sandbox(grace_s=0)  # it may just have started the next one
        self._desk.begin("collect", self._collect_and_tell)

    async def _collect_and_tell(self) -> None:
        desk, watch = self._desk, self._reception.watch
        state = desk.read_state()
        reason = find_reason(state, asked=desk.record.stop_reason)
        if watch is not None:
            watch.end()
            is_heard = desk.conversation.is_open and not desk.is_hurried
            if reason == "given_back" and is_heard:
                await watch.offer(is_last=True)
                await watch.wait_kept(timeout_s=LAST_CHECKPOINT_S)
        try:
            left = await asyncio.to_thread(
                collect,
                desk.find_manifest(),
                desk.folder,
                blobs=desk.plain,
                bytes_max=desk.record.lease.disk_bytes,
            )
            if desk.cover is not None:
                left = await asyncio.to_thread(
                    desk.cover.seal_leftovers, left, desk.manifest, into=desk.blobs
                )
            desk.folder.write_outputs(left.outputs)
        except SubletError as fault:
            desk.warn("outputs_lost", code=fault.code, why=fault.message)
            left = collect(None, desk.folder, blobs=desk.blobs, bytes_max=0)
            if desk.cover is not None:
                left = desk.cover.seal_leftovers(left, None, into=desk.blobs)
            desk.say("running", f"no outputs: {fault.message}")
        for note in left.notes:
            desk.say("running", note)
        egress = None
        if desk.way_out.is_used():
            await desk.way_out.close()
            egress = desk.way_out.table()
        self._sign_receipt(left, state, reason, egress)
        desk.tell(ls.Collected())

    def _sign_receipt(
        self,
        left: Leftovers,
        state: SandboxState,
        reason: str,
        egress: EgressTable | None,
    ) -> None:
        desk, now_s = self._desk, self._around.clock.now_s()
        record = meter.note_ran(desk.record, ran_ms=state.ran_ms)
        if reason in SECURED_ONLY:
            record = meter.bill_secured(record, is_claimed=reason == "given_back")
        receipt = make_receipt(
            record,
            left,
            state,
            egress=egress,
            reason=reason,
            now_s=now_s,
            salt=draw_salt(),
        )
        desk.outputs = left.outputs
        desk.record = record
        desk.update(receipt=self._around.sign(receipt), ended_at_s=now_s)

    async def _finish(self) -> None:
        desk = self._desk
        desk.ended.set()
        desk.logs_ended.set()
        desk.push_ended()  # the tenant first: the log may take a moment
        if desk.record.receipt is not None:
            self._around.outbox.put(desk.record.receipt)
            self._around.till.hand_in(desk.record.lease, self._around.outbox.put)

    async def _erase(self) -> None:
        self._desk.begin("erase", self._erase_and_tell)

    async def _erase_and_tell(self) -> None:
        """Remove the folder, and all that the tenant's order required before that."""
        path = self._desk.folder.path
        if must_erase(self._desk.record.lease):
            async with self._reception.room:  # whatever was just being opened is there
                while not await Eraser(self._desk).erase():  # noqa: ASYNC110
                    await asyncio.sleep(ERASE_AGAIN_S)  # bound meanwhile
        self._desk.conversation.close()
        try:
            await remove_folder(path)
        except Unavailable:
            self._desk.warn("not_erased", folder=str(path))
        self._desk.tell(ls.Erased())
