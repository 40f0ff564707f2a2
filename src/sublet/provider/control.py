"""The owner's word to a running agent: a unix socket in its home, one line each way.

Only this user reaches it: it lies in a private folder. Sockets have short paths and
homes may have long ones, so it is always reached through a handle of its folder.
"""

import asyncio
import contextlib
import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

from sublet.base.errors import Unavailable

SOCKET_NAME = "agent.sock"
LINE_BYTES_MAX = 4 * 1024 * 1024
WAIT_S = 5
UNKNOWN_WORD = b'{"fault":"unknown word"}'

Answer = Callable[[str], Awaitable[bytes]]


@contextlib.asynccontextmanager
async def listen(home: Path, answer: Answer) -> AsyncIterator[None]:
    """Answer the owner while the context lasts.

    Args:
        home: the provider's folder.
        answer: takes a word and what follows it, gives one line of JSON without its
            end.
    """

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, TimeoutError, ValueError):
            async with asyncio.timeout(WAIT_S):
                word = (await reader.readline()).decode(errors="replace").strip()
                writer.write(await answer(word) + b"\n")
                await writer.drain()
        writer.close()

    with _open_place(home) as place, socket.socket(socket.AF_UNIX) as door:
        with contextlib.suppress(FileNotFoundError):
            (home / SOCKET_NAME).unlink()
        door.bind(place)
        (home / SOCKET_NAME).chmod(0o600)
        door.setblocking(False)
        server = await asyncio.start_unix_server(talk, sock=door, limit=1_024)
        try:
            yield
        finally:
            server.close()
            with contextlib.suppress(FileNotFoundError):
                (home / SOCKET_NAME).unlink()


def ask(home: Path, word: str) -> bytes:
    """Ask a running agent. Blocks.

    Raises:
        Unavailable: none runs in this home, or it does not answer.
    """
    content = bytearray()
    try:
        with _open_place(home) as place, socket.socket(socket.AF_UNIX) as line:
            line.settimeout(WAIT_S)
            line.connect(place)
            line.sendall(word.encode() + b"\n")
            while part := line.recv(65_536):
                content += part
                if len(content) > LINE_BYTES_MAX:
                    raise Unavailable("the agent says too much", code="bad_answer")
    except OSError as exc:
        raise Unavailable(
            f"no agent runs in {home}; start it with: sublet provider start",
            code="no_agent",
        ) from exc
    return bytes(content).strip()


@contextlib.contextmanager
def _open_place(home: Path) -> Iterator[str]:
    handle = os.open(home, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{handle}/{SOCKET_NAME}"
    finally:
        os.close(handle)
