"""Signed notes and tree checkpoints as C2SP writes them (signed-note, tlog-checkpoint).

A checkpoint says: the log called *origin* has *size* entries and this root. Anybody
who keeps two of them can prove that a log was rewritten.

Not here: the tree itself (``core.merkle``), where the key is kept (``adapter``), what
witnesses add (``cosignature``).
"""

import re
from base64 import b64decode, b64encode
from binascii import Error as Base64Error
from hashlib import sha256
from typing import NoReturn, Self

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import (
    Ed25519PrivateKey,
    Ed25519PublicKey,
)
from msgspec import Struct

from sublet.base.errors import PeerFault, Refused
from sublet.base.limits import TIME_S_MAX

NOTE_BYTES_MAX = 16_384
SIGNATURES_MAX = 64  # of one note: the log's own and its witnesses'

_ED25519 = b"\x01"  # the algorithm's number in key ids and encoded keys
COSIGNATURE = b"\x04"  # the same for Ed25519 cosignatures with a time
_SEED_BYTES = 32
_SIGNATURE_BYTES = 64
_TIME_BYTES = 8
_KEY_ID_BYTES = 4
_HASH_BYTES = 32
_SIZE_MAX = (1 << 63) - 1
_DASH = "\N{EM DASH} "
_NAME = re.compile(r"\A[^\s+\x00-\x1f\x7f-\x9f]{1,64}\Z")
_SIZE = re.compile(r"\A(0|[1-9][0-9]{0,18})\Z")
_SECRET_PREFIX = "PRIVATE+KEY+"  # noqa: S105 (a label, as Go's note package writes it)


class BadNote(PeerFault):
    """A note is malformed, or does not carry the log's signature.

    Codes: ``bad_note`` (shape), ``bad_note_signature`` (missing or wrong).
    """

    code = "bad_note"


class Checkpoint(Struct, frozen=True):
    """What a log said of itself: so many entries, under this root."""

    origin: str
    size: int
    root: bytes  # 32 bytes, RFC 9162


class NoteKey:
    """An Ed25519 key that signs notes. Shows its verifier key and nothing else."""

    __slots__ = ("_name", "_seed", "_signer", "verifier_key")

    algorithm = _ED25519  # what key ids and encoded keys begin with
    verifier_key: str  # "name+hex+base64", public

    def __init__(self, seed: bytes, name: str) -> None:
        """Take 32 secret bytes and the key's name; use ``generate`` or ``from_text``.

        Raises:
            Refused: not 32 bytes, or a name with spaces or a plus.
        """
        if len(seed) != _SEED_BYTES:
            raise Refused("a note key is made of exactly 32 bytes", code="bad_key")
        if _NAME.match(name) is None:
            raise Refused(
                "a note key's name has 1 to 64 characters, no space and no plus",
                code="bad_key_name",
            )
        self._name = name
        self._seed = seed
        self._signer = Ed25519PrivateKey.from_private_bytes(seed)
        public = self.algorithm + self._signer.public_key().public_bytes_raw()
        self.verifier_key = _join_key(name, public)

    @classmethod
    def generate(cls, seed: bytes, name: str) -> Self:
        """Make a key of 32 bytes that the caller drew from the system's generator."""
        return cls(seed, name)

    @classmethod
    def from_text(cls, text: str) -> Self:
        """Read ``PRIVATE+KEY+name+hex+base64``, as Go's note package writes it.

        Raises:
            Refused: something else. The text is not shown.
        """
        wrong = Refused("this is not a note signing key", code="bad_key")
        if not text.startswith(_SECRET_PREFIX):
            raise wrong
        try:
            name, key_id, key = split_key(
                text.removeprefix(_SECRET_PREFIX), algorithm=cls.algorithm
            )
        except BadNote:
            raise wrong from None
        note_key = cls(key, name)
        if bytes.fromhex(note_key.verifier_key.split("+")[1]) != key_id:
            raise wrong
        return note_key

    def to_text(self) -> str:
        """Give the secret, for the key file and nobody else."""
        key_id = self.verifier_key.split("+")[1]
        encoded = b64encode(self.algorithm + self._seed).decode()
        return f"{_SECRET_PREFIX}{self._name}+{key_id}+{encoded}"

    def sign_checkpoint(self, *, origin: str, size: int, root: bytes) -> bytes:
        """Sign the state of a log's tree.

        Args:
            origin: name of the log, such as ``codec.origin_of`` gives it.
            size: entries, 0 or more.
            root: 32 bytes.
        """
        text = f"{origin}\n{size}\n{b64encode(root).decode()}\n"
        return f"{text}\n{self._sign_line(text.encode())}".encode()

    def _sign_line(self, message: bytes, *, before: bytes = b"") -> str:
        """Sign; give the note's line, with ``before`` between key id and signature."""
        key_id = bytes.fromhex(self.verifier_key.split("+")[1])
        signature = b64encode(key_id + before + self._signer.sign(message)).decode()
        return f"{_DASH}{self._name} {signature}\n"

    def __repr__(self) -> str:
        return f"NoteKey({self.verifier_key})"

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError("a secret key is not pickled or copied")


def read_checkpoint(note: bytes, *, verifier_key: str) -> Checkpoint:
    """Read a checkpoint and check that this key signed it.

    Signatures by other keys (witnesses) are let pass and prove nothing here. Whether
    ``origin`` is the log that was asked for is the caller's to compare.

    Raises:
        BadNote: malformed, unsigned by this key, or the signature does not hold.
    """
    text, lines = split_note(note)
    find_signature(text, lines, verifier_key=verifier_key, algorithm=_ED25519)
    return read_text(text)


def split_note(note: bytes) -> tuple[str, list[str]]:
    """Take a note apart: what is signed, and the lines of its signatures.

    Raises:
        BadNote: malformed, too long, or too many signatures.
    """
    if len(note) > NOTE_BYTES_MAX:
        raise BadNote(f"a note has at most {NOTE_BYTES_MAX} bytes")
    try:
        text, blank, rest = note.decode().rpartition("\n\n")
    except UnicodeDecodeError as exc:
        raise BadNote("a note is UTF-8") from exc
    if not blank or not rest.endswith("\n"):
        raise BadNote("a note is a text, an empty line and lines of signatures")
    lines = rest.split("\n")[:-1]
    if len(lines) > SIGNATURES_MAX:
        raise BadNote(f"a note has at most {SIGNATURES_MAX} signatures")
    return text + "\n", lines


def find_signature(
    text: str, lines: list[str], *, verifier_key: str, algorithm: bytes
) -> bytes:
    """Give what stands between a key's id and its signature, once that holds.

    A cosignature has its time there (8 bytes) and signs a text that begins with it.

    Raises:
        BadNote: not signed once by this key, or the signature does not hold.
    """
    name, key_id, public = split_key(verifier_key, algorithm=algorithm)
    if sha256(f"{name}\n".encode() + algorithm + public).digest()[:4] != key_id:
        raise BadNote("the verifier key's id is not that of its name and key")
    ours = [
        signature[_KEY_ID_BYTES:]
        for signer, signature in map(_read_signature, lines)
        if signer == name and signature[:_KEY_ID_BYTES] == key_id
    ]
    if len(ours) != 1:
        raise BadNote(
            f"the note carries {len(ours)} signatures of key {name}, not one",
            code="bad_note_signature",
        )
    before, signature = ours[0][:-_SIGNATURE_BYTES], ours[0][-_SIGNATURE_BYTES:]
    if len(before) != (_TIME_BYTES if algorithm == COSIGNATURE else 0):
        raise BadNote(f"a signature of key {name} has another length")
    message = text
    if algorithm == COSIGNATURE:
        at_s = int.from_bytes(before, "big")
        if at_s > TIME_S_MAX:
            raise BadNote(f"key {name} signed at a time that no calendar has")
        message = cosigned_text(text, at_s=at_s)
    try:
        Ed25519PublicKey.from_public_bytes(public).verify(signature, message.encode())
    except (InvalidSignature, ValueError) as exc:
        raise BadNote(
            f"the signature of key {name} does not hold", code="bad_note_signature"
        ) from exc
    return before


def cosigned_text(text: str, *, at_s: int) -> str:
    """Give what a witness signs: that it saw this text at this time, and consistent."""
    return f"cosignature/v1\ntime {at_s}\n{text}"


def _read_signature(line: str) -> tuple[str, bytes]:
    name, space, encoded = line.removeprefix(_DASH).partition(" ")
    if not line.startswith(_DASH) or not space or _NAME.match(name) is None:
        raise BadNote("a signature line is a dash, a name and base64")
    signature = _base64(encoded)
    if len(signature) <= _KEY_ID_BYTES:
        raise BadNote("a signature is longer than its key id")
    return name, signature


def read_text(text: str) -> Checkpoint:
    """Read the lines of a checkpoint; who signed them was asked before.

    Raises:
        BadNote: it is none.
    """
    # Lines beyond the third are extensions, which C2SP tells readers to let pass.
    origin, size, encoded, *_ = [*text.split("\n")[:-1], "", "", ""]
    root = _base64(encoded)
    if not origin or _SIZE.match(size) is None or len(root) != _HASH_BYTES:
        raise BadNote("a checkpoint is an origin, a size and a root of 32 bytes")
    if int(size) > _SIZE_MAX:
        raise BadNote("the size of a log has at most 63 bits")
    return Checkpoint(origin, int(size), root)


def _join_key(name: str, public: bytes) -> str:
    key_id = sha256(f"{name}\n".encode() + public).hexdigest()[: 2 * _KEY_ID_BYTES]
    return f"{name}+{key_id}+{b64encode(public).decode()}"


def split_key(text: str, *, algorithm: bytes) -> tuple[str, bytes, bytes]:
    """Take apart ``name+hex+base64``: name, key id, the key without its algorithm.

    Raises:
        BadNote: it is none of this algorithm.
    """
    name, _, rest = text.partition("+")
    key_id, _, encoded = rest.partition("+")
    key = _base64(encoded)
    if (
        _NAME.match(name) is None
        or re.fullmatch(r"[0-9a-f]{8}", key_id) is None
        or len(key) != len(_ED25519) + _HASH_BYTES
        or not key.startswith(algorithm)
    ):
        kind = "a witness's" if algorithm == COSIGNATURE else "a log's"
        raise BadNote(f"{kind} verifier key is name+hex+base64 of an Ed25519 key")
    return name, bytes.fromhex(key_id), key[1:]


def _base64(text: str) -> bytes:
    """Decode strictly: the one way of writing these bytes, and no other."""
    try:
        raw = b64decode(text, validate=True)
    except (Base64Error, ValueError) as exc:
        raise BadNote("this is not base64") from exc
    if b64encode(raw).decode() != text:
        raise BadNote("this is not canonical base64")
    return raw
