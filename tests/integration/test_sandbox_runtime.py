"""Runtimes that misbehave: one that spins and never starts, or never ends."""

import asyncio
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from sublet.adapter.cgroup import Group
from sublet.adapter.sandbox_oci import GvisorSandbox, PodmanSandbox
from sublet.adapter.sandbox_warden import WardenSandbox
from sublet.base.errors import Unavailable
from sublet.service.ports import Bind, SandboxSpec
from tests.rig.open_folder import make_open_folder

pytestmark = pytest.mark.container

MIB = 1 << 20
SPINS = "#!/bin/sh\nwhile :; do :; done\n"
SAYS_IT_RUNS = """#!/bin/sh
for word; do
    case $word in --pid-file=*) printf 7 > "${word#--pid-file=}";; esac
done
while :; do :; done
"""
KINDS = {"podman": PodmanSandbox, "gvisor": GvisorSandbox}


@pytest.fixture
def base() -> Iterator[Path]:
    """A folder that every uid can look into, unlike pytest's."""
    place = make_open_folder("sublet-test-")
    place.chmod(0o755)
    (place / "work").mkdir()
    yield place
    shutil.rmtree(place)


def make(base: Path, kind: str, script: str) -> WardenSandbox:
    program = base / "runtime"
    program.write_text(script)
    program.chmod(0o755)
    return KINDS[kind](program=str(program), start_timeout_s=1)


def make_spec(base: Path) -> SandboxSpec:
    return SandboxSpec(
        argv=("true",),
        env={},
        directory="/work",
        binds=(Bind(str(base / "work"), "/work", is_writable=True),),
        uid=64_500,
        memory_bytes=256 * MIB,
        cpus_milli=500,
        processes_max=64,
        tmp_bytes=MIB,
        file_bytes_max=MIB,
        disk_bytes=MIB,
        watched=(str(base / "work"),),
        stdout=str(base / "stdout"),
        stderr=str(base / "stderr"),
    )


def is_anything_left(base: Path) -> bool:
    """Say whether a process of the spinning program is there."""
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if str(base / "runtime").encode() in path.read_bytes():
                return True
        except OSError:
            continue
    return False


def wait_nothing_left(base: Path) -> None:
    until = time.monotonic() + 60
    while is_anything_left(base):
        assert time.monotonic() < until, "the runtime still spins"
        time.sleep(0.01)


def read_mounts(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Give what is mounted here, but for what other tests mount in their folders."""
    others = (
        str(tmp_path_factory.getbasetemp().parent),
        f"{tempfile.gettempdir()}/sublet-probe-",  # of whoever asks what works here
    )
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    return [line for line in lines if not line.split()[4].startswith(others)]


@pytest.mark.parametrize("kind", KINDS)
async def test_gives_up_a_runtime_that_never_starts(base: Path, kind: str) -> None:
    sandbox = make(base, kind, SPINS)
    with pytest.raises(Unavailable, match="did not start within 1 s"):
        await sandbox.start(make_spec(base), folder=base / "sandbox")
    assert list((base / "sandbox").iterdir()) == []
    wait_nothing_left(base)


@pytest.mark.parametrize("kind", KINDS)
async def test_kills_a_runtime_that_never_ends(base: Path, kind: str) -> None:
    make(base, kind, SAYS_IT_RUNS)
    folder = base / "sandbox"
    # Time to start is generous here: it is the end that must not hang.
    sandbox = KINDS[kind](program=str(base / "runtime"), start_timeout_s=60)
    await sandbox.start(make_spec(base), folder=folder)
    assert sandbox.read_state(folder).phase == "running"
    group = msgspec.json.decode((folder / "cgroup.json").read_bytes(), type=Group)
    async with asyncio.timeout(60):
        state = await sandbox.stop(folder, grace_s=0)
    assert (state.reason, state.exit_code) == ("stopped", 137)
    own = [path for path in group.folders if path not in group.shared]
    assert [path for path in own if os.path.exists(path)] == []  # noqa: PTH110
    wait_nothing_left(base)


@pytest.mark.parametrize("kind", KINDS)
def test_probe_trusts_no_runtime_that_spins(base: Path, kind: str) -> None:
    assert not make(base, kind, SPINS).probe().is_ok
    wait_nothing_left(base)


@pytest.mark.parametrize("kind", KINDS)
def test_probe_names_the_cure(kind: str) -> None:
    probe = KINDS[kind](program="/nowhere/runtime").probe()
    assert not probe.is_ok
    assert "apt install" in probe.reason


@pytest.mark.parametrize("kind", KINDS)
async def test_mounts_stay_in_the_sandbox(
    base: Path, kind: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """What the runtime mounts is gone with it, and was never seen outside."""
    before = read_mounts(tmp_path_factory)
    sandbox = KINDS[kind]()
    await sandbox.start(make_spec(base), folder=base / "sandbox")
    assert read_mounts(tmp_path_factory) == before
    state = await sandbox.wait_ended(base / "sandbox")
    assert (state.reason, state.exit_code) == ("exited", 0)
    assert read_mounts(tmp_path_factory) == before
