"""The parts of a market on one machine: homes, processes, what is left of jobs."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from sublet.base.errors import Refused, Unavailable
from sublet.cli import local_market
from sublet.cli.local_market import Program


def program(folder: Path, code: str) -> Program:
    """Start a Python program in a process group of its own."""
    journal = folder / "journal.log"
    with journal.open("wb") as file:
        process = subprocess.Popen(
            [sys.executable, "-c", code],
            stdout=subprocess.PIPE,
            stderr=file,
            start_new_session=True,
        )
    return Program("node", folder, process, journal)


def test_new_home_is_pointed_here(tmp_path: Path) -> None:
    home = tmp_path / "tenant"
    local_market.point_tenant(home, "http://127.0.0.1:1")
    assert (home / "config.toml").read_text() == 'market = "http://127.0.0.1:1"\n'
    local_market.point_tenant(home, "http://127.0.0.1:1")  # again is harmless


def test_home_of_another_market_is_refused(tmp_path: Path) -> None:
    place = tmp_path / "config.toml"
    place.write_text('market = "https://elsewhere.example"\n')
    with pytest.raises(Refused, match=r"elsewhere\.example") as refusal:
        local_market.point_tenant(tmp_path, "http://127.0.0.1:1")
    assert refusal.value.code == "home_taken"
    assert "elsewhere" in place.read_text()


def test_ended_program_shows_its_last_words(tmp_path: Path) -> None:
    one = program(tmp_path, "import sys; sys.exit('the disk is full')")
    with pytest.raises(Unavailable, match="the disk is full"):
        local_market.read_ready(one)


def test_ready_line_is_read(tmp_path: Path) -> None:
    code = """import signal; print('{"url": "here"}', flush=True); signal.pause()"""
    one = program(tmp_path, code)
    try:
        assert local_market.read_ready(one) == {"url": "here"}
        one.check()
    finally:
        local_market.stop([one], signal.SIGKILL)
    with pytest.raises(Unavailable):
        one.check()


def test_stubborn_program_gets_the_next_signal(tmp_path: Path) -> None:
    deaf = (
        "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN); "
        "print('{}', flush=True); signal.pause()"
    )
    one = program(tmp_path, deaf)
    local_market.read_ready(one)
    local_market.stop([one], signal.SIGINT, signal.SIGTERM, grace_s=0.3)
    assert one.process.poll() == -signal.SIGTERM


def test_failed_command_says_its_own_words(tmp_path: Path) -> None:
    with pytest.raises(Refused, match="--faucet"):
        local_market.run("node", "init", "--home", tmp_path, "--faucet", "much")


def test_jobs_own_files_are_no_sandboxes(tmp_path: Path) -> None:
    for folder in ("leases/a/job", "leases/a/work", "packages/b/sandbox"):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "cgroup.json").touch()
    found = {str(x.relative_to(tmp_path)) for x in local_market.job_folders(tmp_path)}
    assert found == {"leases/a/job", "packages/b/sandbox"}


def test_second_interrupt_disturbs_nothing() -> None:
    before = {n: signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)}
    try:
        check = local_market.interrupt_once()
        check()
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGTERM)
        with pytest.raises(KeyboardInterrupt):
            check()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
