"""One lease on this provider's desk: its record, its folder, what is under way.

Shared by those who work on a lease: the loop (``runner``), the effects of its orders
(``effect``), the tenant's reception (``reception``), the watch over its running job
(``watch``). It decides nothing.
"""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from msgspec.structs import replace

from sublet.adapter.blobs_folder import FolderBlobs
from sublet.base.errors import SubletError, Unavailable
from sublet.base.ids import NO_DIGEST
from sublet.core.egress import EgressTable
from sublet.core.lease.phase import Lease
from sublet.provider.conversation import Conversation
from sublet.provider.cover import Cover, open_job
from sublet.provider.lease_state import Fact, Stage
from sublet.provider.record import LeaseFolder, LeaseRecord
from sublet.provider.surroundings import Surroundings
from sublet.provider.way_out import WayOut
from sublet.service.ports import Sandbox, SandboxState
from sublet.wire.message import Ended, Manifest, Progress, Tree

Work = Callable[[], Coroutine[Any, Any, None]]

_ID_SHOWN = 12  # characters of a lease's id in the journal


class Desk:
    """What there is of one lease; its record is written whenever it changes."""

    def __init__(
        self, record: LeaseRecord, folder: LeaseFolder, around: Surroundings
    ) -> None:
        """Take the record as it stands; nothing is started."""
        self.record = record
        self.folder = folder
        folder.use_program(record.program)
        self.around = around
        self.blobs = FolderBlobs(folder.chunks, is_durable=False)
        self.conversation = Conversation()
        self.manifest: Manifest | None = None  # with its secrets: in memory alone
        self.cover: Cover | None = None  # of a sealed job, once it was opened
        self.is_sealed = False  # what leaves this machine is sealed, or stays
        self.delivered = (
            asyncio.Event()
        )  # from here on it is known whether it is sealed
        self.sealed_ended = asyncio.Event()  # the sealed streams are complete
        self.outputs = Tree(files=())
        self.way_out = WayOut(folder.path, around.config.egress)
        self.ended = asyncio.Event()  # nothing runs; what the job said is complete
        self.is_hurried = False  # the owner waits for nobody
        self._funded = asyncio.Event()
        self._facts: asyncio.Queue[Fact] = asyncio.Queue()
        self._tasks: dict[str, asyncio.Task[None]] = {}

    # ---- facts --------------------------------------------------------------------

    def tell(self, fact: Fact) -> None:
        """Report a fact; it is dealt with in order."""
        self._facts.put_nowait(fact)

    async def wait_fact(self) -> Fact:
        """Give the next fact."""
        return await self._facts.get()

    # ---- the record ---------------------------------------------------------------

    def update(self, **changes: Any) -> None:
        """Change the record and keep it; a full disk does not stop the lease."""
        self.record = replace(self.record, **changes)
        self.save()

    def save(self) -> None:
        """Write the record; the folder of a lease that is gone is not made again."""
        if self.record.stage is Stage.GONE:
            return
        try:
            self.folder.write_record(self.record)
        except Unavailable as fault:
            self.warn("disk_failed", why=fault.message)

    def take_lease(self, lease: Lease) -> None:
        """Keep the market's newer word on the lease."""
        # Once its money was there, only a next phase says that it has gone.
        is_funded = lease.is_funded or (
            self.record.lease.is_funded and lease.phase is self.record.lease.phase
        )
        self.update(lease=replace(lease, is_funded=is_funded))
        if is_funded:
            self._funded.set()

    async def wait_funded(self) -> None:
        """Wait until the market says that the lease's money is there."""
        await self._funded.wait()

    # ---- the job ------------------------------------------------------------------

    @property
    def plain(self) -> FolderBlobs:
        """Where chunks of the job's own files are; of a sealed one nobody fetches them."""
        return self.blobs if self.cover is None else self.cover.plain

    def find_manifest(self) -> Manifest | None:
        """Give what the job is, also after a restart; a sealed one is opened for it.

        Raises:
            PeerFault: it is not sealed for this machine.
        """
        if self.manifest is None:
            self.manifest = self.folder.find_manifest()
            self.is_sealed = bool(self.manifest and self.manifest.sealed)
        if self.manifest is not None:
            self.delivered.set()
        if self.manifest is not None and self.manifest.sealed is not None:
            self.open_job(self.manifest)
        return self.manifest

    def open_job(self, outer: Manifest) -> Manifest:
        """Open a sealed job, but for its trees; give what it is.

        Raises:
            PeerFault: it is not sealed for this machine, or says two things.
        """
        self.cover, inner = open_job(
            outer,
            key=self.around.seal_key,
            provider=self.around.address,
            lease_id=self.record.lease.id,
            folder=self.folder,
            ended=self.sealed_ended,
        )
        self.manifest = inner
        return inner

    @property
    def logs_ended(self) -> asyncio.Event:
        """Set when nothing more will be added to what is shown of the streams."""
        return self.sealed_ended if self.is_sealed else self.ended

    # ---- what runs beside the loop ------------------------------------------------

    def begin(self, name: str, work: Work) -> None:
        """Run a part of the lease beside its loop; it replaces one of its name."""
        self.cancel(name)
        self._tasks[name] = asyncio.create_task(self._supervise(name, work))

    def cancel(self, name: str) -> bool:
        """Cancel a part; False where it is over or never began."""
        task = self._tasks.get(name)
        return task is not None and task.cancel()

    async def wait_cancelled(self, name: str) -> None:
        """Cancel a part and wait until it has let go."""
        if self.cancel(name):
            await asyncio.gather(self._tasks[name], return_exceptions=True)

    async def finish(self) -> None:
        """Cancel everything that is under way, and end the conversation."""
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)
        self.conversation.close()
        await self.way_out.close()

    async def _supervise(self, name: str, work: Work) -> None:
        try:
            await work()
        except SubletError as fault:
            self.warn(f"{name}_failed", code=fault.code, why=fault.message)
        except Exception:  # noqa: BLE001
            # The supervisor: a part that breaks is logged, the lease goes on.
            self.around.journal.error(f"{name}_broke", lease=self.short_id)

    # ---- where it runs ------------------------------------------------------------

    @property
    def sandbox(self) -> Sandbox:
        """The sandbox of the class that the lease is for."""
        return self.around.sandboxes.find(self.record.lease.sandbox)

    def read_state(self) -> SandboxState:
        """Say how the program is doing; what ran before it in this lease counts, too.

        Raises:
            Refused: nothing was ever started.
        """
        state, record = self.sandbox.read_state(self.folder.job), self.record
        return replace(
            state,
            ran_ms=record.program_ran_ms + state.ran_ms,
            cpu_ms=record.program_cpu_ms + state.cpu_ms,
        )

    # ---- words --------------------------------------------------------------------

    @property
    def short_id(self) -> str:
        """The lease's id, as people see it."""
        return self.record.lease.id[:_ID_SHOWN]

    def note(self, event: str, **values: str | int) -> None:
        """Tell the owner."""
        self.around.journal.info(event, lease=self.short_id, **values)

    def warn(self, event: str, **values: str | int) -> None:
        """Tell the owner of something to look at."""
        self.around.journal.warn(event, lease=self.short_id, **values)

    def say(self, phase: str, text: str) -> None:
        """Tell the tenant one line."""
        if self.is_sealed:  # whoever hears it is not to know what the job is
            text = f"the provider is {phase} the job"
        self.conversation.push(Progress(phase=phase, text=text))

    def push_ended(self) -> None:
        """Tell the tenant that the job is over."""
        receipt = self.record.receipt
        if receipt is not None:
            self.conversation.push(
                Ended(
                    receipt=receipt,
                    outputs=self.outputs,
                    egress=self.find_egress(),
                    owed=self.record.owed,
                    channel_total=self.channel_total(),
                )
            )

    def find_egress(self) -> EgressTable | None:
        """Give whom the job reached, as its receipt hashed it; None for no network."""
        receipt = self.record.receipt
        hashed = (
            getattr(receipt.document, "egress", NO_DIGEST) if receipt else NO_DIGEST
        )
        return None if hashed == NO_DIGEST else self.way_out.table()

    # ---- money --------------------------------------------------------------------

    def channel_total(self) -> int:
        """What a voucher must say at least to cover this lease, in micro-USD."""
        return self.around.channel_total(self.record)
