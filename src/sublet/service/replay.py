"""From a stored log back to the state: what a node does when it starts.

It trusts the signatures (they were checked before they were appended; ``audit``
checks them again) and nothing else: bytes against leaves, leaves against the tree,
the tree against the newest signed checkpoint, a snapshot against its Seal.
"""

from collections.abc import Iterator
from hashlib import sha256
from typing import Protocol

from msgspec import Struct

from sublet.base import limits
from sublet.base.errors import Broken
from sublet.core.book.snapshot import load
from sublet.core.book.step import LeaseMoved
from sublet.core.document import Market, Seal
from sublet.core.lease.phase import Lease, Phase
from sublet.core.merkle import leaf_hash
from sublet.service.fold import Fold
from sublet.service.ports import Codec, Log, Row, Snapshot


class LogInconsistent(Broken):
    """The stored log contradicts itself; run `sublet audit verify` on it."""

    code = "log_inconsistent"


class SignedTree(Protocol):
    """What a checkpoint says."""

    @property
    def origin(self) -> str:
        """The log's name: ``sublet/<market id>``."""
        ...

    @property
    def size(self) -> int:
        """Entries that the root covers."""
        ...

    @property
    def root(self) -> bytes:
        """The tree's root, 32 bytes."""
        ...


class ReadNote(Protocol):
    """Reads a checkpoint and checks its signature (``wire.note.read_checkpoint``)."""

    def __call__(self, note: bytes, *, verifier_key: str) -> SignedTree:
        """Give what the note says.

        Raises:
            PeerFault: malformed, or not signed by this key.
        """
        ...


class Replayed(Struct):
    """What a node knows once it has read its log."""

    fold: Fold
    sealed_size: int = 0  # entries up to and with the Seal of the snapshot
    settled: list[Lease] = []  # since that snapshot


def replay(
    log: Log, codec: Codec, *, read_note: ReadNote, kept: bytes | None = None
) -> Replayed:
    """Fold a stored log.

    A checkpoint that was ``kept`` elsewhere shows whether this is an older copy.

    Blocks; for a thread. Reads in pages, so its memory does not grow with the bodies.

    Raises:
        LogInconsistent: bytes, leaves, tree, checkpoint or order contradict each other.
        PeerFault: an entry or the newest checkpoint cannot be read.
    """
    fold = Fold()
    replayed = Replayed(fold)
    notes = _read_checkpoints(log, codec, kept, read_note=read_note)
    snapshot = _find_true_snapshot(log, codec)
    snapshot_size = 0
    if snapshot is not None:
        snapshot_size = snapshot.size
        replayed.sealed_size = snapshot.size + 1
    for row in _read_rows(log):
        if row.index < snapshot_size:
            fold.tree.append(row.leaf)
            fold.leaves.append(row.leaf)
        else:
            if snapshot is not None and row.index == snapshot_size:
                _begin_at(snapshot, fold)
            _take(row, codec, replayed)
        for signed in notes:
            if row.index + 1 == signed.size:
                _check_root(fold, signed)
    for signed in notes:
        if signed.size > fold.size:
            raise LogInconsistent(
                f"the log holds {fold.size} entries and a checkpoint over {signed.size} "
                "was signed; the last ones are missing: restore a newer backup, or, if "
                "they are lost for good, tell your market so and move the home's "
                "file `checkpoint` away"
            )
    return replayed


def _read_rows(log: Log) -> Iterator[Row]:
    number = 0
    while page := log.read(first=number, limit=limits.PAGE_ENTRIES_MAX):
        for row in page:
            if row.index != number:
                raise LogInconsistent(f"entry {number} is missing from the log")
            yield row
            number += 1


def _take(row: Row, codec: Codec, replayed: Replayed) -> None:
    if leaf_hash(row.body) != row.leaf:
        raise LogInconsistent(
            f"entry {row.index} does not hash to its leaf; run `sublet audit verify`"
        )
    step = replayed.fold.take(codec.read_entry(row.body).fact, leaf=row.leaf)
    for outcome in step.outcomes:
        if isinstance(outcome, LeaseMoved) and outcome.lease.phase is Phase.SETTLED:
            replayed.settled.append(outcome.lease)


def _begin_at(snapshot: Snapshot, fold: Fold) -> None:
    if fold.tree.to_bytes() != snapshot.tree:
        raise LogInconsistent(
            f"the tree of the snapshot after {snapshot.size} entries is not the tree "
            "of the stored leaves; run `sublet audit verify`"
        )
    fold.book = load(snapshot.book)


def _check_root(fold: Fold, signed: SignedTree) -> None:
    if fold.tree.root() != signed.root:
        raise LogInconsistent(
            f"the signed checkpoint over {signed.size} entries has another root than "
            "the stored leaves; run `sublet audit verify`"
        )


def _read_checkpoints(
    log: Log, codec: Codec, kept: bytes | None, *, read_note: ReadNote
) -> list[SignedTree]:
    notes = [note for note in (log.find_checkpoint(), kept) if note is not None]
    first = log.read(first=0, limit=1)
    if not notes or not first:
        return []
    market = codec.read_entry(first[0].body).fact.document
    if not isinstance(market, Market):
        raise LogInconsistent("entry 0 is not a Market; this is not a market's log")
    return [read_note(note, verifier_key=market.note_key) for note in notes]


def _find_true_snapshot(log: Log, codec: Codec) -> Snapshot | None:
    """Give the newest snapshot whose book the Seal behind it names.

    One that is damaged only costs time: an older one, or none, serves as well.
    """
    snapshot = log.find_snapshot()
    while snapshot is not None and not is_sealed(snapshot, log, codec):
        snapshot = log.find_snapshot(size_max=snapshot.size - 1)
    return snapshot


def is_sealed(snapshot: Snapshot, log: Log, codec: Codec) -> bool:
    """Say whether entry number ``snapshot.size`` is a Seal of just this book."""
    if sha256(snapshot.book).digest() != snapshot.book_hash:
        return False
    for row in log.read(first=snapshot.size, limit=1):
        seal = codec.read_entry(row.body).fact.document
        if isinstance(seal, Seal):
            return seal.size == snapshot.size and seal.book == (
                "0x" + snapshot.book_hash.hex()
            )
    return False
