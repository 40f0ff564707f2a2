"""What a witness adds to a checkpoint, as C2SP writes it (tlog-cosignature, -witness).

A cosignature says: at this time this was the largest tree that I had seen of this
log, and it goes on from every one that I signed before. The requests in which a log
asks for it are read and written here, too.

Not here: what a witness remembers (``witness``), the log's own signature (``note``).
"""

from base64 import b64decode, b64encode
from binascii import Error as Base64Error
from collections.abc import Iterable

from msgspec import Struct

from sublet.core.merkle import HASH_BYTES
from sublet.wire.note import (
    COSIGNATURE,
    BadNote,
    NoteKey,
    cosigned_text,
    find_signature,
    split_note,
)

REQUEST_BYTES_MAX = 20_480
PROOF_HASHES_MAX = 63
SIZE_MEDIA = "text/x.tlog.size"

_TIME_BYTES = 8
_DIGITS_MAX = 19


class WitnessKey(NoteKey):
    """An Ed25519 key that cosigns checkpoints and signs nothing else."""

    algorithm = COSIGNATURE

    def cosign(self, note: bytes, *, at_s: int) -> str:
        """Give the line that says: seen at this time, and consistent.

        Raises:
            BadNote: this is no note.
        """
        text, _ = split_note(note)
        message = cosigned_text(text, at_s=at_s).encode()
        return self._sign_line(message, before=at_s.to_bytes(_TIME_BYTES, "big"))


class AddCheckpoint(Struct, frozen=True):
    """A log asks: cosign this; you know me up to ``old`` entries."""

    old: int
    proof: tuple[bytes, ...]  # RFC 9162, from ``old`` to the checkpoint's size
    note: bytes


def read_cosignature(note: bytes, *, verifier_key: str) -> int:
    """Give the time (seconds) at which this witness cosigned.

    Raises:
        BadNote: it did not, or its signature does not hold.
    """
    text, lines = split_note(note)
    before = find_signature(
        text, lines, verifier_key=verifier_key, algorithm=COSIGNATURE
    )
    return int.from_bytes(before, "big")


def find_cosigners(note: bytes, verifier_keys: Iterable[str]) -> dict[str, int]:
    """Give, of these witnesses, those that cosigned, each with its time."""
    found = {}
    for key in verifier_keys:
        try:
            found[key] = read_cosignature(note, verifier_key=key)
        except BadNote:
            continue
    return found


def add_signatures(note: bytes, lines: Iterable[str]) -> bytes:
    """Add lines of signatures to a note, each once."""
    _, known = split_note(note)
    fresh = [line for line in lines if line.removesuffix("\n") not in known]
    return note + "".join(fresh).encode()


def write_request(request: AddCheckpoint) -> bytes:
    """Write the body of ``POST /add-checkpoint``."""
    proof = "".join(b64encode(node).decode() + "\n" for node in request.proof)
    return f"old {request.old}\n{proof}\n".encode() + request.note


def read_request(body: bytes) -> AddCheckpoint:
    """Read the body of ``POST /add-checkpoint``.

    Raises:
        BadNote: malformed; a witness answers 400.
    """
    if len(body) > REQUEST_BYTES_MAX:
        raise BadNote(f"a request has at most {REQUEST_BYTES_MAX} bytes")
    head, blank, note = body.partition(b"\n\n")
    first, *proof = head.split(b"\n")
    word, _, digits = first.partition(b" ")
    is_size = digits.isdigit() and len(digits) <= _DIGITS_MAX
    if (
        not blank
        or word != b"old"
        or not is_size
        or str(int(digits)) != digits.decode()
    ):
        raise BadNote("a request is old SIZE, a proof, an empty line and a checkpoint")
    if len(proof) > PROOF_HASHES_MAX:
        raise BadNote(f"a proof has at most {PROOF_HASHES_MAX} hashes")
    return AddCheckpoint(int(digits), tuple(map(_read_hash, proof)), note)


def _read_hash(line: bytes) -> bytes:
    try:
        node = b64decode(line, validate=True)
    except (Base64Error, ValueError) as exc:
        raise BadNote("a hash of a proof is base64") from exc
    if len(node) != HASH_BYTES:
        raise BadNote(f"a hash of a proof has {HASH_BYTES} bytes")
    return node
