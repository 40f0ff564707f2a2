"""A shelf of folders that were dear to make: found by key, the least used go first.

Each folder has a file ``KEY.json`` beside it: what there is to know of it, its size at
least. The time of that file is when the folder was last used.
"""

import asyncio
import contextlib
import os
import secrets
from collections.abc import Callable, Collection
from pathlib import Path

import msgspec
from msgspec import Struct

from sublet.adapter.remains import remove_folder, walk_deep
from sublet.base.errors import Unavailable


class _Size(Struct, frozen=True):
    """The one field of a record that matters here; the others are its owner's."""

    size_bytes: int


class Shelf:
    """Folders below one folder; methods that are not async block."""

    def __init__(
        self,
        folder: Path,
        *,
        trash: Path,
        bytes_max: int,
        in_use: Callable[[], Collection[Path]],
    ) -> None:
        """Take the places; both are there before anything is asked.

        Args:
            folder: where they stand.
            trash: on the same file system; emptied by its owner after a crash.
            bytes_max: what all may hold together.
            in_use: those that may not go.
        """
        self._folder = folder
        self._trash = trash
        self._bytes_max = bytes_max
        self._in_use = in_use

    def place(self, key: str) -> Path:
        """Say where the folder of this key stands, if it is there."""
        return self._folder / key

    def put(self, draft: Path, *, key: str, record: Struct) -> Path:
        """Take a finished folder; ``record`` has its ``size_bytes``."""
        place = self.place(key)
        place.with_suffix(".json").write_bytes(msgspec.json.encode(record))
        draft.rename(place)
        return place

    def touch(self, key: str) -> None:
        """Say that this one is used now."""
        os.utime(self.place(key).with_suffix(".json"))

    async def evict(self, *, keep: Path) -> None:
        """Remove the least recently used beyond the limit."""
        for trash in await asyncio.to_thread(self._set_aside, keep):
            await clear_away(trash)

    def _set_aside(self, keep: Path) -> list[Path]:
        records = sorted(
            self._folder.glob("*.json"), key=lambda path: path.stat().st_mtime
        )
        sizes = {
            path: msgspec.json.decode(path.read_bytes(), type=_Size).size_bytes
            for path in records
        }
        total = sum(sizes.values())
        gone: list[Path] = []
        wanted = {keep, *self._in_use()}
        for path in records:
            folder = path.with_suffix("")
            if total <= self._bytes_max:
                break
            if folder in wanted:
                continue
            total -= sizes[path]
            trash = self._trash / f"trash-{secrets.token_hex(4)}"
            with contextlib.suppress(FileNotFoundError):
                folder.rename(trash)
            path.unlink()
            gone.append(trash)
        return gone


def measure(folder: Path) -> int:
    """Count the bytes that a folder holds on its disk; follows no link."""
    return sum(status.st_blocks * 512 for _, status, _ in walk_deep(folder))


async def clear_away(folder: Path) -> None:
    """Remove what a stranger's programs filled, however deep; or leave it for now."""
    with contextlib.suppress(Unavailable):  # tried again at the next start
        await remove_folder(folder)
