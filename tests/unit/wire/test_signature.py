"""Keys and signatures: only the one right signature is taken."""

import copy
import gzip
import json
import pickle
from pathlib import Path

import pytest

from sublet.base.errors import PeerFault, Refused
from sublet.wire.signature import CURVE_ORDER, HALF_ORDER, BadSignature, Key, recover
from sublet.wire.typed_data import keccak

VECTORS = Path(__file__).parents[2] / "vectors"
SECRET = "0x" + "11" * 32
DIGEST = "0x" + "22" * 32
KEY = Key.from_hex(SECRET)
SIGNATURE = KEY.sign(DIGEST)


def test_signer_is_found_again() -> None:
    assert KEY.address == "0x19e7e376e7c213b7e7e7e46cc70a5dd086daff2a"
    assert recover(DIGEST, SIGNATURE) == KEY.address
    assert KEY.sign(DIGEST) == SIGNATURE


def test_another_digest_has_another_signer() -> None:
    assert recover("0x" + "23" * 32, SIGNATURE) != KEY.address


def _with(*, r: int | None = None, s: int | None = None, v: int = 27) -> bytes:
    own_r = SIGNATURE[:32] if r is None else r.to_bytes(32, "big")
    own_s = SIGNATURE[32:64] if s is None else s.to_bytes(32, "big")
    return own_r + own_s + bytes((v,))


@pytest.mark.parametrize(
    ("signature", "code"),
    [
        (b"", "signature_length"),
        (SIGNATURE[:64], "signature_length"),  # EIP-2098, or truncated
        (SIGNATURE + b"\0", "signature_length"),
        (_with(v=0), "signature_v"),
        (_with(v=1), "signature_v"),
        (_with(v=26), "signature_v"),
        (_with(v=29), "signature_v"),
        (_with(v=37), "signature_v"),  # EIP-155
        (_with(r=0), "signature_range"),
        (_with(s=0), "signature_range"),
        (_with(r=CURVE_ORDER), "signature_range"),
        (_with(s=CURVE_ORDER), "signature_range"),
        (_with(r=2**256 - 1), "signature_range"),
        (_with(s=HALF_ORDER + 1), "signature_high_s"),
        (_with(s=CURVE_ORDER - 1), "signature_high_s"),
        (_with(r=5), "signature_unrecoverable"),  # no point has this x
    ],
)
def test_bad_signatures_have_names(signature: bytes, code: str) -> None:
    with pytest.raises(BadSignature) as error:
        recover(DIGEST, signature)
    assert error.value.code == code
    assert isinstance(error.value, PeerFault)


def test_largest_low_s_is_taken() -> None:
    assert recover(DIGEST, _with(s=HALF_ORDER)) != KEY.address


def test_key_never_shows_its_secret() -> None:
    for shown in (repr(KEY), str(KEY), f"{KEY}", repr([KEY])):
        assert "1111" not in shown
        assert KEY.address in shown
    assert not hasattr(KEY, "__dict__")


def test_key_is_not_pickled_or_copied() -> None:
    for take in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError):
            take(KEY)


@pytest.mark.parametrize("text", [SECRET, SECRET[2:], "0x" + "Ab" * 32])
def test_key_reads_hex(text: str) -> None:
    assert Key.from_hex(text).to_hex() == "0x" + text.removeprefix("0x").lower()


@pytest.mark.parametrize(
    "text",
    [
        "",
        SECRET[:-1],
        SECRET + "1",
        SECRET + "\n",
        "0x" + "zz" * 32,
        "0x" + "00" * 32,  # zero is no key
        hex(CURVE_ORDER),  # nor is the order
    ],
)
def test_bad_keys_are_not_repeated(text: str) -> None:
    with pytest.raises(Refused) as error:
        Key.from_hex(text)
    assert error.value.code == "bad_key"
    assert not text or text not in str(error.value)


def test_key_takes_32_bytes_of_entropy() -> None:
    assert Key.generate(b"\x11" * 32).address == KEY.address
    for entropy in (b"", b"\x11" * 31, b"\x11" * 33):
        with pytest.raises(Refused):
            Key.generate(entropy)


def test_accounts_are_those_of_ethers() -> None:
    cases = json.loads(
        gzip.decompress((VECTORS / "ethers-accounts.json.gz").read_bytes())
    )
    signing = [case for case in cases if "privateKey" in case]
    assert len(signing) > 1_000
    for case in signing:
        assert Key.from_hex(case["privateKey"]).address == case["address"].lower()


def test_signs_personal_messages_as_others_do() -> None:
    for case in json.loads((VECTORS / "eip191-personal.json").read_text()):
        message = bytes.fromhex(case["messageHex"][2:])
        prefix = f"\x19Ethereum Signed Message:\n{len(message)}".encode()
        digest = "0x" + keccak(prefix + message).hex()
        assert digest == case["digest"]
        key = Key.from_hex(case["privateKey"])
        assert key.address == case["signer"].lower()
        assert "0x" + key.sign(digest).hex() == case["signature"]
        assert recover(digest, bytes.fromhex(case["signature"][2:])) == key.address
