"""What is sealed so that whoever carries or keeps it reads nothing: keys, bytes, folders.

Two standards and nothing of our own. A job's key is sealed to each provider that may
run it by HPKE (RFC 9180: X25519, HKDF-SHA256, ChaCha20-Poly1305). Under the job's key
everything else is sealed as ``age`` does it, by STREAM: each sealed thing draws 32
random bytes, HKDF makes of them and of the job's key a key of its own, and its pieces
are sealed by ChaCha20-Poly1305 with the nonce (number of the piece, is it the last).
So no nonce is ever used twice, pieces can be neither dropped, swapped nor mixed, and
the kind (with the lease, the stream, the offset) that went into the key is the only
one under which a thing opens.

Not here: who may open what, and what is sealed when (``provider.sealing``,
``workload.detached``).
"""

import secrets
from collections import deque
from collections.abc import Iterable, Iterator
from pathlib import Path

import msgspec
from blake3 import blake3
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hpke
from cryptography.hazmat.primitives.asymmetric.x25519 import (
    X25519PrivateKey,
    X25519PublicKey,
)
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from sublet.adapter import private_file
from sublet.base import limits
from sublet.base.errors import PeerFault, Refused, Unavailable
from sublet.base.ids import Digest
from sublet.service.ports import Blobs
from sublet.wire.manifest import size_chunks
from sublet.wire.message import FileEntry, Tree

KEY_BYTES = 32
SALT_BYTES = 32
TAG_BYTES = 16
LENGTH_BYTES = 8  # in front of a folder's list of files
SIZE_BYTES = 4  # in front of each of its chunks
SEALED_PATH = "sealed"  # the one file of a sealed folder
_LINE = "x25519:"
_NAME = b"sublet seal v1"
_SUITE = hpke.Suite(hpke.KEM.X25519, hpke.KDF.HKDF_SHA256, hpke.AEAD.CHACHA20_POLY1305)


class BadSeal(PeerFault):
    """Something sealed does not open: changed, of another job, or for somebody else."""

    code = "bad_seal"


# ---- to one party -----------------------------------------------------------------


class SealKey:
    """A machine's X25519 key: what is sealed to its public half only it opens."""

    def __init__(self, private: X25519PrivateKey) -> None:
        """Take the key; use ``load_or_create`` or ``generate``."""
        self._private = private

    @classmethod
    def generate(cls) -> "SealKey":
        """Draw a key."""
        return cls(X25519PrivateKey.generate())

    @classmethod
    def load_or_create(cls, path: Path) -> "SealKey":
        """Read the key, or draw it the first time; private to this user.

        Raises:
            Refused: others may read it, or it is damaged. Nothing of it is shown.
            Unavailable: the disk did not take it.
        """
        try:
            if path.stat().st_mode & 0o077:
                raise Refused(
                    f"{path} may be read by others; run: chmod 600 {path}",
                    code="loose_key",
                )
            return cls(X25519PrivateKey.from_private_bytes(path.read_bytes()))
        except FileNotFoundError:
            return cls._create(path)
        except ValueError:
            raise Refused(f"{path} is no seal key", code="bad_key") from None
        except OSError as exc:
            raise _disk_failed(path, exc) from exc

    @classmethod
    def _create(cls, path: Path) -> "SealKey":
        key = cls.generate()
        try:
            private_file.write(path, key._private.private_bytes_raw())
        except OSError as exc:
            raise _disk_failed(path, exc) from exc
        return key

    @property
    def line(self) -> str:
        """The public half, as an offer carries it: ``x25519:<hex>``."""
        return _LINE + self._private.public_key().public_bytes_raw().hex()

    def open(self, sealed: bytes, *, about: str) -> bytes:
        """Open what was sealed to this key, about this and nothing else.

        Raises:
            BadSeal: it was not.
        """
        try:
            return _SUITE.decrypt(sealed, self._private, _about(about))
        except (InvalidTag, ValueError) as exc:
            raise BadSeal("this was not sealed for this machine") from exc


def seal_to(line: str, secret: bytes, *, about: str) -> bytes:
    """Seal a few bytes to the key that an offer carries.

    Raises:
        Refused: the line is no key.
    """
    try:
        if not line.startswith(_LINE):
            raise ValueError
        public = X25519PublicKey.from_public_bytes(
            bytes.fromhex(line.removeprefix(_LINE))
        )
    except ValueError:
        raise Refused(
            "the offer carries no key to seal for", code="no_seal_key"
        ) from None
    return _SUITE.encrypt(secret, public, _about(about))


# ---- under a job's key --------------------------------------------------------------


class JobSeal:
    """Seals and opens everything of one job."""

    def __init__(self, key: bytes, *, job: str) -> None:
        """Take the job's key, 32 bytes, and the name that it is bound to."""
        if len(key) != KEY_BYTES:
            raise BadSeal("a job's key has 32 bytes")
        self._key = key
        self.job = job

    def __repr__(self) -> str:
        return f"JobSeal({self.job})"

    def seal(self, content: bytes, *, kind: str) -> bytes:
        """Seal some bytes, as one piece: a salt, then the ciphertext."""
        salt = secrets.token_bytes(SALT_BYTES)
        return salt + self._cipher(kind, salt).encrypt(
            _nonce(0, is_last=True), content, None
        )

    def open(self, sealed: bytes, *, kind: str) -> bytes:
        """Open what ``seal`` gave.

        Raises:
            BadSeal: it was changed, or is of another kind or job.
        """
        salt, text = sealed[:SALT_BYTES], sealed[SALT_BYTES:]
        return _decrypt(self._cipher(kind, salt), _nonce(0, is_last=True), text)

    def seal_tree(self, tree: Tree, *, kind: str, source: Blobs, into: Blobs) -> Tree:
        """Seal a folder: names, sizes and contents; what shows is the sum of all bytes.

        Args:
            tree: what to seal; its chunks are in ``source``.
            kind: under which alone it opens.
            source: has the chunks.
            into: takes the sealed ones.

        Returns:
            A tree of one file that holds everything, in full chunks.
        """
        salt = secrets.token_bytes(SALT_BYTES)
        cipher = self._cipher(kind, salt)
        keys: list[Digest] = []
        size, head = 0, salt
        for number, (piece, is_last) in enumerate(_cut(_read(tree, source))):
            nonce = _nonce(number, is_last=is_last)
            text = head + cipher.encrypt(nonce, piece, None)
            keys.append(into.put(text))
            size, head = size + len(text), b""
        file = FileEntry(path=SEALED_PATH, size=size, mode=0o644, chunks=tuple(keys))
        return Tree(files=(file,))

    def open_tree(self, sealed: Tree, *, kind: str, source: Blobs, into: Blobs) -> Tree:
        """Open a sealed folder; its tree is not checked yet but for its chunks.

        Raises:
            BadSeal: it was changed, cut, or is of another kind or job.
        """
        writer = _Writer(into)
        for piece in self._open_pieces(sealed, kind=kind, source=source):
            writer.take(piece)
        return writer.finish()

    def _open_pieces(
        self, sealed: Tree, *, kind: str, source: Blobs
    ) -> Iterator[bytes]:
        if len(sealed.files) != 1 or not sealed.files[0].chunks:
            raise BadSeal("this is no sealed folder")
        keys = sealed.files[0].chunks
        cipher = self._cipher(kind, b"")
        for number, key in enumerate(keys):
            text = source.get(key)
            if not number:
                cipher = self._cipher(kind, text[:SALT_BYTES])
                text = text[SALT_BYTES:]
            is_last = number == len(keys) - 1
            yield _decrypt(cipher, _nonce(number, is_last=is_last), text)

    def _cipher(self, kind: str, salt: bytes) -> ChaCha20Poly1305:
        info = _about(f"{self.job}|{kind}")
        derived = HKDF(algorithm=SHA256(), length=KEY_BYTES, salt=salt, info=info)
        return ChaCha20Poly1305(derived.derive(self._key))


class _Writer:
    """Takes a folder's bytes as they come out of their seal, and makes it again."""

    def __init__(self, into: Blobs) -> None:
        self._into = into
        self._rest = bytearray()
        self._tree: Tree | None = None
        self._wanted: deque[Digest] = deque()  # chunks still to come

    def take(self, piece: bytes) -> None:
        self._rest += piece
        if self._tree is None and not self._read_list():
            return
        while self._wanted and (content := self._take_part(SIZE_BYTES)) is not None:
            if "0x" + blake3(content).hexdigest() != self._wanted.popleft():
                raise BadSeal("a sealed folder does not hold what it lists")
            self._into.put(content)

    def _take_part(self, size_bytes: int) -> bytes | None:
        """Give what stands behind its length, once all of it is there."""
        end = size_bytes + int.from_bytes(self._rest[:size_bytes], "big")
        if len(self._rest) < max(end, size_bytes):
            return None
        part = bytes(self._rest[size_bytes:end])
        del self._rest[:end]
        return part

    def finish(self) -> Tree:
        if self._tree is None or self._wanted or self._rest:
            raise BadSeal("a sealed folder ends too early or too late")
        return self._tree

    def _read_list(self) -> bool:
        raw = self._take_part(LENGTH_BYTES)
        if raw is None:
            return False
        try:
            self._tree = msgspec.json.decode(raw, type=Tree)
        except (msgspec.MsgspecError, UnicodeDecodeError) as exc:
            raise BadSeal("a sealed folder has no list of its files") from exc
        self._wanted.extend(size_chunks(self._tree))
        return True


def _read(tree: Tree, source: Blobs) -> Iterator[bytes]:
    listed = msgspec.json.encode(tree)
    yield len(listed).to_bytes(LENGTH_BYTES, "big") + listed
    for key in size_chunks(tree):
        content = source.get(key)
        yield len(content).to_bytes(SIZE_BYTES, "big") + content


def _cut(parts: Iterable[bytes]) -> Iterator[tuple[bytes, bool]]:
    """Cut bytes into pieces that fill a chunk once they are sealed; say which is last."""
    rest = bytearray()
    size = (
        limits.CHUNK_BYTES - TAG_BYTES - SALT_BYTES
    )  # the first has the salt before it
    for part in parts:
        rest += part
        while len(rest) > size:
            yield bytes(rest[:size]), False
            del rest[:size]
            size = limits.CHUNK_BYTES - TAG_BYTES
    yield bytes(rest), True


def _nonce(number: int, *, is_last: bool) -> bytes:
    return number.to_bytes(11, "big") + bytes((is_last,))


def _about(text: str) -> bytes:
    return _NAME + b"|" + text.encode()


def _decrypt(cipher: ChaCha20Poly1305, nonce: bytes, text: bytes) -> bytes:
    try:
        return cipher.decrypt(nonce, text, None)
    except (InvalidTag, ValueError) as exc:
        raise BadSeal("something sealed was changed, or is of another job") from exc


def _disk_failed(path: Path, exc: OSError) -> Unavailable:
    return Unavailable(f"cannot use {path}: {exc.strerror}", code="disk_failed")
