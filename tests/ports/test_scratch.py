"""What every scratch must do: one suite for the fake and the real ones."""

import asyncio
import contextlib
import os
import secrets
import signal
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from sublet.adapter import scratch_gocryptfs
from sublet.adapter.mount_point import find_mount
from sublet.adapter.scratch_gocryptfs import GocryptfsScratch
from sublet.adapter.scratch_tmpfs import TmpfsScratch
from sublet.base.errors import Refused, Unavailable
from sublet.service.erasure_ports import Scratch
from tests.fakes.scratch_fake import FakeScratch

MIB = 1 << 20
UID = 64_997
MARK = "a-canary-" + secrets.token_hex(16)


def need(scratch: Scratch) -> Scratch:
    probe = scratch.probe()
    if not probe.is_ok:
        pytest.skip(probe.reason)
    return scratch


@pytest.fixture(params=[FakeScratch, GocryptfsScratch, TmpfsScratch])
async def scratch(
    request: pytest.FixtureRequest, tmp_path: Path
) -> AsyncIterator[Scratch]:
    made: Scratch = need(request.param())
    yield made
    await made.close(tmp_path)


@pytest.fixture
async def real(tmp_path: Path) -> AsyncIterator[GocryptfsScratch]:
    made = GocryptfsScratch()
    need(made)
    yield made
    await made.close(tmp_path)


def draw_key() -> bytearray:
    return bytearray(secrets.token_bytes(32))


async def test_holds_what_is_written(scratch: Scratch, tmp_path: Path) -> None:
    assert not scratch.is_open(tmp_path)
    await scratch.open(tmp_path, key=draw_key(), bytes_max=MIB, uid=UID)
    assert scratch.is_open(tmp_path)
    folder = tmp_path / "data" / "some" / "folder"
    folder.mkdir(parents=True)
    (folder / MARK).write_text(MARK)
    assert (folder / MARK).read_text() == MARK


async def test_shows_nothing_once_closed(scratch: Scratch, tmp_path: Path) -> None:
    await scratch.open(tmp_path, key=draw_key(), bytes_max=MIB, uid=UID)
    (tmp_path / "data" / MARK).write_text(MARK * 100)
    end = await scratch.close(tmp_path)
    assert end.is_key_gone
    assert not end.was_forced
    assert end.files >= 1
    assert not scratch.is_open(tmp_path)
    assert not (tmp_path / "data" / MARK).exists()
    await scratch.remove(tmp_path)
    assert MARK not in str(list(tmp_path.rglob("*")))
    assert not (tmp_path / "data").exists()


async def test_ends_as_often_as_you_like(scratch: Scratch, tmp_path: Path) -> None:
    await scratch.close(tmp_path)
    await scratch.remove(tmp_path)
    await scratch.open(tmp_path, key=draw_key(), bytes_max=MIB, uid=UID)
    for _ in range(2):
        assert (await scratch.close(tmp_path)).is_key_gone
        await scratch.remove(tmp_path)
    await scratch.open(
        tmp_path, key=draw_key(), bytes_max=MIB, uid=UID
    )  # and begins anew
    assert not list((tmp_path / "data").iterdir())


async def test_refuses_a_second_one(scratch: Scratch, tmp_path: Path) -> None:
    await scratch.open(tmp_path, key=draw_key(), bytes_max=MIB, uid=UID)
    with pytest.raises(Refused):
        await scratch.open(tmp_path, key=draw_key(), bytes_max=MIB, uid=UID)


async def test_is_found_again_by_its_folder(scratch: Scratch, tmp_path: Path) -> None:
    await scratch.open(tmp_path, key=draw_key(), bytes_max=MIB, uid=UID)
    (tmp_path / "data" / "x").write_text("x")
    other = type(scratch)()
    assert other.is_open(tmp_path)
    assert (await other.close(tmp_path)).is_key_gone
    assert not scratch.is_open(tmp_path)


@pytest.mark.skipif(
    os.geteuid() != 0, reason="needs root: jobs have a uid of their own"
)
async def test_job_disturbs_nobody_with_files_of_its_own(
    scratch: Scratch, tmp_path: Path
) -> None:
    await scratch.open(tmp_path, key=draw_key(), bytes_max=16 * MIB, uid=UID)
    data = tmp_path / "data"
    private, work = data / "private", data / "work"
    private.write_text(MARK)
    private.chmod(0o600)
    work.mkdir(mode=0o700)
    os.chown(work, UID, UID)
    program = "i=0; while [ $i -lt 2000 ]; do : > f$i; i=$((i+1)); done"
    argv = ["/bin/sh", "-c", program]
    with subprocess.Popen(  # noqa: ASYNC220 - small
        argv, cwd=work, user=UID, group=UID, extra_groups=()
    ) as job:
        while job.poll() is None:
            assert await asyncio.to_thread(private.read_text) == MARK
            (data / "other").write_text("x")
            (data / "other").unlink()
    assert job.returncode == 0
    made = list(work.iterdir())
    assert len(made) == 2_000
    assert {path.stat().st_uid for path in made} == {UID}


# ---- what the fake has not ----------------------------------------------------------


OPEN = """
import asyncio, pathlib, sys
from sublet.adapter.scratch_gocryptfs import GocryptfsScratch

async def main():
    place = pathlib.Path(sys.argv[1])
    scratch = GocryptfsScratch(look_s=0.05)
    await scratch.open(place, key=bytearray(32), bytes_max=1 << 20, uid=int(sys.argv[2]))
    (place / "data" / "x").write_text("x")

asyncio.run(main())
"""


async def test_ends_when_nobody_comes_back(
    real: GocryptfsScratch, tmp_path: Path
) -> None:
    argv = [sys.executable, "-c", OPEN, str(tmp_path), str(UID)]
    await asyncio.to_thread(subprocess.run, argv, check=True)
    async with asyncio.timeout(60):
        while scratch_gocryptfs._find_daemon(tmp_path) is not None:  # noqa: ASYNC110
            await asyncio.sleep(0.1)
    assert not real.is_open(tmp_path)
    assert (await real.close(tmp_path)).is_key_gone


async def test_open_file_does_not_keep_the_key(
    real: GocryptfsScratch, tmp_path: Path
) -> None:
    await real.open(tmp_path, key=draw_key(), bytes_max=MIB, uid=UID)
    held = os.open(tmp_path / "data" / "held", os.O_RDWR | os.O_CREAT)
    os.write(held, b"x")
    end = await real.close(tmp_path)
    assert end.is_key_gone
    assert end.was_forced
    with pytest.raises(OSError):
        os.pread(held, 1, 0)
    with contextlib.suppress(OSError):
        os.close(held)
    assert find_mount(tmp_path / "data") is None


def grep(folder: Path, mark: bytes) -> list[str]:
    """Look into every file below a folder, mounts apart, as a thief with the disk."""
    found = []
    for path in folder.rglob("*"):
        if path.is_relative_to(folder / "data") or not path.is_file():
            continue
        if mark in os.fsencode(path.name) or mark in path.read_bytes():
            found.append(str(path))
    return found


async def test_disk_holds_neither_data_nor_key(
    real: GocryptfsScratch, tmp_path: Path
) -> None:
    key = draw_key()
    await real.open(tmp_path, key=key, bytes_max=MIB, uid=UID)
    (tmp_path / "data" / MARK).write_text(MARK)
    os.sync()
    assert len(list((tmp_path / "cipher").iterdir())) == 2
    for mark in (MARK.encode(), bytes(key), key.hex().encode()):
        assert not grep(tmp_path, mark)
    daemon = msgspec.json.decode((tmp_path / "scratch.json").read_bytes())["pid"]
    for name in ("cmdline", "environ"):
        assert key.hex().encode() not in Path(f"/proc/{daemon}/{name}").read_bytes()
    assert not list(Path("/dev/shm").glob("tmp*/conf"))

    # The very key opens nothing any more: what it opened is gone.
    await real.close(tmp_path)
    (tmp_path / "again").mkdir()
    argv = ["gocryptfs", "-q", str(tmp_path / "cipher"), str(tmp_path / "again")]
    line = key.hex().encode() + b"\n"
    done = subprocess.run(argv, input=line, capture_output=True, timeout=30)
    assert done.returncode != 0
    assert find_mount(tmp_path / "again") is None


async def test_hanging_daemon_is_no_obstacle(
    real: GocryptfsScratch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scratch_gocryptfs, "CLOSE_S", 0.5)
    await real.open(tmp_path, key=draw_key(), bytes_max=MIB, uid=UID)
    (tmp_path / "data" / "x").write_text("x")
    daemon = msgspec.json.decode((tmp_path / "scratch.json").read_bytes())["pid"]
    os.kill(daemon, signal.SIGSTOP)
    end = await real.close(tmp_path)
    assert end.is_key_gone  # killed, and its memory with it
    assert end.was_forced
    assert find_mount(tmp_path / "data") is None
    await real.remove(tmp_path)


async def test_who_waits_for_a_hanging_daemon_is_freed(
    real: GocryptfsScratch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scratch_gocryptfs, "HANG_S", 2)
    await real.open(tmp_path, key=draw_key(), bytes_max=MIB, uid=UID)
    (tmp_path / "data" / "x").write_text("x")
    daemon = msgspec.json.decode((tmp_path / "scratch.json").read_bytes())["pid"]
    os.kill(daemon, signal.SIGSTOP)
    waited: list[float] = []

    def touch() -> None:
        begun = time.monotonic()
        with pytest.raises(OSError):
            (tmp_path / "data" / "y").write_text("y")
        waited.append(time.monotonic() - begun)

    thread = threading.Thread(target=touch, daemon=True)
    thread.start()
    await asyncio.to_thread(thread.join, 60)
    assert waited
    async with asyncio.timeout(60):
        while real.is_open(tmp_path):  # noqa: ASYNC110 - killed; the kernel takes its time
            await asyncio.sleep(0.01)
    assert (await real.close(tmp_path)).was_forced


async def test_missing_program_is_said_by_name(tmp_path: Path) -> None:
    missing = GocryptfsScratch(program="/nonexistent/gocryptfs")
    with pytest.raises(Unavailable):
        await missing.open(tmp_path, key=draw_key(), bytes_max=MIB, uid=UID)
    assert not (tmp_path / "cipher").exists()
    assert not missing.probe().is_ok
