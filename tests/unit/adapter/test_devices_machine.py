"""What the machine has: looked at for real, and the rules of what is offered."""

import os
from pathlib import Path

import psutil
import pytest

from sublet.adapter.devices_machine import (
    MachineDevices,
    compute_cpus,
    compute_memory,
)
from sublet.base.errors import Unavailable

GIB = 1 << 30


def test_finds_this_machine(tmp_path: Path) -> None:
    machine = MachineDevices().find_machine(folder=tmp_path)
    assert 0 < machine.cpus_milli <= (os.cpu_count() or 1) * 1_000
    assert 0 < machine.memory_bytes < psutil.virtual_memory().total
    assert machine.disk_bytes > 0


def test_counts_only_allowed_processors(tmp_path: Path) -> None:
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})
    try:
        assert MachineDevices().find_machine(folder=tmp_path).cpus_milli <= 1_000
    finally:
        os.sched_setaffinity(0, before)


def test_needs_a_folder_that_is_there(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="make it first"):
        MachineDevices().find_machine(folder=tmp_path / "missing")


CPUS = {
    "no quota": (4, None, 4_000),
    "a quota below": (4, 2_500, 2_500),
    "a quota above": (2, 64_000, 2_000),
}


@pytest.mark.parametrize(("affinity", "quota", "expected"), CPUS.values(), ids=CPUS)
def test_offers_processors_within_the_quota(
    affinity: int, quota: int | None, expected: int
) -> None:
    assert compute_cpus(affinity=affinity, quota_milli=quota) == expected


MEMORY = {
    "a tenth stays": (40 * GIB, None, 36 * GIB),
    "at least half a GiB stays": (2 * GIB, None, 2 * GIB - GIB // 2),
    "at most 8 GiB stay": (1_000 * GIB, None, 992 * GIB),
    "a limit counts": (100 * GIB, 40 * GIB, 36 * GIB),
    "a tiny limit leaves nothing": (100 * GIB, GIB // 4, 0),
}


@pytest.mark.parametrize(("total", "limit", "expected"), MEMORY.values(), ids=MEMORY)
def test_offers_memory_with_a_reserve(
    total: int, limit: int | None, expected: int
) -> None:
    assert compute_memory(total_bytes=total, limit_bytes=limit) == expected
