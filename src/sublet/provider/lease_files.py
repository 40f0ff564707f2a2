"""What a tenant sees by SFTP: a virtual root with two folders, and nothing behind it.

    /chunks/<hex>   chunks of the lease by content: those that it still wants can be
                    written (as ``<hex>`` or ``<hex>.part``, resumed, checked), all can
                    be read
    /work/…         the job's folder, as the job knows it; ordinary tools begin there

Every operation that is not here is refused, so none of the base class ever touches a
real path.

Not here: how the job's folder is read and written safely (``work_folder``).
"""

import contextlib
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
from sublet.provider.lease_state import Stage
from sublet.provider.preparation import FILE_BYTES_MIN
from sublet.provider.reception import Reception
from sublet.provider.work_folder import WorkFolder

HANDLES_MAX = 64  # files that one session has open at a time
_HEX_LENGTH = 64
_PART = ".part"
_FOLDER_MODE = stat.S_IFDIR | 0o555
_WORK = "work"  # where relative paths begin


class _Handle:
    """A file that is open."""

    def __init__(
        self, fd: int, *, bytes_max: int = 0, is_appended: bool = False
    ) -> None:
        self.fd = fd
        self.bytes_max = bytes_max  # 0: opened for reading
        self.is_appended = is_appended

    def note_written(self, offset: int, data: bytes) -> None:
        """Hear what was written."""

    def check_written(self) -> None:
        """Refuse to be written to any more."""


class _Part(_Handle):
    """A chunk that is being written; hashed on its way, where it comes in order."""

    def __init__(self, fd: int, *, key: str, place: Path) -> None:
        super().__init__(fd, bytes_max=limits.CHUNK_BYTES)
        self.key = key
        self.place = place
        self.is_stale = False  # somebody else writes it now
        self._hasher = blake3()
        self._hashed = (
            0  # bytes from the beginning; -1: out of order, hashed at the end
        )

    def note_written(self, offset: int, data: bytes) -> None:
        if offset == self._hashed:
            self._hasher.update(data)
            self._hashed += len(data)
        else:
            self._hashed = -1

    def check_written(self) -> None:
        if self.is_stale:
            raise asyncssh.SFTPFailure("this chunk was opened anew")

    def is_whole(self) -> bool:
        """Say whether it is what it is called. Blocks where it came out of order."""
        if self.is_stale:
            return False
        if self._hashed == os.fstat(self.fd).st_size:
            return bool(self._hasher.hexdigest() == self.key)
        content = os.pread(self.fd, limits.CHUNK_BYTES + 1, 0)
        return bool(blake3(content).hexdigest() == self.key)


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
        self._work = WorkFolder(
            desk.folder.work,
            uid=desk.record.uid,
            is_sealed=lambda: desk.is_sealed,
            file_bytes_max=max(desk.record.lease.disk_bytes, FILE_BYTES_MIN),
            may_change=lambda: desk.record.stage in (Stage.RUNNING, Stage.STOPPING),
        )
        self._parts = desk.folder.parts
        self._blobs: FolderBlobs = desk.blobs
        self._reception = reception
        self._session = channel
        self._release = release
        self._handles: set[_Handle] = set()

    # ---- files --------------------------------------------------------------------

    def open(self, path: bytes, pflags: int, attrs: asyncssh.SFTPAttrs) -> object:
        """Open a file of the job's, or a chunk: one that is wanted for writing."""
        if len(self._handles) >= HANDLES_MAX:
            raise asyncssh.SFTPFailure(f"at most {HANDLES_MAX} files at a time")
        parts = _split(path)
        is_written = bool(pflags & (FXF_WRITE | FXF_APPEND))
        if parts[:1] == [_WORK]:
            handle = _Handle(
                self._work.open(parts[1:], pflags, attrs),
                bytes_max=self._work.file_bytes_max if is_written else 0,
                is_appended=bool(pflags & FXF_APPEND),
            )
        elif is_written:
            handle = self._open_part(parts, is_fresh=bool(pflags & FXF_TRUNC))
        elif len(parts) == 2 and parts[0] == "chunks":
            handle = self._open_chunk(parts[1])
        else:
            raise asyncssh.SFTPNoSuchFile("no such file")
        self._handles.add(handle)
        return handle

    def read(self, file_obj: object, offset: int, size: int) -> bytes:
        """Read a piece of an open file."""
        return os.pread(_get(file_obj).fd, min(size, limits.CHUNK_BYTES), offset)

    def write(self, file_obj: object, offset: int, data: bytes) -> int:
        """Write a piece of a chunk, or of a file."""
        handle = _get(file_obj)
        if not handle.bytes_max:
            raise asyncssh.SFTPPermissionDenied("opened for reading")
        handle.check_written()
        if not isinstance(handle, _Part):
            self._work.check_change()
        if handle.is_appended:
            offset = os.fstat(handle.fd).st_size
        if offset + len(data) > handle.bytes_max:
            raise asyncssh.SFTPFailure(f"at most {handle.bytes_max} bytes")
        done = 0
        while done < len(data):  # a disk that is almost full takes only a part
            done += os.pwrite(handle.fd, data[done:], offset + done)
        handle.note_written(offset, data)
        return done

    def close(self, file_obj: object) -> None:
        """Close a file; a chunk that is whole is taken, one that is not stays a part."""
        handle = _get(file_obj)
        self._handles.discard(handle)
        try:
            if isinstance(handle, _Part):
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
        with contextlib.suppress(asyncssh.Error, OSError):
            # Said by nobody else; without it scp takes a good copy for a failed one.
            self._session.exit(0)
        self._release()

    def rename(self, oldpath: bytes, newpath: bytes) -> None:
        """Move a file of the job's, or take a chunk that was written as a part."""
        self._rename(_split(oldpath), _split(newpath), replaces=False)

    def posix_rename(self, oldpath: bytes, newpath: bytes) -> None:
        """As ``rename``; what is there is replaced."""
        self._rename(_split(oldpath), _split(newpath), replaces=True)

    def _rename(self, old: list[str], new: list[str], *, replaces: bool) -> None:
        if old[:1] == new[:1] == [_WORK]:
            self._work.rename(old[1:], new[1:], replaces=replaces)
            return
        if len(old) != 2 or len(new) != 2 or old[1] != new[1] + _PART:
            _deny()
        if not self._blobs.has("0x" + _check_hex(new[1])):
            raise asyncssh.SFTPFailure(
                "the chunk is not whole, or not what it is called"
            )

    # ---- folders ------------------------------------------------------------------

    async def scandir(self, path: bytes) -> AsyncIterator[asyncssh.SFTPName]:
        """List a folder; nothing in it is followed."""
        parts = _split(path)
        if not parts:
            for name in ("chunks", "work"):
                yield asyncssh.SFTPName(name.encode(), attrs=_folder_attrs())
            return
        if parts[0] != _WORK:
            return  # chunks are known by their names; nobody needs a list
        fd = self._work.open_folder(parts[1:])
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
        if parts in ([], ["chunks"], [_WORK]):
            return _folder_attrs()
        if parts[0] == _WORK:
            return _describe(self._work.stat(parts[1:]))
        if parts[0] == "chunks" and len(parts) == 2:
            return self._describe_chunk(parts[1])
        raise asyncssh.SFTPNoSuchFile("no such file")

    def lstat(self, path: bytes) -> asyncssh.SFTPAttrs:
        """As ``stat``."""
        return self.stat(path)

    def realpath(self, path: bytes) -> bytes:
        """Write a path plainly; the disk is not asked."""
        return b"/" + "/".join(_split(path)).encode()

    def setstat(self, path: bytes, attrs: asyncssh.SFTPAttrs) -> None:
        """Set size, rights and times of a job's file; those of chunks are ignored."""
        parts = _split(path)
        if len(parts) > 1 and parts[0] == _WORK:
            self._work.set_path_attrs(parts[1:], attrs)

    def lsetstat(self, path: bytes, attrs: asyncssh.SFTPAttrs) -> None:
        """As ``setstat``: no symlink is followed there either."""
        self.setstat(path, attrs)

    def fsetstat(self, file_obj: object, attrs: asyncssh.SFTPAttrs) -> None:
        """As ``setstat``, for a file that was opened for writing."""
        handle = _get(file_obj)
        if handle.bytes_max and not isinstance(handle, _Part):
            self._work.set_attrs(handle.fd, attrs)

    def remove(self, path: bytes) -> None:
        """Remove a file of the job's."""
        self._work.remove(_below_work(path))

    def mkdir(self, path: bytes, attrs: asyncssh.SFTPAttrs) -> None:
        """Make a folder of the job's."""
        self._work.mkdir(_below_work(path), attrs)

    def rmdir(self, path: bytes) -> None:
        """Remove an empty folder of the job's."""
        self._work.rmdir(_below_work(path))

    def readlink(self, path: bytes) -> bytes:
        """Say what a symlink of the job's says."""
        return self._work.readlink(_below_work(path))

    def symlink(self, oldpath: bytes, newpath: bytes) -> None:
        """Make a symlink for the job; ``oldpath`` is its text, not a path of ours."""
        self._work.symlink(oldpath, _below_work(newpath))

    # ---- what is refused, all of it -----------------------------------------------

    def open56(
        self, path: bytes, desired_access: int, flags: int, attrs: asyncssh.SFTPAttrs
    ) -> object:
        """Refuse: only version 3 is spoken."""
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

    def _open_part(self, parts: list[str], *, is_fresh: bool) -> _Part:
        if len(parts) != 2 or parts[0] != "chunks":
            _deny()
        key = _check_hex(parts[1].removesuffix(_PART))
        if not self._reception.wants("0x" + key):
            raise asyncssh.SFTPPermissionDenied("this chunk is not wanted")
        place = self._parts / (key + _PART)
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        if is_fresh:
            flags |= os.O_TRUNC
        part = _Part(os.open(place, flags, 0o600), key=key, place=place)
        # One writer at a time, the newest: what was checked must not change behind it.
        older = self._reception.writers.get(key)
        if isinstance(older, _Part):
            older.is_stale = True
        self._reception.writers[key] = part
        return part

    def _take_if_whole(self, part: _Part) -> None:
        if self._reception.writers.get(part.key) is part:
            del self._reception.writers[part.key]
        if not part.is_whole():
            return
        try:
            self._blobs.take(part.place, "0x" + part.key)
        except SubletError as fault:
            raise asyncssh.SFTPFailure(fault.message) from None

    def _describe_chunk(self, name: str) -> asyncssh.SFTPAttrs:
        handle = self._open_chunk(name)
        try:
            return _describe(os.fstat(handle.fd))
        finally:
            os.close(handle.fd)


def _split(path: bytes) -> list[str]:
    """Read a path, from the work folder on; ``..`` is taken by its word."""
    try:
        text = path.decode()
    except UnicodeDecodeError:
        raise asyncssh.SFTPNoSuchFile("paths are UTF-8") from None
    if "\0" in text or len(path) > limits.PATH_LENGTH_MAX:
        raise asyncssh.SFTPPermissionDenied("not a plain path")
    kept = [] if text.startswith("/") else [_WORK]
    for part in text.split("/"):
        if part == "..":
            del kept[-1:]
        elif part not in ("", "."):
            kept.append(part)
    return kept


def _below_work(path: bytes) -> list[str]:
    parts = _split(path)
    if parts[:1] != [_WORK]:
        _deny()
    return parts[1:]


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
