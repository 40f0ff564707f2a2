"""The work folder of a running job, read from afar: ``read_work``.

The provider lists it, so every name is a stranger's: only lawful paths, only regular
files and folders, within limits; what comes is chunks and a tree like any other.
"""

import stat

import asyncssh

from sublet.base import limits
from sublet.base.errors import PeerFault, Refused
from sublet.base.ids import Digest
from sublet.sdk.chunk_files import as_bytes
from sublet.sdk.job_channel import JobChannel, translate
from sublet.service.ports import Blobs
from sublet.wire.message import FileEntry, Tree
from sublet.wire.path import find_path_fault

_ROOT = "/work"


async def read_work(
    channel: JobChannel, path: str, *, blobs: Blobs, bytes_max: int
) -> Tree:
    """Copy a file or a folder of the work folder into ``blobs``; give its tree.

    Args:
        channel: to the provider.
        path: relative to the work folder; "" for all of it.
        blobs: where the chunks go.
        bytes_max: most bytes that are taken.

    Raises:
        Refused: no such file, or more than ``bytes_max``.
        PeerFault: a name that no honest provider lists.
        ChannelLost: the connection is gone.
    """
    if path and (fault := find_path_fault(path)):
        raise Refused(f"{path!r} {fault}", code="bad_path", field="path")
    sftp = await channel.open_sftp()
    reader = _Reader(sftp, blobs=blobs, bytes_left=bytes_max)
    with translate():
        await reader.read(path)
    return Tree(files=tuple(sorted(reader.files, key=lambda file: file.path)))


class _Reader:
    """One walk through a folder that a stranger shows."""

    def __init__(
        self, sftp: asyncssh.SFTPClient, *, blobs: Blobs, bytes_left: int
    ) -> None:
        self.files: list[FileEntry] = []
        self._sftp = sftp
        self._blobs = blobs
        self._bytes_left = bytes_left
        self._entries_left = limits.FILES_PER_TREE_MAX

    async def read(self, path: str) -> None:
        """Read the file or folder at this path."""
        attrs = await self._sftp.lstat(_remote(path))
        mode = attrs.permissions or 0
        if stat.S_ISDIR(mode):
            await self._read_folder(path)
        elif stat.S_ISREG(mode):
            await self._read_file(path, mode)
        # Symlinks and devices of a stranger's job are nothing to take home.

    async def _read_folder(self, path: str) -> None:
        async for entry in self._sftp.scandir(_remote(path)):
            name = str(entry.filename)
            if name in (".", ".."):
                continue
            self._entries_left -= 1
            if self._entries_left < 0:
                raise Refused("too many files; name one of them", code="too_many_files")
            if "/" in name or find_path_fault(name):
                raise PeerFault("the provider lists an unlawful name", code="bad_path")
            below = f"{path}/{name}" if path else name
            if find_path_fault(below):  # folders without end
                raise PeerFault("the provider lists an unlawful path", code="bad_path")
            await self.read(below)

    async def _read_file(self, path: str, mode: int) -> None:
        chunks: list[Digest] = []
        size = 0
        async with self._sftp.open(_remote(path), "rb") as file:
            while content := as_bytes(await file.read(limits.CHUNK_BYTES)):
                self._bytes_left -= len(content)
                if self._bytes_left < 0:
                    raise Refused("more bytes than were asked for", code="too_large")
                chunks.append(self._blobs.put(content))
                size += len(content)
                if len(content) < limits.CHUNK_BYTES:
                    break
        kept = 0o755 if mode & stat.S_IXUSR else 0o644
        self.files.append(
            FileEntry(path=path, size=size, mode=kept, chunks=tuple(chunks))
        )


def _remote(path: str) -> str:
    return f"{_ROOT}/{path}" if path else _ROOT
