"""Over a running job: the meter and its vouchers, checkpoints, and its end.

Three loops that begin when the program runs (or is found running by a restarted
agent) and end with it.
"""

import asyncio

from sublet.base.errors import Refused
from sublet.core.document import UsageRecord
from sublet.provider import lease_state as ls
from sublet.provider import meter
from sublet.provider.checkpoint import CheckpointWatch, find_kept
from sublet.provider.desk import Desk
from sublet.provider.surroundings import draw_salt
from sublet.wire.manifest import size_chunks, tree_id
from sublet.wire.message import Checkpointed, Manifest, Metered

LOOK_S = 0.5  # between two looks at the checkpoint folder
UNKEPT_S_MAX = 120  # the tenant has so long to fetch one before the next is offered


class JobWatch:
    """Watches one job; see the module."""

    def __init__(self, desk: Desk, manifest: Manifest) -> None:
        """Take the lease and its manifest (secrets are not needed)."""
        self._desk = desk
        self._is_paused = False
        self._kept = asyncio.Event()
        self._kept.set()
        self._offered: Checkpointed | None = None  # not kept yet
        kept = find_kept(manifest, desk.folder)
        bytes_max = desk.record.lease.disk_bytes
        self._checkpoints = (
            CheckpointWatch(kept, blobs=desk.plain, bytes_max=bytes_max)
            if kept is not None
            else None
        )

    def pass_over_resumed(self) -> None:
        """Do not offer what was laid out to go on from. Blocks."""
        if self._checkpoints is not None:
            self._checkpoints.pass_over()

    def begin(self) -> None:
        """Begin to watch a program that runs."""
        self._is_paused = False
        self._desk.begin("end", self._wait_end)
        self._desk.begin("meter", self._meter)
        if self._checkpoints is not None:
            self._desk.begin("checkpoint", self._look_again)
        if self._desk.cover is not None:
            self._desk.begin("seal", self._desk.cover.seal_streams)

    async def pause(self) -> None:
        """Look away while one program takes the place of another, until ``begin``."""
        self._is_paused = True
        for name in ("end", "meter", "checkpoint"):
            await self._desk.wait_cancelled(name)

    def end(self) -> None:
        """Meter and look no more."""
        self._desk.cancel("meter")
        self._desk.cancel("checkpoint")

    # ---- the end ------------------------------------------------------------------

    async def _wait_end(self) -> None:
        try:
            await self._desk.sandbox.wait_ended(self._desk.folder.job)
        finally:
            if not self._is_paused:
                self._desk.ended.set()
        self._desk.tell(ls.ProgramEnded())

    # ---- the meter ----------------------------------------------------------------

    async def _meter(self) -> None:
        around, desk = self._desk.around, self._desk
        log_interval_ms = meter.find_log_interval_ms(around.report_s)
        pause_s = min(around.config.voucher_s, log_interval_ms / 1_000)
        logged_ms = around.clock.monotonic_ms()
        while True:
            await asyncio.sleep(pause_s)
            now_ms = around.clock.monotonic_ms()
            desk.way_out.save()
            record = self._read()
            # A tick that comes a little early still counts as this interval's.
            is_due = now_ms - logged_ms >= log_interval_ms - pause_s * 500
            signed = around.sign(record)
            if is_due:
                around.till.hand_in(desk.record.lease, around.outbox.put)
                around.outbox.put(signed)
                logged_ms = now_ms
            desk.conversation.push(
                Metered(
                    record=signed,
                    owed=desk.record.owed,
                    channel_total=desk.channel_total(),
                )
            )
            self._check_paid()

    def _read(self) -> UsageRecord:
        around, desk = self._desk.around, self._desk
        state = desk.read_state()
        desk.record = meter.note_ran(desk.record, ran_ms=state.ran_ms)
        now_s = around.clock.now_s()
        desk.update(sequence=meter.next_sequence(desk.record, now_s=now_s))
        return meter.make_usage(desk.record, state, now_s=now_s, salt=draw_salt())

    def _check_paid(self) -> None:
        around, desk = self._desk.around, self._desk
        unpaid_s = around.unpaid_s(desk.record)
        # The voucher for the last interval is still on its way.
        if unpaid_s > around.config.credit_s + around.config.voucher_s:
            desk.warn("unpaid", seconds=unpaid_s)
            desk.tell(ls.StopAsked(reason="unpaid"))

    # ---- checkpoints --------------------------------------------------------------

    async def _look_again(self) -> None:
        while True:
            await asyncio.sleep(LOOK_S)
            if self._desk.conversation.is_open:
                await self.offer(is_last=False)
                try:
                    async with asyncio.timeout(UNKEPT_S_MAX):
                        await self._kept.wait()
                except TimeoutError:
                    pass  # the tenant is slow or gone; a newer one may suit it better

    async def offer(self, *, is_last: bool) -> None:
        """Offer the tenant a new checkpoint, where there is one."""
        desk = self._desk
        if self._checkpoints is None:
            return
        state = desk.read_state()
        ran_ms = meter.note_ran(desk.record, ran_ms=state.ran_ms).ran_ms
        now_ms = desk.around.clock.monotonic_ms()
        look = self._checkpoints.look
        try:
            tree = await asyncio.to_thread(look, now_ms=now_ms, is_last=is_last)
            if tree is not None and desk.cover is not None:
                seal = desk.cover.seal_checkpoint
                tree = await asyncio.to_thread(seal, tree, into=desk.blobs)
        except Refused as fault:
            desk.say("running", f"no checkpoint: {fault.message}")
            return
        if tree is None:
            return
        number = desk.record.checkpoint_number + 1
        desk.update(checkpoint_number=number, checkpoint=tree_id(tree))
        self._offered = Checkpointed(number=number, ran_ms=ran_ms, tree=tree)
        self._kept.clear()
        desk.conversation.push(self._offered)

    def push_again(self) -> None:
        """Offer what was not kept to a tenant who has dialled again."""
        if self._offered is not None:
            self._desk.conversation.push(self._offered)

    def take_kept(self, number: int) -> int:
        """Hear that the tenant keeps a checkpoint; give its ran_ms, 0 if it is older."""
        offered = self._offered
        if offered is None or offered.number != number:
            return 0
        self._offered = None
        for chunk in size_chunks(offered.tree):
            self._desk.blobs.drop(chunk)
        self._kept.set()
        return offered.ran_ms

    async def wait_kept(self, *, timeout_s: float) -> None:
        """Wait until nothing that was offered is still to be fetched, or too long."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._kept.wait()
        except TimeoutError:
            self._desk.note("last_checkpoint_not_kept")
