"""What one attempt wrote to one stream: counted, hashed, and a copy of it kept."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Protocol

from blake3 import blake3

from sublet.base import limits
from sublet.base.errors import PeerFault, Unavailable
from sublet.base.ids import Digest

STREAMS = ("stdout", "stderr")
_READ_BYTES = 1 << 20


class Copy(Protocol):
    """Where a stream's copy is kept."""

    def read(self, *, offset: int) -> bytes:
        """Give a piece of it, or nothing where it ends."""
        ...

    def append(self, content: bytes) -> None:
        """Add to it.

        Raises:
            Unavailable: it cannot be kept.
        """
        ...


class FileCopy:
    """A copy in a file of this machine."""

    def __init__(self, place: Path) -> None:
        """Take the file; it is made with the first byte."""
        self._place = place

    def read(self, *, offset: int) -> bytes:
        """Give a piece of it, or nothing where it ends."""
        try:
            with self._place.open("rb") as file:
                file.seek(offset)
                return file.read(_READ_BYTES)
        except FileNotFoundError:
            return b""

    def append(self, content: bytes) -> None:
        """Add to it; raises as ``Copy`` says."""
        try:
            with self._place.open("ab") as file:
                file.write(content)
        except OSError as exc:
            raise Unavailable(
                f"cannot keep a copy of {self._place.name} in {self._place}: "
                f"{exc.strerror}; free some space on that disk",
                code="disk_failed",
            ) from exc


def open_logs(folder: Path) -> list["Log"]:
    """Give a job's two streams, with copies in its folder."""
    return [Log(name, copy=FileCopy(folder / name)) for name in STREAMS]


class Log:
    """One stream of one attempt: how far it was read, and whether that is all."""

    def __init__(self, stream: str, *, copy: Copy) -> None:
        """Take where a copy is kept."""
        self.stream = stream
        self._copy = copy
        self.offset = 0
        self.done = asyncio.Event()
        self._hasher = blake3()
        self._is_kept = True

    def go_on(self) -> None:
        """Take what an earlier copy holds as read; the rest follows behind it."""
        while content := self._copy.read(offset=self.offset):
            self._hasher.update(content)
            self.offset += len(content)

    @property
    def digest(self) -> Digest:
        """BLAKE3 of all that came so far."""
        return "0x" + self._hasher.hexdigest()

    def check(self, hashed: Digest) -> None:
        """Hold a stream that is through against what the receipt hashed.

        One that is not all here proves nothing.

        Raises:
            PeerFault: the program wrote something else.
        """
        if self.done.is_set() and self.digest != hashed:
            raise PeerFault(
                f"the provider's {self.stream} is not what its receipt hashed",
                code="bad_output",
                detail={"receipt": hashed, "told": self.digest},
            )

    async def follow(
        self,
        pieces: AsyncIterator[bytes],
        *,
        wrote: Callable[[str, bytes], Awaitable[None]],
        warn: Callable[[str], Awaitable[None]],
    ) -> None:
        """Keep and show what comes until that is all; raises as ``pieces`` does."""
        async for content in pieces:
            try:
                self.keep(content)
            except Unavailable as fault:
                await warn(fault.message)
            await wrote(self.stream, content)
        self.done.set()

    def keep(self, content: bytes) -> None:
        """Append to the copy.

        Raises:
            Unavailable: it cannot be kept; said once.
        """
        self.offset += len(content)
        self._hasher.update(content)
        if not self._is_kept or self.offset > limits.LOG_BYTES_MAX:
            return
        try:
            self._copy.append(content)
        except Unavailable:
            self._is_kept = False  # a copy with a hole in it would be worse
            raise
