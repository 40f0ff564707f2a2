"""The newest checkpoint that was seen of each log, and evidence of lies, in a folder.

    <market id>.note      the newest checkpoint that this party stands by
    <market id>.lock      held while it is compared and replaced
    evidence/             one file per lie; ``sublet audit split FILE`` checks it

What is replaced is synced to the disk before anybody hears of it: a witness that
forgot what it signed could be made to sign two histories.
"""

import contextlib
import fcntl
import os
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path

from sublet.adapter import private_file
from sublet.base.errors import Unavailable
from sublet.base.ids import Digest
from sublet.wire.note import NOTE_BYTES_MAX

EVIDENCE_MAX = 256  # files; a log that lies for ever does not fill the disk

Change = Callable[[bytes | None], bytes | None]


class CheckpointFolder:
    """One party's memory of logs. Methods block, briefly; processes may share it."""

    def __init__(self, path: Path) -> None:
        """Take the folder; it is made, private, when something is first kept."""
        self._path = path

    def find(self, market: Digest) -> bytes | None:
        """Give the note that is kept of this log, or None.

        Raises:
            Unavailable: the disk did not answer.
        """
        place = self._path / f"{market[2:]}.note"
        with _translate(place):
            try:
                with place.open("rb") as file:
                    return file.read(NOTE_BYTES_MAX + 1)
            except FileNotFoundError:
                return None

    def update(self, market: Digest, change: Change) -> None:
        """Compare and replace, one at a time; durable when it returns.

        Args:
            market: whose log.
            change: takes what is kept (or None), gives what is to be kept, or None
                to leave it. What it raises passes through; nothing is changed.

        Raises:
            Unavailable: the disk did not take it; what was kept is kept.
        """
        place = self._path / f"{market[2:]}.note"
        with self._lock(place.with_suffix(".lock")):
            note = change(self.find(market))
            if note is not None:
                self._write(place, note)

    def keep_evidence(self, market: Digest, content: bytes) -> Path:
        """Keep a file of evidence, once; give its place.

        Raises:
            Unavailable: the disk did not take it, or there are too many already.
        """
        folder = self._path / "evidence"
        name = f"{market[2:18]}-{sha256(content).hexdigest()[:16]}.json"
        with _translate(folder):
            private_file.make_folder(folder)
            if not (folder / name).exists():
                if len(list(folder.iterdir())) >= EVIDENCE_MAX:
                    raise Unavailable(
                        f"{folder} holds {EVIDENCE_MAX} files of evidence; move them "
                        "to a safe place",
                        code="evidence_full",
                    )
                self._write(folder / name, content)
        return folder / name

    def read_evidence(self) -> dict[str, bytes]:
        """Give all evidence by the names of its files."""
        folder = self._path / "evidence"
        with _translate(folder):
            if not folder.exists():
                return {}
            return {each.name: each.read_bytes() for each in sorted(folder.iterdir())
                    if not each.name.startswith(".")}  # fmt: skip

    def _write(self, place: Path, content: bytes) -> None:
        with _translate(place):
            private_file.write(place, content)

    @contextlib.contextmanager
    def _lock(self, place: Path) -> Iterator[None]:
        with _translate(place):
            private_file.make_folder(place.parent)
            handle = os.open(place, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield
        finally:
            os.close(handle)


@contextlib.contextmanager
def _translate(place: Path) -> Iterator[None]:
    try:
        yield
    except OSError as exc:
        raise Unavailable(
            f"cannot use {place}: {exc.strerror}; what was seen of a log could not be "
            "kept, so nothing is said about it",
            code="disk_failed",
        ) from exc
