"""A job's stdout or stderr, from any byte on, live until the job has ended."""

import asyncio
import contextlib
import errno
import os
from collections.abc import AsyncIterator
from pathlib import Path

LOOK_S = 0.05  # between two looks at a stream that has nothing new
READ_BYTES = 131_072


async def follow(
    path: Path, *, offset: int, ended: asyncio.Event
) -> AsyncIterator[bytes]:
    """Give a growing file piece by piece until its writer is gone and all was given.

    Args:
        path: of the file; it may not be there yet.
        offset: of the first byte that is wanted; beyond the end it is waited for.
        ended: set when nothing more will be written.
    """
    with contextlib.ExitStack() as stack:
        fd: int | None = None
        while True:
            is_over = ended.is_set()  # before the read: what comes after is read again
            if fd is None and (fd := _open(path)) is not None:
                stack.callback(os.close, fd)
            content = _read(fd, offset) if fd is not None else b""
            if content:
                offset += len(content)
                yield content
            elif is_over:
                return
            else:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(LOOK_S):
                        await ended.wait()


def _read(fd: int, offset: int) -> bytes:
    try:
        return os.pread(fd, READ_BYTES, offset)
    except OSError:
        return b""  # its file system was torn away: there is nothing more


def _open(path: Path) -> int | None:
    try:
        return os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except (FileNotFoundError, ConnectionAbortedError):
        return None  # not there yet, or its file system was just torn away
    except OSError as exc:
        if exc.errno == errno.ENOTCONN:
            return None  # it was torn away a while ago
        raise
