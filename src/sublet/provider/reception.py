"""What a lease's tenant may say and ask, and what is done about it.

Everything that comes in was decoded by ``wire``; here it is weighed against the lease.
Every refusal leaves the lease as it was.

Not here: bytes and lines (``job_session``), files (``chunk_files``).
"""

import asyncio

from sublet.base.errors import Refused
from sublet.base.ids import Digest
from sublet.provider import lease_state as ls
from sublet.provider.conversation import Listener
from sublet.provider.desk import Desk
from sublet.provider.erasure import make_room, must_erase
from sublet.provider.image_program import check_image
from sublet.provider.lease_state import OVER, Stage
from sublet.provider.pledge import check_order, make_pledge
from sublet.provider.preparation import check_delivery, find_missing, find_wanted
from sublet.provider.replacement import check_replacement, is_of
from sublet.provider.watch import JobWatch
from sublet.provider.way_out import check_wanted
from sublet.wire.manifest import commitment
from sublet.wire.message import Deliver, Notice, Paid, Replace, Replaced, Terms


class Reception:
    """The tenant's door to one lease."""

    def __init__(self, desk: Desk) -> None:
        """Take the lease."""
        self._desk = desk
        self._wanted: dict[Digest, int] = {}
        self.writers: dict[str, object] = {}  # who writes which chunk just now
        self.room = asyncio.Lock()  # held while scratch is opened, or erased
        self.watch: JobWatch | None = None  # once the job is about to run
        self.next: Replace | None = None  # what is to run in place of what runs
        self.next_begun = False  # and all of it is here

    def make_pledge(self) -> Terms | None:
        """Sign what was promised; None for a lease of which the offer is forgotten."""
        record = self._desk.record
        if record.offer is None:
            return None
        return make_pledge(record.lease, record.offer, self._desk.around)

    async def deliver(self, said: Deliver) -> tuple[Digest, ...]:
        """Take the manifest; give the chunks that are still missing.

        Where the order requires erasure, an encrypted scratch is opened before.

        Raises:
            Refused: it is another one, or asks for more than was leased.
            PeerFault: the order with it is not that of this lease.
            Unavailable: the disk is full or did not answer.
        """
        desk = self._desk
        manifest = check_delivery(said, desk.record.lease)
        check_wanted(manifest.egress, desk.around.config.egress)
        check_image(manifest, desk.around)
        check_order(said.order, desk.record.lease, domain=desk.around.domain)
        if said.deposit is not None and desk.around.cashier is not None:
            await desk.around.cashier.take_deposit(
                desk.record.lease, channel=said.channel, deposit=said.deposit
            )
        async with self.room:
            stage = desk.record.stage
            if stage not in (Stage.ACCEPTED, Stage.DELIVERING):
                return ()
            if desk.manifest is None:
                if must_erase(desk.record.lease):
                    await make_room(desk, half=said.half, nonce=said.nonce)
                desk.folder.write_manifest(manifest)
                desk.manifest = manifest
                desk.is_sealed = manifest.sealed is not None
                desk.delivered.set()
                self._wanted = find_wanted(manifest)
                if stage is Stage.ACCEPTED:
                    desk.tell(ls.Delivered())
        return find_missing(manifest, desk.blobs)

    def take_replacement(self, said: Replace) -> tuple[Digest, ...] | None:
        """Take another program; give the chunks that are missing, None if it runs.

        Raises:
            Refused: it cannot take the place of the one that runs, or not now.
            PeerFault: it is not this tenant's word.
        """
        desk = self._desk
        check_replacement(said, desk)
        delivery = desk.record.delivery
        if delivery is not None and is_of(delivery, said.manifest):
            desk.conversation.push(
                Replaced(manifest=commitment(said.manifest), delivery=delivery)
            )
            return None
        if self.next is not None and self.next != said and self.next_begun:
            raise Refused(
                "another program takes its place just now; try again when it runs",
                code="replacing",
            )
        if not self.next_begun:
            self.next, self._wanted = said, find_wanted(said.manifest)
        return find_missing(said.manifest, desk.blobs)

    def take_uploaded(self) -> tuple[Digest, ...]:
        """Hear that all chunks were sent; give those that are missing all the same.

        Raises:
            Refused: nothing was delivered yet.
        """
        desk = self._desk
        if desk.record.stage is Stage.RUNNING and self.next is not None:
            return self._begin_replacing(self.next)
        if desk.record.stage not in (Stage.ACCEPTED, Stage.DELIVERING):
            return ()
        if desk.manifest is None:
            raise Refused("deliver the manifest first", code="not_delivered")
        missing = find_missing(desk.manifest, desk.blobs)
        if not missing:
            desk.tell(ls.Uploaded())
        return missing

    def _begin_replacing(self, said: Replace) -> tuple[Digest, ...]:
        missing = find_missing(said.manifest, self._desk.blobs)
        if not missing and not self.next_begun:
            self.next_begun = True
            self._desk.tell(ls.ReplaceAsked())
        return () if self.next_begun else missing

    def wants(self, chunk: Digest) -> bool:
        """Say whether this chunk may be uploaded: the manifest names it."""
        is_early = self._desk.record.stage in (Stage.ACCEPTED, Stage.DELIVERING)
        is_next = self.next is not None and not self.next_begun
        return (is_early or is_next) and chunk in self._wanted

    def take_payment(self, paid: Paid) -> None:
        """Take a voucher; after the end it goes to the market at once.

        Raises:
            PeerFault: it is none, or not this tenant's.
            Unavailable: the disk is full or did not answer.
        """
        desk = self._desk
        desk.around.till.take(desk.record.lease, paid)
        if desk.record.stage in OVER:
            desk.around.till.hand_in(desk.record.lease, desk.around.outbox.put)

    def take_kept(self, number: int) -> None:
        """Hear that the tenant holds a checkpoint."""
        ran_ms = self.watch.take_kept(number) if self.watch is not None else 0
        if ran_ms > self._desk.record.secured_ms:
            self._desk.update(secured_ms=ran_ms)

    def take_close(self, reason: str) -> None:
        """Hear that the tenant ends the job, or has fetched everything.

        Raises:
            Refused: another word than ``stop`` or ``done``, or done too early.
        """
        if reason == "stop":
            self._desk.tell(ls.StopAsked(reason="stopped"))
        elif reason == "done" and self._desk.record.stage in OVER:
            self._desk.tell(ls.TenantDone())
        else:
            raise Refused(f"close: not {reason[:20]!r} now", code="bad_close")

    def attach(self, listener: Listener) -> None:
        """Let a tenant listen, and tell it where things stand."""
        desk = self._desk
        desk.conversation.attach(listener)
        stage = desk.record.stage
        is_running = stage in (Stage.RUNNING, Stage.STOPPING)
        if stage is Stage.PREPARING:
            desk.say("preparing", "the provider prepares the job")
        if is_running:
            desk.say("running", "the program runs")
        if is_running and desk.record.gives_back_at_s:
            left_s = desk.record.gives_back_at_s - desk.around.clock.now_s()
            desk.conversation.push(Notice(stops_in_s=max(0, left_s)))
        if is_running and self.watch is not None:
            self.watch.push_again()
        if stage in OVER:
            desk.push_ended()

    def detach(self, listener: Listener) -> None:
        """Forget a tenant who has gone."""
        self._desk.conversation.detach(listener)
