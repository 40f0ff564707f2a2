"""The work folder of a running job, for its tenant: read and written from outside.

The folder is a stranger's, and its job changes it at the same time. So each path is
opened part by part, relative to what was opened before, and no symlink in it is ever
followed; what is made belongs to the job, and has no other rights than the job could
give. Only while the job runs is anything changed: then its warden counts the disk.
"""

import errno
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

import asyncssh
from asyncssh import FXF_APPEND, FXF_CREAT, FXF_EXCL, FXF_TRUNC, FXF_WRITE

from sublet.base import limits

_FOLDER_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# A pipe or a device of the job's making must not block this process.
_FILE_FLAGS = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_RIGHTS = 0o777  # a job's file is nobody's door to other rights: no setuid, no sticky
_FILE_MODE, _FOLDER_MODE = 0o644, 0o755
_TIME_MAX = 1 << 40


class WorkFolder:
    """One job's folder. Paths are lists of names, checked by the caller."""

    def __init__(
        self,
        path: Path,
        *,
        uid: int,
        file_bytes_max: int,
        may_change: Callable[[], bool],
        is_sealed: Callable[[], bool],
    ) -> None:
        """Take where it is, whose, and how long it may be written to.

        Args:
            path: of the folder on this machine.
            uid: of the job; new files are given to it.
            file_bytes_max: the largest file that may be written.
            may_change: says whether the job runs.
            is_sealed: says whether nobody may look into it.
        """
        self._path = path
        self._uid = uid if os.geteuid() == 0 else -1
        self.file_bytes_max = file_bytes_max
        self._may_change = may_change
        self._is_sealed = is_sealed

    # ---- files --------------------------------------------------------------------

    def open(self, parts: list[str], pflags: int, attrs: asyncssh.SFTPAttrs) -> int:
        """Open a regular file; give its descriptor."""
        is_written = bool(pflags & (FXF_WRITE | FXF_APPEND))
        if is_written:
            self.check_change()
        with self._parent(parts) as (folder, name):
            if not is_written:
                handle = _open(name, os.O_RDONLY | _FILE_FLAGS, folder)
            else:
                handle = self._open_written(folder, name, pflags, attrs)
        if stat.S_ISREG(os.fstat(handle).st_mode):
            if is_written and pflags & FXF_TRUNC:
                os.ftruncate(handle, 0)
            return handle
        os.close(handle)
        raise asyncssh.SFTPPermissionDenied("not a regular file")

    def _open_written(
        self, folder: int, name: str, pflags: int, attrs: asyncssh.SFTPAttrs
    ) -> int:
        flags = os.O_RDWR | _FILE_FLAGS
        if pflags & FXF_APPEND:
            flags |= os.O_APPEND
        if pflags & FXF_CREAT:
            mode = _FILE_MODE if attrs.permissions is None else attrs.permissions
            try:
                handle = _open(
                    name, flags | os.O_CREAT | os.O_EXCL, folder, mode & _RIGHTS
                )
            except FileExistsError:
                if pflags & FXF_EXCL:
                    raise
            else:
                os.fchmod(handle, mode & _RIGHTS)
                os.fchown(handle, self._uid, self._uid)
                return handle
        return _open(name, flags, folder)

    def set_attrs(self, handle: int, attrs: asyncssh.SFTPAttrs) -> None:
        """Change size, rights and times of an open file or folder; never its owner."""
        self.check_change()
        if attrs.size is not None:
            if attrs.size > self.file_bytes_max:
                raise asyncssh.SFTPFailure(f"at most {self.file_bytes_max} bytes")
            os.ftruncate(handle, attrs.size)
        if attrs.permissions is not None:
            os.fchmod(handle, attrs.permissions & _RIGHTS)
        if attrs.mtime is not None:
            atime = attrs.mtime if attrs.atime is None else attrs.atime
            os.utime(handle, (_check_time(atime), _check_time(attrs.mtime)))

    def set_path_attrs(self, parts: list[str], attrs: asyncssh.SFTPAttrs) -> None:
        """Change a file or folder; what is neither is left as it is, and refused."""
        self.check_change()
        flags = os.O_RDONLY if attrs.size is None else os.O_RDWR
        with self._parent(parts) as (folder, name):
            handle = _open(name, flags | _FILE_FLAGS, folder)
            try:
                mode = os.fstat(handle).st_mode
                if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
                    raise asyncssh.SFTPPermissionDenied("not a file or folder")
                self.set_attrs(handle, attrs)
            finally:
                os.close(handle)

    # ---- names --------------------------------------------------------------------

    def remove(self, parts: list[str]) -> None:
        """Remove a file or a symlink."""
        self.check_change()
        with self._parent(parts) as (folder, name):
            os.unlink(name, dir_fd=folder)

    def mkdir(self, parts: list[str], attrs: asyncssh.SFTPAttrs) -> None:
        """Make a folder."""
        self.check_change()
        mode = _FOLDER_MODE if attrs.permissions is None else attrs.permissions
        with self._parent(parts) as (folder, name):
            os.mkdir(name, 0o700, dir_fd=folder)
            made = os.open(name, _FOLDER_FLAGS, dir_fd=folder)
            try:
                os.fchmod(made, mode & _RIGHTS)
                os.fchown(made, self._uid, self._uid)
            finally:
                os.close(made)

    def rmdir(self, parts: list[str]) -> None:
        """Remove an empty folder."""
        self.check_change()
        with self._parent(parts) as (folder, name):
            os.rmdir(name, dir_fd=folder)

    def rename(self, old: list[str], new: list[str], *, replaces: bool) -> None:
        """Move something within the folder."""
        self.check_change()
        with self._parent(old) as (source, was), self._parent(new) as (target, name):
            if not replaces and _exists(name, target):
                raise asyncssh.SFTPFailure("it is there already")
            os.rename(was, name, src_dir_fd=source, dst_dir_fd=target)

    def symlink(self, text: bytes, parts: list[str]) -> None:
        """Make a symlink, which the job may follow; nothing out here does."""
        self.check_change()
        if not text or len(text) > limits.PATH_LENGTH_MAX:
            raise asyncssh.SFTPFailure("not a plain path")
        with self._parent(parts) as (folder, name):
            os.symlink(text, os.fsencode(name), dir_fd=folder)
            os.chown(name, self._uid, self._uid, dir_fd=folder, follow_symlinks=False)

    def readlink(self, parts: list[str]) -> bytes:
        """Say what a symlink says; whether that is anywhere is not looked at."""
        with self._parent(parts) as (folder, name):
            return os.readlink(os.fsencode(name), dir_fd=folder)

    def stat(self, parts: list[str]) -> os.stat_result:
        """Describe a file or folder; a symlink as what it is."""
        with self._parent(parts) as (folder, name):
            return os.stat(name, dir_fd=folder, follow_symlinks=False)

    # ---- paths --------------------------------------------------------------------

    def open_folder(self, parts: list[str]) -> int:
        """Open a folder, through no symlink; give its descriptor."""
        if self._is_sealed():
            raise asyncssh.SFTPPermissionDenied("this job is sealed")
        handle = os.open(self._path, _FOLDER_FLAGS)
        for name in parts:
            try:
                child = _open(name, _FOLDER_FLAGS, handle)
            finally:
                os.close(handle)
            handle = child
        return handle

    def check_change(self) -> None:
        """Refuse a change where nobody would count the disk.

        Raises:
            asyncssh.SFTPPermissionDenied: the job does not run.
        """
        if not self._may_change():
            raise asyncssh.SFTPPermissionDenied(
                "the job does not run; its folder can only be read"
            )

    @contextmanager
    def _parent(self, parts: list[str]) -> Iterator[tuple[int, str]]:
        if not parts:
            raise asyncssh.SFTPPermissionDenied("the work folder itself stays")
        handle = self.open_folder(parts[:-1])
        try:
            yield handle, parts[-1]
        finally:
            os.close(handle)


def _open(name: str, flags: int, folder: int, mode: int = 0) -> int:
    try:
        return os.open(name, flags, mode, dir_fd=folder)
    except OSError as exc:
        if exc.errno in (errno.ELOOP, errno.ENOTDIR):
            raise asyncssh.SFTPPermissionDenied(
                "a symlink, or no folder; symlinks are not followed"
            ) from None
        if exc.errno == errno.ENXIO:
            _refuse_special()
        raise


def _refuse_special() -> NoReturn:
    raise asyncssh.SFTPPermissionDenied("not a regular file") from None


def _exists(name: str, folder: int) -> bool:
    try:
        os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


def _check_time(seconds: float) -> float:
    if not 0 <= seconds < _TIME_MAX:
        raise asyncssh.SFTPFailure("not a time")
    return seconds
