"""The newest checkpoint that this node signed, kept in its home, beside the log.

A backup that is older than what was signed looks like a log that ends early; this says
that it does. Written at most once a second, without waiting for the disk: it is there
to notice an older copy, not to survive a power cut to the entry.
"""

import contextlib
import time
from pathlib import Path

KEPT_FILE = "checkpoint"
EVERY_S = 1.0


class KeptNote:
    """One file; ``put`` is called in one thread."""

    def __init__(self, folder: Path) -> None:
        """Take the node's home."""
        self._place = folder / KEPT_FILE
        self._written_at = 0.0
        self._unwritten = b""

    def read(self) -> bytes | None:
        """Give the note that was kept last, or None."""
        try:
            return self._place.read_bytes()
        except FileNotFoundError:
            return None

    def put(self, note: bytes) -> None:
        """Keep a note, now or soon."""
        self._unwritten = note
        if time.monotonic() - self._written_at >= EVERY_S:
            self.write()

    def write(self) -> None:
        """Write what was put last; a full disk costs no more than this file."""
        if not self._unwritten:
            return
        draft = self._place.with_suffix(".part")
        with contextlib.suppress(OSError):
            draft.write_bytes(self._unwritten)
            draft.replace(self._place)
        self._written_at, self._unwritten = time.monotonic(), b""
