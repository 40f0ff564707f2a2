"""What the warden reads and keeps: kernel files, folders, output streams.

Part of the warden's program (see there for what may be imported).
"""

from __future__ import annotations

import _signal as signal  # type: ignore[import-not-found]  # has no stubs
import os
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

HEAD_BYTES = 400  # of a stream, kept to say why a sandbox did not start
_BLOCK_BYTES = 65_536


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
    """Add up the blocks of a folder that a hostile job fills; follows no symlink.

    Raises:
        OSError: a part of it cannot be measured (hidden, or nested too deep).
    """
    total = 0
    waiting = [folder]
    while waiting:
        try:
            with os.scandir(waiting.pop()) as entries:
                for entry in entries:
                    info = entry.stat(follow_symlinks=False)
                    if entry.is_dir(follow_symlinks=False):
                        waiting.append(entry.path)
                    elif info.st_nlink > 1:
                        if (info.st_dev, info.st_ino) in seen:
                            continue
                        seen.add((info.st_dev, info.st_ino))
                    total += info.st_blocks * 512
        except (FileNotFoundError, NotADirectoryError):
            continue  # the job has just removed it
    return total


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
            total += info.st_blocks * 512
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

    def pump(self) -> bool:
        """Move what the pipe holds; False when every writer has gone."""
        content = os.read(self.source, _BLOCK_BYTES)
        self.head = (self.head + content)[:HEAD_BYTES]
        if self.left < 0:
            return bool(content)  # cut: read on, so that the job does not block
        kept, self.left = content[: self.left], self.left - len(content)
        if self.left < 0:
            kept += b"\n[sublet: cut here, after %d bytes]\n" % self.bytes_max
        try:
            while kept:
                kept = kept[os.write(self.file, kept) :]
        except OSError:
            self.left = -1  # the provider's disk is full: the rest is lost
        return bool(content)
