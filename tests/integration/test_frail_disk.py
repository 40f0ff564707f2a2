"""The disk that tests fail with does what it says; else they would show nothing."""

import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.rig.disk import Disk, mounted_disk


@pytest.fixture
def disk() -> Iterator[Disk]:
    with mounted_disk() as mounted:
        yield mounted


def write(path: Path, data: bytes, *, at: int = 0, is_synced: bool = False) -> None:
    place = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        os.pwrite(place, data, at)
        if is_synced:
            os.fsync(place)
    finally:
        os.close(place)


def sync_folder(folder: Path) -> None:
    place = os.open(folder, os.O_RDONLY)
    os.fsync(place)
    os.close(place)


def cut(disk: Disk, *, seed: int | None = None) -> None:
    disk.cut_power(seed=seed)
    disk.turn_on()


def test_power_cut_drops_what_is_not_synced(disk: Disk) -> None:
    path = disk.folder / "file"
    write(path, b"a" * 10_000, is_synced=True)
    sync_folder(disk.folder)
    write(path, b"b" * 10_000)
    assert path.read_bytes() == b"b" * 10_000
    cut(disk)
    assert path.read_bytes() == b"a" * 10_000


def test_power_cut_drops_names_too(disk: Disk) -> None:
    kept, lost = disk.folder / "kept", disk.folder / "lost"
    write(kept, b"a", is_synced=True)
    sync_folder(disk.folder)
    write(lost, b"b", is_synced=True)
    kept.rename(disk.folder / "renamed")
    cut(disk)
    assert [path.name for path in disk.folder.iterdir()] == ["kept"]


def test_power_cut_may_leave_any_page(disk: Disk) -> None:
    path = disk.folder / "file"
    write(path, b"a" * 64 * 4_096, is_synced=True)
    sync_folder(disk.folder)
    write(path, b"b" * 64 * 4_096)
    cut(disk, seed=1)
    assert set(path.read_bytes()) == {ord("a"), ord("b")}


def test_failed_fsync_loses_pages_for_good(disk: Disk) -> None:
    path = disk.folder / "file"
    write(path, b"a" * 8_192, is_synced=True)
    sync_folder(disk.folder)
    disk.plan("fsync", 1, "error")
    with pytest.raises(OSError, match=os.strerror(errno.EIO)):
        write(path, b"b" * 100, is_synced=True)
    write(path, b"c" * 5_000, at=4_096, is_synced=True)  # succeeds, and hides the loss
    assert path.read_bytes()[:100] == b"b" * 100
    cut(disk)
    assert path.read_bytes()[:100] == b"a" * 100
    assert path.read_bytes()[4_096:] == b"c" * 5_000


def test_full_disk_stays_full_until_healed(disk: Disk) -> None:
    path = disk.folder / "file"
    write(path, b"a")
    disk.plan("write", 2, "full", stays=True)
    write(path, b"b")
    for _ in range(2):
        with pytest.raises(OSError, match=os.strerror(errno.ENOSPC)):
            write(path, b"c")
    assert disk.has_fired
    disk.heal()
    write(path, b"d")
    assert path.read_bytes() == b"d"


def test_without_power_nothing_answers(disk: Disk) -> None:
    path = disk.folder / "file"
    write(path, b"a", is_synced=True)
    sync_folder(disk.folder)
    disk.plan("write", 1, "cut")
    for _ in range(2):
        with pytest.raises(OSError, match=os.strerror(errno.EIO)):
            write(path, b"b")
    disk.turn_on()
    assert path.read_bytes() == b"a"


def test_nothing_is_left_mounted() -> None:
    with mounted_disk() as mounted:
        assert os.path.ismount(mounted.folder)
    assert not mounted.folder.exists()
