"""Follows a detached job from where this home left off, and fetches what it made.

What the node gives is opened with the job's key, which binds everything to its job,
lease, stream and place; what it withholds or shows in place of something newer is
held against the market's leases: the manifest that each order committed to, and the
checkpoint that was kept last.
"""

import asyncio
from pathlib import Path

from msgspec.structs import replace

from sublet.adapter.blobs_folder import FolderBlobs
from sublet.adapter.home_folder import Home
from sublet.adapter.seal import BadSeal, JobSeal
from sublet.base.errors import PeerFault, Refused, SubletError
from sublet.base.ids import NO_DIGEST, Digest
from sublet.core.job.record import JobRecord
from sublet.core.job.state import OWN_REASONS, Attempt, Job, JobPhase
from sublet.sdk.chunk_files import check_chunk
from sublet.sdk.detached_jobs import DetachedJobs
from sublet.wire import seal_kind
from sublet.wire.detached import JobView
from sublet.wire.manifest import check_tree, commitment, size_chunks, tree_id
from sublet.wire.message import Sanitized, Tree
from sublet.workload.detached.keepsake import (
    Keepsake,
    read_keepsake,
    write_keepsake,
)
from sublet.workload.run import event
from sublet.workload.run.key_half import KeyHalf
from sublet.workload.run.layout import lay_out_or_rescue
from sublet.workload.run.log_copy import STREAMS
from sublet.workload.run.news import find_news
from sublet.workload.run.result import JobResult, make_result
from sublet.workload.run.talk import Show
from sublet.workload.run.work import Tenant

LOOK_S = 0.5  # between two looks
LENGTH_BYTES = 4
FRAME_BYTES_MAX = 1 << 20


class Attachment:
    """One home's look at one detached job."""

    def __init__(self, tenant: Tenant, record: JobRecord, *, show: Show) -> None:
        """Take whose job it is, and who is told what happens.

        Raises:
            Refused: the job's key is not here.
        """
        self._home = tenant.home
        self._connection = tenant.connection
        self._clock = tenant.clock
        self._jobs = DetachedJobs(tenant.connection)
        self._show = show
        self._keepsake: Keepsake = read_keepsake(tenant.home, record)
        self._seal: JobSeal = self._keepsake.seal(record.id)
        self._folder: Path = tenant.home.job_folder(record.id)
        self.record = record

    async def follow(self) -> JobResult:
        """Show the job until it is over; fetch what it made, and let the node forget it.

        Raises:
            Unavailable: the market does not answer; attach again later.
            PeerFault: the node shows what this job cannot have left.
        """
        while not await self.look():  # noqa: ASYNC110
            await asyncio.sleep(LOOK_S)
        return await self._conclude(await self._jobs.view(self.record.id))

    async def look(self) -> bool:
        """Take what is new; say whether the job is over."""
        view = await self._jobs.view(self.record.id)
        await self._tell(self.record.job, view.job)
        for attempt in view.job.attempts:
            for stream in STREAMS:
                await self._read(attempt.lease_id, stream)
        self.record = replace(self.record, job=view.job)
        is_over = view.job.phase is JobPhase.FINISHED
        if not is_over:  # that is written down with its outputs at their place
            self._home.write_job(self.record)
        return is_over

    def _now_ms(self) -> int:
        return self._clock.now_s() * 1_000

    # ---- what happens -------------------------------------------------------------

    async def _tell(self, before: Job, after: Job) -> None:
        if news := find_news(before, after, at_ms=self._now_ms()):
            await self._show(news)
        if after.phase is JobPhase.RUNNING and before.phase is not JobPhase.RUNNING:
            await self._show(event.Running(at_ms=self._now_ms()))
        if after.checkpoint != before.checkpoint and after.attempts:
            ran_ms = after.attempt.secured_ms
            await self._show(event.Secured(at_ms=self._now_ms(), ran_ms=ran_ms))

    async def _read(self, lease: Digest, stream: str) -> None:
        name = f"{lease}/{stream}"
        at, done = self._keepsake.offsets.get(name, (0, 0))
        rest = b""
        while True:
            piece = await self._jobs.log(
                self.record.id, lease, stream, offset=at + len(rest)
            )
            rest += piece
            while (frame := _split(rest)) is not None:
                kind = seal_kind.stream(stream, lease, done)
                text = self._seal.open(frame, kind=kind)
                at, done = at + LENGTH_BYTES + len(frame), done + len(text)
                rest = rest[LENGTH_BYTES + len(frame) :]
                await self._keep(name, stream, text, (at, done))
            if not piece:
                return

    async def _keep(
        self, name: str, stream: str, text: bytes, offset: tuple[int, int]
    ) -> None:
        with (self._folder / stream).open("ab") as file:
            file.write(text)
        offsets = {**self._keepsake.offsets, name: offset}
        self._keepsake = replace(self._keepsake, offsets=offsets)
        write_keepsake(self._home, self.record.id, self._keepsake)
        await self._show(event.Wrote(at_ms=self._now_ms(), stream=stream, data=text))

    # ---- the end ------------------------------------------------------------------

    async def _conclude(self, view: JobView) -> JobResult:
        await self._check_history(view)
        await self._take_statements(view)
        fault = ""
        blobs = FolderBlobs(self._folder / "blobs")
        job = view.job
        if job.attempts and job.attempt.outcome in OWN_REASONS:
            fault = await self._fetch_outputs(view, blobs)
        self.record = replace(self.record, job=job)
        self._home.write_job(self.record)
        self._home.drop_job_blobs(self.record.id)
        if not fault:
            await self._jobs.forget(self.record.id)
        outputs = self._keepsake.outputs
        return make_result(
            self.record,
            outputs=tuple(one.local or one.remote for one in outputs),
            folder=str(self._folder),
            fault=fault,
        )

    async def _fetch_outputs(self, view: JobView, blobs: FolderBlobs) -> str:
        """Fetch and lay out; give what this machine could not do, or nothing."""
        if not self._keepsake.outputs:
            return ""
        lease_id = view.job.attempt.lease_id
        lease = await self._connection.lease(lease_id)
        if lease.outputs not in (tree_id(view.outputs), NO_DIGEST):
            raise PeerFault(
                "the node's outputs are not those that the receipt hashed",
                code="bad_output",
            )
        for key in size_chunks(view.outputs):
            content = await self._jobs.chunk(self.record.id, key)
            check_chunk(content, key)
            await asyncio.to_thread(blobs.put, content)
        tree = Tree(files=())
        if view.outputs.files:
            tree = await asyncio.to_thread(
                self._seal.open_tree,
                view.outputs,
                kind=seal_kind.outputs(lease_id),
                source=blobs,
                into=blobs,
            )
        check_tree(tree)
        done = await asyncio.to_thread(
            lay_out_or_rescue,
            tree,
            self._keepsake.outputs,
            blobs=blobs,
            rescue=self._folder / "outputs",
        )
        for path in done.missing:
            await self._show(event.Missing(at_ms=self._now_ms(), path=path))
        return "; ".join(done.faults)

    async def _take_statements(self, view: JobView) -> None:
        """Check and keep what providers say of erasure; a wrong word is told."""
        for lease_id, envelope in view.statements.items():
            if lease_id not in view.contracts:
                continue
            lease = await self._connection.lease(lease_id)
            salt, at_ms = view.contracts[lease_id].salt, self._now_ms()
            half = KeyHalf(lease, salt=salt, folder=self._folder)
            try:
                said = half.hear(Sanitized(envelope=envelope), at_ms=at_ms)
            except PeerFault as fault:
                said = event.Unkept(at_ms=at_ms, message=fault.message)
            await self._show(said)

    async def _check_history(self, view: JobView) -> None:
        """Hold each attempt against what the market committed to.

        Raises:
            PeerFault: another manifest, or an older checkpoint than was kept.
        """
        kept = NO_DIGEST
        for attempt in view.job.attempts:
            contract = view.contracts.get(attempt.lease_id)
            if contract is None:
                raise _not_told(attempt)
            manifest = replace(
                self._keepsake.manifest, salt=contract.salt, resume=contract.resume
            )
            lease = await self._connection.lease(attempt.lease_id)
            resumed = tree_id(contract.resume) if contract.resume.files else NO_DIGEST
            if commitment(manifest) != lease.manifest or resumed != kept:
                raise PeerFault(
                    f"attempt {attempt.lease_id[:12]} did not run what it should have: "
                    "another manifest, or an older checkpoint than was kept",
                    code="stale_checkpoint",
                )
            if lease.checkpoint != NO_DIGEST:
                kept = lease.checkpoint


def open_attachment(
    tenant: Tenant, job: str, *, show: Show | None = None
) -> Attachment:
    """Give a look at a detached job.

    Args:
        tenant: whose it is, with an open connection.
        job: its id, the beginning of it, or its name.
        show: takes events; nobody does where it is not given.

    Raises:
        Refused: there is no such job here, or its key is lost.
    """
    record = get_detached(tenant.home, job)
    return Attachment(tenant, record, show=show or _ignore)


def get_detached(home: Home, job: str) -> JobRecord:
    """Find a detached job by its id, the beginning of it, or its name.

    Raises:
        Refused: there is none here.
    """
    record = home.get_job(job)
    if not record.is_detached:
        raise Refused(
            f"job {record.id} is not detached; see it with: sublet logs {record.id}",
            code="not_detached",
        )
    return record


async def _ignore(said: event.AnyEvent) -> None:
    """Nobody looks on."""


def _not_told(attempt: Attempt) -> SubletError:
    return PeerFault(
        f"the node does not say what ran in lease {attempt.lease_id}",
        code="bad_answer",
    )


def _split(raw: bytes) -> bytes | None:
    """Give the first frame, or None where it is not whole yet.

    Raises:
        BadSeal: it is longer than any.
    """
    if len(raw) < LENGTH_BYTES:
        return None
    size = int.from_bytes(raw[:LENGTH_BYTES], "big")
    if size > FRAME_BYTES_MAX:
        raise BadSeal("a sealed stream has a frame that is too long")
    end = LENGTH_BYTES + size
    return raw[LENGTH_BYTES:end] if len(raw) >= end else None
