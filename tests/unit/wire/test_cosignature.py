"""Cosignatures and add-checkpoint: written as C2SP says, and nothing else is read."""

from base64 import b64decode, b64encode
from hashlib import sha256

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from hypothesis import given
from hypothesis import strategies as st

from sublet.base.errors import Refused
from sublet.wire.cosignature import (
    AddCheckpoint,
    WitnessKey,
    add_signatures,
    find_cosigners,
    read_cosignature,
    read_request,
    write_request,
)
from sublet.wire.note import BadNote, NoteKey, read_checkpoint

LOG = NoteKey.generate(b"\x07" * 32, "lab")
WITNESS = WitnessKey.generate(b"\x08" * 32, "witness.example")
NOTE = LOG.sign_checkpoint(origin="sublet/ab", size=17, root=bytes(32))
LINE = WITNESS.cosign(NOTE, at_s=1_800_000_000)
COSIGNED = add_signatures(NOTE, [LINE])


def test_cosigned_note_reads_as_both() -> None:
    assert read_checkpoint(COSIGNED, verifier_key=LOG.verifier_key).size == 17
    key = WITNESS.verifier_key
    assert read_cosignature(COSIGNED, verifier_key=key) == 1_800_000_000


def test_line_has_the_form_of_c2sp() -> None:
    """By hand, from the specification: id, time, Ed25519 over header and text."""
    dash, name, encoded = LINE.removesuffix("\n").split(" ")
    assert (dash, name) == ("\N{EM DASH}", "witness.example")
    raw = b64decode(encoded)
    assert len(raw) == 4 + 8 + 64
    public = b64decode(WITNESS.verifier_key.split("+", 2)[2])
    assert public[:1] == b"\x04"
    assert raw[:4] == sha256(b"witness.example\n" + public).digest()[:4]
    assert int.from_bytes(raw[4:12], "big") == 1_800_000_000
    text = NOTE[: NOTE.index(b"\n\n") + 1]
    signed = b"cosignature/v1\ntime 1800000000\n" + text
    Ed25519PublicKey.from_public_bytes(public[1:]).verify(raw[12:], signed)


@given(st.integers(0, len(COSIGNED) - 1), st.integers(0, 7))
def test_any_flipped_bit_is_refused(place: int, bit: int) -> None:
    changed = bytearray(COSIGNED)
    changed[place] ^= 1 << bit
    with pytest.raises(BadNote):
        read_checkpoint(bytes(changed), verifier_key=LOG.verifier_key)
        read_cosignature(bytes(changed), verifier_key=WITNESS.verifier_key)


def test_only_named_witnesses_count() -> None:
    other = WitnessKey.generate(b"\x09" * 32, "witness.example")
    keys = [WITNESS.verifier_key, other.verifier_key]
    assert find_cosigners(COSIGNED, keys) == {WITNESS.verifier_key: 1_800_000_000}


def test_log_key_is_no_witness_key() -> None:
    with pytest.raises(BadNote):
        read_cosignature(NOTE, verifier_key=LOG.verifier_key)
    with pytest.raises(Refused):
        WitnessKey.from_text(LOG.to_text())
    assert WitnessKey.from_text(WITNESS.to_text()).verifier_key == WITNESS.verifier_key


def test_same_line_is_added_once() -> None:
    assert add_signatures(COSIGNED, [LINE]) == COSIGNED


REQUEST = AddCheckpoint(7, (b"\x01" * 32, b"\x02" * 32), NOTE)


def test_request_reads_back() -> None:
    first = AddCheckpoint(0, (), NOTE)
    assert read_request(write_request(REQUEST)) == REQUEST
    assert read_request(write_request(first)) == first
    assert write_request(first).startswith(b"old 0\n\n")


@pytest.mark.parametrize(
    "body",
    [
        b"",
        NOTE,
        b"old -1\n\n" + NOTE,
        b"old 07\n\n" + NOTE,  # two ways of writing one number
        b"old 1 \n\n" + NOTE,
        b"new 1\n\n" + NOTE,
        b"old 99999999999999999999\n\n" + NOTE,
        b"old 7\nAAAA\n\n" + NOTE,  # not 32 bytes
        b"old 7\n????\n\n" + NOTE,
        b"old 7\n" + (b64encode(bytes(32)) + b"\n") * 64 + b"\n" + NOTE,
        b"old 0\n\n" + b"x" * 30_000,
    ],
)
def test_malformed_request_is_refused(body: bytes) -> None:
    with pytest.raises(BadNote):
        read_request(body)


@given(st.binary(max_size=300))
def test_any_bytes_are_read_or_refused(body: bytes) -> None:
    try:
        read_request(body)
    except BadNote:
        return


@pytest.mark.parametrize("time", [bytes(4_000), b"\x01" * 4_000, b"\xff" * 8])
def test_refuses_times_that_are_none(time: bytes) -> None:
    """Among them one whose digits alone would be too many for the interpreter."""
    key_id = bytes.fromhex(WITNESS.verifier_key.split("+")[1])
    line = b64encode(key_id + time + bytes(64)).decode()
    note = NOTE + f"\N{EM DASH} witness.example {line}\n".encode()
    with pytest.raises(BadNote, match=r"another length|no calendar"):
        read_cosignature(note, verifier_key=WITNESS.verifier_key)
