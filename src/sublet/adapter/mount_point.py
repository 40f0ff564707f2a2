"""Mounts, as the kernel lists them: asked and undone without touching what is mounted.

A file system in user space that hangs holds everyone who touches it. So nothing here
opens, lists or asks the mounted folder itself, but for ``unmount``, which may wait:
call it in a thread that can be done without.
"""

import ctypes
import os
from pathlib import Path

from msgspec import Struct

_MNT_DETACH, _UMOUNT_NOFOLLOW = 2, 8
_FUSE_CONTROL = Path("/sys/fs/fuse/connections")
_SWAP_IN_MEMORY = "/dev/zram"


class Mount(Struct, frozen=True):
    """One line of the kernel's list."""

    device: str  # "major:minor"
    kind: str  # of file system, such as "fuse.gocryptfs"


def find_mount(point: Path) -> Mount | None:
    """Give what is mounted at a folder, or None."""
    wanted = _escape(os.path.realpath(point.parent) + "/" + point.name)
    found = None
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as f:
        for line in f:
            words = line.split()
            if words[4] == wanted:  # the last one lies on top
                found = Mount(device=words[2], kind=words[words.index("-") + 1])
    return found


def mount_tmpfs(point: Path, *, bytes_max: int) -> None:
    """Mount a file system that lives in memory; where the kernel can, never in swap.

    Raises:
        OSError: the kernel refuses.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    flags = 2 | 4  # nosuid, nodev
    for more in (",noswap", ""):
        options = f"size={bytes_max},mode=0700{more}".encode()
        if not libc.mount(b"tmpfs", os.fsencode(point), b"tmpfs", flags, options):
            return
    raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), str(point))


def mount_fuse(point: Path, *, device: int, kind: str) -> None:
    """Mount what a daemon will serve over an open ``/dev/fuse``; all may use it.

    The kernel checks owners and modes as it does elsewhere.

    Raises:
        OSError: the kernel refuses.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    flags = 2 | 4  # nosuid, nodev
    options = f"fd={device},rootmode=40000,user_id=0,group_id=0,max_read=131072"
    options += ",allow_other,default_permissions"
    # The job sees the source among its mounts: it tells nothing of this machine.
    names = b"scratch", os.fsencode(point), kind.encode()
    if libc.mount(*names, flags, options.encode()):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), str(point))


def unmount(point: Path, *, is_lazy: bool = False) -> None:
    """Undo a mount. Blocks for as long as the file system does, unless lazy.

    Raises:
        OSError: nothing is mounted there, or it is in use (``EBUSY``).
    """
    libc = ctypes.CDLL(None, use_errno=True)
    flags = _UMOUNT_NOFOLLOW | (_MNT_DETACH if is_lazy else 0)
    if libc.umount2(os.fsencode(point), flags):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), str(point))


def abort_fuse(mount: Mount) -> bool:
    """Answer all who wait for a file system in user space with an error.

    Returns:
        Whether the kernel could be told; without its control files killing the daemon
        has to be enough.
    """
    if find_mount(_FUSE_CONTROL) is None:
        libc = ctypes.CDLL(None, use_errno=True)
        libc.mount(b"none", os.fsencode(_FUSE_CONTROL), b"fusectl", 0, None)
    control = _FUSE_CONTROL / mount.device.partition(":")[2] / "abort"
    try:
        control.write_text("1")
    except OSError:
        return False
    return True


def find_swap() -> tuple[str, ...]:
    """Name what memory may be swapped out to, but for compressed memory itself."""
    try:
        lines = Path("/proc/swaps").read_text(encoding="utf-8").splitlines()[1:]
    except OSError:
        return ()
    names = (line.split()[0] for line in lines if line.strip())
    return tuple(name for name in names if not name.startswith(_SWAP_IN_MEMORY))


def _escape(path: str) -> str:
    for char in "\\ \t\n":
        path = path.replace(char, f"\\{ord(char):03o}")
    return path
