"""A disk for tests that runs full, fails, and loses its power when it is told to.

Mounted by a process of its own (``frail_disk``), unmounted whatever happens.
"""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.rig.open_folder import make_open_folder

ROOT = Path(__file__).parents[2]
START_S = 60


class Disk:
    """A mounted frail disk; use ``mounted_disk``."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def plan(self, on: str, at: int, then: str, **more: object) -> None:
        """Let the ``at``-th write or fsync from now on fail.

        ``then`` is ``full`` (``stays=True``: until ``heal``; ``growing=True``: only
        writes that make a file larger count), ``error`` or ``cut``.
        """
        self._tell(do="plan", on=on, at=at, then=then, **more)

    def be_journal(self) -> None:
        """Keep the names of a file with its fsync from now on, as ext4 does."""
        self._tell(do="journal")

    def heal(self) -> None:
        """Make room; nothing is planned any more."""
        self._tell(do="heal")

    def cut_power(self, *, seed: int | None = None) -> None:
        """Lose what is not synced, with a ``seed`` by chance; all fails until ``on``."""
        self._tell(do="cut", seed=seed)

    def turn_on(self) -> None:
        """Power is back. Whoever had files open should be gone."""
        self._tell(do="on")

    def sync(self) -> None:
        """Put all on the disk."""
        self._tell(do="sync")

    def count(self, what: str) -> int:
        """Count the writes or fsyncs since the last plan."""
        return int(self._state()[what])

    @property
    def has_fired(self) -> bool:
        """Say whether what was planned has happened."""
        return bool(self._state()["fired"])

    @property
    def is_off(self) -> bool:
        """Say whether the power is cut."""
        return bool(self._state()["is_off"])

    def _state(self) -> dict[str, int]:
        state: dict[str, int] = json.loads(os.getxattr(self.folder, "user.state"))
        return state

    def _tell(self, **order: object) -> None:
        os.setxattr(self.folder, "user.command", json.dumps(order).encode())


@contextmanager
def mounted_disk() -> Iterator[Disk]:
    """Lend a new, empty disk."""
    if not Path("/dev/fuse").exists() or shutil.which("fusermount3") is None:
        pytest.skip("no FUSE here: apt-get install fuse3")
    folder = make_open_folder("sublet-disk-")
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.rig.frail_disk", str(folder)],
        cwd=ROOT,
        stderr=subprocess.PIPE,
    )
    try:
        deadline = time.monotonic() + START_S
        while not os.path.ismount(folder):
            if process.poll() is not None:
                assert process.stderr is not None
                raise AssertionError(process.stderr.read().decode())
            assert time.monotonic() < deadline, "the disk was never mounted"
            time.sleep(0.02)
        yield Disk(folder)
    finally:
        subprocess.run(
            ["fusermount3", "-uz", str(folder)], check=False, capture_output=True
        )
        process.kill()
        process.wait()
        if process.stderr is not None:
            process.stderr.close()
        folder.rmdir()
