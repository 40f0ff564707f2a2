"""A job's way out: opened, counted, closed, opened again by the next agent."""

import asyncio
import errno
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from sublet.base.errors import Refused
from sublet.core.egress import EgressRules, EgressTable, parse_destination
from sublet.provider.way_out import WayOut, check_wanted

ANY = parse_destination("*:*", field="x", is_owner=True)
RULES = EgressRules(allow=(ANY,), local=("127.0.0.0/8",))


@pytest.fixture
async def echo() -> AsyncIterator[int]:
    async def answer(
        reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        while content := await reader.read(65_536):
            writer.write(content)
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


async def ping(path: str, port: int) -> bytes:
    reader, writer = await asyncio.open_unix_connection(path)
    writer.write(f"CONNECT 127.0.0.1:{port} HTTP/1.1\r\n\r\nping".encode())
    try:
        return (await reader.readuntil(b"\r\n\r\n"))[9:12] + await reader.read(4)
    finally:
        writer.close()


async def test_counts_across_two_agents(tmp_path: Path, echo: int) -> None:
    wanted = (f"127.0.0.1:{echo}",)
    (tmp_path / "data").mkdir(exist_ok=True)
    first = WayOut(tmp_path, RULES)
    assert not first.is_used()
    path = await first.open(wanted)
    assert await first.open(wanted) == path
    assert await ping(path, echo) == b"200ping"
    assert (await ping(path, 1))[:3] == b"403"
    first.save()  # then the agent is killed
    (tmp_path / "data").mkdir(exist_ok=True)
    second = WayOut(tmp_path, RULES)
    assert second.is_used()
    assert await second.open(wanted) == path
    assert await ping(path, echo) == b"200ping"
    await second.close()
    table = second.table()
    (row,) = table.rows
    assert (row.connections, row.bytes_out, row.bytes_in) == (2, 8, 8)
    assert table.refused == 1
    assert len(table.salt) == 32
    assert WayOut(tmp_path, RULES).table() == table
    await first.close()


async def test_a_full_disk_costs_the_counts_only(
    tmp_path: Path, echo: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "data").mkdir(exist_ok=True)
    way_out = WayOut(tmp_path, RULES)
    path = await way_out.open((f"127.0.0.1:{echo}",))

    def fail(*_: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "open", fail)
    assert await ping(path, echo) == b"200ping"
    await way_out.close()
    monkeypatch.undo()
    assert way_out.table().rows[0].connections == 1


def test_never_used_has_no_table_on_disk(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir(exist_ok=True)
    way_out = WayOut(tmp_path, RULES)
    assert way_out.table() == EgressTable(salt=way_out.table().salt, rows=())


def test_refuses_before_anything_is_prepared() -> None:
    check_wanted((), EgressRules())
    check_wanted(("a.org:443",), RULES)
    with pytest.raises(Refused) as caught:
        check_wanted(("a.org:443", "169.254.169.254:80"), RULES)
    assert caught.value.code == "egress_forbidden"
