"""The Merkle tree over a log's entries, as RFC 9162 (Certificate Transparency) has it.

Pure: hashes in, hashes out. A ``Frontier`` grows with the log and holds one hash per
bit of its size; proofs are made from the leaf hashes and checked without them.

Not here: signing a root (``wire.note``), keeping leaves (the log).
"""

from collections.abc import Sequence
from hashlib import sha256

from sublet.base.errors import Broken, PeerFault, Refused

HASH_BYTES = 32
EMPTY_ROOT = sha256(b"").digest()
_SIZE_BYTES = 8


class BadProof(PeerFault):
    """A proof does not show what it claims; the log or whoever relays it is lying."""

    code = "bad_proof"


def leaf_hash(body: bytes) -> bytes:
    """Hash an entry: SHA-256 of 0x00 and its bytes."""
    return sha256(b"\x00" + body).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Hash two subtrees: SHA-256 of 0x01 and both."""
    return sha256(b"\x01" + left + right).digest()


class Frontier:
    """What must be remembered of a tree to let it grow and to tell its root.

    The roots of the largest complete subtrees, from left to right: one for each bit
    that is set in ``size``.
    """

    __slots__ = ("_peaks", "size")

    size: int  # leaves

    def __init__(self) -> None:
        """Begin with the empty tree."""
        self.size = 0
        self._peaks: list[bytes] = []

    def append(self, leaf: bytes) -> None:
        """Add a leaf hash (32 bytes) on the right."""
        if len(leaf) != HASH_BYTES:
            raise Broken(f"a leaf hash has {HASH_BYTES} bytes, not {len(leaf)}")
        size, peaks = self.size, self._peaks
        while size & 1:
            leaf = node_hash(peaks.pop(), leaf)
            size >>= 1
        peaks.append(leaf)
        self.size += 1

    def root(self) -> bytes:
        """Give the root of the tree as it stands, 32 bytes."""
        if not self._peaks:
            return EMPTY_ROOT
        root = self._peaks[-1]
        for peak in reversed(self._peaks[:-1]):
            root = node_hash(peak, root)
        return root

    def to_bytes(self) -> bytes:
        """Write the size (8 bytes, big-endian) and the hashes."""
        return self.size.to_bytes(_SIZE_BYTES, "big") + b"".join(self._peaks)

    @classmethod
    def from_bytes(cls, raw: bytes) -> "Frontier":
        """Read what ``to_bytes`` wrote.

        Raises:
            PeerFault: the number of hashes is not that of the size.
        """
        size = int.from_bytes(raw[:_SIZE_BYTES], "big")
        length = _SIZE_BYTES + HASH_BYTES * size.bit_count()
        if len(raw) != length:
            raise PeerFault(
                f"a frontier of {size} leaves has {length} bytes, not {len(raw)}",
                code="bad_frontier",
            )
        frontier = cls()
        frontier.size = size
        frontier._peaks = [
            raw[first : first + HASH_BYTES]
            for first in range(_SIZE_BYTES, length, HASH_BYTES)
        ]
        return frontier


def root_of(leaves: Sequence[bytes]) -> bytes:
    """Compute the root over leaf hashes."""
    frontier = Frontier()
    for leaf in leaves:
        frontier.append(leaf)
    return frontier.root()


def _split(size: int) -> int:
    """The largest power of two below ``size`` (at least 2): where a tree divides."""
    return 1 << ((size - 1).bit_length() - 1)


def inclusion_proof(leaves: Sequence[bytes], *, index: int) -> list[bytes]:
    """Prove that leaf ``index`` is in the tree over ``leaves`` (RFC 9162, 2.1.3.1).

    Raises:
        Refused: there is no such leaf.
    """
    if not 0 <= index < len(leaves):
        raise Refused(
            f"a log of {len(leaves)} entries has no entry {index}", code="no_entry"
        )
    proof: list[bytes] = []
    while len(leaves) > 1:
        middle = _split(len(leaves))
        if index < middle:
            leaves, other = leaves[:middle], leaves[middle:]
        else:
            other, leaves = leaves[:middle], leaves[middle:]
            index -= middle
        proof.append(root_of(other))
    return proof[::-1]


def consistency_proof(leaves: Sequence[bytes], *, old: int) -> list[bytes]:
    """Prove that the first ``old`` leaves are the old tree (RFC 9162, 2.1.4.1).

    Raises:
        Refused: the old tree is larger than the new one.
    """
    if not 0 <= old <= len(leaves):
        raise Refused(
            f"a log of {len(leaves)} entries never had {old}", code="no_entry"
        )
    if old in (0, len(leaves)):
        return []
    proof: list[bytes] = []
    is_whole = True  # the old tree is a complete subtree of the new: its root is known
    while old != len(leaves):
        middle = _split(len(leaves))
        if old <= middle:
            leaves, other = leaves[:middle], leaves[middle:]
        else:
            other, leaves = leaves[:middle], leaves[middle:]
            old -= middle
            is_whole = False
        proof.append(root_of(other))
    if not is_whole:
        proof.append(root_of(leaves))
    return proof[::-1]


def verify_inclusion(
    leaf: bytes, *, index: int, size: int, root: bytes, proof: Sequence[bytes]
) -> None:
    """Check that a leaf hash is entry ``index`` of the tree (RFC 9162, 2.1.3.2).

    Raises:
        BadProof: it is not, or the proof is malformed.
    """
    if not 0 <= index < size:
        raise BadProof(f"a log of {size} entries has no entry {index}")
    _check_lengths([leaf, root, *proof])
    place, last, node = index, size - 1, leaf
    for sibling in proof:
        if last == 0:
            raise BadProof("the proof is longer than the tree is high")
        if place & 1 or place == last:
            node = node_hash(sibling, node)
            while not place & 1 and place:
                place, last = place >> 1, last >> 1
        else:
            node = node_hash(node, sibling)
        place, last = place >> 1, last >> 1
    if last != 0:
        raise BadProof("the proof is shorter than the tree is high")
    if node != root:
        raise BadProof(f"the proof does not lead from entry {index} to the root")


def verify_consistency(
    *, old: int, new: int, old_root: bytes, new_root: bytes, proof: Sequence[bytes]
) -> None:
    """Check that the old tree is the beginning of the new one (RFC 9162, 2.1.4.2).

    Raises:
        BadProof: it is not, or the proof is malformed.
    """
    if not 0 <= old <= new:
        raise BadProof(f"a log of {new} entries never had {old}")
    _check_lengths([old_root, new_root, *proof])
    if old == 0 or old == new:
        is_same = old_root == (EMPTY_ROOT if old == 0 else new_root)
        if proof or not is_same:
            raise BadProof("the roots of two equal trees differ")
        return
    # Where the old tree is complete, its root opens the proof and is left out.
    path = [old_root, *proof] if old.bit_count() == 1 else list(proof)
    _check_path(path, old=old, new=new, old_root=old_root, new_root=new_root)


def _check_path(
    path: list[bytes], *, old: int, new: int, old_root: bytes, new_root: bytes
) -> None:
    if not path:
        raise BadProof("the proof is empty")
    place, last = old - 1, new - 1
    while place & 1:
        place, last = place >> 1, last >> 1
    old_node = new_node = path[0]
    for sibling in path[1:]:
        if last == 0:
            raise BadProof("the proof is longer than the tree is high")
        if place & 1 or place == last:
            old_node = node_hash(sibling, old_node)
            new_node = node_hash(sibling, new_node)
            while not place & 1 and place:
                place, last = place >> 1, last >> 1
        else:
            new_node = node_hash(new_node, sibling)
        place, last = place >> 1, last >> 1
    if last != 0:
        raise BadProof("the proof is shorter than the tree is high")
    if old_node != old_root:
        raise BadProof(f"the proof does not lead to the root of {old} entries")
    if new_node != new_root:
        raise BadProof(f"the proof does not lead to the root of {new} entries")


def _check_lengths(hashes: Sequence[bytes]) -> None:
    if any(len(node) != HASH_BYTES for node in hashes):
        raise BadProof(f"every hash of a proof has {HASH_BYTES} bytes")


class Subtrees:
    """Every complete subtree of a tree: makes many proofs of it, each in a moment."""

    def __init__(self, leaves: Sequence[bytes]) -> None:
        """Hash a tree once over its leaf hashes."""
        self.size = len(leaves)
        self._levels = [list(leaves)]  # level k: subtrees of 2^k leaves, left to right
        while len(below := self._levels[-1]) > 1:
            pairs = range(0, len(below) - 1, 2)
            self._levels.append([node_hash(below[n], below[n + 1]) for n in pairs])

    def prove_inclusion(self, index: int) -> list[bytes]:
        """Prove that leaf ``index`` is in the tree, as ``inclusion_proof`` does.

        Raises:
            Refused: there is no such leaf.
        """
        if not 0 <= index < self.size:
            raise Refused(
                f"a log of {self.size} entries has no entry {index}", code="no_entry"
            )
        proof: list[bytes] = []
        first, size = 0, self.size
        while size > 1:
            middle = _split(size)
            if index < first + middle:
                proof.append(self._root(first + middle, size - middle))
                size = middle
            else:
                proof.append(self._root(first, middle))
                first, size = first + middle, size - middle
        return proof[::-1]

    def _root(self, first: int, size: int) -> bytes:
        if size.bit_count() == 1:
            level = size.bit_length() - 1
            return self._levels[level][first >> level]
        middle = _split(size)
        left = self._root(first, middle)
        return node_hash(left, self._root(first + middle, size - middle))
