"""What this machine remembers of a lease, and the folder in which it does.

Everything about a lease lies in one folder, so that erasing the folder forgets it:

    record.json    this record: stage, meter, voucher; rewritten by a rename
    job/           state of the sandbox (its warden writes there); of the program that
                   replaced it job-1/, and so on
    data/          everything of the tenant's; a mount where it is encrypted (``scratch``)
        program-1/     the image of the first replacement, where it came as a file
        manifest.json  the manifest, without the values of its secrets
        outputs.json   the tree of its outputs, once it has ended
        work/          the job's own folder, owned by the job's uid
        chunks/        chunks on their way in or out
        parts/         chunks that are half uploaded
        stdout stderr  what the job said

Files here need not survive a power cut (the job would not either), only the end of
this process; so they are not synced.
"""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TypeVar

import msgspec
from msgspec import Struct

from sublet.base.errors import Broken, Unavailable
from sublet.base.ids import NO_DIGEST, Digest
from sublet.core.document import Offer
from sublet.core.lease.phase import Lease
from sublet.provider.lease_state import Stage
from sublet.wire.message import Manifest, Signed, Tree

RECORD_VERSION = 1

T = TypeVar("T")


class LeaseRecord(Struct, frozen=True, kw_only=True):
    """One lease as this machine sees it. Times in seconds (UTC), amounts micro-USD."""

    v: int = RECORD_VERSION
    lease: Lease  # as the market last told it
    stage: Stage = Stage.ACCEPTED
    uid: int  # host uid of the job, its own
    environment: str = ""  # host folder of the dependencies that the job has bound
    sequence: int = 0  # of the last usage record
    ran_ms: int = 0  # as last claimed; never falls
    unbilled_ms: int = -1  # ran before the log heard the start; -1: not heard yet
    secured_ms: int = 0  # up to the last checkpoint that the tenant keeps
    stop_reason: str = ""  # with which this agent told the program to end
    gives_back_at_s: int = 0  # when the owner takes the machine back; 0: not asked
    checkpoint_number: int = 0  # of the last checkpoint that was shipped
    checkpoint: Digest = NO_DIGEST  # its tree
    receipt: Signed | None = None
    offer: Offer | None = None  # that was matched
    owed: int = 0  # by the last claim, in the end by the receipt
    ended_at_s: int = 0  # by this machine's clock, to count the retention from
    scratch: str = ""  # what encrypts its data, "" where nothing does
    scratch_at_s: int = 0  # when that was made
    key_id: str = ""  # says nothing of the key
    nonce: str = ""  # the tenant's, for the statement of erasure
    program: int = 0  # how many have replaced the first one
    program_ran_ms: int = 0  # ran before the one that runs now
    program_cpu_ms: int = 0
    delivery: Signed | None = None  # of the one that runs now


class LeaseFolder:
    """The folder of one lease; see the module for what lies in it."""

    def __init__(self, path: Path) -> None:
        """Take the path; ``create`` makes it."""
        self.path = path
        self.job = path / "job"
        self.data = path / "data"  # see use_program for job
        self.work = self.data / "work"
        # Beside the work folder, where the job can put no link in a volume's place.
        self.volumes = self.data / "volumes"
        self.chunks = self.data / "chunks"
        self.parts = self.data / "parts"
        self.stdout = self.data / "stdout"
        self.stderr = self.data / "stderr"
        self.plain = self.data / "plain"
        self.sealed_stdout = self.data / "stdout.sealed"
        self.sealed_stderr = self.data / "stderr.sealed"

    def use_program(self, number: int) -> None:
        """Let ``job`` be the state of this program; a sandbox's folder is used once."""
        self.job = self.path / (f"job-{number}" if number else "job")

    def draft(self, number: int) -> "LeaseFolder":
        """Give this folder with a place of its own for what comes with a program."""
        folder = LeaseFolder(self.path)
        folder.work = self.data / f"program-{number}" / "work"
        return folder

    def create(self) -> None:
        """Make the folder, private to this user; twice is harmless.

        Raises:
            Unavailable: the disk is full or did not answer.
        """
        with _disk_of(self.path):
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)

    def create_data(self) -> None:
        """Make what holds the tenant's data; where it is encrypted, once that is open.

        Raises:
            Unavailable: the disk is full or did not answer.
        """
        with _disk_of(self.data):
            for folder in (self.data, self.work, self.parts):
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    def write_record(self, record: LeaseRecord) -> None:
        """Keep the record, whole or not at all.

        Raises:
            Unavailable: the disk is full or did not answer.
        """
        self._write("record.json", record)

    def find_record(self) -> LeaseRecord | None:
        """Give the record, or None where none was ever written.

        Raises:
            Broken: it is there and cannot be read.
        """
        return self._find("record.json", LeaseRecord)

    def write_manifest(self, manifest: Manifest) -> None:
        """Keep the manifest without the values of its secrets.

        Raises:
            Unavailable: the disk is full or did not answer.
        """
        hidden = msgspec.structs.replace(
            manifest, secrets=dict.fromkeys(manifest.secrets, "")
        )
        self._write("data/manifest.json", hidden)

    def find_manifest(self) -> Manifest | None:
        """Give the manifest without the values of its secrets, or None."""
        return self._find("data/manifest.json", Manifest)

    def write_outputs(self, outputs: Tree) -> None:
        """Keep the tree of the outputs.

        Raises:
            Unavailable: the disk is full or did not answer.
        """
        self._write("data/outputs.json", outputs)

    def find_outputs(self) -> Tree | None:
        """Give the tree of the outputs, or None."""
        return self._find("data/outputs.json", Tree)

    def _write(self, name: str, value: Struct) -> None:
        write_atomic(self.path / name, msgspec.json.encode(value))

    def _find(self, name: str, kind: type[T]) -> T | None:
        path = self.path / name
        try:
            return msgspec.json.decode(path.read_bytes(), type=kind)
        except (FileNotFoundError, ConnectionAbortedError):
            return None
        except (OSError, msgspec.MsgspecError) as exc:
            raise Broken(
                f"{path} cannot be read: {exc}; move the folder away to go on without "
                "that lease",
                code="bad_record",
            ) from exc


def write_atomic(path: Path, content: bytes) -> None:
    """Put a file in place by a rename, readable by this user alone.

    Raises:
        Unavailable: the disk is full or did not answer; the old file stays.
    """
    draft = path.with_name(f".{path.name}.new")
    with _disk_of(path):
        try:
            fd = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            with os.fdopen(fd, "wb") as file:
                file.write(content)
            draft.replace(path)
        except OSError:
            draft.unlink(missing_ok=True)
            raise


@contextlib.contextmanager
def _disk_of(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as exc:
        raise Unavailable(
            f"cannot write {path}: {exc.strerror}; free some space on that disk",
            code="disk_failed",
        ) from exc
