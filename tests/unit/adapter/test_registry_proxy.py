"""The door to the registry: what it lets through, and what it does not."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from sublet.adapter.registry_proxy import RegistryProxy


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
    async with RegistryProxy(path=path, allow={("localhost", echo)}) as proxy:
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
        assert proxy.bytes_by_host["localhost"] > 0
    assert not path.exists()


REFUSED = {
    "a host that is not on the list": ("CONNECT evil.example:443 HTTP/1.1", "403"),
    "another port of an allowed host": ("CONNECT pypi.org:80 HTTP/1.1", "403"),
    "an address instead of a name": ("CONNECT 169.254.169.254:443 HTTP/1.1", "403"),
    "this machine": ("CONNECT localhost:22 HTTP/1.1", "403"),
    "a name that ends like an allowed one": ("CONNECT notpypi.org:443 HTTP/1.1", "403"),
    "plain HTTP": ("GET http://pypi.org/ HTTP/1.1", "405"),
    "a user in front of the host": ("CONNECT a@pypi.org:443 HTTP/1.1", "405"),
    "no port": ("CONNECT pypi.org HTTP/1.1", "405"),
    "rubbish": ("\x00\x01\x02", "405"),
}


@pytest.mark.parametrize(("line", "status"), REFUSED.values(), ids=REFUSED)
async def test_refuses_everything_else(tmp_path: Path, line: str, status: str) -> None:
    path = tmp_path / "s"
    async with RegistryProxy(path=path) as proxy:
        answer = await Client(path).ask(f"{line}\r\n\r\n")
        assert answer.split()[1] == status
        assert proxy.refused.total() == 1
        assert not proxy.bytes_by_host


async def test_refuses_a_header_without_end(tmp_path: Path) -> None:
    path = tmp_path / "s"
    async with RegistryProxy(path=path):
        answer = await Client(path).ask(
            "CONNECT pypi.org:443 HTTP/1.1\r\n" + "a" * 9_000
        )
        assert answer.split()[1] == "431"


async def test_says_when_a_host_is_away(tmp_path: Path) -> None:
    path = tmp_path / "s"
    async with RegistryProxy(path=path, allow={("127.0.0.1", 1)}) as proxy:
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
    async with RegistryProxy(path=path, allow={("localhost", echo)}) as proxy:
        client = Client(path)
        await client.connect(f"localhost:{echo}")
        await client.reader.readline()
        client.writer.write(greeting)
        assert await client.reader.read() == b""
        assert not proxy.bytes_by_host
        assert proxy.refused.total() == 1


async def test_stops_after_its_share_of_bytes(tmp_path: Path, echo: int) -> None:
    path = tmp_path / "s"
    allow = {("localhost", echo)}
    async with RegistryProxy(path=path, allow=allow, bytes_max=10_000) as proxy:
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
        assert proxy.bytes_by_host.total() > 10_000
