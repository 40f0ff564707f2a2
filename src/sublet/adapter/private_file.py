"""Files of this user alone, written whole: a crash leaves the old one, or the new one.

What the disk refuses comes out as an ``OSError``; each adapter says at its own door
what that means for whoever asked.
"""

import os
import secrets
from pathlib import Path

_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


def make_folder(folder: Path) -> None:
    """Make what is missing, private; ``mkdir(parents=True)`` would not be.

    Folders that exist are left as they are.
    """
    if not folder.exists():
        make_folder(folder.parent)
        folder.mkdir(mode=0o700, exist_ok=True)


def sync(path: Path) -> None:
    """Bring a file, or a folder's names, to the disk."""
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write(
    place: Path,
    content: bytes,
    *,
    is_synced: bool = True,
    drafts: Path | None = None,
) -> None:
    """Write a file beside its place and rename it; its folder is made.

    Args:
        place: what was there is replaced.
        content: all of it.
        is_synced: it is on the disk, under its name, when this returns.
        drafts: a folder of the same file system to write it in; by default its own.
    """
    folder = drafts or place.parent
    for needed in {folder, place.parent}:
        make_folder(needed)
    draft = folder / f".{place.name}.{secrets.token_hex(6)}"
    try:
        with os.fdopen(os.open(draft, _FLAGS, 0o600), "wb") as file:
            file.write(content)
            if is_synced:
                file.flush()
                os.fsync(file.fileno())
        draft.rename(place)
    except OSError:
        draft.unlink(missing_ok=True)
        raise
    if is_synced:
        sync(place.parent)
