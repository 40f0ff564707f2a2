"""A job's stdout or stderr, from any byte on, live until the job has ended.

A file system in user space that hangs holds whoever reads from it, until its daemon is
killed. The event loop is everybody's: there it is one thread for each stream that waits.
"""

import asyncio
import contextlib
import errno
import os
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

LOOK_S = 0.05  # between two looks at a stream that has nothing new
READ_BYTES = 131_072


async def follow(
    path: Path, *, offset: int, ended: asyncio.Event, may_hang: bool = False
) -> AsyncIterator[bytes]:
    """Give a growing file piece by piece until its writer is gone and all was given.

    Args:
        path: of the file; it may not be there yet.
        offset: of the first byte that is wanted; beyond the end it is waited for.
        ended: set when nothing more will be written.
        may_hang: whether its file system is one in user space.

    Raises:
        OSError: it is there, and cannot be read; no link is followed.
    """
    with contextlib.closing(_Hand(may_hang=may_hang)) as hand:
        fd: int | None = None
        while True:
            is_over = ended.is_set()  # before the read: what comes after is read again
            if fd is None:
                fd = await hand.do(_open, path)
                hand.fd = fd
            content = await hand.do(_read, fd, offset) if fd is not None else b""
            if content:
                offset += len(content)
                yield content
            elif is_over:
                return
            else:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(LOOK_S):
                        await ended.wait()


class _Hand:
    """What reads: the caller's own thread, or one that nobody waits for."""

    def __init__(self, *, may_hang: bool) -> None:
        self.fd: int | None = None  # what it holds, once that is open
        self._pool = ThreadPoolExecutor(1) if may_hang else None

    async def do(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        if self._pool is None:
            return work(*args, **kwargs)
        done = self._pool.submit(work, *args, **kwargs)
        return await asyncio.wrap_future(done)

    def close(self) -> None:
        """Let go of the file; closing it may hang, too."""
        if self._pool is None:
            if self.fd is not None:
                os.close(self.fd)
            return
        if self.fd is not None:
            self._pool.submit(os.close, self.fd)
        self._pool.shutdown(wait=False)


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
