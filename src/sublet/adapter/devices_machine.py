"""What this machine has to offer: CPUs, memory, disk, GPUs. The ``Devices`` port.

Only what the provider may really use: a CPU affinity, a CPU quota or a memory limit
around the agent counts, and some memory stays with the machine's owner.
"""

import os
import shutil
from pathlib import Path, PurePath

import psutil

from sublet.adapter.cgroup import find_limits
from sublet.adapter.disk_class import find_disk_class
from sublet.adapter.nvidia import find_gpus
from sublet.base.errors import Unavailable
from sublet.service.ports import Machine

_RESERVE_SHARE = 10  # one part in so many of the memory is never offered
_RESERVE_BYTES_MIN = 512 << 20
_RESERVE_BYTES_MAX = 8 << 30


class MachineDevices:
    """Finds what the machine has, by asking the machine."""

    def find_machine(self, *, folder: PurePath) -> Machine:
        """Look at CPUs, memory, the disk under ``folder`` and GPUs.

        Raises:
            Unavailable: the folder is not there.
        """
        quota_milli, limit_bytes = find_limits()
        total_bytes = int(psutil.virtual_memory().total)
        try:
            disk_bytes = shutil.disk_usage(Path(folder)).free
        except OSError as error:
            raise Unavailable(f"{folder}: {error.strerror}; make it first") from error
        return Machine(
            cpus_milli=compute_cpus(
                affinity=len(os.sched_getaffinity(0)), quota_milli=quota_milli
            ),
            memory_bytes=compute_memory(
                total_bytes=total_bytes, limit_bytes=limit_bytes
            ),
            disk_bytes=disk_bytes,
            gpus=find_gpus(),
            disk_class=find_disk_class(Path(folder)),
        )


def compute_cpus(*, affinity: int, quota_milli: int | None) -> int:
    """Give thousandths of a CPU: those we may run on, at most the quota.

    >>> compute_cpus(affinity=4, quota_milli=2_500)
    2500
    """
    allowed = affinity * 1_000
    return allowed if quota_milli is None else min(allowed, quota_milli)


def compute_memory(*, total_bytes: int, limit_bytes: int | None) -> int:
    """Give the bytes that can be offered; the owner keeps a tenth, within bounds.

    >>> compute_memory(total_bytes=16 << 30, limit_bytes=1 << 30) >> 20
    512
    """
    usable = total_bytes if limit_bytes is None else min(total_bytes, limit_bytes)
    reserve = usable // _RESERVE_SHARE
    reserve = min(max(reserve, _RESERVE_BYTES_MIN), _RESERVE_BYTES_MAX)
    return max(0, usable - reserve) >> 20 << 20  # whole MiB
