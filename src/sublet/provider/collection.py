"""What a job leaves behind: the tree of its outputs, the digests of what it said.

The folder was filled by a stranger: what cannot travel is named and left out, and a
folder that is too large costs the job its outputs, not the provider its disk.
"""

import os
from pathlib import Path

from blake3 import blake3
from msgspec import Struct

from sublet.adapter.blobs_folder import FolderBlobs
from sublet.adapter.tree_folder import Skipped, read_tree
from sublet.base.errors import Refused
from sublet.base.ids import NO_DIGEST, Digest
from sublet.core.document import Receipt
from sublet.core.egress import EgressTable
from sublet.provider.record import LeaseFolder, LeaseRecord
from sublet.service.ports import SandboxState
from sublet.wire.manifest import egress_digest, tree_id
from sublet.wire.message import Manifest, Tree

NOTES_MAX = 10  # lines about what was left out
_READ_BYTES = 1 << 20


class Leftovers(Struct, frozen=True):
    """What was collected, and what could not be."""

    outputs: Tree
    stdout: Digest
    stderr: Digest
    notes: tuple[str, ...]  # for the tenant


def collect(
    manifest: Manifest | None,
    folder: LeaseFolder,
    *,
    blobs: FolderBlobs,
    bytes_max: int,
) -> Leftovers:
    """Read outputs into ``blobs`` and digest the streams. Blocks.

    Args:
        manifest: of the job; None where none was ever delivered.
        folder: of the lease.
        blobs: takes the chunks.
        bytes_max: most bytes of outputs.

    Raises:
        Unavailable: the disk is full or did not answer.
    """
    skipped: list[Skipped] = []
    outputs, notes = Tree(files=()), []
    if manifest is not None and manifest.outputs:
        try:
            outputs = read_tree(
                folder.work,
                blobs=blobs,
                include=manifest.outputs,
                skipped=skipped,
                bytes_max=bytes_max,
            )
        except Refused as fault:
            notes.append(f"no outputs: {fault.message}")
    notes += [each.message for each in skipped[:NOTES_MAX]]
    if len(skipped) > NOTES_MAX:
        notes.append(f"and {len(skipped) - NOTES_MAX} more were left out")
    return Leftovers(
        outputs=outputs,
        stdout=_digest(folder.stdout),
        stderr=_digest(folder.stderr),
        notes=tuple(notes),
    )


def make_receipt(
    record: LeaseRecord,
    left: Leftovers,
    state: SandboxState,
    *,
    egress: EgressTable | None,
    reason: str,
    now_s: int,
    salt: int,
) -> Receipt:
    """Write the receipt of a program that ran, for signing."""
    return Receipt(
        lease_id=record.lease.id,
        ran_ms=record.ran_ms,
        exit_code=min(max(state.exit_code, 0), 255),
        reason=reason,
        outputs=tree_id(left.outputs) if left.outputs.files else NO_DIGEST,
        stdout=left.stdout,
        stderr=left.stderr,
        egress=egress_digest(egress),
        signed_at_s=now_s,
        salt=salt,
    )


def make_failure(record: LeaseRecord, *, reason: str, now_s: int, salt: int) -> Receipt:
    """Write the receipt of a job that never ran, for signing: nothing is owed."""
    nothing: Digest = "0x" + blake3(b"").hexdigest()
    return Receipt(
        lease_id=record.lease.id,
        ran_ms=0,
        exit_code=1,
        reason=reason,
        outputs=NO_DIGEST,
        stdout=nothing,
        stderr=nothing,
        egress=NO_DIGEST,
        signed_at_s=now_s,
        salt=salt,
    )


def _digest(path: Path) -> Digest:
    """Digest a stream; of one that cannot be read any more, nothing.

    A tenant who has heard more than that will not pay for it, and is right.
    """
    hasher = blake3()
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        with os.fdopen(fd, "rb") as file:
            while content := file.read(_READ_BYTES):
                hasher.update(content)
    except OSError:
        hasher = blake3()
    return "0x" + hasher.hexdigest()
