"""What one node keeps of detached jobs: a folder each, sealed but for their sizes.

Layout: ``<tenant>-<job>/`` with ``plan``, marks (``started``, ``stopped``, ``ended``:
empty, their time says when), ``epoch``, ``records/``, ``chunks/`` (by their BLAKE3) and
``logs/<lease>/<stream>``. Records are whole or not there at all, and synced before what
they say is acted upon.

One process at a time: the node's log is locked, and this folder lies beside it. So who
holds a claim is remembered by the process alone, and is free again when it is gone.
"""

import os
import re
import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sublet.adapter import private_file
from sublet.adapter.blobs_folder import FolderBlobs
from sublet.base.errors import Refused, Unavailable
from sublet.base.ids import Address, Digest
from sublet.service.vault_port import ClaimLost, Standing

PLAN = "plan"
STARTED, STOPPED, ENDED = "started", "stopped", "ended"
EPOCH = "epoch"
RECORDS = "records"

_NAME = re.compile(r"\A[0-9a-f]{40}-[0-9a-f]{12}\Z")
_RECORD = re.compile(r"\A[a-z][a-z0-9-]{0,79}\Z")


def name_job(tenant: Address, job: str) -> str:
    """Give the one name of a job for folders.

    Raises:
        Refused: this names no job.
    """
    name = f"{tenant[2:]}-{job}"
    if _NAME.match(name) is None:
        raise Refused("a job's id has 12 hex digits", code="bad_job", field="id")
    return name


class _Claims:
    """Who holds which job, in this process; writing and claiming exclude each other."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.held: dict[str, tuple[str, float]] = {}  # name -> holder, until when

    def is_held(self, name: str) -> bool:
        return name in self.held and self.held[name][1] > time.monotonic()


class FolderJob:
    """The folder of one detached job (port ``JobVault``)."""

    def __init__(self, path: Path, claims: _Claims) -> None:
        """Take the folder; it is made with the plan."""
        self.path = path
        self.tenant: Address = "0x" + path.name[:40]
        self.id = path.name[41:]
        self.blobs = FolderBlobs(path / "chunks")
        self._claims = claims

    def stand(self) -> Standing | None:
        """As the port says."""
        with _disk_of(self.path):
            kept_at_s = _time_of(self.path / PLAN)
            if not kept_at_s:
                return None
            started, stopped, ended = (
                _time_of(self.path / mark) for mark in (STARTED, STOPPED, ENDED)
            )
        is_held = self._claims.is_held(self.path.name)
        return Standing(
            self.tenant, self.id, kept_at_s, started, stopped, ended, is_held
        )

    def begin(self, plan: bytes) -> bytes:
        """As the port says."""
        with self._claims.lock, _disk_of(self.path):
            known = _read(self.path / PLAN)
            if known is None:
                private_file.write(self.path / PLAN, plan)
            return plan if known is None else known

    def read_plan(self) -> bytes | None:
        """As the port says."""
        with _disk_of(self.path):
            return _read(self.path / PLAN)

    def start(self) -> None:
        """As the port says."""
        self._mark(STARTED)

    def stop(self) -> None:
        """As the port says."""
        self._mark(STOPPED)

    def end(self, *, epoch: int) -> None:
        """As the port says."""
        with self._under(epoch):
            self._mark(ENDED)

    def claim(self, holder: str, *, span_ms: int) -> int | None:
        """As the port says."""
        name = self.path.name
        with self._claims.lock, _disk_of(self.path):
            stands = self.stand()
            if stands is None or stands.ended_at_s or stands.is_held:
                return None
            epoch = self._epoch() + 1
            private_file.write(self.path / EPOCH, str(epoch).encode())
            self._claims.held[name] = (holder, time.monotonic() + span_ms / 1_000)
            return epoch

    def release(self, *, epoch: int) -> None:
        """As the port says."""
        with self._claims.lock, _disk_of(self.path):
            if self._epoch() == epoch:
                self._claims.held.pop(self.path.name, None)

    def read(self, name: str) -> bytes | None:
        """As the port says."""
        with _disk_of(self.path):
            return _read(self._record(name))

    def write(self, name: str, content: bytes, *, epoch: int) -> None:
        """As the port says."""
        with self._under(epoch):
            private_file.write(self._record(name), content)

    def read_stream(
        self, lease: Digest, stream: str, *, offset: int, limit: int
    ) -> bytes:
        """As the port says."""
        with _disk_of(self.path):
            try:
                with self._stream(lease, stream).open("rb") as file:
                    file.seek(offset)
                    return file.read(limit)
            except FileNotFoundError:
                return b""

    def append_stream(
        self, lease: Digest, stream: str, content: bytes, *, offset: int, epoch: int
    ) -> None:
        """As the port says."""
        place = self._stream(lease, stream)
        with self._under(epoch):
            place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            fd = os.open(place, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
            with os.fdopen(fd, "wb") as file:
                # What stands behind was begun and never finished.
                file.seek(offset)
                file.truncate()
                file.write(content)

    def drop(self) -> None:
        """As the port says."""
        with self._claims.lock:
            self._claims.held.pop(self.path.name, None)
            shutil.rmtree(self.path, ignore_errors=True)

    def _mark(self, mark: str) -> None:
        with self._claims.lock, _disk_of(self.path):
            if (self.path / PLAN).exists() and not (self.path / mark).exists():
                private_file.write(self.path / mark, b"")

    @contextmanager
    def _under(self, epoch: int) -> Iterator[None]:
        with self._claims.lock, _disk_of(self.path):
            if self._epoch() != epoch:
                raise ClaimLost
            yield

    def _epoch(self) -> int:
        return int(_read(self.path / EPOCH) or 0)

    def _record(self, name: str) -> Path:
        if _RECORD.match(name) is None:
            raise AssertionError(f"{name!r} is no name of a record")
        return self.path / RECORDS / name

    def _stream(self, lease: Digest, stream: str) -> Path:
        return self.path / "logs" / lease / stream


class FolderVault:
    """All detached jobs that one node keeps (port ``Vault``)."""

    def __init__(self, path: Path) -> None:
        """Take the folder; it is made with the first job."""
        self._path = path
        self._claims = _Claims()

    def find(self, tenant: Address, job: str) -> FolderJob:
        """As the port says."""
        return FolderJob(self._path / name_job(tenant, job), self._claims)

    def survey(self, tenant: Address | None = None) -> list[Standing]:
        """As the port says."""
        with _disk_of(self._path):
            places = sorted(self._path.iterdir()) if self._path.is_dir() else []
        jobs = (
            FolderJob(place, self._claims).stand()
            for place in places
            if _NAME.match(place.name)
        )
        return [job for job in jobs if job and tenant in (None, job.tenant)]

    def renew(self, holder: str, *, span_ms: int) -> frozenset[tuple[Address, str]]:
        """As the port says."""
        until = time.monotonic() + span_ms / 1_000
        with self._claims.lock:
            own = [
                name for name, held in self._claims.held.items() if held[0] == holder
            ]
            self._claims.held.update(dict.fromkeys(own, (holder, until)))
        return frozenset(("0x" + name[:40], name[41:]) for name in own)

    def measure(self) -> int:
        """As the port says."""
        found = 0
        for place in [*self._path.glob("*/plan"), *self._path.glob("*/chunks/*/*")]:
            try:
                found += place.stat().st_size
            except FileNotFoundError:
                continue  # dropped in between
        return found

    def close(self) -> None:
        """Nothing is held open."""


def _time_of(place: Path) -> int:
    try:
        return int(place.stat().st_mtime)
    except FileNotFoundError:
        return 0


def _read(place: Path) -> bytes | None:
    try:
        return place.read_bytes()
    except FileNotFoundError:
        return None


@contextmanager
def _disk_of(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as exc:
        raise Unavailable(
            f"cannot use {path}: {exc.strerror}; look at that disk, or free some space",
            code="disk_failed",
            retry_after_s=5,
        ) from exc
