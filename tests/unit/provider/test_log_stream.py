"""Following a stream: from any byte, live, to its very end."""

import asyncio
from pathlib import Path

import pytest

from sublet.provider.log_stream import follow


async def _read(path: Path, offset: int, ended: asyncio.Event) -> bytes:
    return b"".join([part async for part in follow(path, offset=offset, ended=ended)])


@pytest.mark.parametrize(
    ("offset", "expected"), [(0, b"abc"), (2, b"c"), (3, b""), (99, b"")]
)
async def test_gives_an_ended_stream(
    tmp_path: Path, offset: int, expected: bytes
) -> None:
    (tmp_path / "log").write_bytes(b"abc")
    ended = asyncio.Event()
    ended.set()
    assert await _read(tmp_path / "log", offset, ended) == expected


async def test_gives_nothing_of_nothing(tmp_path: Path) -> None:
    ended = asyncio.Event()
    ended.set()
    assert await _read(tmp_path / "missing", 0, ended) == b""


async def test_follows_until_the_end(tmp_path: Path) -> None:
    path, ended = tmp_path / "log", asyncio.Event()
    reading = asyncio.create_task(_read(path, 0, ended))
    await asyncio.sleep(0)
    with path.open("ab") as file:
        file.write(b"one ")
        file.flush()
        await asyncio.sleep(0)
        file.write(b"two")
    ended.set()
    assert await reading == b"one two"


async def test_follows_no_symlink(tmp_path: Path) -> None:
    (tmp_path / "log").symlink_to("/etc/passwd")
    ended = asyncio.Event()
    ended.set()
    with pytest.raises(OSError, match="symbolic"):
        await _read(tmp_path / "log", 0, ended)
