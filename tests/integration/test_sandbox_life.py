"""Agents that die, wardens that die, Ctrl-C: what becomes of the job, really.

The agent is a process of its own here, in a process group of its own, so that it can
be killed the way that a machine kills it.
"""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest

from sublet.adapter.cgroup import Group
from sublet.adapter.sandbox_bubblewrap import BubblewrapSandbox
from sublet.adapter.sandbox_oci import GvisorSandbox, PodmanSandbox
from sublet.adapter.sandbox_warden import WardenSandbox

pytestmark = pytest.mark.sandbox

SECRET = "correct-horse-battery-staple"
AGENT = """
import asyncio, sys
from pathlib import Path
from sublet.adapter.sandbox_bubblewrap import BubblewrapSandbox
from sublet.adapter.sandbox_oci import GvisorSandbox, PodmanSandbox
from sublet.service.ports import Bind, SandboxSpec

async def main():
    base = Path(sys.argv[1])
    sandbox = globals()[sys.argv[4]]()
    await sandbox.start(SandboxSpec(
        argv=("sh", "-c", sys.argv[2]), env={"PATH": "/usr/bin:/bin", "TOKEN": sys.argv[3]},
        directory="/work", binds=(Bind(str(base / "work"), "/work", True),), uid=64_400,
        memory_bytes=1 << 28, cpus_milli=1000, processes_max=32, tmp_bytes=1 << 20,
        file_bytes_max=1 << 20, disk_bytes=1 << 20, watched=(str(base / "work"),),
        stdout=str(base / "stdout"), stderr=str(base / "stderr"), orphan_s=60,
    ), folder=base / "sandbox")
    print("started", flush=True)
    await asyncio.sleep(600)

try:
    asyncio.run(main())
except KeyboardInterrupt:
    print("interrupted", flush=True)
    signal = __import__("signal")
    signal.pause()
"""


class Agent:
    """A process that has started one sandbox."""

    def __init__(self, base: Path, program: str, kind: type[WardenSandbox]) -> None:
        self.base = base
        (base / "work").mkdir()
        self.process = subprocess.Popen(
            [sys.executable, "-c", AGENT, str(base), program, SECRET, kind.__name__],
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self.hear("started")
        self.sandbox = kind()  # of the agent that comes after it
        self.folder = base / "sandbox"
        raw = (self.folder / "cgroup.json").read_bytes()
        self.group = msgspec.json.decode(raw, type=Group)

    def hear(self, word: str) -> None:
        assert self.process.stdout is not None
        assert self.process.stdout.readline().strip() == word

    def jobs(self) -> list[int]:
        """List the processes in the sandbox's control group."""
        try:
            return [int(pid) for pid in Path(self.group.joins[0]).read_text().split()]
        except OSError:
            return []

    def warden(self) -> int:
        return self.sandbox.read_state(self.folder).pid


@pytest.fixture(
    params=[
        BubblewrapSandbox,
        pytest.param(PodmanSandbox, marks=pytest.mark.container),
        pytest.param(GvisorSandbox, marks=pytest.mark.container),
    ]
)
def start(
    request: pytest.FixtureRequest, tmp_path: Path
) -> Iterator[Callable[[str], Agent]]:
    agents = []

    def make(program: str) -> Agent:
        agents.append(Agent(tmp_path, program, request.param))
        return agents[-1]

    yield make
    for agent in agents:
        agent.process.kill()
        agent.process.wait()
        assert agent.process.stdout is not None
        agent.process.stdout.close()
        asyncio.run(agent.sandbox.stop(agent.folder, grace_s=0))


def wait_until(condition: Callable[[], bool]) -> None:
    """Look again until it is so; fails after 20 s."""
    until = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < until, "it never came"
        time.sleep(0.01)


def test_job_outlives_its_agent(start: Callable[[str], Agent]) -> None:
    agent = start("sleep 60")
    agent.process.kill()
    agent.process.wait()
    assert agent.sandbox.read_state(agent.folder).phase == "running"
    state = asyncio.run(agent.sandbox.stop(agent.folder, grace_s=10))
    assert (state.phase, state.reason) == ("ended", "stopped")
    assert agent.jobs() == []


def test_restarted_agent_hears_the_end(start: Callable[[str], Agent]) -> None:
    agent = start("while [ ! -e go ]; do sleep 0.05; done; exit 9")
    agent.process.kill()
    agent.process.wait()

    async def watch() -> int:
        waiting = asyncio.create_task(agent.sandbox.wait_ended(agent.folder))
        await asyncio.sleep(0)
        (agent.base / "work/go").touch()
        return (await waiting).exit_code

    assert asyncio.run(watch()) == 9


def test_killing_the_group_kills_the_job(start: Callable[[str], Agent]) -> None:
    agent = start("trap '' HUP TERM INT; touch up; sleep 60")
    wait_until((agent.base / "work/up").exists)
    assert len(agent.jobs()) >= 3  # bubblewrap twice, and the shell
    os.killpg(agent.process.pid, signal.SIGKILL)
    wait_until(lambda: not agent.jobs())
    state = agent.sandbox.read_state(agent.folder)  # the next agent finds out
    assert (state.phase, state.reason, state.exit_code) == ("ended", "failed", 137)
    assert not any(Path(folder).exists() for folder in agent.group.folders[:1])


def test_ctrl_c_reaches_the_agent_alone(start: Callable[[str], Agent]) -> None:
    agent = start("while [ ! -e go ]; do sleep 0.05; done; exit 9")
    os.killpg(agent.process.pid, signal.SIGINT)
    agent.hear("interrupted")
    assert agent.sandbox.read_state(agent.folder).phase == "running"
    (agent.base / "work/go").touch()
    state = asyncio.run(agent.sandbox.wait_ended(agent.folder))
    assert (state.reason, state.exit_code) == ("exited", 9)


def test_job_dies_with_its_warden(start: Callable[[str], Agent]) -> None:
    agent = start("trap '' TERM; sleep 60")
    os.kill(agent.warden(), signal.SIGKILL)
    state = asyncio.run(agent.sandbox.wait_ended(agent.folder))
    assert (state.phase, state.reason) == ("ended", "failed")
    assert agent.jobs() == []
    # And it stays so: the next look finds the same.
    assert agent.sandbox.read_state(agent.folder) == state


def test_secrets_stay_off_the_disk(start: Callable[[str], Agent]) -> None:
    agent = start('[ -n "$TOKEN" ] && touch has-it; sleep 60')
    wait_until((agent.base / "work/has-it").exists)
    for path in agent.base.rglob("*"):
        if path.is_file():
            assert SECRET not in path.read_text(errors="replace"), path
    for pid in (agent.warden(), *agent.jobs()):
        assert SECRET not in Path(f"/proc/{pid}/cmdline").read_text()


def test_nothing_is_left_behind(start: Callable[[str], Agent]) -> None:
    agent = start("sleep 0.1 & sleep 0.2")
    pids = [*agent.jobs(), agent.warden()]
    asyncio.run(agent.sandbox.wait_ended(agent.folder))
    wait_until(lambda: not Path(f"/proc/{pids[-1]}/exe").exists())
    job = [path for path in agent.group.folders if path not in agent.group.shared]
    assert not any(Path(path).exists() for path in job)
    assert (agent.folder / "warden.log").read_text() == ""


def test_probe_finds_it_working() -> None:
    assert BubblewrapSandbox().probe().is_ok


def test_probe_names_the_cure() -> None:
    probe = BubblewrapSandbox(program="/nowhere/bwrap").probe()
    assert not probe.is_ok
    assert "apt install bubblewrap" in probe.reason


BROKEN = {
    "that always fails": "#!/bin/sh\necho no namespaces here >&2; exit 1\n",
    "that isolates nothing": "#!/bin/sh\nexec sleep 0.05\n",
}


@pytest.mark.parametrize("script", BROKEN.values(), ids=BROKEN)
def test_probe_trusts_no_bubblewrap(tmp_path: Path, script: str) -> None:
    program = tmp_path / "bwrap"
    program.write_text(script)
    program.chmod(0o755)
    tmp_path.chmod(0o755)
    assert not BubblewrapSandbox(program=str(program)).probe().is_ok
