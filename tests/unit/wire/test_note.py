"""Signed notes: written as C2SP says, and nothing else is read."""

import copy
import pickle
from base64 import b64encode

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from sublet.base.errors import PeerFault, Refused
from sublet.wire.note import BadNote, NoteKey, read_checkpoint

KEY = NoteKey.generate(b"\x07" * 32, "lab")
ORIGIN = "sublet/" + "ab" * 32
ROOT = bytes(range(32))
NOTE = KEY.sign_checkpoint(origin=ORIGIN, size=17, root=ROOT)


def _read(note: bytes, key: NoteKey = KEY) -> object:
    return read_checkpoint(note, verifier_key=key.verifier_key)


def test_checkpoint_reads_back() -> None:
    checkpoint = read_checkpoint(NOTE, verifier_key=KEY.verifier_key)
    assert (checkpoint.origin, checkpoint.size, checkpoint.root) == (ORIGIN, 17, ROOT)


def test_note_has_the_form_of_c2sp() -> None:
    lines = NOTE.decode().split("\n")
    assert lines[:4] == [
        ORIGIN,
        "17",
        "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=",
        "",
    ]
    assert lines[4].startswith("— lab ")
    assert lines[5:] == [""]


# The example of https://pkg.go.dev/golang.org/x/mod/sumdb/note.
GO_KEY = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
GO_SECRET = (
    "PRIVATE+KEY+PeterNeumann+c74f20a3+AYEKFALVFGyNhPJEMzD1QIDr+Y7hfZx09iUvxdXHKDFz"
)


def test_go_note_keys_are_ours() -> None:
    key = NoteKey.from_text(GO_SECRET)
    assert key.verifier_key == GO_KEY
    assert key.to_text() == GO_SECRET


@given(st.integers(0, len(NOTE) - 1), st.integers(0, 7))
def test_any_flipped_bit_is_refused(place: int, bit: int) -> None:
    changed = bytearray(NOTE)
    changed[place] ^= 1 << bit
    with pytest.raises(BadNote):
        _read(bytes(changed))


OTHER = NoteKey.generate(b"\x08" * 32, "witness")
NAMESAKE = NoteKey.generate(b"\x09" * 32, "lab")


def _signature(key: NoteKey) -> bytes:
    note = key.sign_checkpoint(origin=ORIGIN, size=17, root=ROOT)
    return note.partition(b"\n\n")[2]


def test_signatures_of_witnesses_are_let_pass() -> None:
    for note in (NOTE + _signature(OTHER), NOTE + _signature(NAMESAKE)):
        assert _read(note) == _read(NOTE)
    assert _read(NOTE + _signature(OTHER), OTHER) == _read(NOTE)


def test_extension_lines_are_let_pass() -> None:
    text = NOTE.partition(b"\n\n")[0] + b"\nmore\n"
    key_id = bytes.fromhex(KEY.verifier_key.split("+")[1])
    signature = Ed25519PrivateKey.from_private_bytes(b"\x07" * 32).sign(text)
    line = "— lab ".encode() + b64encode(key_id + signature) + b"\n"
    assert _read(text + b"\n" + line) == _read(NOTE)
    with pytest.raises(BadNote):  # not one that the key did not sign
        _read(text + b"\n" + _signature(KEY))


@pytest.mark.parametrize(
    ("note", "code"),
    [
        (b"", "bad_note"),
        (b"\xff", "bad_note"),
        (NOTE[:-1], "bad_note"),
        (NOTE.replace(b"\n\n", b"\n"), "bad_note"),
        (NOTE + b"\n", "bad_note"),
        (NOTE + b"not a signature\n", "bad_note"),
        (NOTE + "— lab\n".encode(), "bad_note"),
        (NOTE + "— lab !!!!\n".encode(), "bad_note"),
        (NOTE + "— lab AAAA\n".encode(), "bad_note"),  # shorter than a key id
        (NOTE + "— w AAAAAAB=\n".encode(), "bad_note"),  # unused bits that are set
        (NOTE + _signature(KEY), "bad_note_signature"),  # twice
        (
            NOTE.partition(b"\n\n")[0] + b"\n\n" + _signature(OTHER),
            "bad_note_signature",
        ),
        (NOTE.partition(b"\n\n")[0] + b"\n\n\n", "bad_note"),
        (NOTE + _signature(OTHER) * 64, "bad_note"),
        (NOTE + b"x" * 20_000, "bad_note"),
    ],
)
def test_malformed_notes_are_refused(note: bytes, code: str) -> None:
    with pytest.raises(BadNote) as error:
        _read(note)
    assert error.value.code == code
    assert isinstance(error.value, PeerFault)


@pytest.mark.parametrize(
    ("origin", "size", "root"),
    [
        ("", 17, ROOT),  # no origin
        (ORIGIN, -1, ROOT),
        (ORIGIN, 1 << 63, ROOT),
        (ORIGIN, 17, ROOT[:31]),
        (ORIGIN + "\n17", 17, ROOT),  # a line too many
    ],
)
def test_signed_nonsense_is_refused(origin: str, size: int, root: bytes) -> None:
    with pytest.raises(BadNote) as error:
        _read(KEY.sign_checkpoint(origin=origin, size=size, root=root))
    assert error.value.code == "bad_note"


@pytest.mark.parametrize(
    "verifier_key",
    [
        "",
        "lab",
        KEY.verifier_key.replace("lab", "lob"),  # the id is of another name
        KEY.verifier_key.replace("+", "+0", 1),
        KEY.verifier_key[:-4],
        OTHER.verifier_key.replace("witness", "lab"),
        "lab+00000000+Ag==",  # another algorithm
    ],
)
def test_bad_verifier_keys_are_refused(verifier_key: str) -> None:
    with pytest.raises(BadNote):
        read_checkpoint(NOTE, verifier_key=verifier_key)


@pytest.mark.parametrize(
    ("seed", "name"),
    [(b"", "lab"), (b"\x07" * 31, "lab"), (b"\x07" * 32, ""), (b"\x07" * 32, "a b"),
     (b"\x07" * 32, "a+b"), (b"\x07" * 32, "a\nb"), (b"\x07" * 32, "x" * 65)],
)  # fmt: skip
def test_bad_seeds_and_names_are_refused(seed: bytes, name: str) -> None:
    with pytest.raises(Refused):
        NoteKey.generate(seed, name)


@pytest.mark.parametrize(
    "text",
    [
        "",
        KEY.verifier_key,  # public
        KEY.to_text()[:-4],
        KEY.to_text().replace("lab", "lob"),
        KEY.to_text().replace("PRIVATE+KEY+", "PRIVATE+"),
    ],
)
def test_bad_secrets_are_not_repeated(text: str) -> None:
    with pytest.raises(Refused) as error:
        NoteKey.from_text(text)
    assert error.value.code == "bad_key"
    assert not text or text not in str(error.value)


def test_note_key_never_shows_its_secret() -> None:
    secret = KEY.to_text().rpartition("+")[2]
    for shown in (repr(KEY), str(KEY), f"{KEY}", repr([KEY])):
        assert secret not in shown
        assert KEY.verifier_key in shown
    for take in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError):
            take(KEY)
