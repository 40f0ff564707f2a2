"""From a tenant's half of a key to the statement that its data is gone.

``make_room`` opens the scratch of a lease before anything of the tenant's is written;
``Eraser`` takes the steps of the end, in their order, and says of each how it went. It
claims what was done and nothing more: where a step fails the statement says so, the
slice stays bound, and it is tried again.

Not here: what a statement looks like (``wire.sanitization``), mounts (``adapter``).
"""

import contextlib
import re
import secrets

from sublet.base.errors import Refused, SubletError, Unavailable
from sublet.base.ids import Digest
from sublet.core.document import Erasure
from sublet.core.lease.phase import Lease
from sublet.core.lease.table import ERASURE
from sublet.provider.desk import Desk
from sublet.provider.record import write_atomic
from sublet.provider.scratch_key import ScratchKey
from sublet.provider.surroundings import draw_salt
from sublet.service.erasure_ports import ScratchEnd
from sublet.wire import sanitization as words
from sublet.wire.message import Sanitized

KEPT_MAX = 1_000  # statements that this machine keeps
FOLDER = "erasures"
_HALF = re.compile(r"\A[0-9a-f]{64}\Z")
_NONCE = re.compile(r"\A[0-9a-f]{32}\Z")
_NOTHING = "0x" + "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


def must_erase(lease: Lease) -> bool:
    """Say whether the order required encrypted scratch and a statement at the end."""
    return ERASURE in lease.features


async def make_room(desk: Desk, *, half: str, nonce: str) -> None:
    """Open the scratch of a lease, of which nothing was written yet.

    What an earlier agent has left is destroyed: the tenant delivers once more anyway.

    Raises:
        Refused: the tenant's half or nonce is missing, or nothing encrypts here.
        Unavailable: the scratch cannot be made.
    """
    if not (_HALF.match(half) and _NONCE.match(nonce)):
        raise Refused(
            "the order requires erasure; deliver half of a key (64 hex digits) and a "
            "nonce (32) with the manifest",
            code="no_key_half",
            field="deliver.half",
        )
    lease, scratches = desk.record.lease, desk.around.scratches
    if desk.record.scratch:
        old = scratches.find(desk.record.scratch)
        await old.close(desk.folder.path)
        await old.remove(desk.folder.path)
    scratch = scratches.choose(lease)
    with ScratchKey(bytes.fromhex(half), lease_id=lease.id) as key:
        # Written before: a scratch that nobody knows of would never be closed.
        desk.update(
            scratch=scratch.name,
            scratch_at_s=desk.around.clock.now_s(),
            key_id=key.id,
            nonce=nonce,
        )
        await scratch.open(
            desk.folder.path,
            key=key.bytes,
            bytes_max=max(1, lease.disk_bytes),
            uid=desk.record.uid,
        )
    desk.folder.create_data()


class Eraser:
    """Takes the steps of the end for one lease; twice is harmless."""

    def __init__(self, desk: Desk) -> None:
        """Take the lease; nothing is done yet."""
        self._desk = desk
        self._around = desk.around
        self._steps: list[words.Step] = []

    async def erase(self) -> bool:
        """Kill, unmount, destroy the key, scrub, remove, sign. False: not all of it."""
        desk, self._steps = self._desk, []
        if kept := self._find_kept():  # by an agent that ended before it could tell
            self._log(kept)
            return True
        end = await self._kill()
        if end is None:
            end = await self._close()
        self._note("unmount", is_ok=end.is_key_gone, note=end.note)
        self._note("destroy_key", is_ok=end.is_key_gone, note=self._describe_key(end))
        gpus = await self._scrub()
        await self._remove(is_key_gone=end.is_key_gone)
        is_clear = all(step.is_ok for step in self._steps)
        raw, digest = words.seal(
            words.make_statement(
                self._write(end, gpus, is_clear=is_clear), remains=end.remains
            ),
            key=self._around.key,
        )
        self._keep(raw)
        desk.conversation.push(Sanitized(envelope=raw.decode()))
        if is_clear:
            self._log(digest)
            desk.note("erased", scratch=desk.record.scratch)
        else:
            failed = ", ".join(s.name for s in self._steps if not s.is_ok)
            desk.warn("not_erased", failed=failed)
        return is_clear

    def _log(self, digest: Digest) -> None:
        self._around.put(
            Erasure(
                lease_id=self._desk.record.lease.id,
                statement=digest,
                level=words.LEVEL,
                signed_at_s=self._around.clock.now_s(),
                salt=draw_salt(),
            )
        )

    # ---- steps ----------------------------------------------------------------------

    async def _kill(self) -> ScratchEnd | None:
        """End every process; where one hangs in the scratch, give that up first."""
        try:
            await self._stop()
        except Unavailable:
            end = await self._close()
            try:
                await self._stop()
            except Unavailable as fault:
                self._note("kill", is_ok=False, note=fault.message)
            else:
                self._note("kill", is_ok=True, note="after its scratch was torn away")
            return end
        self._note("kill", is_ok=True, note="no process of the lease is left")
        return None

    async def _stop(self) -> None:
        with contextlib.suppress(Refused):  # nothing was ever started
            await self._desk.sandbox.stop(self._desk.folder.job, grace_s=0)

    async def _close(self) -> ScratchEnd:
        record = self._desk.record
        if not record.scratch:
            return ScratchEnd(True, False, "no data was ever received", _NOTHING, 0, 0)
        scratch = self._around.scratches.find(record.scratch)
        return await scratch.close(self._desk.folder.path)

    def _describe_key(self, end: ScratchEnd) -> str:
        if not self._desk.record.scratch:
            return "there never was one"
        if not end.is_key_gone:
            return "a process may still hold it"
        return "no process holds it; this side's half was wiped when it was made"

    async def _scrub(self) -> tuple[words.GpuScrub, ...]:
        uuids, vram = self._desk.record.lease.gpu_uuids, self._around.scratches.vram
        if not uuids:
            self._note("scrub_vram", is_ok=True, note="the lease has no GPU")
            return ()
        try:
            if vram is None:
                raise Unavailable("nothing here can scrub a GPU")
            reports = await vram.scrub(uuids)
        except SubletError as fault:
            self._note("scrub_vram", is_ok=False, note=fault.message)
            return ()
        gpus = tuple(
            words.GpuScrub(
                uuid=each.uuid,
                bytes_total=each.bytes_total,
                bytes_overwritten=each.bytes_overwritten,
                bytes_sampled=each.bytes_sampled,
                processes_left=each.processes_left,
                is_ok=each.is_ok,
                note=each.note,
            )
            for each in reports
        )
        is_ok = {gpu.uuid for gpu in gpus if gpu.is_ok} >= set(uuids)
        self._note("scrub_vram", is_ok=is_ok, note=f"{len(gpus)} GPUs; see gpus")
        return gpus

    async def _remove(self, *, is_key_gone: bool) -> None:
        record = self._desk.record
        if not is_key_gone:
            self._note("remove_ciphertext", is_ok=False, note="its key is not gone")
            return
        try:
            if record.scratch:
                scratch = self._around.scratches.find(record.scratch)
                await scratch.remove(self._desk.folder.path)
        except SubletError as fault:
            self._note("remove_ciphertext", is_ok=False, note=fault.message)
        else:
            self._note("remove_ciphertext", is_ok=True, note="nothing of it is left")

    def _note(self, name: str, *, is_ok: bool, note: str) -> None:
        now_s = self._around.clock.now_s()
        self._steps.append(words.Step(name, now_s, is_ok, note[:200]))

    # ---- words ----------------------------------------------------------------------

    def _write(
        self, end: ScratchEnd, gpus: tuple[words.GpuScrub, ...], *, is_clear: bool
    ) -> words.Sanitization:
        record, lease = self._desk.record, self._desk.record.lease
        cipher = ""
        if record.scratch:
            cipher = self._around.scratches.find(record.scratch).cipher
        return words.Sanitization(
            standard=words.STANDARD,
            category=words.CLEAR if is_clear else words.NONE,
            level=words.LEVEL,
            lease=lease.id,
            tenant=lease.tenant,
            provider=lease.provider,
            machine=lease.machine,
            medium=words.Medium(
                kind=record.scratch,
                cipher=cipher,
                key_id=record.key_id,
                created_at_s=record.scratch_at_s,
                destroyed_at_s=self._around.clock.now_s(),
                is_key_persisted=False,
                swap="off",  # else the probe had failed
                files=end.files,
                bytes=end.bytes,
            ),
            steps=tuple(self._steps),
            gpus=gpus,
            nonce=record.nonce,
            salt=secrets.token_hex(16),
        )

    def _find_kept(self) -> Digest | None:
        path = self._around.home / FOLDER / f"{self._desk.record.lease.id}.json"
        try:
            read = words.open_envelope(path.read_bytes())
        except (OSError, SubletError):
            return None
        is_clear = read.statement.predicate.category == words.CLEAR
        return read.digest if is_clear else None

    def _keep(self, raw: bytes) -> None:
        """Keep the statement for a tenant who has not heard it, as the disk lets us."""
        folder = self._around.home / FOLDER
        with contextlib.suppress(Unavailable, OSError):
            folder.mkdir(mode=0o700, exist_ok=True)
            write_atomic(folder / f"{self._desk.record.lease.id}.json", raw)
            kept = sorted(
                folder.glob("0x*.json"), key=lambda path: path.stat().st_mtime
            )
            for path in kept[:-KEPT_MAX]:
                path.unlink(missing_ok=True)
