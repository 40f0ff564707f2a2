"""A wall clock that a test sets, for real programs: by a library put before libc."""

import shutil
import struct
import subprocess
from pathlib import Path

import pytest


class WallClock:
    """One clock, for every program that is started with ``environment``."""

    def __init__(self, folder: Path) -> None:
        """Build the library; the clock is right at first.

        Skips the test where there is no compiler for C.
        """
        compiler = shutil.which("cc") or shutil.which("gcc")
        if compiler is None:
            pytest.skip("no compiler for C here")
        folder.mkdir()
        self._file = folder / "ahead_s"
        self._file.write_bytes(bytes(8))
        library = folder / "wall_clock.so"
        source = Path(__file__).with_suffix(".c")
        command = [compiler, "-O2", "-shared", "-fPIC", "-o", library, source, "-ldl"]
        subprocess.run(command, check=True, timeout=120)
        self.environment = {"LD_PRELOAD": str(library), "WALL_CLOCK": str(self._file)}

    def set(self, ahead_s: int) -> None:
        """Set it so far ahead of the true time, or behind."""
        with self._file.open("r+b") as file:
            file.write(struct.pack("=q", ahead_s))
