"""What is kept beside the entries: checkpoints, settled leases, snapshots.

All of it can be made again from the log. So a store that fails here costs nothing but
another try after the next commit.
"""

import logging
from collections.abc import Iterable

import msgspec

from sublet.base.errors import Unavailable
from sublet.base.ids import Address, Digest
from sublet.core.lease.phase import Lease, Phase
from sublet.service.ports import Codec, Log, Snapshot

_LOGGER = logging.getLogger(__name__)


class Keeper:
    """Blocks; called in the log's thread, by one caller at a time."""

    def __init__(self, log: Log, codec: Codec) -> None:
        """Take the ports."""
        self._log = log
        self._codec = codec
        self._unkept: list[Lease] = []
        self.checkpoint: tuple[int, bytes] | None = None  # newest, with its size

    def keep(self, *, size: int, root: bytes, moved: Iterable[Lease] = ()) -> None:
        """Sign the tree as it is; keep the note and the leases that are settled.

        Args:
            size: entries of the tree.
            root: of the tree, 32 bytes.
            moved: since the last call; those that are not settled do not matter.
        """
        note = self._codec.sign_note(size=size, root=root)
        self._unkept += [lease for lease in moved if lease.phase is Phase.SETTLED]
        try:
            self._log.put_checkpoint(size=size, note=note)
            if self._unkept:
                self._log.put_settled([_settled_row(lease) for lease in self._unkept])
        except Unavailable as error:
            _warn("checkpoint_not_kept", error)
            return
        self._unkept.clear()
        self.checkpoint = (size, note)

    def keep_snapshot(self, snapshot: Snapshot) -> None:
        """Keep a snapshot that a Seal in the log names."""
        try:
            self._log.put_snapshot(snapshot)
        except Unavailable as error:
            _warn("snapshot_not_kept", error)

    def find_settled(self, lease_id: Digest) -> Lease | None:
        """Give a settled lease that the book may have forgotten, or None."""
        raw = self._log.find_settled(lease_id)
        return None if raw is None else read_lease(raw)


def read_lease(raw: bytes) -> Lease:
    """Read a lease as the log keeps settled ones."""
    return msgspec.json.decode(raw, type=Lease)


def _settled_row(lease: Lease) -> tuple[Digest, Address, Address, int, bytes]:
    return (
        lease.id,
        lease.tenant,
        lease.provider,
        lease.ended_at_s,
        msgspec.json.encode(lease),
    )


def _warn(event: str, error: Unavailable) -> None:
    _LOGGER.warning(event, extra={"values": {"code": error.code, "why": error.message}})
