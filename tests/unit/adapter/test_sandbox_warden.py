"""What the adapter does around a sandbox; nothing is isolated or started here.

The port's promises: ``tests/ports/test_sandbox.py``; isolation, life and death:
``tests/integration/test_sandbox_*.py``.
"""

import os
from pathlib import Path

import msgspec
import pytest

from sublet.adapter.sandbox_bubblewrap import BubblewrapSandbox
from sublet.adapter.sandbox_warden import give_to
from sublet.base.errors import Broken, Refused, Unavailable
from sublet.service.ports import SandboxState

only_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files")


def owners(folder: Path) -> set[int]:
    return {path.lstat().st_uid for path in (folder, *folder.rglob("*"))}


@only_root
def test_gives_everything_below(tmp_path: Path) -> None:
    folder = tmp_path / "work"
    (folder / "a/b").mkdir(parents=True)
    (folder / "a/b/file").touch()
    give_to(folder, 64_600)
    assert owners(folder) == {64_600}


@only_root
def test_gives_a_symlink_not_its_target(tmp_path: Path) -> None:
    folder, target = tmp_path / "work", tmp_path / "target"
    folder.mkdir()
    target.touch()
    (folder / "link").symlink_to(target)
    (folder / "up").symlink_to(tmp_path)
    give_to(folder, 64_600)
    assert owners(folder) == {64_600}
    assert target.stat().st_uid == 0


@only_root
def test_gives_nothing_twice(tmp_path: Path) -> None:
    give_to(tmp_path, 64_600)
    (tmp_path / "later").touch()
    give_to(tmp_path, 64_600)  # its top is the job's: all of it is taken to be
    assert (tmp_path / "later").stat().st_uid == 0


def test_cannot_give_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="cannot be given"):
        give_to(tmp_path / "missing", 64_600)


def test_says_that_bubblewrap_is_missing(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="apt install bubblewrap"):
        BubblewrapSandbox(program=str(tmp_path / "bwrap")).find_program()


def left(folder: Path, **changes: object) -> SandboxState:
    """Leave behind what a warden that was killed leaves behind."""
    fields: dict[str, object] = {
        "phase": "running",
        "pid": 1,  # alive, and not a warden
        "started_at_s": 1_800_000_000,
        "ran_ms": 5_000,
        "cpu_ms": 4_000,
        "memory_bytes_max": 1_000,
        "exit_code": 0,
        "reason": "",
    }
    state = SandboxState(**{**fields, **changes})  # type: ignore[arg-type]  # a test's short way
    (folder / "state.json").write_bytes(msgspec.json.encode(state))
    (folder / "lock").touch()
    return state


async def test_buries_what_lost_its_warden(tmp_path: Path) -> None:
    state = left(tmp_path)
    found = await BubblewrapSandbox().wait_ended(tmp_path)
    assert (found.phase, found.reason, found.exit_code) == ("ended", "failed", 137)
    assert found.ran_ms == state.ran_ms  # the last reading counts


async def test_stop_kills_no_stranger(tmp_path: Path) -> None:
    # The pid in the file belongs to somebody else by now: this very process.
    left(tmp_path, pid=os.getpid())
    found = await BubblewrapSandbox().stop(tmp_path, grace_s=0)
    assert found.reason == "failed"


def test_ended_state_stays_as_it_is(tmp_path: Path) -> None:
    state = left(tmp_path, phase="ended", reason="exited", exit_code=3)
    assert BubblewrapSandbox().read_state(tmp_path) == state


def test_refuses_an_empty_folder(tmp_path: Path) -> None:
    with pytest.raises(Refused) as caught:
        BubblewrapSandbox().read_state(tmp_path)
    assert caught.value.code == "no_such_sandbox"


def test_broken_state_stops_everything(tmp_path: Path) -> None:
    (tmp_path / "state.json").write_text("{")
    with pytest.raises(Broken):
        BubblewrapSandbox().read_state(tmp_path)
