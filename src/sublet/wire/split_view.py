"""Proof that a log showed two histories: a file that anyone can check offline.

Two checkpoints, both signed by the log's key. Of one size and with different roots
they speak for themselves. Of two sizes, a consistency proof shows which root the newer
tree had at the older size; that it is another one than was signed is the lie.

Pure. Not here: how the two were found (``sdk.log_watch``, ``witness``).
"""

from collections.abc import Sequence

import msgspec
from msgspec import Struct

from sublet.base.errors import Refused
from sublet.core.merkle import (
    BadProof,
    Frontier,
    consistency_proof,
    verify_consistency,
)
from sublet.wire.note import BadNote, Checkpoint, read_checkpoint

FILE_BYTES_MAX = 65_536


class SplitView(Struct, frozen=True, forbid_unknown_fields=True):
    """Two checkpoints of one log that no one history has."""

    verifier_key: str  # of the log
    older: str  # signed notes; ``older`` has no more entries than ``newer``
    newer: str
    root: str  # hex: of the newer tree at the older one's size; "" where not shown
    proof: tuple[str, ...]  # hex: from that root to the newer one

    def to_bytes(self) -> bytes:
        """Write the file."""
        return msgspec.json.format(msgspec.json.encode(self)) + b"\n"


def make_split_view(
    *, verifier_key: str, first: bytes, second: bytes, leaves: Sequence[bytes] = ()
) -> SplitView:
    """Put the evidence together.

    Args:
        verifier_key: of the log.
        first, second: the two notes, in any order; both hold.
        leaves: leaf hashes of the tree that the one with more entries was signed for;
            none where the log does not show them. Then the proof stays out, and the
            file proves nothing to strangers.
    """
    pair = [(read_checkpoint(note, verifier_key=verifier_key), note)
            for note in (first, second)]  # fmt: skip
    (old, older), (new, newer) = sorted(pair, key=lambda each: each[0].size)
    root, proof = "", []
    if old.size < new.size == len(leaves):
        root = _root_at(leaves, old.size).hex()
        proof = consistency_proof(leaves, old=old.size)
    return SplitView(
        verifier_key=verifier_key,
        older=older.decode(),
        newer=newer.decode(),
        root=root,
        proof=tuple(node.hex() for node in proof),
    )


def read_split_view(raw: bytes) -> SplitView:
    """Read a file of evidence.

    Raises:
        Refused: it is none (``bad_evidence``).
    """
    try:
        if len(raw) > FILE_BYTES_MAX:
            raise ValueError("it is too long")
        return msgspec.json.decode(raw, type=SplitView)
    except (msgspec.MsgspecError, ValueError) as exc:
        raise Refused(
            f"this is not a file of evidence: {exc}", code="bad_evidence"
        ) from exc


def check_split_view(shown: SplitView) -> tuple[Checkpoint, Checkpoint]:
    """Check that the evidence proves the lie; give the two checkpoints.

    Raises:
        Refused: it proves nothing, and why (``not_proven``).
    """
    try:
        old, new = (
            read_checkpoint(note.encode(), verifier_key=shown.verifier_key)
            for note in (shown.older, shown.newer)
        )
        root = bytes.fromhex(shown.root)
        proof = [bytes.fromhex(node) for node in shown.proof]
    except (BadNote, ValueError) as exc:
        raise _not_proven(f"{exc}") from exc
    if old.origin != new.origin:
        raise _not_proven("the two checkpoints are of two logs")
    if old.size == new.size:
        if old.root == new.root:
            raise _not_proven("the two checkpoints say the same")
        return old, new
    if not root:
        raise _not_proven("the log never showed how the two belong together")
    if root == old.root:
        raise _not_proven("the newer tree goes on from the older one")
    try:
        verify_consistency(
            old=old.size, new=new.size, old_root=root, new_root=new.root, proof=proof
        )
    except BadProof as exc:
        raise _not_proven(exc.message) from exc
    return old, new


def _root_at(leaves: Sequence[bytes], size: int) -> bytes:
    tree = Frontier()
    for leaf in leaves[:size]:
        tree.append(leaf)
    return tree.root()


def _not_proven(why: str) -> Refused:
    return Refused(
        f"this file proves no split view: {why}", code="not_proven", detail={}
    )
