"""What a tenant sees by SFTP: a virtual root with two folders, and nothing behind it.

    /chunks/<hex>   chunks of the lease by content: those that it still wants can be
                    written (as ``<hex>`` or ``<hex>.part``, resumed, checked), all can
                    be read
    /work/…         the job's folder, read-only

The job's folder is a stranger's: each path is opened part by part, and no symlink in
it is followed. Every operation that is not here is refused, so none of the base class
ever touches a real path.
"""

import errno
import os
import stat
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import NoReturn

import asyncssh
from asyncssh import FXF_APPEND, FXF_TRUNC, FXF_WRITE
from blake3 import blake3

from sublet.adapter.blobs_folder import FolderBlobs
from sublet.base import limits
from sublet.base.errors import SubletError
from sublet.provider.desk import Desk
from sublet.provider.reception import Reception

HANDLES_MAX = 64  # files that one session has open at a time
_HEX_LENGTH = 64
_PART = ".part"
_FOLDER_MODE = stat.S_IFDIR | 0o555
_FILE_MODE = stat.S_IFREG | 0o444
_FOLDER_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class _Handle:
    """A file that is open; ``key`` is the chunk that it becomes, or ""."""

    def __init__(self, fd: int, *, key: str = "", part: Path | None = None) -> None:
        self.fd = fd
        self.key = key
        self.part = part


class LeaseFiles(asyncssh.SFTPServer):
    """The files of one lease for one SFTP session."""

    def __init__(
        self,
        channel: "asyncssh.SSHServerChannel[bytes]",
        desk: Desk,
        reception: Reception,
        release: Callable[[], None],
    ) -> None:
        """Take the session's channel, the lease, and whom to tell of the end."""
        super().__init__(channel)
        self._desk = desk
        self._work = desk.folder.work
        self._parts = desk.folder.parts
        self._blobs: FolderBlobs = desk.blobs
        self._reception = reception
        self._release = release
        self._handles: set[_Handle] = set()

    # ---- files --------------------------------------------------------------------

    def open(self, path: bytes, pflags: int, attrs: asyncssh.SFTPAttrs) -> object:
        """Open a file: for reading, or a wanted chunk for writing."""
        if len(self._handles) >= HANDLES_MAX:
            raise asyncssh.SFTPFailure(f"at most {HANDLES_MAX} files at a time")
        parts = _split(path)
        if pflags & (FXF_WRITE | FXF_APPEND):
            handle = self._open_part(parts, is_fresh=bool(pflags & FXF_TRUNC))
        elif len(parts) == 2 and parts[0] == "chunks":
            handle = self._open_chunk(parts[1])
        else:
            handle = _Handle(self._open_below(parts, _FILE_FLAGS))
            if not stat.S_ISREG(os.fstat(handle.fd).st_mode):
                os.close(handle.fd)
                raise asyncssh.SFTPPermissionDenied("not a regular file")
        self._handles.add(handle)
        return handle

    def read(self, file_obj: object, offset: int, size: int) -> bytes:
        """Read a piece of an open file."""
        return os.pread(_get(file_obj).fd, min(size, limits.CHUNK_BYTES), offset)

    def write(self, file_obj: object, offset: int, data: bytes) -> int:
        """Write a piece of a chunk."""
        handle = _get(file_obj)
        if not handle.key:
            raise asyncssh.SFTPPermissionDenied("opened for reading")
        if offset + len(data) > limits.CHUNK_BYTES:
            raise asyncssh.SFTPFailure(
                f"a chunk has {limits.CHUNK_BYTES} bytes at most"
            )
        done = 0
        while done < len(data):  # a disk that is almost full takes only a part
            done += os.pwrite(handle.fd, data[done:], offset + done)
        return done

    def close(self, file_obj: object) -> None:
        """Close a file; a chunk that is whole is taken, one that is not stays a part."""
        handle = _get(file_obj)
        self._handles.discard(handle)
        try:
            if handle.key:
                self._take_if_whole(handle)
        finally:
            os.close(handle.fd)

    def fstat(self, file_obj: object) -> asyncssh.SFTPAttrs:
        """Describe an open file."""
        return _describe(os.fstat(_get(file_obj).fd))

    def exit(self) -> None:
        """Close what the session has left open; parts stay, to be resumed."""
        for handle in self._handles:
            os.close(handle.fd)
        self._handles.clear()
        self._release()

    def rename(self, oldpath: bytes, newpath: bytes) -> None:
        """Take a chunk that was written as ``<hex>.part``."""
        old, new = _split(oldpath), _split(newpath)
        if len(old) != 2 or len(new) != 2 or old[1] != new[1] + _PART:
            _deny()
        if not self._blobs.has("0x" + _check_hex(new[1])):
            raise asyncssh.SFTPFailure(
                "the chunk is not whole, or not what it is called"
            )

    def posix_rename(self, oldpath: bytes, newpath: bytes) -> None:
        """As ``rename``."""
        self.rename(oldpath, newpath)

    # ---- folders ------------------------------------------------------------------

    async def scandir(self, path: bytes) -> AsyncIterator[asyncssh.SFTPName]:
        """List a folder; nothing in it is followed."""
        parts = _split(path)
        if not parts:
            for name in ("chunks", "work"):
                yield asyncssh.SFTPName(name.encode(), attrs=_folder_attrs())
            return
        if parts[0] != "work":
            return  # chunks are known by their names; nobody needs a list
        fd = self._open_below(parts, _FOLDER_FLAGS)
        try:
            with os.scandir(fd) as entries:
                for entry in entries:
                    attrs = _describe(entry.stat(follow_symlinks=False))
                    yield asyncssh.SFTPName(os.fsencode(entry.name), attrs=attrs)
        finally:
            os.close(fd)

    def stat(self, path: bytes) -> asyncssh.SFTPAttrs:
        """Describe a file or folder; a symlink as what it is."""
        parts = _split(path)
        if len(parts) < 2 and parts != ["work"]:
            if parts in ([], ["chunks"]):
                return _folder_attrs()
            raise asyncssh.SFTPNoSuchFile("no such file")
        if parts[0] == "chunks":
            return self._describe_chunk(parts[1])
        if len(parts) == 1:
            return _folder_attrs()
        fd = self._open_below(parts[:-1], _FOLDER_FLAGS)
        try:
            return _describe(os.stat(parts[-1], dir_fd=fd, follow_symlinks=False))
        finally:
            os.close(fd)

    def lstat(self, path: bytes) -> asyncssh.SFTPAttrs:
        """As ``stat``."""
        return self.stat(path)

    def realpath(self, path: bytes) -> bytes:
        """Write a path plainly; the disk is not asked."""
        return b"/" + "/".join(_split(path)).encode()

    # ---- what is refused, all of it -----------------------------------------------

    def open56(
        self, path: bytes, desired_access: int, flags: int, attrs: asyncssh.SFTPAttrs
    ) -> object:
        """Refuse: only version 3 is spoken."""
        _deny()

    def setstat(self, path: bytes, attrs: asyncssh.SFTPAttrs) -> None:
        """Ignore: clients set modes and times of what they put; chunks have none."""

    def lsetstat(self, path: bytes, attrs: asyncssh.SFTPAttrs) -> None:
        """Ignore, as ``setstat``."""

    def fsetstat(self, file_obj: object, attrs: asyncssh.SFTPAttrs) -> None:
        """Ignore, as ``setstat``."""

    def remove(self, path: bytes) -> None:
        """Refuse."""
        _deny()

    def mkdir(self, path: bytes, attrs: asyncssh.SFTPAttrs) -> None:
        """Refuse."""
        _deny()

    def rmdir(self, path: bytes) -> None:
        """Refuse."""
        _deny()

    def readlink(self, path: bytes) -> bytes:
        """Refuse: where a symlink points is not followed, nor told."""
        _deny()

    def symlink(self, oldpath: bytes, newpath: bytes) -> None:
        """Refuse."""
        _deny()

    def link(self, oldpath: bytes, newpath: bytes) -> None:
        """Refuse."""
        _deny()

    def lock(self, file_obj: object, offset: int, length: int, flags: int) -> None:
        """Refuse."""
        _deny()

    def unlock(self, file_obj: object, offset: int, length: int) -> None:
        """Refuse."""
        _deny()

    def statvfs(self, path: bytes) -> NoReturn:
        """Refuse: how full the owner's disk is is the owner's."""
        _deny()

    def fstatvfs(self, file_obj: object) -> NoReturn:
        """Refuse, as ``statvfs``."""
        _deny()

    def fsync(self, file_obj: object) -> None:
        """Ignore: chunks are taken when they are whole."""

    # ---- chunks -------------------------------------------------------------------

    def _open_chunk(self, name: str) -> _Handle:
        if name.endswith(_PART):
            part = self._parts / (_check_hex(name.removesuffix(_PART)) + _PART)
            return _Handle(_open_file(part))
        key = _check_hex(name)
        return _Handle(_open_file(self._blobs.path / key[:2] / key[2:]))

    def _open_part(self, parts: list[str], *, is_fresh: bool) -> _Handle:
        if len(parts) != 2 or parts[0] != "chunks":
            _deny()
        key = _check_hex(parts[1].removesuffix(_PART))
        if not self._reception.wants("0x" + key):
            raise asyncssh.SFTPPermissionDenied("this chunk is not wanted")
        part = self._parts / (key + _PART)
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        if is_fresh:
            flags |= os.O_TRUNC
        return _Handle(os.open(part, flags, 0o600), key=key, part=part)

    def _take_if_whole(self, handle: _Handle) -> None:
        content = os.pread(handle.fd, limits.CHUNK_BYTES + 1, 0)
        if blake3(content).hexdigest() != handle.key or handle.part is None:
            return
        try:
            self._blobs.put(content)
        except SubletError as fault:
            raise asyncssh.SFTPFailure(fault.message) from None
        handle.part.unlink(missing_ok=True)

    def _describe_chunk(self, name: str) -> asyncssh.SFTPAttrs:
        handle = self._open_chunk(name)
        try:
            return _describe(os.fstat(handle.fd))
        finally:
            os.close(handle.fd)

    # ---- the job's folder ---------------------------------------------------------

    def _open_below(self, parts: list[str], flags: int) -> int:
        """Open a path below the work folder, part by part, through no symlink."""
        if self._desk.is_sealed:
            raise asyncssh.SFTPPermissionDenied("this job is sealed")
        if not parts or parts[0] != "work":
            raise asyncssh.SFTPNoSuchFile("no such file")
        fd = os.open(self._work, _FOLDER_FLAGS)
        for number, name in enumerate(parts[1:], start=2):
            try:
                is_last = number == len(parts)
                child = os.open(name, flags if is_last else _FOLDER_FLAGS, dir_fd=fd)
            except OSError as exc:
                if exc.errno in (errno.ELOOP, errno.ENOTDIR):
                    raise asyncssh.SFTPPermissionDenied(
                        "a symlink, or no folder; symlinks are not followed"
                    ) from None
                raise
            finally:
                os.close(fd)
            fd = child
        return fd


def _split(path: bytes) -> list[str]:
    try:
        parts = path.decode().split("/")
    except UnicodeDecodeError:
        raise asyncssh.SFTPNoSuchFile("paths are UTF-8") from None
    kept = [part for part in parts if part not in ("", ".")]
    if ".." in kept or "\0" in path.decode() or len(path) > limits.PATH_LENGTH_MAX:
        raise asyncssh.SFTPPermissionDenied("not a plain path")
    return kept


def _check_hex(name: str) -> str:
    if len(name) != _HEX_LENGTH or not set(name) <= set("0123456789abcdef"):
        raise asyncssh.SFTPNoSuchFile("chunks are named by 64 hex digits")
    return name


def _open_file(path: Path) -> int:
    return os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)


def _get(file_obj: object) -> _Handle:
    if not isinstance(file_obj, _Handle):
        raise asyncssh.SFTPFailure("not a handle of this session")
    return file_obj


def _folder_attrs() -> asyncssh.SFTPAttrs:
    return asyncssh.SFTPAttrs(permissions=_FOLDER_MODE, size=0)


def _describe(status: os.stat_result) -> asyncssh.SFTPAttrs:
    """Describe a file without its owner: host uids are nobody's business."""
    kind = stat.S_IFMT(status.st_mode)
    return asyncssh.SFTPAttrs(
        size=status.st_size,
        permissions=kind | stat.S_IMODE(status.st_mode) & 0o777,
        atime=int(status.st_atime),
        mtime=int(status.st_mtime),
    )


def _deny() -> NoReturn:
    raise asyncssh.SFTPPermissionDenied("not possible here")
