"""The scratch port on tmpfs: what is small never reaches a disk at all.

There is no cipher and no key: the data is gone when its memory is. What is still there
at the end is overwritten first; memory that a job's files gave back before is cleared
by the kernel before another process sees it.
"""

import asyncio
import contextlib
import os
import stat
from pathlib import Path, PurePath

from sublet.adapter.mount_point import find_mount, find_swap, mount_tmpfs, unmount
from sublet.adapter.remains import list_remains, remove_folder, walk_deep
from sublet.adapter.scratch_probe import probe_scratch
from sublet.base.errors import Refused, Unavailable
from sublet.service.erasure_ports import ScratchEnd
from sublet.service.ports import Probe

_BLOCK = bytes(1 << 20)


class TmpfsScratch:
    """Scratch folders in memory; implements ``service.ports.Scratch``."""

    name = "tmpfs"
    cipher = ""

    def probe(self) -> Probe:
        """Try it for real: open one, write, close it, look what is left."""
        if swap := find_swap():
            return Probe(
                False,
                f"memory may be swapped out to {swap[0]}; turn swap off (swapoff -a)",
            )
        return probe_scratch(self)

    async def open(
        self, folder: PurePath, *, key: bytearray, bytes_max: int, uid: int
    ) -> None:
        """Make it, empty; neither key nor uid is needed.

        Raises:
            Refused: there is one in this folder already.
            Unavailable: it cannot be made; nothing is left behind.
        """
        point = Path(folder) / "data"
        if find_mount(point) is not None:
            raise Refused(f"{folder} has a scratch already", code="scratch_exists")
        try:
            point.mkdir(mode=0o700, parents=True, exist_ok=True)
            mount_tmpfs(point, bytes_max=bytes_max)
        except OSError as error:
            raise Unavailable(f"the scratch cannot be made: {error}") from error

    def is_open(self, folder: PurePath) -> bool:
        """Say whether ``folder/data`` shows what was written."""
        return find_mount(Path(folder) / "data") is not None

    async def close(self, folder: PurePath) -> ScratchEnd:
        """Overwrite what is there and unmount it; again is harmless."""
        point = Path(folder) / "data"
        remains, files, size = list_remains(point / "nothing on a disk")
        is_freed, note = True, "it was not open any more"
        if find_mount(point) is not None:
            note = "overwritten with zeros, unmounted"
            remains, files, size = await asyncio.to_thread(_overwrite, point)
            try:
                unmount(point)
            except OSError as error:
                is_freed, note = False, f"still in use ({error.strerror}); detached"
                with contextlib.suppress(OSError):
                    unmount(point, is_lazy=True)
        return ScratchEnd(
            is_key_gone=is_freed,
            was_forced=not is_freed,
            note=note,
            remains=remains,
            files=files,
            bytes=size,
        )

    async def remove(self, folder: PurePath) -> None:
        """Take away the folder; again is harmless.

        Raises:
            Unavailable: it cannot be removed.
        """
        await remove_folder(Path(folder) / "data")


def _overwrite(top: Path) -> tuple[str, int, int]:
    found = list_remains(top)
    for path, status, folder in walk_deep(top):
        if not stat.S_ISREG(status.st_mode):
            continue  # a symlink, a pipe, a socket: no data of its own
        name = path.rpartition(b"/")[2]
        flags = os.O_WRONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        try:
            fd = os.open(name, flags, dir_fd=folder)
        except OSError:
            continue  # immutable
        try:
            _fill(fd, status)
        finally:
            os.close(fd)
    return found


def _fill(fd: int, status: os.stat_result) -> None:
    """Overwrite the pages that a file has; a hole has none, and gets none."""
    offset = 0
    while offset < status.st_size:
        try:
            offset = os.lseek(fd, offset, os.SEEK_DATA)
            end = os.lseek(fd, offset, os.SEEK_HOLE)
        except OSError:
            return  # no more data
        while offset < end:
            offset += os.pwrite(fd, _BLOCK[: end - offset], offset)
