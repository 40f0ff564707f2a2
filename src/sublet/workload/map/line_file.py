"""A file of lines, each of which is on the disk before it counts.

A line that was half written when the power went is cut off: it was never promised to
anybody. Methods block, and pass ``OSError`` on: their caller knows what to say of it.
"""

import contextlib
import os
from pathlib import Path

BLOCK_BYTES = 65_536


class LineFile:
    """Lines that are only added to; by one process at a time."""

    def __init__(self, path: Path) -> None:
        """Take the path; use ``open``."""
        self.path = path
        self._file = -1

    def open(self) -> None:
        """Open it, or begin one; cut off what is half a line."""
        flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
        self._file = os.open(self.path, flags, 0o666)
        self._cut_torn_line()

    def close(self) -> None:
        """Let go of it; twice is harmless."""
        if self._file >= 0:
            os.close(self._file)
        self._file = -1

    def append(self, content: bytes) -> int:
        """Add whole lines; give the place at which they begin."""
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
        return size

    def _cut_torn_line(self) -> None:
        size = end = os.fstat(self._file).st_size
        while end:
            start = max(0, end - BLOCK_BYTES)
            place = os.pread(self._file, end - start, start).rfind(b"\n")
            if place >= 0:
                end = start + place + 1
                break
            end = start
        if end < size:
            os.ftruncate(self._file, end)
            os.fsync(self._file)
