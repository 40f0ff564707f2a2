"""From a delivered manifest to a sandbox spec: inputs laid out, dependencies there.

Everything that comes from the tenant was checked on the wire; here it is checked
against what was leased, and laid out by code that follows no symlink.

Not here: installing (``installer``), starting (``runner``).
"""

import asyncio
from collections.abc import Iterable
from pathlib import Path

from sublet.adapter.blobs_folder import FolderBlobs
from sublet.adapter.tree_writing import write_link, write_tree
from sublet.base import limits
from sublet.base.errors import Refused
from sublet.base.ids import Digest
from sublet.core.document import Order
from sublet.core.egress import FEATURE as EGRESS
from sublet.core.image import parse_reference
from sublet.core.lease.phase import Lease
from sublet.provider.checkpoint import place_resume
from sublet.provider.record import LeaseFolder, LeaseRecord
from sublet.provider.surroundings import Program
from sublet.service.ports import Bind, SandboxSpec
from sublet.wire.manifest import (
    check_manifest,
    commitment,
    count_bytes,
    join_own,
    size_chunks,
)
from sublet.wire.message import Deliver, Manifest, Volume
from sublet.wire.volume import split_home

WORK = "/work"  # where the job finds its folder
INSIDE_ID = 1_000  # who it is in there; an image says so itself
PROCESSES_MAX = 1_024  # threads count
TMP_BYTES_MAX = 1 << 30
TMP_MEMORY_SHARE = 4  # /tmp lives in memory and takes at most a quarter of it
FILE_BYTES_MIN = 64 << 20  # files in /tmp fall under the same limit
ORPHAN_S = 120  # an agent that does not come back within this ends the job

BASE_ENV = {
    "PATH": "/usr/local/bin:/usr/bin:/bin",
    "HOME": WORK,
    "LANG": "C.UTF-8",
    "PYTHONUNBUFFERED": "1",  # else what a job prints is seen only at its end
}


def check_delivery(said: Deliver, lease: Lease) -> Manifest:
    """Check a manifest against the lease that it is for; give what is to run.

    That is the manifest itself, or, for a member of a gang, with what is its own.

    Raises:
        Refused: another manifest than the order committed to, or more than was leased.
        Faults: the manifest itself is wrong; all faults are listed.
    """
    if commitment(said.manifest) != lease.manifest:
        raise Refused(
            "this is not the manifest that the order committed to",
            code="wrong_manifest",
        )
    if said.own is not None and not _may_have_own(said):
        raise Refused(
            "only a member of a gang has something of its own beside the manifest",
            code="not_a_gang",
            field="own",
        )
    manifest = join_own(said.manifest, said.own)
    check_manifest(manifest)
    check_leased(manifest, lease)
    return manifest


def _may_have_own(said: Deliver) -> bool:
    """Say whether more is run than the order commits to: of a gang's order alone."""
    order = said.order.document if said.order else None
    is_gang = isinstance(order, Order) and order.machines > 1
    return is_gang and said.manifest.sealed is None


def check_leased(manifest: Manifest, lease: Lease) -> None:
    """Check that a manifest asks for no more than was leased.

    Raises:
        Refused: the first thing that was not.
    """
    if manifest.egress and EGRESS not in lease.features:
        raise Refused(
            "the manifest wants to reach others, and the order did not ask for egress",
            code="not_leased",
            field="manifest.egress",
        )
    if manifest.image:
        feature = parse_reference(manifest.image, field="manifest.image").feature
        if feature not in lease.features:
            raise Refused(
                f"the manifest wants an image, and the order did not ask for {feature}",
                code="not_leased",
                field="manifest.image",
            )
    for field in ("cpus_milli", "memory_bytes", "disk_bytes"):
        if getattr(manifest, field) > getattr(lease, field):
            raise Refused(
                f"manifest.{field} is {getattr(manifest, field)}, the lease has "
                f"{getattr(lease, field)}; order what the job needs",
                code="not_leased",
                field=f"manifest.{field}",
            )
    size = count_bytes(manifest.inputs, manifest.resume)
    if size > lease.disk_bytes:
        raise Refused(
            f"the inputs have {size} bytes, the lease has {lease.disk_bytes} of disk; "
            "order more with --disk",
            code="not_leased",
            field="manifest.inputs",
        )


def find_wanted(manifest: Manifest) -> dict[Digest, int]:
    """Give the chunks that inputs and resume are made of, each once, in order."""
    return size_chunks(manifest.inputs, manifest.resume)


def find_missing(manifest: Manifest, blobs: FolderBlobs) -> tuple[Digest, ...]:
    """Give the chunks that have not come yet."""
    return tuple(chunk for chunk in find_wanted(manifest) if not blobs.has(chunk))


async def lay_out(
    manifest: Manifest, folder: LeaseFolder, *, blobs: FolderBlobs
) -> None:
    """Write inputs and checkpoint into the job's folder; then drop their chunks.

    Raises:
        Refused: something in the tree is not as it should be.
        Unavailable: the disk is full or did not answer.
    """
    if not manifest.inputs.files and not manifest.checkpoint and not manifest.volumes:
        return
    await asyncio.to_thread(_lay_out, manifest, folder, blobs)
    for chunk in find_wanted(manifest):
        blobs.drop(chunk)


def _lay_out(manifest: Manifest, folder: LeaseFolder, blobs: FolderBlobs) -> None:
    checkpoint = manifest.checkpoint
    write_tree(manifest.inputs, folder.work, blobs=blobs)
    if checkpoint:
        resume = place_resume(manifest.resume, checkpoint)
        write_tree(resume, folder.work, blobs=blobs)
        _make_folder(folder.work / checkpoint, 0o755, f"--checkpoint {checkpoint}")
    if manifest.volumes:
        for one in manifest.volumes:
            # The job's alone: some programs insist on that for their data.
            _make_folder(folder.volumes / one.name, 0o700, f"volume {one.name}")
            # Programs look for what lies in their home where HOME says: in /work.
            if below := split_home(one.mount)[1]:
                write_link(folder.work, below, one.mount)
        if not checkpoint:
            write_tree(manifest.resume, folder.volumes, blobs=blobs)


def _make_folder(place: Path, mode: int, what: str) -> None:
    try:
        place.mkdir(mode=mode, parents=True, exist_ok=True)
    except OSError as exc:
        raise Refused(
            f"{what} is no folder: {exc.strerror}", code="in_the_way"
        ) from exc


def _find_home(volumes: Iterable[Volume]) -> str:
    """Give the volume that is a home folder itself, or the work folder."""
    homes = (one.mount for one in volumes if split_home(one.mount) == (one.mount, ""))
    return next(homes, WORK)


def list_watched(manifest: Manifest, folder: LeaseFolder) -> tuple[str, ...]:
    """Name the folders that count against a job's disk. Pure."""
    own = (folder.work, folder.volumes) if manifest.volumes else (folder.work,)
    return tuple(map(str, own))


def make_spec(
    manifest: Manifest, program: Program, *, record: LeaseRecord, folder: LeaseFolder
) -> SandboxSpec:
    """Write down everything that the job is given. Pure."""
    lease = record.lease
    # Without it BLAS and OpenMP take a thread per CPU of the machine, and wait in
    # circles for each other within a quota of a few.
    threads = {"OMP_NUM_THREADS": str(max(1, manifest.cpus_milli // 1_000))}
    home = {"HOME": _find_home(manifest.volumes)}
    env = {**BASE_ENV, **home, **threads, **program.env}
    env |= {**manifest.env, **manifest.secrets}
    timeout_s = min(manifest.timeout_s or lease.duration_s, lease.duration_s)
    image = program.image
    volumes = (
        Bind(str(folder.volumes / one.name), one.mount, is_writable=True)
        for one in manifest.volumes
    )
    return SandboxSpec(
        argv=program.argv,
        env=env,
        directory=program.directory or WORK,
        binds=(Bind(str(folder.work), WORK, True), *program.binds, *volumes),
        uid=record.uid,
        memory_bytes=manifest.memory_bytes,
        cpus_milli=manifest.cpus_milli,
        processes_max=PROCESSES_MAX,
        tmp_bytes=min(TMP_BYTES_MAX, manifest.memory_bytes // TMP_MEMORY_SHARE),
        file_bytes_max=max(FILE_BYTES_MIN, lease.disk_bytes),
        disk_bytes=lease.disk_bytes,
        watched=list_watched(manifest, folder),
        gpu_uuids=lease.gpu_uuids,
        root=image.root if image else "",
        inside_uid=image.uid if image else INSIDE_ID,
        inside_gid=image.gid if image else INSIDE_ID,
        stdout=str(folder.stdout),
        stderr=str(folder.stderr),
        log_bytes_max=min(limits.LOG_BYTES_MAX, max(FILE_BYTES_MIN, lease.disk_bytes)),
        timeout_s=timeout_s,
        orphan_s=ORPHAN_S,
    )
