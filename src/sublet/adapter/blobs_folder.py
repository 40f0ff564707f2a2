"""Chunks in a folder, each named by the BLAKE3 of its content (port ``Blobs``).

A chunk appears by a rename, so a reader sees it whole or not at all, and it is
checked again each time it is read. Layout: ``ab/cdef…`` under the folder, and
``new/`` for what is being written. Not here: what the chunks make up
(``tree_folder``).
"""

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from blake3 import blake3

from sublet.adapter import private_file
from sublet.base import limits
from sublet.base.errors import Broken, Refused, Unavailable
from sublet.base.ids import Digest

_HEX_LENGTH = 64  # characters of a BLAKE3-256 key without its 0x


class FolderBlobs:
    """A content-addressed store of chunks of at most ``CHUNK_BYTES``.

    Several processes may use one folder: equal content has one name, and the last
    rename wins with the same bytes.
    """

    def __init__(self, path: Path, *, is_durable: bool = True) -> None:
        """Take the folder; it is made when the first chunk comes.

        Args:
            path: where the chunks are kept, readable by this user alone.
            is_durable: sync each chunk to the disk before ``put`` returns. A store
                that does not outlive its lease can do without.
        """
        self.path = path
        self._is_durable = is_durable

    def has(self, key: Digest) -> bool:
        """Say whether the store holds this content."""
        return self._place(key).is_file()

    def put(self, content: bytes) -> Digest:
        """Keep one chunk; it is whole and, unless told otherwise, durable.

        Raises:
            Refused: more than one chunk.
            Unavailable: the disk is full or did not answer; nothing half-written stays.
        """
        if len(content) > limits.CHUNK_BYTES:
            raise Refused(
                f"a chunk holds at most {limits.CHUNK_BYTES} bytes, not {len(content)}",
                code="chunk_too_large",
            )
        key: Digest = "0x" + blake3(content).hexdigest()
        place = self._place(key)
        if place.is_file():
            return key
        try:
            private_file.write(
                place, content, is_synced=self._is_durable, drafts=self.path / "new"
            )
        except OSError as exc:
            raise Unavailable(
                f"cannot keep a chunk in {self.path}: {exc.strerror}; "
                "free some space on that disk",
                code="disk_failed",
            ) from exc
        return key

    def share(self, path: Path) -> "FolderBlobs":
        """Give another store with the same chunks, in a folder of the same disk.

        Nothing is copied, and whoever empties one leaves the other as it is.

        Raises:
            Unavailable: the disk did not answer.
        """
        try:
            if self.path.is_dir():
                shutil.copytree(self.path, path, copy_function=os.link)
        except (OSError, shutil.Error) as exc:
            raise Unavailable(
                f"cannot keep chunks in {path}: {exc}", code="disk_failed"
            ) from exc
        return FolderBlobs(path, is_durable=self._is_durable)

    def take(self, file: Path, key: Digest) -> None:
        """Keep a file of this disk as a chunk: by its name, so nothing is copied.

        Args:
            file: whole and checked; nobody writes to it any more.
            key: the BLAKE3 of its content. A later ``get`` checks it, as always.

        Raises:
            Unavailable: the disk did not answer.
        """
        place = self._place(key)
        try:
            place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            if self._is_durable:
                private_file.sync(file)
            file.rename(place)
            if self._is_durable:
                private_file.sync(place.parent)
        except OSError as exc:
            raise Unavailable(
                f"cannot keep a chunk in {self.path}: {exc.strerror}; "
                "free some space on that disk",
                code="disk_failed",
            ) from exc

    def get(self, key: Digest) -> bytes:
        """Give the content, checked against its key.

        Raises:
            Refused: not here.
            Broken: it is here and damaged.
            Unavailable: the disk did not answer.
        """
        try:
            fd = os.open(self._place(key), os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
            with os.fdopen(fd, "rb") as file:
                content = file.read(limits.CHUNK_BYTES + 1)
        except FileNotFoundError:
            raise Refused(
                f"chunk {key} is not here", code="no_chunk", detail={"chunk": key}
            ) from None
        except OSError as exc:
            raise Unavailable(
                f"cannot read chunk {key}: {exc.strerror}", code="disk_failed"
            ) from exc
        if blake3(content).hexdigest() != key[2:]:
            raise Broken(
                f"chunk {key} in {self.path} is damaged; delete it and fetch it again",
                code="chunk_damaged",
                detail={"chunk": key},
            )
        return content

    def drop(self, key: Digest) -> None:
        """Forget a chunk; one that is not here is forgotten already."""
        with contextlib.suppress(FileNotFoundError):
            self._place(key).unlink()

    def keys(self) -> Iterator[Digest]:
        """Give the keys of all chunks, in no order."""
        for shard in self.path.glob("[0-9a-f][0-9a-f]"):
            for file in shard.iterdir():
                yield "0x" + shard.name + file.name

    def _place(self, key: Digest) -> Path:
        name = key[2:]
        if (
            not key.startswith("0x")
            or len(name) != _HEX_LENGTH
            or not set(name) <= set("0123456789abcdef")
        ):
            raise Refused(f"{key[:80]!r} is not a chunk's key", code="bad_key")
        return self.path / name[:2] / name[2:]
