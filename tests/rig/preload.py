"""Puts a small library of ours before libc, for real programs on a machine of a test."""

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


class Preloaded:
    """A library that reads one file; for programs that are started ``with`` it."""

    def __init__(
        self, source: str, folder: Path, *, variable: str, state: bytes
    ) -> None:
        """Build it from a file beside this one.

        Skips the test where there is no compiler for C.

        Args:
            source: the name of its file.
            folder: for library and state; made here.
            variable: of the environment, that names the file with the state.
            state: as it is at first; as long later.
        """
        compiler = shutil.which("cc") or shutil.which("gcc")
        if compiler is None:
            pytest.skip("no compiler for C here")
        folder.mkdir()
        self._file, library = folder / "state", folder / "preloaded.so"
        self.set(state)
        path = Path(__file__).parent / source
        command = [compiler, "-O2", "-shared", "-fPIC", "-o", library, path, "-ldl"]
        subprocess.run(command, check=True, timeout=120)
        self._environment = {"LD_PRELOAD": str(library), variable: str(self._file)}

    def set(self, state: bytes) -> None:
        """Let it be so from now on, for all programs that run."""
        with self._file.open("r+b" if self._file.exists() else "wb") as file:
            file.write(state)

    @contextmanager
    def machine(self) -> Iterator[None]:
        """Start programs on the machine where this holds."""
        with pytest.MonkeyPatch.context() as patch:
            for name, value in self._environment.items():
                patch.setenv(name, value)
            yield
