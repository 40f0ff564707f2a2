"""What a node keeps of detached jobs: a folder each, sealed but for their sizes.

Layout: ``<tenant>-<job>/`` with ``plan.json``, ``state.json``, ``chunks/`` (ciphertext
by its BLAKE3), ``logs/<lease>/`` and ``home/`` (vouchers signed for it). Written whole
or not at all, and synced, before what it says is acted upon. One process at a time:
the node's log is locked, and this folder lies beside it.
"""

import os
import re
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TypeVar

import msgspec

from sublet.adapter.blobs_folder import FolderBlobs
from sublet.base.errors import Broken, Refused, Unavailable
from sublet.base.ids import Address

T = TypeVar("T")

_NAME = re.compile(r"\A[0-9a-f]{40}-[0-9a-f]{12}\Z")


class JobVault:
    """The folder of one detached job. Methods block."""

    def __init__(self, path: Path) -> None:
        """Take the folder; it is made with the plan."""
        self.path = path
        self.home = path / "home"
        self.logs = path / "logs"
        self.blobs = FolderBlobs(path / "chunks")

    def read(self, name: str, kind: type[T]) -> T | None:
        """Give a record, or None where it was never written.

        Raises:
            Broken: it is there and cannot be read.
        """
        try:
            return msgspec.json.decode((self.path / name).read_bytes(), type=kind)
        except FileNotFoundError:
            return None
        except (OSError, msgspec.MsgspecError) as exc:
            raise Broken(
                f"{self.path / name} cannot be read: {exc}; move the folder away to go "
                "on without that job",
                code="bad_record",
            ) from exc

    def write(self, name: str, value: msgspec.Struct) -> None:
        """Keep a record, whole and durable.

        Raises:
            Unavailable: the disk is full or did not answer; the old one stays.
        """
        draft = self.path / f".{name}.{secrets.token_hex(6)}"
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            fd = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(fd, "wb") as file:
                file.write(msgspec.json.encode(value))
                file.flush()
                os.fsync(file.fileno())
            draft.rename(self.path / name)
            folder = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
        except OSError as exc:
            draft.unlink(missing_ok=True)
            raise Unavailable(
                f"cannot keep {name} in {self.path}: {exc.strerror}; free some space",
                code="disk_failed",
                retry_after_s=5,
            ) from exc

    def read_log(self, lease: str, stream: str, *, offset: int, limit: int) -> bytes:
        """Give a piece of a sealed stream; nothing where there is none yet."""
        try:
            with (self.logs / lease / stream).open("rb") as file:
                file.seek(offset)
                return file.read(limit)
        except FileNotFoundError:
            return b""
        except OSError as exc:
            raise Unavailable(
                f"cannot read a stream: {exc.strerror}", code="disk_failed"
            ) from exc

    def drop(self) -> None:
        """Forget the job and all that is kept of it."""
        shutil.rmtree(self.path, ignore_errors=True)


class FolderVault:
    """All detached jobs that one node keeps."""

    def __init__(self, path: Path) -> None:
        """Take the folder; it is made with the first job."""
        self._path = path

    def find(self, tenant: Address, job: str) -> JobVault:
        """Give the place of a job, whether there is one or not.

        Raises:
            Refused: this names no job.
        """
        name = f"{tenant[2:]}-{job}"
        if _NAME.match(name) is None:
            raise Refused("a job's id has 12 hex digits", code="bad_job", field="id")
        return JobVault(self._path / name)

    def jobs(self, tenant: Address | None = None) -> Iterator[tuple[Address, JobVault]]:
        """Give all jobs, or a tenant's, with whose they are."""
        if not self._path.is_dir():
            return
        for place in sorted(self._path.iterdir()):
            owner = "0x" + place.name[:40]
            if _NAME.match(place.name) and tenant in (None, owner):
                yield owner, JobVault(place)
