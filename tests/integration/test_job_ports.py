"""Servers inside a job, seen from its tenant's machine: by sublet, by OpenSSH."""

import asyncio
import json
import signal
import socket
from collections.abc import AsyncIterator

import aiohttp
import pytest
import pytest_asyncio

from sublet.base.errors import Refused
from sublet.workload.port import Forward, parse_forward
from tests.integration.test_ordinary_tools import need_tools
from tests.integration.tools_house import Tools, running_tools, sublet

pytestmark = [pytest.mark.sandbox, pytest.mark.asyncio(loop_scope="module")]

WAIT_S = 90
SERVER = """
import functools, http.server
open("page", "w").write("of the job")
handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory="/work")
server = http.server.ThreadingHTTPServer(("127.0.0.1", 8888), handler)
open("up", "w").close()
server.serve_forever()
"""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def tools(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Tools]:
    need_tools("ssh")
    folder = tmp_path_factory.mktemp("ports")
    async with running_tools(folder, program=SERVER) as found:
        yield found


async def _read_page(port: int) -> str:
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"http://127.0.0.1:{port}/page") as answer,
    ):
        return await answer.text()


def _free_port() -> int:
    with socket.socket() as made:
        made.bind(("127.0.0.1", 0))
        port: int = made.getsockname()[1]
        return port


async def _wait_open(port: int) -> None:
    async with asyncio.timeout(WAIT_S):
        while True:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                await asyncio.sleep(0.05)
            else:
                writer.close()
                return


async def test_sublet_port_shows_a_server(tools: Tools) -> None:
    words = ("port", "--json", "lab", "0:8888", "0:9")
    process = await tools.start(*sublet(words))
    try:
        assert process.stdout is not None
        assert process.stderr is not None
        async with asyncio.timeout(WAIT_S):
            rows = json.loads(await process.stdout.readline())
            assert [row["remote"] for row in rows] == [8888, 9]
            assert await _read_page(rows[0]["local"]) == "of the job"
            pages = await asyncio.gather(
                *(_read_page(rows[0]["local"]) for _ in range(40))
            )
            assert set(pages) == {"of the job"}
            reader, writer = await asyncio.open_connection(
                "127.0.0.1", rows[1]["local"]
            )
            assert await reader.read() == b""  # nobody serves it; said, once, below
            writer.close()
            assert b"nothing listens on port 9" in await process.stderr.readline()
            process.send_signal(signal.SIGINT)
            assert await process.wait() == 0
            assert await process.stderr.read() == b""
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def test_openssh_forwards_the_same(tools: Tools) -> None:
    local = _free_port()
    forward = f"{local}:localhost:8888"
    process = await tools.start(*tools.ssh(), "-NL", forward, "sublet-lab")
    try:
        await _wait_open(local)
        assert await _read_page(local) == "of the job"
    finally:
        process.kill()
        await process.wait()


async def test_an_editor_s_way_in(tools: Tools) -> None:
    """As VS Code's Remote-SSH does it: a script into bash, and a SOCKS proxy beside.

    Its server is unpacked by that script, listens in the job, and is reached by -D.
    """
    local = _free_port()
    process = await tools.start(
        *tools.ssh(), "-T", "-D", str(local), "sublet-lab", "bash"
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        process.stdin.write(
            b"mkdir -p ~/.vscode-server/bin && cd ~/.vscode-server\n"
            b"head -c 1000000 /dev/zero | tar -cf server.tar --files-from=/dev/null\n"
            b'echo "$(uname -s) $PWD listeningOn==8888=="\n'
        )
        async with asyncio.timeout(WAIT_S):
            said = await process.stdout.readline()
        assert said == b"Linux /work/.vscode-server listeningOn==8888==\n"
        await _wait_open(local)
        assert await _read_by_socks(local, "127.0.0.1", 8888) == b"of the job"
        assert await _read_by_socks(local, "localhost", 8888) == b"of the job"
        node = int(tools.house.url.rpartition(":")[2])
        assert await _read_by_socks(local, "10.255.255.1", node) is None
        process.stdin.write(b"exit 5\n")
        async with asyncio.timeout(WAIT_S):
            assert await process.wait() == 5
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def _read_by_socks(proxy: int, host: str, port: int) -> bytes | None:
    """Read the page through a SOCKS5 proxy; None where it does not connect."""
    reader, writer = await asyncio.open_connection("127.0.0.1", proxy)
    try:
        async with asyncio.timeout(WAIT_S):
            writer.write(b"\5\1\0")
            assert await reader.readexactly(2) == b"\5\0"
            name = host.encode()
            writer.write(b"\5\1\0\3" + bytes([len(name)]) + name + port.to_bytes(2))
            answer = await reader.read(10)  # nothing, where ssh gives it up
            if answer[1:2] != b"\0":
                return None
            writer.write(b"GET /page HTTP/1.0\r\n\r\n")
            return (await reader.read()).rpartition(b"\r\n\r\n")[2]
    finally:
        writer.close()


async def test_leads_to_no_other_host(tools: Tools) -> None:
    node = tools.house.url.rpartition(":")[2]
    for target in (
        f"127.0.0.1:{node}",  # of this machine, the provider's own
        "169.254.169.254:80",
        f"0.0.0.0:{node}",
        f"{socket.gethostname()}:{node}",
    ):
        said = await tools.type(*tools.ssh(), "-W", target, "sublet-lab")
        assert said.code != 0, target
        assert "open failed" in said.err, target
    flags = ("-o", "ExitOnForwardFailure=yes", "-NR", "0:localhost:1")
    said = await tools.type(*tools.ssh(), *flags, "sublet-lab")
    assert said.code != 0  # nor does anybody listen there for us


async def test_commands_see_the_job_s_ports(tools: Tools) -> None:
    script = (
        "import urllib.request as u; "
        "print(u.urlopen('http://127.0.0.1:8888/page').read().decode())"
    )
    said = await tools.type(*tools.ssh(), "sublet-lab", f'python3 -c "{script}"')
    assert said.out == b"of the job\n", said.err


EDITOR_SERVER = """
import http.server, sys
server = http.server.ThreadingHTTPServer(
    ("127.0.0.1", 0), http.server.SimpleHTTPRequestHandler
)
print("listening on", server.server_port, flush=True)
server.serve_forever()
"""


async def test_editor_s_way_works(tools: Tools) -> None:
    """What VS Code's Remote-SSH does, step by step; VS Code itself is not here.

    One long-lived ssh with a SOCKS forward and a shell on its standard input; through
    the shell a server is unpacked and started in the background; through the forward
    the editor talks to the port that it printed, on many channels.
    """
    (tools.folder / "server.py").write_text(EDITOR_SERVER)
    made = await tools.type("tar", "cf", "server.tar", "server.py")
    assert made.code == 0
    socks = _free_port()
    process = await tools.start(
        *tools.ssh(), "-T", "-D", str(socks), "sublet-lab", "bash"
    )
    try:
        assert process.stdin is not None
        assert process.stdout is not None
        copied = await tools.type(
            *tools.ssh("scp"), "-q", "server.tar", "sublet-lab:.editor.tar"
        )
        assert copied.code == 0, copied.err
        process.stdin.write(
            b"mkdir -p ~/.editor && tar xf ~/.editor.tar -C ~/.editor\n"
            b"nohup python3 ~/.editor/server.py < /dev/null > ~/.editor/log 2>&1 &\n"
            b"while ! grep -q listening ~/.editor/log; do sleep 0.1; done\n"
            b"uname -s; cat ~/.editor/log\n"
        )
        async with asyncio.timeout(WAIT_S):
            assert await process.stdout.readline() == b"Linux\n"
            port = int((await process.stdout.readline()).split()[-1])
            pages = await asyncio.gather(
                *(_get_by_socks(socks, port, "/page") for _ in range(24))
            )
        assert all(page.endswith(b"of the job") for page in pages)
        process.stdin.write(b"echo still here\n")
        async with asyncio.timeout(WAIT_S):
            assert await process.stdout.readline() == b"still here\n"
    finally:
        process.kill()
        await process.wait()


async def _get_by_socks(socks: int, port: int, path: str) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", socks)
    writer.write(b"\x05\x01\x00")
    assert await reader.readexactly(2) == b"\x05\x00"
    host = b"127.0.0.1"
    writer.write(
        b"\x05\x01\x00\x03" + bytes([len(host)]) + host + port.to_bytes(2, "big")
    )
    assert (await reader.readexactly(10))[1] == 0
    writer.write(f"GET {path} HTTP/1.0\r\n\r\n".encode())
    content = await reader.read()
    writer.close()
    return content


MISTAKES = ["", "x", "0", "8888:", "65536", "1:2:3", "-1", "８８", "8888:0", "9" * 30]


@pytest.mark.parametrize("text", MISTAKES)
async def test_refuses_what_is_no_port(text: str) -> None:
    with pytest.raises(Refused):
        parse_forward(text)


async def test_reads_ports() -> None:
    assert parse_forward("0:80") == Forward(local=0, remote=80)
