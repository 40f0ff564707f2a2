"""What the warden reads and keeps: kernel files, folders, output streams.

Part of the warden's program (see there for what may be imported).
"""

from __future__ import annotations

import _signal as signal  # type: ignore[import-not-found]  # has no stubs
import errno
import fcntl
import os
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

HEAD_BYTES = 400  # of a stream, kept to say why a sandbox did not start
ENTRY_BYTES = 4_096  # what a name costs at least: an empty file takes an inode, too
DEPTH_MAX = 256  # folders below each other, each of which takes a descriptor
DRAIN_BYTES = 1 << 20  # taken at once of a stream that is thrown away
_BLOCK_BYTES = 65_536
_F_SETPIPE_SZ = 1_031
_FOLDER_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_KIND, _FOLDER = 0o170000, 0o040000  # as in stat.S_IFMT and stat.S_IFDIR


def write_text(path: str, text: str) -> None:
    """Write one line into a file of the kernel."""
    handle = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(handle, text.encode())
    finally:
        os.close(handle)


def read_number(path: str, key: str) -> int:
    """Read a kernel file that holds one number, or lines of a key and a number."""
    try:
        with open(path, encoding="ascii") as file:
            for line in file:
                words = line.split()
                if (words[0] == key) if key else words[0].isdigit():
                    return int(words[-1])
    except OSError:
        pass  # not every kernel has every file
    return 0


def measure_folder(folder: str, seen: set[tuple[int, int]]) -> int:
    """Add up what a folder that a hostile job fills takes of the disk.

    Nothing in it is looked up by more than one name, and no symlink is followed: the
    job may exchange what lies there at any moment.

    Raises:
        OSError: a part of it cannot be measured (hidden, or nested too deep).
    """
    total = 0
    levels: list[tuple[int, list[str]]] = []  # open folders and what is left in each
    try:
        _descend(folder, None, levels)
        while levels:
            handle, names = levels[-1]
            if not names:
                os.close(levels.pop()[0])
                continue
            name = names.pop()
            try:
                info = os.stat(name, dir_fd=handle, follow_symlinks=False)
            except FileNotFoundError:
                continue  # the job has just removed it
            if info.st_mode & _KIND == _FOLDER:
                _descend(name, handle, levels)
            elif info.st_nlink > 1:
                if (info.st_dev, info.st_ino) in seen:
                    continue
                seen.add((info.st_dev, info.st_ino))
            total += max(info.st_blocks * 512, ENTRY_BYTES)
    finally:
        for handle, _ in levels:
            os.close(handle)
    return total


def _descend(
    name: str, parent: int | None, levels: list[tuple[int, list[str]]]
) -> None:
    """Open a folder below another and list it, unless it is none any more."""
    if len(levels) >= DEPTH_MAX:
        raise OSError("folders are nested too deep to be measured")
    try:
        handle = os.open(name, _FOLDER_FLAGS, dir_fd=parent)
    except FileNotFoundError:
        return
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENOTDIR):
            return  # the job has just put something else there
        raise  # it hides what it holds
    levels.append((handle, []))
    levels[-1][1].extend(os.listdir(handle))


def measure_unlinked(
    pids: list[int], *, devices: set[int], seen: set[tuple[int, int]]
) -> int:
    """Add up files that the job removed and still holds open: no folder shows them."""
    total = 0
    for pid in pids:
        try:
            names = os.listdir(f"/proc/{pid}/fd")
        except OSError:
            continue  # it has just ended
        for name in names:
            try:
                info = os.stat(f"/proc/{pid}/fd/{name}")
            except OSError:
                continue
            key = (info.st_dev, info.st_ino)
            if info.st_nlink or info.st_dev not in devices or key in seen:
                continue
            seen.add(key)
            total += max(info.st_blocks * 512, ENTRY_BYTES)
    return total


class Cgroup:
    """The control groups of one sandbox: who is in them, what they used, their end."""

    def __init__(self, group: dict[str, Any]) -> None:
        """Take the fields of ``cgroup.Group``."""
        self.group = group
        self.memory_seen = 0  # a kernel without a peak shows only the present use

    def pids(self) -> list[int]:
        """List the processes of the sandbox, bubblewrap's own two included."""
        try:
            with open(self.group["joins"][0], encoding="ascii") as file:
                return [int(line) for line in file]
        except OSError:
            return []

    def cpu_ms(self) -> int:
        """Milliseconds of CPU time of all processes so far."""
        path, key, per_ms = self.group["cpu"]
        return read_number(path, key) // int(per_ms)

    def memory_bytes_max(self) -> int:
        """Give the largest use of memory so far."""
        self.memory_seen = max(self.memory_seen, read_number(*self.group["memory"]))
        return self.memory_seen

    def out_of_memory_kills(self) -> int:
        """Count the processes that the kernel killed for want of memory."""
        return read_number(*self.group["oom"])

    def kill(self) -> None:
        """Kill every process of the sandbox, at once where the kernel can."""
        try:
            write_text(self.group["kill"], "1")
        except OSError:
            for pid in self.pids():
                send(pid, signal.SIGKILL)

    def remove(self) -> None:
        """Remove the groups, the outer ones only where no other sandbox uses them."""
        for path in self.group["folders"]:
            for _ in range(100):
                try:
                    os.rmdir(path)
                    break
                except FileNotFoundError:
                    break
                except OSError:
                    if path in self.group["shared"]:
                        break
                    time.sleep(0.005)  # the kernel lets go of it in a moment


def send(pid: int, number: int) -> None:
    """Signal a process that may be gone already."""
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        pass


class Stream:
    """One of the job's output streams: from a pipe into a file, up to a limit."""

    def __init__(self, path: str, *, bytes_max: int) -> None:
        """Open the file for appending; what it holds already counts."""
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        self.file = os.open(path, flags, 0o600)
        self.bytes_max = bytes_max
        self.left = bytes_max - os.fstat(self.file).st_size
        self.head = b""
        self.source, self.sink = os.pipe2(os.O_CLOEXEC)
        self.nowhere = os.open("/dev/null", os.O_WRONLY | os.O_CLOEXEC)

    @property
    def is_cut(self) -> bool:
        """Say whether what comes now is thrown away."""
        return self.left < 0

    def pump(self) -> bool:
        """Move what the pipe holds; False when every writer has gone."""
        if self.is_cut:  # read on, so that the job does not block
            return os.splice(self.source, self.nowhere, DRAIN_BYTES) > 0
        content = os.read(self.source, _BLOCK_BYTES)
        self.head = (self.head + content)[:HEAD_BYTES]
        kept, self.left = content[: self.left], self.left - len(content)
        if self.left < 0:
            kept += b"\n[sublet: cut here, after %d bytes]\n" % self.bytes_max
        try:
            while kept:
                kept = kept[os.write(self.file, kept) :]
        except OSError:
            self.left = -1  # the provider's disk is full: the rest is lost
        if self.is_cut:
            self._make_room()
        return bool(content)

    def _make_room(self) -> None:
        """Let much pass at once from now on, for whoever throws it away."""
        try:
            fcntl.fcntl(self.source, _F_SETPIPE_SZ, DRAIN_BYTES)
        except OSError:
            pass  # this user's pipes are large enough together
