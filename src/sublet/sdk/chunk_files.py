"""Chunks as files of an SFTP session, in the sizes at which it is fast.

Each SSH packet costs its turn through Python at both ends, whatever its size. So
packets and requests are large; the cipher and the hash are in C and cost little.
"""

import asyncio

import asyncssh
from asyncssh.sftp import start_sftp_client
from blake3 import blake3

from sublet.base import limits
from sublet.base.errors import PeerFault
from sublet.base.ids import Digest
from sublet.service.ports import Blobs

WINDOW_BYTES = 8 * 1024 * 1024  # that a provider may send ahead of what is read here
PACKET_BYTES_MAX = 255 * 1024  # OpenSSH takes no packet of more than 256 KiB
REQUEST_BYTES = 1024 * 1024  # of a chunk in one request; all of a chunk's at once
_VERSION = 3


async def start_sftp(connection: asyncssh.SSHClientConnection) -> asyncssh.SFTPClient:
    """Start a session; asyncssh's own ``start_sftp_client`` takes no sizes."""
    writer, reader, _ = await connection.open_session(
        subsystem="sftp",
        encoding=None,
        window=WINDOW_BYTES,
        max_pktsize=PACKET_BYTES_MAX,
    )
    loop = asyncio.get_running_loop()
    return await start_sftp_client(
        connection, loop, "strict", reader, writer, "utf-8", "strict", _VERSION
    )


async def write_chunk(sftp: asyncssh.SFTPClient, key: Digest, content: bytes) -> None:
    """Send one chunk."""
    async with sftp.open(_place(key), "wb", block_size=REQUEST_BYTES) as file:
        await file.write(content)


async def read_chunk(sftp: asyncssh.SFTPClient, key: Digest) -> bytes:
    """Fetch one chunk, as yet unchecked."""
    async with sftp.open(_place(key), "rb", block_size=REQUEST_BYTES) as file:
        return as_bytes(await file.read(limits.CHUNK_BYTES + 1))


def keep_chunk(content: bytes, key: Digest, *, blobs: Blobs) -> None:
    """Check a chunk against its name, and keep it. Blocks.

    Raises:
        PeerFault: it is something else.
        Unavailable: the local disk is full.
    """
    check_chunk(content, key)
    blobs.put(content)


def check_chunk(content: bytes, key: Digest) -> None:
    """Check a chunk against its name.

    Raises:
        PeerFault: it is something else.
    """
    if "0x" + blake3(content).hexdigest() != key:
        raise PeerFault(
            f"the provider sent other bytes than chunk {key[:18]}… holds",
            code="bad_chunk",
            detail={"chunk": key},
        )


def as_bytes(content: bytes | str) -> bytes:
    """Give bytes: asyncssh's types cannot say that a file was opened in binary."""
    return content if isinstance(content, bytes) else content.encode()


def _place(key: Digest) -> str:
    return f"/chunks/{key[2:]}"
