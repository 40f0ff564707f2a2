"""What lies on the disk of a scratch: listed for a receipt, then taken away."""

import asyncio
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

from sublet.base.errors import Unavailable
from sublet.base.ids import Digest

REMOVE_TRIES = 5
PAUSE_S = 0.2


def list_remains(folder: Path) -> tuple[Digest, int, int]:
    """Digest the names and sizes of all files below a folder; count files and bytes.

    Blocks. The content is not read: it is noise without its key, and may be large.
    """
    files = sorted(_walk(os.fsencode(folder)))
    hasher = hashlib.sha256()
    for path, size in files:
        hasher.update(path + b"\0" + str(size).encode() + b"\n")
    return "0x" + hasher.hexdigest(), len(files), sum(size for _, size in files)


def _walk(top: bytes) -> Iterator[tuple[bytes, int]]:
    waiting = [top]
    while waiting:
        try:
            entries = list(os.scandir(waiting.pop()))
        except FileNotFoundError:
            continue
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                waiting.append(entry.path)
            else:
                size = entry.stat(follow_symlinks=False).st_size
                yield os.path.relpath(entry.path, top), size


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
