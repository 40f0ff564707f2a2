"""A sealed job on its provider: opened here alone, sealed again before it leaves.

The tenant sealed what the job is to this machine's key; whoever hands it over (a
node's controller) holds the lease's SSH key all the same. So what it can fetch are
sealed folders and sealed streams: files ``stdout.sealed`` and ``stderr.sealed`` of
frames, each four bytes of length and then some bytes of the stream, sealed under the
lease, the stream and the offset. The receipt hashes what is fetched, so that whoever
fetches can check it, and the tenant too.

Not here: the seals themselves (``adapter.seal``), when things happen (``effect``).
"""

import asyncio
import contextlib
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import msgspec
from blake3 import blake3
from msgspec.structs import replace

from sublet.adapter.blobs_folder import FolderBlobs
from sublet.adapter.seal import SALT_BYTES, TAG_BYTES, BadSeal, JobSeal, SealKey
from sublet.base.errors import PeerFault, Refused, Unavailable
from sublet.base.ids import Address, Digest
from sublet.provider.collection import Leftovers
from sublet.provider.record import LeaseFolder
from sublet.service.ports import Blobs
from sublet.wire import seal_kind
from sublet.wire.manifest import check_manifest, size_chunks
from sublet.wire.message import Manifest, Tree

FRAME_BYTES = 262_144  # of a stream, in one frame
LENGTH_BYTES = 4
LOOK_S = 0.1  # between two looks at a stream
_READ_BYTES = 1 << 20
# Said outside too, where the owner's rules look; both must say the same.
_SAME = ("cpus_milli", "memory_bytes", "disk_bytes", "timeout_s", "egress")


def open_job(
    outer: Manifest,
    *,
    key: SealKey,
    provider: Address,
    lease_id: Digest,
    folder: LeaseFolder,
    ended: asyncio.Event,
) -> tuple["Cover", Manifest]:
    """Open what a job is, but for its trees.

    Raises:
        PeerFault: it is not sealed for this machine, or inside and outside differ.
    """
    sealed = outer.sealed
    mine = [
        one for one in (sealed.envelopes if sealed else ()) if one.provider == provider
    ]
    if sealed is None or not mine:
        raise BadSeal("the job is not sealed for this provider", code="not_for_us")
    seal = JobSeal(key.open(mine[0].key, about=sealed.job), job=sealed.job)
    try:
        raw = seal.open(sealed.manifest, kind=seal_kind.MANIFEST)
        inner = msgspec.json.decode(raw, type=Manifest)
    except msgspec.MsgspecError as exc:
        raise BadSeal("what is sealed is no manifest") from exc
    differing = [name for name in _SAME if getattr(inner, name) != getattr(outer, name)]
    if differing or inner.sealed is not None:
        raise BadSeal(
            f"the job says two things about {', '.join(differing) or 'itself'}"
        )
    return Cover(seal, lease_id, folder, ended), inner


class Cover:
    """The sealed side of one lease. Methods block unless they are coroutines."""

    def __init__(
        self, seal: JobSeal, lease_id: Digest, folder: LeaseFolder, ended: asyncio.Event
    ) -> None:
        """Take the job's seal, and what is set when its streams are complete."""
        self.stdout = folder.sealed_stdout
        self.stderr = folder.sealed_stderr
        # Never served: by the hash of a chunk one could ask for what one guesses.
        self.plain = FolderBlobs(folder.plain, is_durable=False)
        self._ended = ended
        self._seal = seal
        self._lease_id = lease_id
        self._folder = folder
        self._lock = threading.Lock()
        self._done = {
            "stdout": _recover(self.stdout),
            "stderr": _recover(self.stderr),
        }

    def open_trees(
        self, outer: Manifest, inner: Manifest | None, *, source: Blobs
    ) -> Manifest:
        """Open inputs and the checkpoint to go on from; give the whole manifest.

        Raises:
            PeerFault: they were changed, or are not this job's.
        """
        if inner is None:
            raise BadSeal("there is no manifest under the seal")
        inputs = resume = Tree(files=())
        if outer.inputs.files:
            inputs = self._open(outer.inputs, seal_kind.INPUTS, source)
        if outer.resume.files:
            resume = self._open(outer.resume, seal_kind.CHECKPOINT, source)
        whole = replace(inner, inputs=inputs, resume=resume)
        try:
            check_manifest(whole)
        except Refused as fault:
            raise PeerFault(fault.message, code=fault.code) from fault
        return whole

    def _open(self, tree: Tree, kind: str, source: Blobs) -> Tree:
        return self._seal.open_tree(tree, kind=kind, source=source, into=self.plain)

    def seal_checkpoint(self, tree: Tree, *, into: Blobs) -> Tree:
        """Seal a checkpoint; its own chunks go."""
        return self._seal_tree(tree, seal_kind.CHECKPOINT, into)

    def seal_leftovers(
        self, left: Leftovers, manifest: Manifest | None, *, into: Blobs
    ) -> Leftovers:
        """Seal what a job leaves behind; the digests become those of what is sealed."""
        self.seal_more()
        for note in left.notes:
            self.note(note)
        outputs = left.outputs
        if manifest is not None and manifest.outputs:
            kind = seal_kind.outputs(self._lease_id)
            outputs = self._seal_tree(outputs, kind, into)
        return Leftovers(
            outputs=outputs,
            stdout=_digest(self.stdout),
            stderr=_digest(self.stderr),
            notes=(),
        )

    def _seal_tree(self, tree: Tree, kind: str, into: Blobs) -> Tree:
        sealed = self._seal.seal_tree(tree, kind=kind, source=self.plain, into=into)
        for chunk in size_chunks(tree):
            self.plain.drop(chunk)
        return sealed

    # ---- streams ------------------------------------------------------------------

    async def seal_streams(self) -> None:
        """Seal what the job writes, while it writes; the collection does the rest."""
        while not self._ended.is_set():
            with contextlib.suppress(
                Unavailable
            ):  # the disk is full: perhaps not for long
                await asyncio.to_thread(self.seal_more)
            await asyncio.sleep(LOOK_S)

    def seal_more(self) -> None:
        """Seal what the streams have got since the last time.

        Raises:
            Unavailable: the disk is full or did not answer.
        """
        with self._lock, _disk_of(self._folder.path):
            for name, path, place in (
                ("stdout", self._folder.stdout, self.stdout),
                ("stderr", self._folder.stderr, self.stderr),
            ):
                self._done[name] = self._append(name, path, place, self._done[name])

    def note(self, text: str) -> None:
        """Tell the tenant something that only it may read: a line of its stderr.

        Raises:
            Unavailable: the disk is full or did not answer.
        """
        with (
            self._lock,
            _disk_of(self._folder.path),
            self._folder.stderr.open("ab") as file,
        ):
            file.write(f"sublet: {text}\n".encode())
        self.seal_more()

    def _append(self, name: str, path: Path, place: Path, done: int) -> int:
        try:
            fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except FileNotFoundError:
            return done
        with os.fdopen(fd, "rb") as file:
            file.seek(done)
            while content := file.read(FRAME_BYTES):
                kind = seal_kind.stream(name, self._lease_id, done)
                text = self._seal.seal(content, kind=kind)
                with place.open("ab") as sealed:
                    sealed.write(len(text).to_bytes(LENGTH_BYTES, "big") + text)
                done += len(content)
        return done


@contextlib.contextmanager
def _disk_of(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as exc:
        raise Unavailable(
            f"cannot write below {path}: {exc.strerror}; free some space on that disk",
            code="disk_failed",
        ) from exc


def _recover(place: Path) -> int:
    """Say how much of a stream its frames hold; cut a frame that is not whole."""
    try:
        raw_size = place.stat().st_size
    except FileNotFoundError:
        return 0
    done, at = 0, 0
    with place.open("r+b") as file:
        while head := file.read(LENGTH_BYTES):
            size = int.from_bytes(head, "big")
            if len(head) < LENGTH_BYTES or at + LENGTH_BYTES + size > raw_size:
                file.truncate(at)
                break
            done += size - SALT_BYTES - TAG_BYTES
            at += LENGTH_BYTES + size
            file.seek(at)
    return done


def _digest(path: Path) -> Digest:
    hasher = blake3()
    if path.exists():
        with path.open("rb") as file:
            while content := file.read(_READ_BYTES):
                hasher.update(content)
    return "0x" + hasher.hexdigest()
