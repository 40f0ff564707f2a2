"""How fast is this machine? Measured once, in under three seconds, and kept.

Small and honest rather than complete: two numbers that mean something, that anyone
can measure again, and no number where nothing was measured.

- ``cpu_score``: MiB/s of SHA-256 (OpenSSL) on one core, over 1 MiB blocks; the best
  of several short rounds, because a busy machine only ever looks slower than it is.
- ``disk_score``: MiB/s of sequential writing with one fsync at the end.
- ``gpu_score``: 0, "not measured". A GPU's speed takes a CUDA library to measure,
  which the agent does not carry; its model and memory say more than a guess.
"""

import hashlib
import os
import tempfile
import time
from pathlib import Path

from msgspec import Struct

from sublet.base.errors import Unavailable

_MIB = 1 << 20
_CPU_ROUNDS = 5
_CPU_ROUND_S = 0.15
_DISK_BYTES_MAX = 256 * _MIB
_DISK_WRITE_S = 0.8  # then comes the fsync
_DISK_BLOCK = 4 * _MIB


class Measurement(Struct, frozen=True):
    """What was measured, and when; scores as the offer carries them."""

    measured_at_s: int  # since the epoch, UTC
    cpu_score: int
    disk_score: int
    gpu_score: int


def measure(folder: Path, *, now_s: int) -> Measurement:
    """Measure CPU and the disk under ``folder``; takes one to three seconds.

    Raises:
        Unavailable: the folder cannot be written.
    """
    return Measurement(
        measured_at_s=now_s,
        cpu_score=measure_cpu(),
        disk_score=measure_disk(folder),
        gpu_score=0,
    )


def measure_cpu() -> int:
    """Give MiB/s of SHA-256 on one core."""
    block = bytes(_MIB)
    best = 0.0
    for _ in range(_CPU_ROUNDS):
        begun = time.perf_counter()
        count = 0
        while (took := time.perf_counter() - begun) < _CPU_ROUND_S:
            hashlib.sha256(block).digest()
            count += 1
        best = max(best, count / took)
    return int(best)


def measure_disk(folder: Path) -> int:
    """Give MiB/s of sequential writing, the fsync included.

    Raises:
        Unavailable: the folder cannot be written.
    """
    block = os.urandom(_DISK_BLOCK)  # a compressing file system must not help
    try:
        with tempfile.TemporaryFile(dir=folder, buffering=0) as file:
            begun = time.perf_counter()
            written = 0
            while (
                written < _DISK_BYTES_MAX
                and time.perf_counter() - begun < _DISK_WRITE_S
            ):
                written += file.write(block)
            os.fsync(file.fileno())
            took = time.perf_counter() - begun
    except OSError as error:
        raise Unavailable(f"{folder} cannot be written: {error.strerror}") from error
    return int(written / _MIB / took)
