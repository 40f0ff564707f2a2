"""The folder of a map: results that are durable before they count.

    map.json        which map this is: a fingerprint of program, files and tasks
    tasks.jsonl     only where a program gave the tasks
    results.jsonl   one line per task that has ended, in the order in which they did; a
                    later line of the same task counts, one whose outcome is "void" none
    outputs/ID/     the files that a task left in $SUBLET_OUTPUT
    void/ID/        those of a result that does not count any more
    added.jsonl     tasks that came while it ran (``book``)
    jobs            ids of the jobs that were its workers
    dismissed       providers of whom nothing more is wanted

One process at a time.
"""

import contextlib
import fcntl
import os
import shutil
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

import msgspec
from msgspec import Struct, structs

from sublet.adapter.private_file import sync
from sublet.base.errors import Refused, Unavailable
from sublet.base.ids import Address
from sublet.workload.map.line_file import LineFile
from sublet.workload.map.result import TaskResult

LINE_BYTES_MAX = 16_777_216
VOID = "void"  # the outcome in a line that takes back the one before


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
        self._results = LineFile(folder / "results.jsonl")
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
        with keeping_in(self.folder):
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
            self._results.open()

    def close(self) -> None:
        """Let go of the folder; twice is harmless."""
        self._results.close()
        if self._lock >= 0:
            os.close(self._lock)
        self._lock = -1

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
        with keeping_in(self.folder):
            if files is not None:
                target = self.folder / "outputs" / result.id
                target.parent.mkdir(exist_ok=True)
                _sync_tree(files)
                shutil.rmtree(target, ignore_errors=True)
                files.rename(target)
                sync(target.parent)
            elif (old := self.folder / "outputs" / result.id).exists():
                shutil.rmtree(old)  # of a result that does not count any more
            self._results.append(msgspec.json.encode(result) + b"\n")

    def void(self, results: Sequence[TaskResult]) -> None:
        """Write down that results do not count any more; their files go to void/ID/.

        Raises:
            Unavailable: the disk did not take it; they count as before.
        """
        lines = [structs.replace(one, outcome=VOID, stdout="") for one in results]
        with keeping_in(self.folder):
            self._results.append(
                b"".join(msgspec.json.encode(x) + b"\n" for x in lines)
            )
            for one in results:
                files = self.folder / "outputs" / one.id
                if files.exists():
                    target = self.folder / "void" / one.id
                    target.parent.mkdir(exist_ok=True)
                    shutil.rmtree(target, ignore_errors=True)
                    files.rename(target)

    def find(self, numbers: Collection[int]) -> dict[int, TaskResult]:
        """Give the results that count of these tasks; raises as ``read``."""
        found = {}
        for one in self.read():
            if one.number in numbers:
                found[one.number] = one
        return {key: one for key, one in found.items() if one.outcome != VOID}

    def note_dismissed(self, provider: Address) -> None:
        """Remember a provider of whom nothing more is wanted."""
        self._note("dismissed", provider)

    def read_dismissed(self) -> list[Address]:
        """Give the providers of whom nothing more is wanted."""
        return self._read_notes("dismissed")

    def note_job(self, job_id: str) -> None:
        """Remember a worker's job, so that one who goes on can stop what is left."""
        self._note("jobs", job_id)

    def read_jobs(self) -> list[str]:
        """Give the ids of the jobs that were workers of this map."""
        return self._read_notes("jobs")

    def _note(self, name: str, text: str) -> None:
        with keeping_in(self.folder), (self.folder / name).open("a") as file:
            file.write(text + "\n")
            file.flush()
            os.fsync(file.fileno())

    def _read_notes(self, name: str) -> list[str]:
        try:
            return (self.folder / name).read_text().split()
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
def keeping_in(place: Path) -> Iterator[None]:
    """Say of a disk that takes nothing what its owner can do."""
    try:
        yield
    except OSError as exc:
        raise Unavailable(
            f"cannot keep results in {place}: {exc.strerror}; free some space, and run "
            "the same again to go on",
            code="disk_failed",
        ) from exc
