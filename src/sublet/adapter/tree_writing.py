"""Trees of chunks as folders: ``write_tree``; and links, ``write_link``.

A tree is a stranger's word. No path of it is ever resolved by the kernel as a whole: each
folder is opened below its parent, by one name, and a symlink is never followed.

Not here: how a folder becomes a tree (``tree_folder``).
"""

import contextlib
import os
import secrets
import stat
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path

from sublet.adapter.tree_folder import FOLDER_FLAGS, split_path
from sublet.base import limits
from sublet.base.errors import Refused, Unavailable
from sublet.base.ids import Digest
from sublet.service.ports import Blobs
from sublet.wire.message import FileEntry, Tree

_DRAFT_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


def write_tree(
    tree: Tree, folder: Path, *, blobs: Blobs, owner: int | None = None
) -> None:
    """Lay a tree out in a folder: never outside of it, never through a symlink.

    Each file appears whole, by a rename, with mode 0644 or 0755; one that was there
    before is replaced. Other files stay.

    Args:
        tree: checked here again; whoever sent it may lie.
        folder: made if it is missing.
        blobs: holds all chunks of the tree.
        owner: user and group that new files and folders are given; None for the caller.

    Raises:
        Refused: a path that leaves the folder or meets something that is no folder, a
            size that its chunks do not add up to, a chunk that is not here.
        Unavailable: the disk is full or did not answer; no half-written file stays.
    """
    seen: set[str] = set()
    for entry in tree.files:
        _check_entry(entry)
        if entry.path in seen:
            raise Refused(f"{entry.path} is in the tree twice", code="bad_tree")
        seen.add(entry.path)
    with _opened(folder, is_made=True) as root:
        # Those that share a chunk are neighbours: it is read once, whoever made
        # the tree.
        shelf = _LastChunk(blobs)
        files = sorted(tree.files, key=lambda file: (file.chunks, file.offset))
        for _, near in groupby(files, key=lambda file: file.path.rpartition("/")[0]):
            entries = list(near)
            with _parent_of(root, entries[0].path, owner) as parent:
                for entry in entries:
                    name = entry.path.rpartition("/")[2]
                    _write_file(parent, name, entry, shelf, owner)


def write_link(folder: Path, path: str, says: str) -> None:
    """Write a link into a folder; nothing happens where something is there already.

    It is for who sees that folder inside: nobody follows it on this machine.

    Raises:
        Refused: the path leaves the folder or meets something that is no folder.
        Unavailable: the disk is full or did not answer.
    """
    with (
        _opened(folder) as root,
        _parent_of(root, path, None) as parent,
        contextlib.suppress(FileExistsError),
    ):
        os.symlink(says, path.rpartition("/")[2], dir_fd=parent)


@contextlib.contextmanager
def _opened(folder: Path, *, is_made: bool = False) -> Iterator[int]:
    """Open a folder that things are written below.

    Args:
        folder: not a link, where others may have been at it.
        is_made: it is the caller's own place: made if it is missing, links followed.
    """
    try:
        if is_made:
            folder.mkdir(parents=True, exist_ok=True)
        root = os.open(folder, FOLDER_FLAGS & ~(os.O_NOFOLLOW if is_made else 0))
        try:
            yield root
        finally:
            os.close(root)
    except OSError as exc:
        raise Unavailable(
            f"cannot write to {folder}: {exc.strerror}", code="disk_failed"
        ) from exc


def _check_entry(entry: FileEntry) -> None:
    split_path(entry.path)
    count = -(-entry.size // limits.CHUNK_BYTES)
    if entry.size < 0 or len(entry.chunks) != count:
        raise Refused(
            f"{entry.path}: {entry.size} bytes do not make {len(entry.chunks)} chunks",
            code="bad_tree",
        )
    if entry.offset and not (0 < entry.offset < limits.CHUNK_BYTES and count == 1):
        raise Refused(f"{entry.path} does not lie within its chunk", code="bad_tree")


class _LastChunk:
    """Keeps the chunk that was read last."""

    def __init__(self, blobs: Blobs) -> None:
        self._blobs = blobs
        self._key: Digest = ""
        self._content = b""

    def get(self, key: Digest) -> bytes:
        if key != self._key:
            self._key, self._content = key, self._blobs.get(key)
        return self._content


@contextlib.contextmanager
def _parent_of(root: int, path: str, owner: int | None) -> Iterator[int]:
    parts = split_path(path)
    with contextlib.ExitStack() as stack:
        folder = root
        for name in parts[:-1]:
            try:
                os.mkdir(name, 0o755, dir_fd=folder)
                is_new = True
            except FileExistsError:
                is_new = False
            try:
                child = os.open(name, FOLDER_FLAGS, dir_fd=folder)
            except OSError as exc:
                raise Refused(
                    f"{path}: {name!r} is there and is no folder", code="in_the_way"
                ) from exc
            stack.callback(os.close, child)
            if is_new and owner is not None:
                os.fchown(child, owner, owner)
            folder = child
        yield folder


def _write_file(
    parent: int, name: str, entry: FileEntry, shelf: _LastChunk, owner: int | None
) -> None:
    draft = f".{secrets.token_hex(8)}.part"
    fd = os.open(draft, _DRAFT_FLAGS, 0o600, dir_fd=parent)
    try:
        try:
            size = 0
            for key in entry.chunks:
                content = shelf.get(key)
                if len(entry.chunks) == 1 and len(content) != entry.size:
                    content = content[entry.offset : entry.offset + entry.size]
                size += len(content)
                _write_all(fd, content)
            if size != entry.size:
                raise Refused(
                    f"{entry.path}: its chunks hold {size} bytes, not {entry.size}",
                    code="bad_tree",
                )
            os.fchmod(fd, 0o755 if entry.mode & stat.S_IXUSR else 0o644)
            if owner is not None:
                os.fchown(fd, owner, owner)
        finally:
            os.close(fd)
        try:
            os.rename(draft, name, src_dir_fd=parent, dst_dir_fd=parent)
        except IsADirectoryError:
            raise Refused(
                f"{entry.path} is a folder already; move it away", code="in_the_way"
            ) from None
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(draft, dir_fd=parent)
        raise


def _write_all(fd: int, content: bytes) -> None:
    """Write without a file object: most files are small, and that costs more than they."""
    done = 0
    while done < len(content):  # a disk that is almost full takes only a part
        done += os.write(fd, content[done:] if done else content)
