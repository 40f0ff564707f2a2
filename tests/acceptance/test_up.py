"""``sublet up`` and its two commands, as a newcomer types them, in real processes."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

SUBLET = [sys.executable, "-m", "sublet.cli.main"]
START_S = 90
END_S = 120

pytestmark = [pytest.mark.sandbox, pytest.mark.timeout(300)]


def free_port() -> int:
    """Find a port that nobody listens on."""
    with socket.socket() as door:
        door.bind(("127.0.0.1", 0))
        return int(door.getsockname()[1])


def processes_naming(text: str) -> list[str]:
    """List the command lines on this machine that name a text."""
    found = []
    for place in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = place.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if text in line:
            found.append(line)
    return found


class Up:
    """A running ``sublet up`` and the environment of a tenant beside it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.env = {**os.environ, "SUBLET_HOME": str(folder / "tenant")}
        listen = f"127.0.0.1:{free_port()}"
        argv = ["up", "--plain", "--providers", "1", "--listen", listen]
        self.process = subprocess.Popen(
            [*SUBLET, *argv, "--home", str(folder / "market")],
            env=self.env,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def wait_ready(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.startswith("ready: "):
                return
        raise AssertionError("sublet up ended")

    def run(self, *argv: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [*SUBLET, *argv],
            env=self.env,
            cwd=self.folder,
            capture_output=True,
            text=True,
            check=False,
            timeout=START_S,
        )

    def interrupt(self) -> int:
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(END_S)


@pytest.fixture
def up(tmp_path: Path) -> Iterator[Up]:
    """Start a market of one provider; whatever happens, nothing of it stays."""
    running = Up(tmp_path)
    try:
        running.wait_ready()
        yield running
    finally:
        if running.process.poll() is None:
            running.process.terminate()
            running.process.wait(END_S)


def test_command_finds_the_market_by_itself(up: Up) -> None:
    done = up.run("run", "--", "echo", "hello")
    assert (done.returncode, done.stdout) == (0, "hello\n"), done.stderr


def test_exit_code_and_bill_are_the_jobs(up: Up) -> None:
    done = up.run("run", "--json", "--", "sh", "-c", "exit 7")
    assert done.returncode == 7
    result = json.loads(done.stdout)
    wallet = json.loads(up.run("wallet", "--json").stdout)
    assert wallet["spent"] == result["cost"]


def test_interrupt_leaves_nothing_behind(up: Up) -> None:
    job = subprocess.Popen(
        [*SUBLET, "run", "--", "sleep", "600"],
        env=up.env,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        limit = time.monotonic() + START_S
        while '"phase":"running"' not in up.run("ps", "--json").stdout.replace(" ", ""):
            if time.monotonic() > limit:
                break
            time.sleep(0.5)
        assert up.interrupt() == 0
    finally:
        job.kill()
        job.wait()
    assert processes_naming(str(up.folder)) == []
    assert not (up.folder / "tenant/warm.sock").exists()


def test_home_of_another_market_is_left_alone(tmp_path: Path) -> None:
    home = tmp_path / "tenant"
    home.mkdir()
    (home / "config.toml").write_text('market = "https://elsewhere.example"\n')
    done = subprocess.run(
        [*SUBLET, "up", "--plain", "--home", str(tmp_path / "market")],
        env={**os.environ, "SUBLET_HOME": str(home)},
        capture_output=True,
        text=True,
        check=False,
        timeout=START_S,
    )
    assert done.returncode == 2
    assert "elsewhere.example" in done.stderr
    assert processes_naming(str(tmp_path / "market")) == []
