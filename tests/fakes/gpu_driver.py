"""Compiles the fake of NVIDIA's driver, and keeps its GPUs: see ``gpu_driver.c``."""

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

SOURCE = Path(__file__).with_suffix(".c")
NAMES = ("libcuda.so.1", "libnvidia-ml.so.1")
MEMORY_BYTES = 64 << 20
RESERVED_BYTES = 2 << 20


@dataclass(frozen=True)
class FakeGpus:
    """GPUs whose memory is files."""

    folder: Path

    def uuid(self, number: int) -> str:
        """Give the name of one, as the driver says it."""
        return f"GPU-00000000-0000-4000-8000-{number:012d}"

    def add(self, number: int, *, fault: str = "", content: bytes = b"\xa5") -> str:
        """Make one, full of what somebody has left there; give its UUID."""
        self.memory(number).write_bytes(content * (MEMORY_BYTES // len(content)))
        (self.folder / f"gpu{number}.fault").write_text(fault)
        return self.uuid(number)

    def occupy(self, number: int, *, kind: str = "programs") -> Path:
        """Put a program on it; it leaves when the file is removed."""
        path = self.folder / f"gpu{number}.{kind}"
        path.write_bytes(b"x")
        return path

    def part(self, number: int, count: int) -> tuple[str, ...]:
        """Make so many MIG instances of one; give their UUIDs."""
        (self.folder / f"gpu{number}.mig").write_bytes(b"x" * count)
        first = 100 * (number + 1)
        return tuple(
            f"MIG-00000000-0000-5000-8000-{first + one:012d}" for one in range(count)
        )

    def memory(self, number: int) -> Path:
        """Give the file that is its memory."""
        return self.folder / f"gpu{number}"


def compile_driver(folder: Path) -> Path:
    """Compile it; give the folder to load it from.

    Skips the test where there is no compiler for C.
    """
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("no compiler for C here")
    first, *others = (folder / name for name in NAMES)
    command = [compiler, "-std=gnu11", "-O2", "-shared", "-fPIC", "-o", first, SOURCE]
    subprocess.run(command, check=True, timeout=120)
    for other in others:
        other.symlink_to(first)
    return folder
