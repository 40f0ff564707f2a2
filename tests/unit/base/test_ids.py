"""Addresses and digests: lower-case hex with 0x, and nothing else."""

import msgspec
import pytest

from sublet.base.ids import NO_ADDRESS, NO_DIGEST, Address, Digest


def _fits(text: str, kind: object) -> bool:
    try:
        return bool(msgspec.json.decode(msgspec.json.encode(text), type=kind) == text)
    except msgspec.ValidationError:
        return False


@pytest.mark.parametrize(
    ("text", "is_good"),
    [
        (NO_ADDRESS, True),
        ("0x" + "0123456789abcdef0123456789abcdef01234567", True),
        ("0x" + "A" * 40, False),  # the EIP-55 case is for eyes only
        ("0X" + "a" * 40, False),
        ("a" * 40, False),
        ("0x" + "a" * 39, False),
        ("0x" + "a" * 41, False),
        ("0x" + "g" * 40, False),
        ("0x" + "a" * 40 + "\n", False),
        (" 0x" + "a" * 40, False),
        (NO_DIGEST, False),
        ("", False),
    ],
)
def test_addresses_have_one_form(text: str, is_good: bool) -> None:
    assert _fits(text, Address) is is_good


@pytest.mark.parametrize(
    ("text", "is_good"),
    [
        (NO_DIGEST, True),
        ("0x" + "0123456789abcdef" * 4, True),
        ("0x" + "A" * 64, False),
        ("a" * 64, False),
        ("0x" + "a" * 63, False),
        ("0x" + "a" * 64 + "\n", False),
        (NO_ADDRESS, False),
        ("", False),
    ],
)
def test_digests_have_one_form(text: str, is_good: bool) -> None:
    assert _fits(text, Digest) is is_good
