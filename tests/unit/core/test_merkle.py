"""The Merkle tree: equal to pymerkle's, and no proof survives a change."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pymerkle import InmemoryTree

from sublet.base.errors import Broken, PeerFault, Refused
from sublet.core.merkle import (
    EMPTY_ROOT,
    BadProof,
    Frontier,
    consistency_proof,
    inclusion_proof,
    leaf_hash,
    root_of,
    verify_consistency,
    verify_inclusion,
)

LARGEST = 300
BODIES = [b"entry %d" % index for index in range(LARGEST)]
LEAVES = [leaf_hash(body) for body in BODIES]
ROOTS = [root_of(LEAVES[:size]) for size in range(LARGEST + 1)]
TREE = InmemoryTree.init_from_entries(BODIES, algorithm="sha256")
# All small shapes, then the edges of the powers of two.
SIZES = [*range(1, 34), 63, 64, 65, 100, 127, 128, 129, 255, 256, 257, LARGEST]


def test_roots_are_those_of_pymerkle() -> None:
    assert [TREE.get_root(size) for size in range(1, LARGEST + 1)] == ROOTS[1:]


def test_empty_tree_has_rfc_root() -> None:
    assert ROOTS[0] == EMPTY_ROOT == Frontier().root()
    expected = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    assert EMPTY_ROOT.hex() == expected


@pytest.mark.parametrize("size", SIZES)
def test_inclusion_proofs_are_those_of_pymerkle(size: int) -> None:
    for index in range(0, size, 1 + size // 20):
        proof = inclusion_proof(LEAVES[:size], index=index)
        # pymerkle counts from one and begins its path with the leaf itself.
        theirs = TREE.prove_inclusion(index + 1, size)
        assert theirs.path == [LEAVES[index], *proof]
        verify_inclusion(
            LEAVES[index], index=index, size=size, root=ROOTS[size], proof=proof
        )


@pytest.mark.parametrize("new", SIZES)
def test_consistency_proofs_hold(new: int) -> None:
    # pymerkle's are not in the form of the RFC; that form is held by the examples.
    for old in range(1, new + 1, 1 + new // 20):
        proof = consistency_proof(LEAVES[:new], old=old)
        verify_consistency(
            old=old, new=new, old_root=ROOTS[old], new_root=ROOTS[new], proof=proof
        )


def test_consistency_with_the_empty_tree() -> None:
    assert consistency_proof(LEAVES[:5], old=0) == []
    verify_consistency(old=0, new=5, old_root=EMPTY_ROOT, new_root=ROOTS[5], proof=[])
    with pytest.raises(BadProof):
        verify_consistency(old=0, new=5, old_root=ROOTS[1], new_root=ROOTS[5], proof=[])


def test_rfc_examples_of_seven_leaves() -> None:
    # RFC 9162, 2.1.5, with its letters.
    a, b, c, d, e, f, j = leaves = LEAVES[:7]
    g, h, i = root_of([a, b]), root_of([c, d]), root_of([e, f])
    k, l_ = root_of([a, b, c, d]), root_of([e, f, j])
    inclusion = {0: [b, h, l_], 3: [c, g, l_], 4: [f, j, k], 6: [i, k]}
    for index, proof in inclusion.items():
        assert inclusion_proof(leaves, index=index) == proof
    consistency = {3: [c, d, g, l_], 4: [l_], 6: [i, j, k]}
    for old, proof in consistency.items():
        assert consistency_proof(leaves, old=old) == proof


def _flip(content: bytes, bit: int) -> bytes:
    place = bit % (8 * len(content))
    changed = bytearray(content)
    changed[place // 8] ^= 1 << place % 8
    return bytes(changed)


@st.composite
def _places(draw: st.DrawFn) -> tuple[int, int]:
    size = draw(st.integers(2, LARGEST))
    return draw(st.integers(0, size - 1)), size


@given(_places(), st.integers(0, 300), st.integers(0, 255))
def test_any_flipped_bit_breaks_inclusion(
    place: tuple[int, int], which: int, bit: int
) -> None:
    index, size = place
    # Root, leaf and proof are one list here: a change in any of them must show.
    parts = [
        ROOTS[size],
        LEAVES[index],
        *inclusion_proof(LEAVES[:size], index=index),
    ]
    which %= len(parts)
    parts[which] = _flip(parts[which], bit)
    with pytest.raises(BadProof):
        verify_inclusion(
            parts[1], index=index, size=size, root=parts[0], proof=parts[2:]
        )


@given(_places(), st.integers(0, 300), st.integers(0, 255))
def test_any_flipped_bit_breaks_consistency(
    place: tuple[int, int], which: int, bit: int
) -> None:
    old, new = max(place[0], 1), place[1]
    parts = [ROOTS[old], ROOTS[new], *consistency_proof(LEAVES[:new], old=old)]
    which %= len(parts)
    parts[which] = _flip(parts[which], bit)
    with pytest.raises(BadProof):
        verify_consistency(
            old=old, new=new, old_root=parts[0], new_root=parts[1], proof=parts[2:]
        )


@given(_places(), st.integers(0, LARGEST))
def test_proof_holds_for_its_index_only(place: tuple[int, int], other: int) -> None:
    index, size = place
    if other == index:
        return
    proof = inclusion_proof(LEAVES[:size], index=index)
    with pytest.raises(BadProof):
        verify_inclusion(
            LEAVES[index], index=other, size=size, root=ROOTS[size], proof=proof
        )


@pytest.mark.parametrize("change", ["longer", "shorter", "short hash", "empty"])
def test_malformed_proofs_are_refused(change: str) -> None:
    def spoil(proof: list[bytes]) -> list[bytes]:
        return {
            "longer": [*proof, proof[0]],
            "shorter": proof[:-1],
            "short hash": [proof[0][:-1], *proof[1:]],
            "empty": [],
        }[change]

    with pytest.raises(BadProof):
        verify_inclusion(
            LEAVES[5],
            index=5,
            size=13,
            root=ROOTS[13],
            proof=spoil(inclusion_proof(LEAVES[:13], index=5)),
        )
    with pytest.raises(BadProof):
        verify_consistency(
            old=5,
            new=13,
            old_root=ROOTS[5],
            new_root=ROOTS[13],
            proof=spoil(consistency_proof(LEAVES[:13], old=5)),
        )


def test_rewritten_history_is_caught() -> None:
    rewritten = [*LEAVES[:3], leaf_hash(b"another entry"), *LEAVES[4:9]]
    with pytest.raises(BadProof):
        verify_consistency(
            old=6,
            new=9,
            old_root=ROOTS[6],
            new_root=root_of(rewritten),
            proof=consistency_proof(rewritten, old=6),
        )


def test_entries_beyond_the_log_are_refused() -> None:
    for index in (-1, 5):
        with pytest.raises(Refused):
            inclusion_proof(LEAVES[:5], index=index)
        with pytest.raises(BadProof):
            verify_inclusion(LEAVES[0], index=index, size=5, root=ROOTS[5], proof=[])
    for old in (-1, 6):
        with pytest.raises(Refused):
            consistency_proof(LEAVES[:5], old=old)
        with pytest.raises(BadProof):
            verify_consistency(
                old=old, new=5, old_root=ROOTS[0], new_root=ROOTS[5], proof=[]
            )


def test_frontier_goes_on_after_reading() -> None:
    for size in range(70):
        frontier = Frontier()
        for leaf in LEAVES[:size]:
            frontier.append(leaf)
        again = Frontier.from_bytes(frontier.to_bytes())
        assert (again.size, again.root()) == (size, ROOTS[size])
        again.append(LEAVES[size])
        assert again.root() == ROOTS[size + 1]
        assert frontier.size == size  # the copy shares nothing


@pytest.mark.parametrize("raw", [b"", b"\0" * 7, b"\0" * 7 + b"\1", b"\0" * 40])
def test_damaged_frontiers_are_refused(raw: bytes) -> None:
    with pytest.raises(PeerFault) as error:
        Frontier.from_bytes(raw)
    assert error.value.code == "bad_frontier"


def test_frontier_takes_hashes_only() -> None:
    with pytest.raises(Broken):
        Frontier().append(b"not a hash")
