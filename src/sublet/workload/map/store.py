"""The folder of a map: results that are durable before they count.

    map.json        which map this is: a fingerprint of program, files and tasks
    tasks.jsonl     only where a program gave the tasks
    results.jsonl   one line per task that has ended, in the order in which they did
    outputs/ID/     the files that a task left in $SUBLET_OUTPUT
    jobs            ids of the jobs that were its workers

One process at a time. A line that was half written when the power went is cut off.
"""

import contextlib
import fcntl
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import msgspec
from msgspec import Struct

from sublet.adapter.private_file import sync
from sublet.base.errors import Refused, Unavailable
from sublet.workload.map.result import TaskResult

LINE_BYTES_MAX = 16_777_216


class Identity(Struct, frozen=True):
    """Which map a folder holds."""

    fingerprint: str
    command: str
    tasks: int


class Store:
    """One map's folder. Methods block."""

    def __init__(self, folder: Path) -> None:
        """Take the folder; use ``open``."""
        self.folder = folder
        self._file = -1
        self._lock = -1

    def open(self, identity: Identity, *, is_fresh: bool = False) -> None:
        """Take hold of the folder; the same map goes on where it was.

        Args:
            identity: of the map that is to run.
            is_fresh: forget what another run of the same map has left.

        Raises:
            Refused: it holds another map, or another process works on it.
            Unavailable: the disk did not take it.
        """
        try:
            self._open(identity, is_fresh=is_fresh)
        except BaseException:
            self.close()
            raise

    def _open(self, identity: Identity, *, is_fresh: bool) -> None:
        with _translate(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            self._take_lock()
            place = self.folder / "map.json"
            if place.exists():
                self._check(place.read_bytes(), identity)
            elif any(self.folder.glob("results.jsonl")):
                raise _other(self.folder)
            else:
                _write_synced(place, msgspec.json.encode(identity))
            results = self.folder / "results.jsonl"
            if is_fresh:
                results.unlink(missing_ok=True)
                shutil.rmtree(self.folder / "outputs", ignore_errors=True)
            flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
            self._file = os.open(results, flags, 0o666)
            self._cut_torn_line()

    def close(self) -> None:
        """Let go of the folder; twice is harmless."""
        for handle in (self._file, self._lock):
            if handle >= 0:
                os.close(handle)
        self._file = self._lock = -1

    def read(self) -> Iterator[TaskResult]:
        """Give the results that are there, oldest first.

        Raises:
            Refused: the file is damaged.
        """
        with (self.folder / "results.jsonl").open("rb") as file:
            while line := file.readline(LINE_BYTES_MAX):
                try:
                    yield msgspec.json.decode(line, type=TaskResult)
                except msgspec.MsgspecError as exc:
                    raise Refused(
                        f"{self.folder}/results.jsonl is damaged: {exc}; name another "
                        "folder with --results",
                        code="results_damaged",
                    ) from exc

    def keep(self, result: TaskResult, files: Path | None) -> None:
        """Write down a result with its files; on the disk when this returns.

        Args:
            result: of a task that has none yet, or only one that failed.
            files: a folder beside this one, which is moved.

        Raises:
            Unavailable: the disk did not take it; the task has not ended.
        """
        with _translate(self.folder):
            if files is not None:
                target = self.folder / "outputs" / result.id
                target.parent.mkdir(exist_ok=True)
                _sync_tree(files)
                shutil.rmtree(target, ignore_errors=True)
                files.rename(target)
                sync(target.parent)
            content = msgspec.json.encode(result) + b"\n"
            size = os.fstat(self._file).st_size
            try:
                done = 0
                while done < len(content):
                    done += os.write(self._file, content[done:])
                os.fsync(self._file)
            except OSError:
                with contextlib.suppress(OSError):
                    os.ftruncate(self._file, size)
                raise

    def note_job(self, job_id: str) -> None:
        """Remember a worker's job, so that one who goes on can stop what is left."""
        with _translate(self.folder), (self.folder / "jobs").open("a") as file:
            file.write(job_id + "\n")
            file.flush()
            os.fsync(file.fileno())

    def read_jobs(self) -> list[str]:
        """Give the ids of the jobs that were workers of this map."""
        try:
            return (self.folder / "jobs").read_text().split()
        except FileNotFoundError:
            return []

    def _take_lock(self) -> None:
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
        self._lock = os.open(self.folder / ".lock", flags, 0o600)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Refused(
                f"another process works on the map in {self.folder}; wait for it, or "
                "name another folder with --results",
                code="map_busy",
                field="--results",
            ) from None

    def _check(self, raw: bytes, identity: Identity) -> None:
        try:
            found = msgspec.json.decode(raw, type=Identity)
        except msgspec.MsgspecError as exc:
            raise _other(self.folder) from exc
        if found.fingerprint != identity.fingerprint:
            raise _other(self.folder)

    def _cut_torn_line(self) -> None:
        """What was written without its end was never promised to anybody."""
        size = end = os.fstat(self._file).st_size
        while end:
            start = max(0, end - 65_536)
            place = os.pread(self._file, end - start, start).rfind(b"\n")
            if place >= 0:
                end = start + place + 1
                break
            end = start
        if end < size:
            os.ftruncate(self._file, end)
            os.fsync(self._file)


def _other(folder: Path) -> Refused:
    return Refused(
        f"--results: {folder} holds the results of another map (another program, other "
        "files or other tasks); name another folder, or remove that one",
        code="other_map",
        field="--results",
    )


def _write_synced(place: Path, content: bytes) -> None:
    draft = place.with_name(place.name + ".part")
    with draft.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    draft.rename(place)
    sync(place.parent)


def _sync_tree(folder: Path) -> None:
    for path, _, names in os.walk(folder):
        for name in names:
            sync(Path(path) / name)
        sync(Path(path))


@contextlib.contextmanager
def _translate(place: Path) -> Iterator[None]:
    try:
        yield
    except OSError as exc:
        raise Unavailable(
            f"cannot keep results in {place}: {exc.strerror}; free some space, and run "
            "the same again to go on",
            code="disk_failed",
        ) from exc
