"""Sandboxes of every kind for hostile programs, started through the sandbox port."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from sublet.adapter.job_python import find_job_python
from sublet.adapter.sandbox_bubblewrap import BubblewrapSandbox
from sublet.adapter.sandbox_oci import GvisorSandbox, PodmanSandbox
from sublet.service.ports import Bind, Sandbox, SandboxSpec

MIB = 1 << 20
# Its own, so that what another run leaves is not taken for this one's.
FIRST_UID = 100_000 + os.getpid() % 10_000 * 40
HERE = Path(__file__).parent
PYTHON = find_job_python().inside
KINDS: dict[str, Callable[[], Sandbox]] = {
    "bubblewrap": BubblewrapSandbox,
    "podman": PodmanSandbox,
    "gvisor": GvisorSandbox,
}
EACH = [
    pytest.param("bubblewrap", marks=pytest.mark.sandbox),
    pytest.param("podman", marks=pytest.mark.container),
    pytest.param("gvisor", marks=pytest.mark.container),
]


class Inmate:
    """One program in one sandbox, with a folder of its own."""

    def __init__(self, base: Path, sandbox: Sandbox, *, number: int = 0) -> None:
        self.base = base
        self.sandbox = sandbox
        self.uid = FIRST_UID + number
        self.work = base / "work"
        self.work.mkdir(parents=True)
        self.folder = base / "sandbox"
        self.stdout, self.stderr = base / "stdout", base / "stderr"

    async def start(self, program: str, *words: str, **changes: object) -> None:
        """Start a Python program of this folder."""
        (self.work / program).write_text((HERE / program).read_text())
        fields: dict[str, object] = {
            "argv": (PYTHON, "-I", "-S", f"/work/{program}", *words),
            "env": {"PATH": "/usr/bin:/bin"},
            "directory": "/work",
            "binds": (Bind(str(self.work), "/work", is_writable=True),),
            "uid": self.uid,
            "memory_bytes": 256 * MIB,
            "cpus_milli": 1_000,
            "processes_max": 64,
            "tmp_bytes": 16 * MIB,
            "file_bytes_max": 64 * MIB,
            "disk_bytes": 64 * MIB,
            "watched": (str(self.work),),
            "stdout": str(self.stdout),
            "stderr": str(self.stderr),
            "timeout_s": 120,
        }
        spec = SandboxSpec(**{**fields, **changes})  # type: ignore[arg-type]  # a test's short way
        await self.sandbox.start(spec, folder=self.folder)

    def said(self) -> list[str]:
        """Give the lines that it has printed."""
        text = self.stdout.read_text(errors="replace") if self.stdout.exists() else ""
        return text.splitlines()

    def complained(self) -> str:
        return self.stderr.read_text(errors="replace") if self.stderr.exists() else ""
