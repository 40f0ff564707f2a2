"""The loop of one lease: a fact comes in, the table says what is next, it is done.

The record is written before the orders are carried out, so a restarted agent knows
where it stood and goes on from there.

Not here: which move follows which (``lease_state``), what orders do (``effect``).
"""

import asyncio
from functools import partial

from msgspec.structs import replace

from sublet.base.errors import Refused, SubletError
from sublet.base.ids import NO_DIGEST
from sublet.core.document import GiveBack, Receipt
from sublet.core.lease.phase import Lease, Phase, is_older
from sublet.provider import lease_state as ls
from sublet.provider import meter
from sublet.provider.desk import Desk
from sublet.provider.effect import Effects
from sublet.provider.erasure import must_erase
from sublet.provider.lease_state import OVER, Order, Stage, step
from sublet.provider.pledge import find_changes
from sublet.provider.reception import Reception
from sublet.provider.record import LeaseFolder, LeaseRecord
from sublet.provider.replacing import use_program
from sublet.provider.surroundings import Surroundings, draw_salt
from sublet.wire.message import Notice

BOUND_S_MAX = 120  # for results to be fetched, where the slice waits for that
_BEFORE_PROGRAM = (Stage.ACCEPTED, Stage.DELIVERING, Stage.PREPARING)


class LeaseRunner:
    """Runs one lease; ``run`` returns when nothing of it is left."""

    def __init__(
        self, record: LeaseRecord, folder: LeaseFolder, around: Surroundings
    ) -> None:
        """Take the record as it stands; nothing is started yet."""
        self.desk = Desk(record, folder, around)
        self.reception = Reception(self.desk)
        self._effects = Effects(self.desk, self.reception)
        self._around = around

    @property
    def record(self) -> LeaseRecord:
        """The lease as this machine sees it now."""
        return self.desk.record

    async def run(self) -> None:
        """Deal with facts until the lease is gone."""
        try:
            await self._recover()
            while self.record.stage is not Stage.GONE:
                await self._take(await self.desk.wait_fact())
        finally:
            await self.desk.finish()

    async def _take(self, fact: ls.Fact) -> None:
        try:
            stage, orders = step(self.record.stage, fact)
        except ls.IllegalStep as fault:
            self.desk.note("lease_ignores", fact=fault.detail["fact"])
            return
        if isinstance(fact, ls.StopAsked) and not self.record.stop_reason:
            self.desk.update(stop_reason=fact.reason)
        if stage is not self.record.stage:
            self.desk.update(stage=stage)
            self.desk.note(f"lease_{stage.value}")
        for order in orders:
            await self._carry_out(order)
        if stage is Stage.ENDED:
            self.desk.begin("retention", self._wait_retention)
            if self.record.lease.phase is Phase.SETTLED:
                self.desk.tell(ls.MarketSettled())  # it was heard while collecting

    async def _carry_out(self, order: Order) -> None:
        try:
            await self._effects.carry_out(order)
        except SubletError as fault:
            # A full disk, mostly. The market's deadlines end what cannot go on.
            self.desk.warn(f"{order.value}_failed", code=fault.code, why=fault.message)

    # ---- after a restart ----------------------------------------------------------

    async def _recover(self) -> None:
        """Find out what became of a lease while no agent was there."""
        stage, found = self.record.stage, self._find_program()
        if self.record.scratch:  # and somebody looks after it again
            scratch = self._around.scratches.find(self.record.scratch)
            scratch.is_open(self.desk.folder.path)
        if stage not in _BEFORE_PROGRAM or found:
            self.desk.find_manifest()
        if stage in _BEFORE_PROGRAM:
            if found:
                self.desk.update(stage=Stage.PREPARING)
                self.desk.tell(ls.Started())
            else:
                # Secrets were in memory alone: the tenant delivers once more.
                self.desk.update(stage=Stage.ACCEPTED)
        elif stage in (Stage.RUNNING, Stage.STOPPING):
            if (
                not found and self.record.program
            ):  # the agent ended between two programs
                self.desk.update(stop_reason=self.record.stop_reason or "failed")
                use_program(self.desk, self.record.program - 1)
            self.desk.note("job_found_again")
            await self._carry_out(Order.METER)
            if stage is Stage.STOPPING:
                await self._carry_out(Order.STOP_PROGRAM)
        elif stage is Stage.COLLECTING:
            await self._carry_out(Order.COLLECT)
        elif stage in OVER:
            self.desk.outputs = self.desk.folder.find_outputs() or self.desk.outputs
            await self._carry_out(Order.FINISH)
            self.desk.begin("retention", self._wait_retention)
        elif stage is Stage.ERASING:
            await self._carry_out(Order.KILL_PROGRAM)

    def _find_program(self) -> bool:
        try:
            self.desk.read_state()
        except Refused:
            return False
        return True

    async def _wait_retention(self) -> None:
        passed_s = max(0, self._around.clock.now_s() - self.record.ended_at_s)
        retention_s = self._around.config.retention_s
        if must_erase(self.record.lease):  # nobody pays for a slice that stays bound
            retention_s = min(retention_s, BOUND_S_MAX)
        await asyncio.sleep(max(0, retention_s - passed_s))
        self.desk.tell(ls.RetentionPassed())

    # ---- what others say ----------------------------------------------------------

    def market_says(self, lease: Lease) -> None:
        """Take the market's word on this lease; the same again is harmless."""
        if self.record.lease.phase is Phase.SETTLED:
            return
        if changed := find_changes(self.record.lease, lease):
            # Who may log in, to what, at which price was fixed when it was taken on.
            self.desk.warn("node_lies", code="lease_forged", fields=",".join(changed))
            return
        if is_older(lease, than=self.record.lease):
            return  # a node that is behind says what another has said before
        self.desk.take_lease(lease)
        if lease.phase is Phase.SETTLED:
            self.desk.tell(ls.MarketSettled())
        elif lease.phase is Phase.CLOSING:
            self.desk.tell(ls.StopAsked(reason=lease.reason or "stopped"))
        elif lease.displaced_by != NO_DIGEST and not self.record.gives_back_at_s:
            # Sold to be displaced: the same as if the owner wanted the machine back.
            ends_s = lease.give_back_by_s - self._around.report_s
            self.give_back(notice_s=max(0, ends_s - self._around.clock.now_s()))

    def start_heard(self, lease: Lease) -> None:
        """The log has taken the Start: from its time stamp on, seconds are billed."""
        if not lease.started_at_s or not self._find_program():
            return
        state = self.desk.read_state()
        passed_s = self._around.clock.now_s() - lease.started_at_s
        self.desk.record = meter.note_started(
            self.record, ran_ms=state.ran_ms, passed_ms=max(0, passed_s) * 1_000
        )
        self.desk.save()

    def receipt_refused(self, *, passed_ms: int) -> None:
        """The book lets less time pass than was claimed: claim what it lets."""
        receipt = self.record.receipt
        if receipt is None or not isinstance(receipt.document, Receipt):
            return
        self.desk.record = meter.cut_claim(self.record, passed_ms=passed_ms)
        document = replace(
            receipt.document,
            ran_ms=self.record.ran_ms,
            signed_at_s=self._around.clock.now_s(),
        )
        self.desk.update(receipt=self._around.put(document))

    def give_back(self, *, notice_s: int) -> None:
        """The owner wants the machine back: notice now, stop after ``notice_s``."""
        if self.record.stage in _BEFORE_PROGRAM:
            self.desk.tell(ls.StopAsked(reason="given_back"))
        if self.record.stage is not Stage.RUNNING:
            return
        now_s = self._around.clock.now_s()
        if not self.record.gives_back_at_s:
            self._around.put(
                GiveBack(
                    lease_id=self.record.lease.id,
                    notice_s=notice_s,
                    signed_at_s=now_s,
                    salt=draw_salt(),
                )
            )
        self.desk.update(gives_back_at_s=now_s + notice_s)
        self.desk.conversation.push(Notice(stops_in_s=notice_s))
        self.desk.begin("notice", partial(self._wait_notice, notice_s))

    async def _wait_notice(self, notice_s: int) -> None:
        await asyncio.sleep(notice_s)
        self.desk.tell(ls.StopAsked(reason="given_back"))

    def kill(self) -> None:
        """The owner wants the machine back this second."""
        self.desk.is_hurried = True
        if self.record.stage is Stage.STOPPING:
            self.desk.begin("stop", partial(self._effects.stop_sandbox, grace_s=0))
        else:
            self.desk.tell(ls.StopAsked(reason="given_back"))
