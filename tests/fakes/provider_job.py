"""What the provider in this process does with one lease: run it, meter it, lie."""

import asyncio
import contextlib
import os
import secrets
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import asyncssh
from blake3 import blake3

from sublet.adapter.blobs_folder import FolderBlobs
from sublet.adapter.tree_folder import read_tree
from sublet.adapter.tree_writing import write_tree
from sublet.base.ids import NO_DIGEST, Digest
from sublet.base.units import compute_owed
from sublet.core.document import (
    Delivery,
    Receipt,
    Start,
    UsageRecord,
)
from sublet.core.lease.phase import Lease, Phase
from sublet.wire import codec
from sublet.wire.manifest import commitment, join_own, tree_id
from sublet.wire.message import (
    Checkpointed,
    Close,
    Deliver,
    Ended,
    JobSays,
    Kept,
    Manifest,
    Metered,
    Missing,
    Paid,
    Progress,
    Signed,
    TenantSays,
    Terms,
    Tree,
    Trouble,
    Uploaded,
)
from sublet.wire.signature import Key

SIZE_MAX = 1 << 24


@dataclass
class Temper:
    """What this provider does that an honest one does not."""

    overclaims_ms: int = 0  # added to every reading that the tenant sees
    overcharges: int = 0  # micro-USD added to what it asks for
    overstates_channel: int = 0  # micro-USD added to what the channel stands at
    signs_with: Key | None = None  # somebody else's key under record and receipt
    swaps_outputs: bool = False  # hashes one tree, sends another
    spoils_chunks: bool = False  # serves other bytes than a chunk's name says
    swaps_logs: bool = False  # hashes another stdout than it shows
    adds_files: bool = False  # sends files that nobody asked for
    says_nonsense: bool = False  # a line that is no message
    never_signs: bool = False  # hears of a lease, and signs no terms
    never_starts: bool = False  # takes the lease, answers nothing
    host_key: asyncssh.SSHKey | None = None  # not the one in the offer
    dies_at: str = ""  # "running" or "checkpointed": drops everything, for good
    breaks_at: str = ""  # the same words: drops the connection, once; goes on
    clerk_lie: str = ""  # what a worker's results are turned into
    alters: tuple[str, bytes, bytes] | None = None  # in an input: this by that
    first_price: int = 3_600_000  # micro-USD an hour for a CPU
    bid: int = 0  # micro-USD an hour for whatever live order it hears of; 0: none


@dataclass
class Job:
    """One lease here."""

    lease: Lease
    folder: Path
    manifest: Manifest | None = None
    process: "asyncio.subprocess.Process | None" = None
    started_ms: int = 0
    ran_ms: int = 0
    exit_code: int = 0
    reason: str = "exited"
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    say: Any = None  # the newest job channel's writer
    paid: int = 0
    owed: int = 0
    kept: list[int] = field(default_factory=list)
    checkpoints: int = 0
    closes: list[str] = field(default_factory=list)
    troubles: list[str] = field(default_factory=list)
    receipt: Signed | None = None
    outputs: Tree = field(default_factory=lambda: Tree(files=()))
    worker: "asyncio.Task[None] | None" = None


class FakeWork:
    """The job channel of one provider, for all of its leases."""

    def __init__(self, provider: Any) -> None:
        self.provider = provider
        self.temper: Temper = provider.temper
        self.submit = provider.submit
        self._has_broken = False

    async def talk(self, job: Job, process: Any) -> None:
        def say(message: JobSays) -> None:
            with contextlib.suppress(asyncssh.Error, OSError):
                process.stdout.write(codec.encode(message) + b"\n")

        job.say = say
        provider = self.provider
        say(Terms(terms=provider.make_terms(job.lease), offer=provider.pledged))
        async for line in process.stdin:
            said = codec.decode(line.rstrip(b"\n"), TenantSays, size_max=SIZE_MAX)
            match said:
                case Deliver():
                    assert commitment(said.manifest) == job.lease.manifest
                    await self._deliver(job, join_own(said.manifest, said.own))
                case Uploaded():
                    if job.worker is None:
                        job.worker = asyncio.create_task(self._work(job))
                        self.provider.keep(job.worker)
                case Paid():
                    await self._take_payment(job, said)
                case Kept():
                    job.kept.append(said.number)
                case Close():
                    job.closes.append(said.reason)
                    return
                case Trouble():
                    job.troubles.append(said.code)
                    return

    async def _deliver(self, job: Job, manifest: Manifest) -> None:
        blobs = FolderBlobs(job.folder / "chunks", is_durable=False)
        if job.manifest is None:
            job.manifest = manifest
            delivery = Delivery(
                lease_id=job.lease.id, manifest=job.lease.manifest, **stamp()
            )
            await self.submit(delivery)
        if self.temper.says_nonsense:
            job.say(Progress(phase="preparing", text="\x1b[31m hello"))
            job.say(Trouble(code="nonsense", message="\x1b]0;title\x07 what?"))
            return
        missing = [
            key
            for tree in (manifest.inputs, manifest.resume)
            for file in tree.files
            for key in file.chunks
            if not blobs.has(key)
        ]
        job.say(Missing(chunks=tuple(dict.fromkeys(missing))))
        if job.receipt is not None:
            self._say_ended(job)
        elif job.started_ms:
            job.say(Progress(phase="running", text="running"))

    async def _take_payment(self, job: Job, paid: Paid) -> None:
        documents = [paid.voucher]
        if paid.channel is not None:
            documents.insert(0, paid.channel)
        for result in await self.submit(*documents):
            allowed = {"stale_voucher", "duplicate_channel", "illegal_step"}
            assert result.fault is None or result.fault.code in allowed, result.fault
        job.paid = paid.voucher.document.max_claimable_amount  # type: ignore[union-attr]

    # ---- the job ----------------------------------------------------------------------

    async def _work(self, job: Job) -> None:
        manifest = job.manifest
        assert manifest is not None
        blobs = FolderBlobs(job.folder / "chunks", is_durable=False)
        work = job.folder / "work"
        write_tree(manifest.inputs, work, blobs=blobs)
        if self.temper.alters is not None:
            name, old, new = self.temper.alters
            content = (work / name).read_bytes()
            assert old in content
            (work / name).write_bytes(content.replace(old, new))
        if manifest.resume.files:
            write_tree(manifest.resume, work / manifest.checkpoint, blobs=blobs)
        job.say(Progress(phase="preparing", text="laying out"))
        argv = manifest.argv
        if manifest.kind == "script":
            argv = ("python3", *argv)
        with (
            (job.folder / "stdout").open("wb") as out,
            (job.folder / "stderr").open("wb") as err,
        ):
            job.process = await asyncio.create_subprocess_exec(
                *argv,
                cwd=work,
                env={**os.environ, **manifest.env, **manifest.secrets},
                stdout=out,
                stderr=err,
            )
        job.started_ms = _now_ms()
        await self.submit(Start(lease_id=job.lease.id, **stamp()))
        job.say(Progress(phase="running", text="running"))
        if await self._fall(job, "running"):
            return
        metering = asyncio.create_task(self._meter(job))
        try:
            await job.process.wait()
        finally:
            metering.cancel()
        await self._end(job)

    async def _meter(self, job: Job) -> None:
        sent = b""
        while True:
            await asyncio.sleep(0.2)
            ran_ms = _now_ms() - job.started_ms
            await self._report(job, ran_ms)
            assert job.manifest is not None
            folder = job.folder / "work" / (job.manifest.checkpoint or ".nothing")
            if folder.is_dir():
                blobs = FolderBlobs(job.folder / "chunks", is_durable=False)
                tree = read_tree(folder, blobs=blobs, skipped=[])
                if tree.files and codec.encode(tree) != sent:
                    sent = codec.encode(tree)
                    job.checkpoints += 1
                    number = job.checkpoints
                    job.say(Checkpointed(number=number, ran_ms=ran_ms, tree=tree))
                    while number not in job.kept:  # noqa: ASYNC110
                        await asyncio.sleep(0.01)
                    if await self._fall(job, "checkpointed"):
                        return

    async def _report(self, job: Job, ran_ms: int) -> None:
        job.ran_ms = ran_ms
        record = UsageRecord(
            lease_id=job.lease.id,
            sequence=ran_ms,
            ran_ms=ran_ms + self.temper.overclaims_ms,
            cpu_ms=1,
            memory_bytes_max=1,
            **stamp(),
        )
        signed = self._sign(record)
        await self.submit(signed)
        job.say(Metered(record=signed, **self._bill(job, ran_ms)))

    def _bill(self, job: Job, ran_ms: int) -> dict[str, int]:
        claimed_ms = ran_ms + self.temper.overclaims_ms
        due = min(
            compute_owed(price_hour=job.lease.price_hour, ran_ms=claimed_ms),
            job.lease.hold,
        )
        owed = due + self.temper.overcharges
        job.owed = owed
        # What the channel has to hold for its other leases, open ones as well.
        before = sum(
            other.lease.paid if other.lease.phase is Phase.SETTLED else other.owed
            for other in self.provider.jobs.values()
            if other is not job and other.lease.tenant == job.lease.tenant
        )
        total = before + owed + self.temper.overstates_channel
        return {"owed": owed, "channel_total": total}

    def _sign(self, document: Any) -> Signed:
        return codec.sign(
            document,
            key=self.temper.signs_with or self.provider.key,
            domain=self.provider.domain,
        )

    async def _end(self, job: Job) -> None:
        assert job.process is not None and job.manifest is not None
        code = job.process.returncode or 0
        job.exit_code = 128 - code if code < 0 else code
        # Two seconds of grace are the book's; a short program claims what it ran.
        job.ran_ms = _now_ms() - job.started_ms
        job.ended.set()
        blobs = FolderBlobs(job.folder / "chunks", is_durable=False)
        if job.manifest.outputs:
            job.outputs = read_tree(
                job.folder / "work",
                blobs=blobs,
                include=job.manifest.outputs,
                skipped=[],
            )
        if self.temper.adds_files:
            (job.folder / "work" / "surprise").write_text("boo")
            job.outputs = read_tree(job.folder / "work", blobs=blobs, skipped=[])
        hashed = job.outputs
        if self.temper.swaps_outputs:
            hashed = Tree(files=())
        swaps = self.temper.swaps_logs
        receipt = Receipt(
            lease_id=job.lease.id,
            ran_ms=job.ran_ms,
            exit_code=job.exit_code,
            reason=job.reason,
            outputs=tree_id(hashed) if hashed.files else NO_DIGEST,
            stdout=_hash_file(
                job.folder / "stderr" if swaps else job.folder / "stdout"
            ),
            stderr=_hash_file(job.folder / "stderr"),
            egress=NO_DIGEST,
            **stamp(),
        )
        job.receipt = self._sign(receipt)
        await self.submit(job.receipt)
        self._say_ended(job)

    def _say_ended(self, job: Job) -> None:
        assert job.receipt is not None
        job.say(
            Ended(
                receipt=job.receipt, outputs=job.outputs, **self._bill(job, job.ran_ms)
            )
        )

    async def _fall(self, job: Job, when: str) -> bool:
        if self.temper.dies_at == when:
            await self.provider.die()
            return True
        if self.temper.breaks_at == when and not self._has_broken:
            self._has_broken = True
            for connection in list(self.provider.connections):
                connection.abort()
        return False


class ChunkServer(asyncssh.SFTPServer):
    """``/chunks/HEX`` and ``/work``, mapped onto one job's folder."""

    def __init__(self, channel: Any, job: Job, temper: Temper) -> None:
        super().__init__(channel, chroot=os.fsencode(job.folder))
        self._folder = job.folder
        self._spoils = temper.spoils_chunks

    def map_path(self, path: bytes) -> bytes:
        first, _, name = path.lstrip(b"/").partition(b"/")
        if first == b"chunks":
            folder = self._folder / "chunks" / os.fsdecode(name[:2])
            folder.mkdir(parents=True, exist_ok=True)
            return os.fsencode(folder) + b"/" + name[2:]
        return super().map_path(path)

    def read(self, file_obj: object, offset: int, size: int) -> Any:
        content = super().read(file_obj, offset, size)
        if self._spoils and isinstance(content, bytes) and content:
            return bytes([content[0] ^ 1]) + content[1:]
        return content


async def send_log(job: Job, process: Any, stream: str, offset: int) -> None:
    place = job.folder / stream
    with contextlib.suppress(asyncssh.Error, OSError):
        while True:
            is_over = job.ended.is_set()
            content = place.read_bytes()[offset:] if place.exists() else b""
            if content:
                process.stdout.write(content)
                await process.stdout.drain()
                offset += len(content)
            elif is_over:
                break
            else:
                await asyncio.sleep(0.01)
    process.exit(0)


def _hash_file(place: Path) -> Digest:
    return "0x" + blake3(place.read_bytes()).hexdigest()


def _now_ms() -> int:
    return time.monotonic_ns() // 1_000_000


def stamp() -> dict[str, int]:
    return {"signed_at_s": int(time.time()), "salt": secrets.randbits(60)}
