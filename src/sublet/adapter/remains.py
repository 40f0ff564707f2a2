"""What lies on the disk of a scratch: listed for a receipt, then taken away."""

import asyncio
import hashlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from sublet.base.errors import Unavailable
from sublet.base.ids import Digest

REMOVE_TRIES = 5
PAUSE_S = 0.2
_FOLDER_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def list_remains(folder: Path) -> tuple[Digest, int, int]:
    """Digest the names and sizes of all files below a folder; count files and bytes.

    Blocks. The content is not read: it is noise without its key, and may be large.
    """
    files = sorted((path, status.st_size) for path, status, _ in walk_deep(folder))
    hasher = hashlib.sha256()
    for path, size in files:
        hasher.update(path + b"\0" + str(size).encode() + b"\n")
    return "0x" + hasher.hexdigest(), len(files), sum(size for _, size in files)


def walk_deep(top: Path) -> Iterator[tuple[bytes, os.stat_result, int]]:
    """Give what is no folder below one, however deep it lies: a job can nest folders
    deeper than paths reach, recursion goes or descriptors last.

    For folders at rest: the way back up is by "..". Gives relative path, status and
    the open folder in which it lies, valid until the next one is asked for.
    """
    try:
        folder = os.open(top, _FOLDER_FLAGS)
    except FileNotFoundError:
        return
    try:
        levels = [os.listdir(folder)]  # noqa: PTH208  # a descriptor
        path: list[str] = []
        while levels:
            if not levels[-1]:
                levels.pop()
                if path:
                    path.pop()
                    folder = _step(folder, "..")
                continue
            name = levels[-1].pop()
            status = os.stat(name, dir_fd=folder, follow_symlinks=False)
            if stat.S_ISDIR(status.st_mode):
                folder = _step(folder, name)
                path.append(name)
                levels.append(os.listdir(folder))  # noqa: PTH208
            else:
                yield os.fsencode("/".join([*path, name])), status, folder
    finally:
        os.close(folder)


def _step(folder: int, name: str) -> int:
    """Open a folder from another, which is closed then."""
    found = os.open(name, _FOLDER_FLAGS, dir_fd=folder)
    os.close(folder)
    return found


async def remove_folder(folder: Path) -> None:
    """Remove a folder of any depth, staying on its file system; again is harmless.

    Raises:
        Unavailable: something of it is left.
    """
    for _ in range(REMOVE_TRIES):
        process = await asyncio.create_subprocess_exec(
            "/bin/rm", "-rf", "--one-file-system", "--", str(folder)
        )
        if await process.wait() == 0:
            return
        await asyncio.sleep(PAUSE_S)  # something was just being written there
    raise Unavailable(f"{folder} cannot be removed", code="not_removed")
