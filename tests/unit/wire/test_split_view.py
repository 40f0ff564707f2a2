"""Evidence of two histories: it proves the lie or says why not."""

import pytest
from msgspec.structs import replace

from sublet.base.errors import Refused
from sublet.core.merkle import leaf_hash, root_of
from sublet.wire.note import NoteKey
from sublet.wire.split_view import (
    SplitView,
    check_split_view,
    make_split_view,
    read_split_view,
)

KEY = NoteKey.generate(b"\x07" * 32, "lab")
ONE = [leaf_hash(b"one %d" % number) for number in range(20)]
TWO = ONE[:5] + [leaf_hash(b"two %d" % number) for number in range(15)]


def note(leaves: list[bytes], origin: str = "sublet/ab") -> bytes:
    return KEY.sign_checkpoint(origin=origin, size=len(leaves), root=root_of(leaves))


def view(first: bytes, second: bytes, leaves: list[bytes]) -> SplitView:
    return make_split_view(
        verifier_key=KEY.verifier_key, first=first, second=second, leaves=leaves
    )


def check(shown: SplitView) -> str:
    try:
        check_split_view(read_split_view(shown.to_bytes()))
    except Refused as refusal:
        return refusal.message
    return "proven"


@pytest.mark.parametrize("size", [6, 7, 8, 12, 16, 19, 20])
def test_fork_is_proven_at_any_size(size: int) -> None:
    assert check(view(note(ONE[:size]), note(TWO), TWO)) == "proven"
    assert check(view(note(TWO), note(ONE[:size]), TWO)) == "proven"


@pytest.mark.parametrize("size", [1, 4, 5])
def test_common_beginning_proves_nothing(size: int) -> None:
    assert "goes on" in check(view(note(ONE[:size]), note(TWO), TWO))


def test_what_was_not_shown_proves_nothing() -> None:
    assert "never showed" in check(view(note(ONE[:8]), note(TWO), []))
    assert "say the same" in check(view(note(TWO), note(TWO), TWO))
    other = view(note(ONE[:8], "sublet/cd"), note(TWO), TWO)
    assert "two logs" in check(other)


def test_forged_evidence_proves_nothing() -> None:
    shown = view(note(ONE[:8]), note(TWO), TWO)
    assert check(shown) == "proven"
    assert "does not lead" in check(replace(shown, root="00" * 32))
    stranger = NoteKey.generate(b"\x08" * 32, "lab")
    assert check(replace(shown, verifier_key=stranger.verifier_key)) != "proven"
    assert check(replace(shown, older=shown.older.replace("8\n", "7\n"))) != "proven"
    with pytest.raises(Refused):
        read_split_view(b"{}")
