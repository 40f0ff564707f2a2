"""The way out of a sandbox: what it lets through, and what it does not."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from sublet.adapter.egress_proxy import EgressProxy
from sublet.base import limits
from sublet.base.errors import Unavailable
from sublet.core.egress import (
    Destination,
    EgressRow,
    find_address_fault,
    parse_destination,
)


def hello(name: str) -> bytes:
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    context = ssl.create_default_context()
    connection = context.wrap_bio(incoming, outgoing, server_hostname=name)
    with pytest.raises(ssl.SSLWantReadError):
        connection.do_handshake()
    return outgoing.read()


@pytest.fixture
async def echo() -> AsyncIterator[int]:
    """A server on this machine that sends back what it gets; gives its port."""

    async def answer(
        reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        while content := await reader.read(65_536):
            writer.write(content)
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


def tls_proxy(path: Path, port: int, **changes: Any) -> EgressProxy:
    allow = [Destination("localhost", port)]
    return EgressProxy(path=path, allow=allow, tls_ports=[port], **changes)


class Client:
    """One connection through the proxy, in steps."""

    def __init__(self, path: Path) -> None:
        self.path = path

    async def ask(self, request: str) -> str:
        self.reader, self.writer = await asyncio.open_unix_connection(self.path)
        self.writer.write(request.encode())
        return (await self.reader.readline()).decode().strip()

    async def connect(self, target: str) -> str:
        return await self.ask(f"CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n")


async def test_carries_bytes_to_an_allowed_host(tmp_path: Path, echo: int) -> None:
    path = tmp_path / "s"
    async with tls_proxy(path, echo) as proxy:
        client = Client(path)
        assert await client.connect(f"LOCALHOST:{echo}") == (
            "HTTP/1.1 200 Connection established"
        )
        await client.reader.readline()
        greeting = hello("localhost")
        client.writer.write(greeting + b"and more")
        expected = greeting + b"and more"
        assert await client.reader.readexactly(len(expected)) == expected
        client.writer.close()
        size = len(expected)
    row = EgressRow(f"localhost:{echo}", 1, bytes_out=size, bytes_in=size)
    assert proxy.rows() == (row,)
    assert not path.exists()


REFUSED = {
    "a host that is not on the list": ("CONNECT evil.example:443 HTTP/1.1", "403"),
    "another port of an allowed host": ("CONNECT pypi.org:80 HTTP/1.1", "403"),
    "an address instead of a name": ("CONNECT 169.254.169.254:443 HTTP/1.1", "403"),
    "this machine": ("CONNECT localhost:22 HTTP/1.1", "403"),
    "a name that ends like an allowed one": ("CONNECT notpypi.org:443 HTTP/1.1", "403"),
    "plain HTTP": ("GET http://pypi.org/ HTTP/1.1", "403"),
    "a user in front of the host": ("CONNECT a@pypi.org:443 HTTP/1.1", "403"),
    "no port": ("CONNECT pypi.org HTTP/1.1", "403"),
    "rubbish": ("\x00\x01\x02", "405"),
}


@pytest.mark.parametrize(("line", "status"), REFUSED.values(), ids=REFUSED)
async def test_refuses_everything_else(tmp_path: Path, line: str, status: str) -> None:
    path = tmp_path / "s"
    async with EgressProxy(path=path) as proxy:
        answer = await Client(path).ask(f"{line}\r\n\r\n")
        assert answer.split()[1] == status
        assert proxy.refused.total() == 1
        assert not proxy.rows()


async def test_refuses_a_header_without_end(tmp_path: Path) -> None:
    path = tmp_path / "s"
    async with EgressProxy(path=path):
        answer = await Client(path).ask(
            "CONNECT pypi.org:443 HTTP/1.1\r\n" + "a" * 20_000
        )
        assert answer.split()[1] == "431"


async def test_says_when_a_host_is_away(tmp_path: Path) -> None:
    path = tmp_path / "s"
    async with EgressProxy(path=path, allow={Destination("127.0.0.1", 1)}) as proxy:
        answer = await Client(path).connect("127.0.0.1:1")
        assert answer.split()[1] == "502"
        assert proxy.failures == 1


HELLOS = {
    "another name behind an allowed host": hello("evil.example"),
    "no TLS at all": b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
}


@pytest.mark.parametrize("greeting", HELLOS.values(), ids=HELLOS)
async def test_cuts_who_asks_for_another_name(
    tmp_path: Path, echo: int, greeting: bytes
) -> None:
    path = tmp_path / "s"
    async with tls_proxy(path, echo) as proxy:
        client = Client(path)
        await client.connect(f"localhost:{echo}")
        await client.reader.readline()
        client.writer.write(greeting)
        assert await client.reader.read() == b""
        assert [row.bytes_out + row.bytes_in for row in proxy.rows()] == [0]
        assert proxy.refused.total() == 1


async def test_stops_after_its_share_of_bytes(tmp_path: Path, echo: int) -> None:
    path = tmp_path / "s"
    async with tls_proxy(path, echo, bytes_max=10_000) as proxy:
        client = Client(path)
        await client.connect(f"localhost:{echo}")
        await client.reader.readline()
        client.writer.write(hello("localhost") + bytes(50_000))
        received = await client.reader.read(1 << 20)
        while more := await client.reader.read(1 << 20):
            received += more
        assert len(received) < 50_000
        second = await Client(path).connect(f"localhost:{echo}")
        assert second.split()[1] == "403"
        assert sum(row.bytes_out + row.bytes_in for row in proxy.rows()) > 10_000


# ---- what else a job's tools speak -------------------------------------------------


def open_proxy(path: Path, *allow: str, **changes: Any) -> EgressProxy:
    wanted = [parse_destination(text, field="test", is_owner=True) for text in allow]
    return EgressProxy(path=path, allow=wanted, **changes)


async def test_carries_one_plain_request(tmp_path: Path, echo: int) -> None:
    path = tmp_path / "s"
    async with open_proxy(path, f"localhost:{echo}"):
        client = Client(path)
        first = await client.ask(
            f"POST http://localhost:{echo}/a?b HTTP/1.1\r\nHost: evil.example\r\n"
            "Proxy-Authorization: x\r\nContent-Length: 2\r\nX: y\r\n\r\n"
            "okGET /b HTTP/1.1\r\nHost: evil.example\r\n\r\n"
        )
        assert first == "POST /a?b HTTP/1.1"
        rest = await client.reader.readuntil(b"ok")
        assert (
            rest
            == (
                f"Host: localhost:{echo}\r\nContent-Length: 2\r\nX: y\r\n"
                "Connection: close\r\n\r\nok"
            ).encode()
        )
        with pytest.raises(TimeoutError):  # no word of the second request comes through
            async with asyncio.timeout(0.3):
                await client.reader.readexactly(1)


async def test_carries_socks(tmp_path: Path, echo: int) -> None:
    path = tmp_path / "s"
    async with open_proxy(path, f"localhost:{echo}"):
        reader, writer = await asyncio.open_unix_connection(path)
        writer.write(b"\x05\x01\x00")
        assert await reader.readexactly(2) == b"\x05\x00"
        writer.write(b"\x05\x01\x00\x03\x09localhost" + echo.to_bytes(2, "big"))
        assert (await reader.readexactly(10))[:2] == b"\x05\x00"
        writer.write(b"SSH-2.0-x")
        assert await reader.readexactly(9) == b"SSH-2.0-x"
        writer.close()


SOCKS = {
    "a name that was not agreed on": (b"\x05\x01\x00\x03\x04evil\x00\x16", 2),
    "the metadata address": (b"\x05\x01\x00\x01\xa9\xfe\xa9\xfe\x00\x50", 2),
    "this machine": (b"\x05\x01\x00\x04" + bytes(15) + b"\x01\x00\x16", 2),
    "a server": (b"\x05\x02\x00\x03\x04evil\x00\x16", 7),
}


@pytest.mark.parametrize(("request_", "code"), SOCKS.values(), ids=SOCKS)
async def test_refuses_socks(tmp_path: Path, request_: bytes, code: int) -> None:
    path = tmp_path / "s"
    async with open_proxy(path, "example.org:443"):
        reader, writer = await asyncio.open_unix_connection(path)
        writer.write(b"\x05\x01\x00" + request_)
        assert (await reader.readexactly(12))[3] == code
        writer.close()


@pytest.mark.parametrize("words", [b"\x05\x01\x02", b"\x05\x01\x00\x05\x01\x00\x09"])
async def test_hangs_up_on_strange_socks(tmp_path: Path, words: bytes) -> None:
    path = tmp_path / "s"
    async with open_proxy(path, "example.org:443") as proxy:
        reader, writer = await asyncio.open_unix_connection(path)
        writer.write(words)
        await reader.read()
        assert proxy.refused.total() == 1
        writer.close()


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "[::1]"])
async def test_a_name_cannot_lead_home(tmp_path: Path, echo: int, host: str) -> None:
    """Whatever a name's server says: the address that comes out is what counts."""
    path = tmp_path / "s"

    def judge(address: str) -> str:
        return find_address_fault(address, local=(), own=())

    async with open_proxy(path, "*:*", find_address_fault=judge) as proxy:
        answer = await Client(path).connect(f"{host}:{echo}")
        assert answer.split()[1] == "403"
        assert not proxy.rows()
        (reason,) = proxy.refused
        assert "not public" in reason


async def test_the_owner_forbids(tmp_path: Path, echo: int) -> None:
    path = tmp_path / "s"
    async with open_proxy(
        path, "*:*", find_fault=lambda target: "is forbidden"
    ) as proxy:
        answer = await Client(path).connect(f"localhost:{echo}")
        assert answer.split()[1] == "403"
        assert proxy.refused == {f"localhost:{echo} is forbidden": 1}


async def test_too_many_connections_at_once(tmp_path: Path, echo: int) -> None:
    path = tmp_path / "s"
    async with open_proxy(path, f"localhost:{echo}", connections_max=2):
        clients = [Client(path) for _ in range(3)]
        answers = [await one.connect(f"localhost:{echo}") for one in clients]
        assert [answer.split()[1] for answer in answers] == ["200", "200", "429"]
        clients[0].writer.close()
        async with asyncio.timeout(60):
            answer = "429"
            while answer == "429":  # nobody tells us that a place is free
                answer = (await Client(path).connect(f"localhost:{echo}")).split()[1]
        assert answer == "200"


async def test_goes_on_counting_where_another_stopped(
    tmp_path: Path, echo: int
) -> None:
    path = tmp_path / "s"
    name = f"localhost:{echo}"
    rows = (EgressRow("gone.example:443", 1, 2, 3), EgressRow(name, 1, 10, 10))
    async with open_proxy(path, name, rows=rows, bytes_max=100) as proxy:
        client = Client(path)
        await client.connect(name)
        await client.reader.readline()
        client.writer.write(b"12345")
        await client.reader.readexactly(5)
        assert proxy.rows() == (rows[0], EgressRow(name, 2, 15, 15))


async def test_many_names_share_a_row(
    tmp_path: Path, echo: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "EGRESS_ROWS_MAX", 2)
    path = tmp_path / "s"
    async with open_proxy(path, f"*:{echo}") as proxy:
        for host in ("localhost", "127.0.0.1", "127.0.0.2"):
            await Client(path).connect(f"{host}:{echo}")
        assert [row.destination for row in proxy.rows()] == [
            f"*:{echo}",
            f"localhost:{echo}",
        ]


async def test_keeps_to_its_rate(tmp_path: Path, echo: int) -> None:
    path = tmp_path / "s"
    loop = asyncio.get_running_loop()
    async with open_proxy(path, f"localhost:{echo}", rate_bytes_s=2 << 20):
        client = Client(path)
        await client.connect(f"localhost:{echo}")
        await client.reader.readline()
        begun_s = loop.time()
        client.writer.write(bytes(2 << 20))
        await client.reader.readexactly(2 << 20)
        # 4 MiB, both ways; 2 at once, the rest within a second.
        assert loop.time() - begun_s > 0.8
        client.writer.close()


async def test_listens_under_a_long_path(tmp_path: Path) -> None:
    folder = tmp_path / ("x" * 120)
    folder.mkdir()
    async with open_proxy(folder / "s", "example.org:443"):
        assert (folder / "s").is_socket()
    with pytest.raises(Unavailable, match="cannot listen"):
        async with open_proxy(folder / "none" / "s", "example.org:443"):
            pass
