"""Folders as trees of chunks: ``read_tree``; the way back is ``tree_writing``.

Both sides of a lease use it, and both distrust the other side: a folder that a
stranger's job has filled is read, a tree that a stranger has sent is written. So no
path is ever resolved by the kernel as a whole: each folder is opened below its
parent, by one name, and a symlink is never followed. Only regular files travel;
their bytes, and whether they can be executed. Empty folders, owners, times and
extended attributes do not. A file with several hard links is a file like any other.

Small files of a tree share chunks, one behind the other in the order of their paths: what
a file costs on its way (a request, a file in a store, a sync) is paid for once a chunk.

Not here: what a tree's id is and which paths are lawful (``wire.manifest``).
"""

import contextlib
import os
import stat
from collections.abc import Iterable, Sequence
from pathlib import Path

from msgspec import Struct, structs

from sublet.base import limits
from sublet.base.errors import Refused, Unavailable
from sublet.base.ids import Digest
from sublet.service.ports import Blobs
from sublet.wire.message import FileEntry, Tree
from sublet.wire.path import find_path_fault

DEPTH_MAX = 64  # folders below each other
FOLDER_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class Skipped(Struct, frozen=True):
    """A thing in a folder that is no part of its tree, and why."""

    path: str
    code: str  # symlink, special_file, bad_name, not_readable
    message: str


# ---- reading ----------------------------------------------------------------------


def read_tree(
    folder: Path,
    *,
    blobs: Blobs,
    include: Sequence[str] = (),
    without: tuple[str, ...] = (),
    skipped: list[Skipped] | None = None,
    bytes_max: int = limits.TREE_BYTES_MAX,
    files_max: int = limits.FILES_PER_TREE_MAX,
) -> Tree:
    """Put a folder's files into ``blobs`` and give the tree that they make.

    Args:
        folder: the folder itself may be reached through symlinks, what is in it not.
        blobs: where the chunks go.
        include: relative paths of files and folders in it; empty for everything. A
            path that does not exist adds nothing.
        without: endings of names that are left out.
        skipped: collects what cannot travel (symlinks, sockets, devices, names that
            are not UTF-8 or too deep); without it the first such thing is refused.
        bytes_max: most bytes, as the files' own sizes say: a file with holes counts
            in full.
        files_max: most files and folders that are looked at.

    Raises:
        Refused: a thing that cannot travel (see ``skipped``), too many files, too many
            bytes, a path that leaves the folder, or a file that changed while it was
            read (``changed_while_read``; try again when it is at rest).
        Unavailable: the disk, or ``blobs``, did not take part.
    """
    reader = _Reader(
        blobs=blobs, skipped=skipped, bytes_max=bytes_max, files_max=files_max
    )
    reader.without = without
    _walk(folder, include, reader)
    return Tree(files=tuple(sorted(reader.finish(), key=lambda file: file.path)))


class Seen(Struct, frozen=True, order=True):
    """A file as its folder shows it; equal twice means that nobody wrote to it."""

    path: str
    size: int
    changed_ns: int
    inode: int


def list_tree(
    folder: Path,
    *,
    include: Sequence[str] = (),
    without: tuple[str, ...] = (),
    files_max: int = limits.FILES_PER_TREE_MAX,
) -> tuple[Seen, ...]:
    """List the files of which ``read_tree`` would make a tree, without reading them.

    Raises:
        Refused: too many files, no such folder, or a path that leaves it.
        Unavailable: the disk did not answer.
    """
    lister = _Lister(skipped=[], files_max=files_max)
    lister.without = without
    _walk(folder, include, lister)
    return tuple(sorted(lister.seen))


def _walk(folder: Path, include: Sequence[str], walker: "_Walker") -> None:
    paths = [split_path(path) for path in include] or [()]
    try:
        root = os.open(folder, FOLDER_FLAGS & ~os.O_NOFOLLOW)
    except OSError as exc:
        raise Refused(
            f"cannot open the folder {folder}: {exc.strerror}", code="no_folder"
        ) from exc
    try:
        for parts in paths:
            walker.walk_path(root, parts)
    except OSError as exc:
        raise Unavailable(
            f"cannot read {folder}: {exc.strerror}", code="disk_failed"
        ) from exc
    finally:
        os.close(root)


class _Walker:
    """One walk through a folder; ``_take_file`` is told each regular file."""

    without: tuple[str, ...] = ()  # endings of names that are left out

    def __init__(self, *, skipped: list[Skipped] | None, files_max: int) -> None:
        self._skipped = skipped
        self._entries_left = self._files_max = files_max

    def walk_path(self, root: int, parts: tuple[str, ...]) -> None:
        """Look at one included path below the open folder ``root``."""
        with contextlib.ExitStack() as stack:
            folder = root
            for count, name in enumerate(parts[:-1], start=1):
                child = self._open_folder(folder, name, "/".join(parts[:count]))
                if child is None:
                    return
                stack.callback(os.close, child)
                folder = child
            if parts:
                self._walk_name(folder, parts[-1], "/".join(parts))
            else:
                self._walk_folder(folder, "")

    def _take_file(
        self, folder: int, name: str, path: str, status: os.stat_result
    ) -> None:
        raise NotImplementedError

    def _walk_folder(self, folder: int, path: str) -> None:
        with os.scandir(folder) as entries:
            names = []
            for entry in entries:
                self._entries_left -= 1
                if self._entries_left < 0:
                    raise Refused(
                        f"more than {self._files_max} files and folders; "
                        "pack them into an archive, or choose fewer",
                        code="too_many_files",
                    )
                names.append(entry.name)
        for name in sorted(names):  # the same folder makes the same chunks
            self._walk_name(folder, name, f"{path}/{name}" if path else name)

    def _walk_name(self, folder: int, name: str, path: str) -> None:
        if fault := _find_path_fault(path):
            self._skip(path, "bad_name", fault)
            return
        try:
            status = os.stat(name, dir_fd=folder, follow_symlinks=False)
        except FileNotFoundError:
            return
        mode = status.st_mode
        if stat.S_ISDIR(mode):
            child = self._open_folder(folder, name, path)
            if child is not None:
                try:
                    self._walk_folder(child, path)
                finally:
                    os.close(child)
        elif stat.S_ISREG(mode):
            if not name.endswith(self.without):
                self._take_file(folder, name, path, status)
        elif stat.S_ISLNK(mode):
            self._skip(path, "symlink", "is a symlink; put the file itself there")
        else:
            self._skip(path, "special_file", "is no regular file")

    def _open_folder(self, folder: int, name: str, path: str) -> int | None:
        try:
            return os.open(name, FOLDER_FLAGS, dir_fd=folder)
        except FileNotFoundError:
            return None
        except PermissionError:
            self._skip(path, "not_readable", "is not readable for this user")
        except OSError:  # ELOOP or ENOTDIR: a symlink, or a file where a folder was
            self._skip(path, "symlink", "is a symlink, or no folder")
        return None

    def _skip(self, path: str, code: str, why: str) -> None:
        shown = path.encode("utf-8", "backslashreplace").decode()[:200]
        message = f"{shown!r} {why}"
        if self._skipped is None:
            raise Refused(message, code=code, detail={"path": shown})
        self._skipped.append(Skipped(path=shown, code=code, message=message))


class _Lister(_Walker):
    """Notes each file."""

    def __init__(self, *, skipped: list[Skipped], files_max: int) -> None:
        super().__init__(skipped=skipped, files_max=files_max)
        self.seen: set[Seen] = set()

    def _take_file(
        self, folder: int, name: str, path: str, status: os.stat_result
    ) -> None:
        self.seen.add(Seen(path, status.st_size, status.st_mtime_ns, status.st_ino))


class _Reader(_Walker):
    """Puts each file into blobs."""

    def __init__(
        self,
        *,
        blobs: Blobs,
        skipped: list[Skipped] | None,
        bytes_max: int,
        files_max: int,
    ) -> None:
        super().__init__(skipped=skipped, files_max=files_max)
        self._files: dict[str, FileEntry] = {}
        self._pack = bytearray()  # small files that will share a chunk
        self._packed: list[FileEntry] = []  # the same, without their chunk as yet
        self._blobs = blobs
        self._bytes_left = self._bytes_max = bytes_max

    def finish(self) -> Iterable[FileEntry]:
        """Give the files, in no order."""
        self._put_pack()
        return self._files.values()

    def _take_file(
        self, folder: int, name: str, path: str, status: os.stat_result
    ) -> None:
        if path in self._files:  # two included paths may overlap
            return
        try:
            fd = os.open(name, _FILE_FLAGS, dir_fd=folder)
        except FileNotFoundError:
            return
        except OSError as exc:
            self._skip(path, "not_readable", f"cannot be opened: {exc.strerror}")
            return
        with os.fdopen(fd, "rb") as file:
            before = os.fstat(fd)
            if not stat.S_ISREG(before.st_mode):
                self._skip(path, "special_file", "is no regular file")
                return
            self._bytes_left -= before.st_size
            if self._bytes_left < 0:
                raise Refused(
                    f"more than {self._bytes_max} bytes, with {path}",
                    code="tree_too_large",
                )
            mode = 0o755 if before.st_mode & stat.S_IXUSR else 0o644
            size = before.st_size
            if 0 < size <= limits.PACKED_BYTES_MAX:
                content = file.read(size)
                _check_unchanged(before, os.fstat(fd), size=len(content), path=path)
                self._add_to_pack(FileEntry(path, size, mode, ()), content)
                return
            chunks: list[Digest] = []
            done = 0
            while done < size and (
                content := file.read(min(limits.CHUNK_BYTES, size - done))
            ):
                chunks.append(self._blobs.put(content))
                done += len(content)
            _check_unchanged(before, os.fstat(fd), size=done, path=path)
        self._files[path] = FileEntry(path, size, mode, tuple(chunks))

    def _add_to_pack(self, entry: FileEntry, content: bytes) -> None:
        if len(self._pack) + len(content) > limits.CHUNK_BYTES:
            self._put_pack()
        entry = structs.replace(entry, offset=len(self._pack))
        self._files[entry.path] = entry
        self._packed.append(entry)
        self._pack += content

    def _put_pack(self) -> None:
        if self._packed:
            chunks = (self._blobs.put(bytes(self._pack)),)
            for entry in self._packed:
                self._files[entry.path] = structs.replace(entry, chunks=chunks)
        self._pack.clear()
        self._packed.clear()


def _check_unchanged(
    before: os.stat_result, after: os.stat_result, *, size: int, path: str
) -> None:
    if (
        size != before.st_size
        or after.st_size != before.st_size
        or after.st_mtime_ns != before.st_mtime_ns
    ):
        raise Refused(
            f"{path} changed while it was read; try again when it is at rest",
            code="changed_while_read",
            detail={"path": path},
        )


def read_file(entry: FileEntry, *, blobs: Blobs) -> bytes:
    """Give the content of one file of a tree that was checked.

    Raises:
        Refused: a chunk is not here.
    """
    content = b"".join(blobs.get(key) for key in entry.chunks)
    return content[entry.offset : entry.offset + entry.size]


# ---- paths ------------------------------------------------------------------------


def split_path(path: str) -> tuple[str, ...]:
    """Give the names in a relative path.

    Raises:
        Refused: it leaves its folder, or is not written plainly.
    """
    if fault := _find_path_fault(path):
        shown = path.encode("utf-8", "backslashreplace").decode()[:200]
        raise Refused(f"{shown!r} {fault}", code="bad_path", field="path")
    return tuple(path.split("/"))


def _find_path_fault(path: str) -> str:
    """Say what is wrong with a relative path, or give an empty string."""
    if fault := find_path_fault(path):
        return f"{fault}; it must stay in its folder"
    if path.count("/") >= DEPTH_MAX:
        return f"more than {DEPTH_MAX} folders deep"
    return ""
