"""Of which class the disk under a folder is, as the kernel says: hdd, ssd or nvme.

Of a volume over several disks (LVM, RAID, encryption) the slowest counts. A file system
without a block device of its own (overlay, network, memory) says nothing.
"""

import os
from pathlib import Path

_SYS = Path("/sys")
_ORDER = ("hdd", "ssd", "nvme")  # slowest first
_DEPTH_MAX = 8  # of volumes on volumes


def find_disk_class(folder: Path, *, sys: Path = _SYS) -> str:
    """Give the class; "" where nobody can tell.

    Args:
        folder: on the disk.
        sys: where sysfs is.
    """
    try:
        device = os.stat(folder).st_dev  # noqa: PTH116  # as the kernel numbers it
    except OSError:
        return ""
    return read_disk_class(f"{os.major(device)}:{os.minor(device)}", sys=sys)


def read_disk_class(number: str, *, sys: Path = _SYS) -> str:
    """Give the class of a block device, by its MAJOR:MINOR; "" unknown."""
    place = sys / "dev/block" / number
    found = _find_classes(place, depth=0) if place.exists() else {""}
    return next((one for one in _ORDER if one in found), "") if "" not in found else ""


def _find_classes(place: Path, *, depth: int) -> set[str]:
    block = place.resolve()
    if (block / "partition").exists():
        block = block.parent
    below = block / "slaves"
    slaves = list(below.iterdir()) if below.is_dir() else []
    if slaves and depth < _DEPTH_MAX:
        return set().union(*(_find_classes(one, depth=depth + 1) for one in slaves))
    if block.name.startswith("nvme"):
        return {"nvme"}
    if not block.name.startswith(("sd", "vd", "xvd", "hd")):
        return {""}  # a file, memory, the network
    try:
        rotates = (block / "queue/rotational").read_text().strip()
    except OSError:
        return {""}
    return {"hdd" if rotates == "1" else "ssd"}
