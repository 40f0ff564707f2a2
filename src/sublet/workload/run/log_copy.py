"""What one attempt wrote to one stream: counted, hashed, and a copy of it kept."""

import asyncio
from pathlib import Path

from blake3 import blake3

from sublet.base import limits
from sublet.base.errors import PeerFault, Unavailable
from sublet.base.ids import Digest

_READ_BYTES = 1 << 20


class Log:
    """One stream of one attempt: how far it was read, and whether that is all."""

    def __init__(self, stream: str, *, place: Path) -> None:
        """Take where a copy is kept."""
        self.stream = stream
        self.place = place
        self.offset = 0
        self.done = asyncio.Event()
        self._hasher = blake3()
        self._is_kept = True

    def go_on(self) -> None:
        """Take what an earlier copy holds as read; the rest follows behind it."""
        if self.place.exists():
            with self.place.open("rb") as file:
                while content := file.read(_READ_BYTES):
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

    def keep(self, content: bytes) -> None:
        """Append to the copy.

        Raises:
            Unavailable: the disk is full or did not answer; said once.
        """
        self.offset += len(content)
        self._hasher.update(content)
        if not self._is_kept or self.offset > limits.LOG_BYTES_MAX:
            return
        try:
            with self.place.open("ab") as file:
                file.write(content)
        except OSError as exc:
            self._is_kept = False  # a copy with a hole in it would be worse
            raise Unavailable(
                f"cannot keep a copy of {self.stream} in {self.place}: {exc.strerror}; "
                "free some space on that disk",
                code="disk_failed",
            ) from exc
