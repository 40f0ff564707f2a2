"""The ports that erasure rests on: where a tenant's data lies, and how VRAM is scrubbed.

As all ports (``service.ports``): a real adapter and a verified fake for each.
"""

from collections.abc import Sequence
from pathlib import PurePath
from typing import Protocol

from msgspec import Struct

from sublet.base.ids import Digest
from sublet.service.ports import Probe

# ---- scratch ----------------------------------------------------------------------


class ScratchEnd(Struct, frozen=True):
    """What can be said of a scratch once nothing can be read from it any more."""

    is_key_gone: bool  # no process holds the key, or the memory, any more
    was_forced: bool  # it did not come loose by itself in time
    note: str  # one line for people
    remains: Digest  # SHA-256 over names and sizes of what lies on the disk
    files: int
    bytes: int


class Scratch(Protocol):
    """A folder for one tenant's data that a stolen disk does not give away.

    ``folder`` is private to the caller, one for each lease; what is in the clear
    shows in ``folder/data``, while it is open. It outlives the process that opened it
    and is found again by its folder, but no restart of the machine.
    """

    name: str
    cipher: str  # "" where nothing reaches a disk

    def probe(self) -> Probe:
        """Try it for real: open one, write, close it, look what is left."""
        ...

    async def open(
        self, folder: PurePath, *, key: bytearray, bytes_max: int, uid: int
    ) -> None:
        """Make it, empty. The key (32 bytes) is not kept; wiping it is the caller's.

        Args:
            folder: of the lease.
            key: what it is encrypted with.
            bytes_max: that it may hold, where it can tell.
            uid: host uid of the job, the only one beside root that may make something
                in it; that may belong to it, whoever made it. Ignored where not root.

        Raises:
            Refused: there is one in this folder already.
            Unavailable: it cannot be made; nothing is left behind.
        """
        ...

    def is_open(self, folder: PurePath) -> bool:
        """Say whether ``folder/data`` shows what was written. Never waits for it."""
        ...

    async def close(self, folder: PurePath) -> ScratchEnd:
        """Unmount it and destroy the key; again is harmless.

        Whoever still uses it gets errors. Never waits long for what hangs.
        """
        ...

    async def remove(self, folder: PurePath) -> None:
        """Take away what lies on the disk; again is harmless.

        Raises:
            Unavailable: something of it cannot be removed.
        """
        ...


class VramReport(Struct, frozen=True):
    """What was done to the memory of one GPU."""

    uuid: str
    bytes_total: int
    bytes_overwritten: int
    bytes_sampled: int  # read back and compared
    processes_left: int  # on the GPU afterwards, by the driver's word
    is_ok: bool
    note: str


class Vram(Protocol):
    """Overwrites the memory of GPUs between two tenants."""

    def probe(self) -> Probe:
        """Say whether a driver answers that can do it."""
        ...

    async def scrub(self, gpu_uuids: Sequence[str]) -> tuple[VramReport, ...]:
        """Overwrite what can be had of the memory of these GPUs, and look at samples.

        Raises:
            Unavailable: the driver does not answer.
        """
        ...
