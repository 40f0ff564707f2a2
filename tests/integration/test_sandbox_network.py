"""The door into a job's network: it leads to that job, and nowhere else."""

import asyncio
import contextlib
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from sublet.adapter.job_python import find_job_python
from sublet.adapter.sandbox_bubblewrap import BubblewrapSandbox
from sublet.adapter.sandbox_oci import PodmanSandbox
from sublet.base.errors import Refused
from sublet.service.ports import Sandbox
from tests.integration.test_sandbox_isolation import Cell

pytestmark = pytest.mark.sandbox

PYTHON = find_job_python().inside
PORT = 8_888
WAIT_S = 60
OWN_NETWORK = Path("/proc/self/ns/net").stat().st_ino

SERVER = f"""
import socket
door = socket.create_server(("127.0.0.1", {PORT}))
print("up", flush=True)
while True:
    caller, _ = door.accept()
    caller.sendall(b"of the job")
    caller.close()
"""

CLIENT = """
import socket, sys
try:
    caller = socket.create_connection(("127.0.0.1", int(sys.argv[1])), timeout=5)
    print(caller.recv(100).decode())
except OSError as error:
    print("shut", error)
"""


KINDS: dict[str, Callable[[], Sandbox]] = {
    "bubblewrap": BubblewrapSandbox,
    "podman": PodmanSandbox,
}


@pytest.fixture(
    params=["bubblewrap", pytest.param("podman", marks=pytest.mark.container)]
)
def cell(request: pytest.FixtureRequest, tmp_path: Path) -> Cell:
    sandbox = KINDS[request.param]()
    probe = sandbox.probe()
    if not probe.is_ok:
        pytest.skip(probe.reason)
    return Cell(tmp_path, sandbox)


async def _serve(cell: Cell, *, name: str = "job") -> Path:
    folder = cell.base / name
    spec = cell.spec(PYTHON, "-c", SERVER, stdout=str(cell.base / f"{name}.out"))
    await cell.sandbox.start(spec, folder=folder)
    said = cell.base / f"{name}.out"
    async with asyncio.timeout(WAIT_S):
        while "up" not in said.read_text():  # noqa: ASYNC110 (another process writes)
            await asyncio.sleep(0.02)
    return folder


def _networks_of_this_process() -> set[int]:
    found = set()
    for task in Path("/proc/self/task").iterdir():
        with contextlib.suppress(OSError):  # a thread that has just ended
            found.add((task / "ns/net").stat().st_ino)
    return found


async def test_never_leads_to_this_machine(cell: Cell) -> None:
    folder = await _serve(cell)
    with socket.create_server(("127.0.0.1", 0)) as door:
        door.setblocking(False)
        with pytest.raises(Refused):
            await cell.sandbox.connect(folder, port=door.getsockname()[1])
        with pytest.raises(BlockingIOError):
            door.accept()
    with socket.socket() as probe:  # and the job's port is none of this machine's
        assert probe.connect_ex(("127.0.0.1", PORT)) != 0
    # The thread that went inside has not taken this process along; the kernel needs a
    # moment to see that it has ended.
    async with asyncio.timeout(WAIT_S):
        while _networks_of_this_process() != {OWN_NETWORK}:  # noqa: ASYNC110
            await asyncio.sleep(0.02)
    await cell.sandbox.stop(folder, grace_s=0)


async def test_same_port_of_two_jobs_are_two(cell: Cell) -> None:
    first, second = await _serve(cell, name="one"), await _serve(cell, name="two")
    await cell.sandbox.stop(first, grace_s=0)
    with pytest.raises(Refused):
        await cell.sandbox.connect(first, port=PORT)
    with await cell.sandbox.connect(second, port=PORT) as caller:
        loop = asyncio.get_running_loop()
        assert await loop.sock_recv(caller, 100) == b"of the job"
    await cell.sandbox.stop(second, grace_s=0)


async def test_shell_shares_the_job_s_network_only(cell: Cell) -> None:
    folder = await _serve(cell)
    await cell.run(PYTHON, "-c", CLIENT, str(PORT), beside=str(folder))
    assert cell.said() == "of the job", cell.complained()
    await cell.run(PYTHON, "-c", CLIENT, str(PORT))  # its own network has none
    assert cell.said().startswith("shut")
    with socket.create_server(("127.0.0.1", 0)) as door:
        port = door.getsockname()[1]
        await cell.run(PYTHON, "-c", CLIENT, str(port), beside=str(folder))
        assert cell.said().startswith("shut")
    # It may not change that network, though it stands in it.
    await cell.run(PYTHON, "-c", TAKE_DOWN, beside=str(folder))
    assert cell.said() == "shut", cell.complained()
    await cell.sandbox.stop(folder, grace_s=0)


async def test_refuses_to_share_with_what_is_gone(cell: Cell) -> None:
    folder = await _serve(cell)
    await cell.sandbox.stop(folder, grace_s=0)
    with pytest.raises(Refused):
        await cell.run("true", beside=str(folder))


TAKE_DOWN = """
import fcntl, socket, struct
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as door:
    try:  # take the loopback down
        fcntl.ioctl(door, 0x8914, struct.pack("16sh14x", b"lo", 0))
        print("open")
    except OSError:
        print("shut")
"""
