"""What every sandbox must do: one suite for the fake and the real one.

Isolation and limits, which the fake does not have: ``tests/integration``.
"""

import asyncio
import os
import signal
import socket
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from sublet.adapter.job_python import find_job_python
from sublet.adapter.sandbox_bubblewrap import BubblewrapSandbox
from sublet.adapter.sandbox_oci import GvisorSandbox, PodmanSandbox
from sublet.base.errors import Refused, Unavailable
from sublet.service.ports import Bind, Sandbox, SandboxSpec
from tests.fakes.sandbox_fake import FakeSandbox

MIB = 1 << 20


class Desk:
    """A sandbox, a place for its folders, and a short way to fill in a spec."""

    def __init__(self, make: Callable[[], Sandbox], base: Path) -> None:
        self.make = make
        self.sandbox = make()
        python = find_job_python()
        is_fake = isinstance(self.sandbox, FakeSandbox)
        self.python = python.outside if is_fake else python.inside
        self.base = base
        self.work = base / "work"
        self.work.mkdir()
        self.folder = base / "sandbox"
        self.stdout, self.stderr = base / "stdout", base / "stderr"

    def spec(self, *argv: str, **changes: object) -> SandboxSpec:
        fields: dict[str, object] = {
            "argv": argv,
            "env": {"PATH": "/usr/bin:/bin"},
            "directory": "/work",
            "binds": (Bind(str(self.work), "/work", is_writable=True),),
            "uid": 64_100,
            "memory_bytes": 256 * MIB,
            "cpus_milli": 1_000,
            "processes_max": 64,
            "tmp_bytes": 16 * MIB,
            "file_bytes_max": 64 * MIB,
            "disk_bytes": 64 * MIB,
            "watched": (str(self.work),),
            "stdout": str(self.stdout),
            "stderr": str(self.stderr),
        }
        return SandboxSpec(**{**fields, **changes})  # type: ignore[arg-type]  # a test's short way

    async def start(self, script: str, **changes: object) -> None:
        await self.sandbox.start(
            self.spec("sh", "-c", script, **changes), folder=self.folder
        )

    def has_said(self, text: str) -> bool:
        return self.stdout.exists() and text in self.stdout.read_text()

    async def said(self, text: str) -> None:
        """Wait until the job has written this to stdout."""
        async with asyncio.timeout(20):
            while not self.has_said(text):  # noqa: ASYNC110 (another process writes)
                await asyncio.sleep(0.01)


REAL = {
    "bubblewrap": pytest.mark.sandbox,
    "podman": pytest.mark.container,
    "gvisor": pytest.mark.container,
}


@pytest.fixture(
    params=["fake", *(pytest.param(name, marks=mark) for name, mark in REAL.items())]
)
def desk(request: pytest.FixtureRequest, tmp_path: Path) -> Desk:
    makers: dict[str, Callable[[], Sandbox]] = {
        "fake": FakeSandbox,
        "bubblewrap": BubblewrapSandbox,
        "podman": PodmanSandbox,
        "gvisor": GvisorSandbox,
    }
    return Desk(makers[request.param], tmp_path)


EXITS = {
    "success": ("exit 0", 0),
    "its own code": ("exit 7", 7),
    "killed by a signal": ("kill -SEGV $$", 128 + signal.SIGSEGV),
    "killed itself": ("kill -KILL $$", 128 + signal.SIGKILL),
}


@pytest.mark.parametrize(("script", "code"), EXITS.values(), ids=EXITS)
async def test_gives_the_exit_code(desk: Desk, script: str, code: int) -> None:
    await desk.start(script)
    state = await desk.sandbox.wait_ended(desk.folder)
    assert (state.phase, state.exit_code, state.reason) == ("ended", code, "exited")


async def test_output_is_complete_when_ended(desk: Desk) -> None:
    await desk.start("seq 1 200000; echo trouble >&2")
    await desk.sandbox.wait_ended(desk.folder)
    assert desk.stdout.read_text().splitlines()[-1] == "200000"
    assert desk.stderr.read_text() == "trouble\n"


async def test_output_is_appended(desk: Desk) -> None:
    desk.stdout.write_text("before\n")
    await desk.start("echo after")
    await desk.sandbox.wait_ended(desk.folder)
    assert desk.stdout.read_text() == "before\nafter\n"


async def test_output_is_cut_with_a_note(desk: Desk) -> None:
    await desk.start("seq 1 100000", log_bytes_max=1_000)
    state = await desk.sandbox.wait_ended(desk.folder)
    kept = desk.stdout.read_text()
    assert state.exit_code == 0  # the job was not blocked
    assert kept.startswith("1\n2\n")
    assert "cut here, after 1000 bytes" in kept
    assert len(kept) < 1_100


async def test_short_output_is_not_cut(desk: Desk) -> None:
    await desk.start("printf 12345", log_bytes_max=5)
    await desk.sandbox.wait_ended(desk.folder)
    assert desk.stdout.read_text() == "12345"


async def test_environment_is_the_one_given(desk: Desk) -> None:
    os.environ["SUBLET_TEST_SECRET"] = "of the agent"
    try:
        await desk.start('echo "[$NAME][$SUBLET_TEST_SECRET]"', env={"NAME": "a b\nc"})
        await desk.sandbox.wait_ended(desk.folder)
    finally:
        del os.environ["SUBLET_TEST_SECRET"]
    assert desk.stdout.read_text() == "[a b\nc][]\n"


async def test_works_in_its_directory(desk: Desk) -> None:
    (desk.work / "input").write_text("given")
    await desk.start("cat input > output; mkdir deep; echo x > deep/file")
    await desk.sandbox.wait_ended(desk.folder)
    assert (desk.work / "output").read_text() == "given"
    assert (desk.work / "deep/file").read_text() == "x\n"


async def test_reads_nothing_from_stdin(desk: Desk) -> None:
    await desk.start("cat; echo done")
    await desk.sandbox.wait_ended(desk.folder)
    assert desk.stdout.read_text() == "done\n"


async def test_state_shows_it_running(desk: Desk) -> None:
    before = int(time.time())
    await desk.start("echo up; sleep 60")
    await desk.said("up")
    state = desk.sandbox.read_state(desk.folder)
    assert (state.phase, state.reason, state.exit_code) == ("running", "", 0)
    assert before <= state.started_at_s <= time.time()
    await desk.sandbox.stop(desk.folder, grace_s=0)


async def test_counts_the_time_it_ran(desk: Desk) -> None:
    begun = time.monotonic()
    await desk.start("sleep 0.3")
    state = await desk.sandbox.wait_ended(desk.folder)
    assert 300 <= state.ran_ms <= (time.monotonic() - begun) * 1_000


async def test_stop_lets_it_say_goodbye(desk: Desk) -> None:
    await desk.start(
        "trap 'echo bye; exit 3' TERM; echo up; while :; do sleep 0.1; done"
    )
    await desk.said("up")
    state = await desk.sandbox.stop(desk.folder, grace_s=20)
    assert (state.exit_code, state.reason) == (3, "stopped")
    assert desk.stdout.read_text().endswith("bye\n")


async def test_stop_kills_after_the_grace(desk: Desk) -> None:
    await desk.start("trap '' TERM; echo up; while :; do sleep 0.1; done")
    await desk.said("up")
    state = await desk.sandbox.stop(desk.folder, grace_s=1)
    assert (state.exit_code, state.reason) == (137, "stopped")


async def test_stop_twice_is_harmless(desk: Desk) -> None:
    await desk.start("echo up; sleep 60")
    await desk.said("up")
    first, second = await asyncio.gather(
        desk.sandbox.stop(desk.folder, grace_s=5),
        desk.sandbox.stop(desk.folder, grace_s=5),
    )
    assert first == second == await desk.sandbox.stop(desk.folder, grace_s=5)


async def test_shorter_grace_wins(desk: Desk) -> None:
    await desk.start("trap '' TERM; echo up; while :; do sleep 0.1; done")
    await desk.said("up")
    patient = asyncio.create_task(desk.sandbox.stop(desk.folder, grace_s=600))
    await asyncio.sleep(0)
    state = await desk.sandbox.stop(desk.folder, grace_s=0)
    assert await patient == state


async def test_stop_after_the_end_changes_nothing(desk: Desk) -> None:
    await desk.start("exit 4")
    ended = await desk.sandbox.wait_ended(desk.folder)
    assert await desk.sandbox.stop(desk.folder, grace_s=0) == ended


async def test_its_kin_die_with_it(desk: Desk) -> None:
    await desk.start(
        "(trap '' TERM HUP; sleep 60; echo late >> late) & echo up; exit 0"
    )
    state = await desk.sandbox.wait_ended(desk.folder)
    assert state.reason == "exited"  # and did not wait for the child's sleep
    assert state.ran_ms < 50_000
    assert not (desk.work / "late").exists()


async def test_ends_at_its_timeout(desk: Desk) -> None:
    await desk.start("sleep 60", timeout_s=1)
    state = await desk.sandbox.wait_ended(desk.folder)
    assert state.reason == "timeout"
    assert state.ran_ms >= 1_000


async def test_ends_when_its_disk_is_full(desk: Desk) -> None:
    await desk.start("head -c 3000000 /dev/zero > big; sleep 60", disk_bytes=MIB)
    state = await desk.sandbox.wait_ended(desk.folder)
    assert state.reason == "disk_full"


async def test_ends_when_nobody_wants_it(desk: Desk) -> None:
    await desk.start("echo up; sleep 60", orphan_s=1)
    async with asyncio.timeout(20):
        state_file = desk.folder / "state.json"
        # A look at the file does not count as somebody who wants it.
        while '"ended"' not in state_file.read_text():  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    assert desk.sandbox.read_state(desk.folder).reason == "stopped"


async def test_who_waits_keeps_it_alive(desk: Desk) -> None:
    await desk.start("sleep 2.5", orphan_s=1)
    state = await desk.sandbox.wait_ended(desk.folder)
    assert state.reason == "exited"


async def test_is_found_again_by_another(desk: Desk) -> None:
    await desk.start("echo up; sleep 60")
    await desk.said("up")
    restarted = desk.make()
    assert restarted.read_state(desk.folder).phase == "running"
    state = await restarted.stop(desk.folder, grace_s=0)
    assert await desk.sandbox.wait_ended(desk.folder) == state


async def test_refuses_to_read_what_never_started(desk: Desk) -> None:
    with pytest.raises(Refused):
        desk.sandbox.read_state(desk.folder)


async def test_refuses_a_used_folder(desk: Desk) -> None:
    await desk.start("exit 0")
    with pytest.raises(Refused):
        await desk.start("exit 0")
    state = await desk.sandbox.wait_ended(desk.folder)  # the first one is untouched
    assert state.exit_code == 0


async def test_refuses_an_empty_command(desk: Desk) -> None:
    with pytest.raises(Refused):
        await desk.sandbox.start(desk.spec(), folder=desk.folder)
    with pytest.raises(Refused):
        desk.sandbox.read_state(desk.folder)


SERVER = """
import socket
door = socket.create_server(("127.0.0.1", 0))
print("port", door.getsockname()[1], flush=True)
while True:
    caller, _ = door.accept()
    caller.sendall(b"inside:" + caller.recv(100))
    caller.close()
"""


async def _wait_port(desk: Desk) -> int:
    await desk.said("\n")
    return int(desk.stdout.read_text().split()[1])


async def test_connects_to_a_port_inside(desk: Desk) -> None:
    if desk.sandbox.name == "gvisor":  # and says so
        await desk.start("echo up; sleep 60")
        with pytest.raises(Unavailable) as error:
            await desk.sandbox.connect(desk.folder, port=8_888)
        assert error.value.code == "no_port_forwarding"
        await desk.sandbox.stop(desk.folder, grace_s=0)
        with pytest.raises(Refused):
            await desk.sandbox.connect(desk.folder, port=8_888)
        return
    await desk.sandbox.start(desk.spec(desk.python, "-c", SERVER), folder=desk.folder)
    port = await _wait_port(desk)
    loop = asyncio.get_running_loop()
    for _ in range(3):
        with await desk.sandbox.connect(desk.folder, port=port) as caller:
            await loop.sock_sendall(caller, b"hello")
            assert await loop.sock_recv(caller, 100) == b"inside:hello"
    await desk.sandbox.stop(desk.folder, grace_s=0)
    with pytest.raises(Refused):
        await desk.sandbox.connect(desk.folder, port=port)


async def test_refuses_a_port_that_nobody_serves(desk: Desk) -> None:
    with socket.create_server(("127.0.0.1", 0)) as door:
        free = door.getsockname()[1]
    await desk.start("echo up; sleep 60")
    await desk.said("up")
    with pytest.raises((Refused, Unavailable)):
        await desk.sandbox.connect(desk.folder, port=free)
    await desk.sandbox.stop(desk.folder, grace_s=0)
    with pytest.raises(Refused):
        await desk.sandbox.connect(desk.base / "never", port=free)
