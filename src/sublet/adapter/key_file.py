"""Secret keys in files: 0600, in one piece or not at all, never overwritten.

A party's key is one line of hex; a log's note key is one line as Go's note package
writes it. Whoever can read such a file is that party.
"""

import os
import secrets
import stat
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from sublet.adapter import private_file
from sublet.base.errors import Refused, Unavailable
from sublet.wire.cosignature import WitnessKey
from sublet.wire.note import NoteKey
from sublet.wire.signature import Key

_FILE_BYTES_MAX = 1_024
_SECRET_BYTES = 32

T = TypeVar("T")


def load_key(path: Path) -> Key:
    """Read a party's key.

    Raises:
        Refused: no such file, others may read it, or it holds no key.
        Unavailable: the disk did not answer.
    """
    return load_private(path, Key.from_hex)


def create_key(path: Path) -> Key:
    """Draw a new key and keep it; folders that are missing are made, 0700.

    Raises:
        Refused: there is a file already; a key is never overwritten.
        Unavailable: the disk did not take it.
    """
    key = Key.generate(secrets.token_bytes(_SECRET_BYTES))
    create_private(path, key.to_hex())
    return key


def load_or_create_key(path: Path) -> Key:
    """Read a party's key, or draw it the first time."""
    return _load_or(path, load=load_key, create=create_key)


def load_note_key(path: Path) -> NoteKey:
    """Read the key that signs a log's checkpoints; raises as ``load_key``."""
    return load_private(path, NoteKey.from_text)


def create_note_key(path: Path, *, name: str) -> NoteKey:
    """Draw a note key of this name and keep it; raises as ``create_key``."""
    key = NoteKey.generate(secrets.token_bytes(_SECRET_BYTES), name)
    create_private(path, key.to_text())
    return key


def load_witness_key(path: Path) -> WitnessKey:
    """Read the key with which a witness cosigns; raises as ``load_key``."""
    return load_private(path, WitnessKey.from_text)


def create_witness_key(path: Path, *, name: str) -> WitnessKey:
    """Draw a witness's key of this name and keep it; raises as ``create_key``."""
    key = WitnessKey.generate(secrets.token_bytes(_SECRET_BYTES), name)
    create_private(path, key.to_text())
    return key


def load_or_create_note_key(path: Path, *, name: str) -> NoteKey:
    """Read a note key, or draw it the first time under this name."""
    return _load_or(
        path, load=load_note_key, create=lambda path: create_note_key(path, name=name)
    )


def _load_or(
    path: Path, *, load: Callable[[Path], T], create: Callable[[Path], T]
) -> T:
    try:
        return load(path)
    except Refused as refused:
        if refused.code != "no_key":
            raise
    try:
        return create(path)
    except Refused as refused:  # another process was quicker: its key is the key
        if refused.code != "key_exists":
            raise
    return load(path)


def load_private(
    path: Path, parse: Callable[[str], T], *, size_max: int = _FILE_BYTES_MAX
) -> T:
    """Read a file that this user alone may read; raises as ``load_key``."""
    try:
        # Without blocking: a pipe in the key's place would wait for a writer.
        with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb") as file:
            # Asked of the open file, so that it cannot be swapped in between.
            status = os.fstat(file.fileno())
            _check_private(path, status)
            raw = file.read(size_max + 1)
    except FileNotFoundError as exc:
        raise Refused(f"there is no key at {path}", code="no_key") from exc
    except PermissionError as exc:
        raise Refused(
            f"the key at {path} may not be read by this user", code="key_unreadable"
        ) from exc
    except OSError as exc:
        raise Unavailable(
            f"the key at {path} could not be read: {exc.strerror}", code="disk"
        ) from exc
    try:
        return parse(raw.decode("ascii").strip())
    except (Refused, UnicodeDecodeError):
        # Without the cause: nothing of the file's content may reach a traceback.
        raise Refused(f"{path} holds no key of this kind", code="bad_key") from None


def _check_private(path: Path, status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise Refused(f"{path} is not a file", code="bad_key")
    if stat.S_IMODE(status.st_mode) & 0o077:
        raise Refused(
            f"others can read the key at {path}; run: chmod 600 {path}",
            code="key_exposed",
        )


def create_private(path: Path, text: str) -> None:
    """Keep a text that this user alone may read; raises as ``create_key``."""
    try:
        private_file.make_folder(path.parent)
        _write_new(path, text.encode() + b"\n")
    except FileExistsError as exc:
        raise Refused(
            f"there is a key at {path} already; it is not overwritten",
            code="key_exists",
        ) from exc
    except OSError as exc:
        raise Unavailable(
            f"the key could not be kept at {path}: {exc.strerror}", code="disk"
        ) from exc


def _write_new(path: Path, content: bytes) -> None:
    """Write beside the target, fsync, then link: whole or absent, never replaced."""
    part = path.with_name(f".{path.name}.{secrets.token_hex(8)}.part")
    handle = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    try:
        with open(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        # Unlike a rename, a link fails where there is a file already.
        os.link(part, path)
    finally:
        part.unlink()
    private_file.sync(path.parent)
