"""The class of a disk, over a sysfs of our own."""

from pathlib import Path

import pytest

from sublet.adapter.disk_class import find_disk_class, read_disk_class


def lay_out(
    sys: Path, number: str, name: str, *, rotates: str, slaves: str = ""
) -> Path:
    block = sys / "devices" / name
    (block / "queue").mkdir(parents=True)
    (block / "queue/rotational").write_text(rotates + "\n")
    (block / "slaves").mkdir()
    for slave in slaves.split():
        (block / "slaves" / slave).symlink_to(sys / "devices" / slave)
    (sys / "dev/block").mkdir(parents=True, exist_ok=True)
    (sys / "dev/block" / number).symlink_to(block)
    return block


DISKS = [("sda", "1", "hdd"), ("sda", "0", "ssd"), ("nvme0n1", "0", "nvme")]


@pytest.mark.parametrize(("name", "rotates", "expected"), DISKS)
def test_kernel_says_the_class(
    tmp_path: Path, name: str, rotates: str, expected: str
) -> None:
    lay_out(tmp_path, "8:0", name, rotates=rotates)
    assert read_disk_class("8:0", sys=tmp_path) == expected


def test_partition_is_as_its_disk(tmp_path: Path) -> None:
    disk = lay_out(tmp_path, "259:0", "nvme0n1", rotates="0")
    (disk / "nvme0n1p2").mkdir()
    (disk / "nvme0n1p2/partition").write_text("2\n")
    (tmp_path / "dev/block/259:2").symlink_to(disk / "nvme0n1p2")
    assert read_disk_class("259:2", sys=tmp_path) == "nvme"


def test_volume_is_as_its_slowest_disk(tmp_path: Path) -> None:
    lay_out(tmp_path, "259:0", "nvme0n1", rotates="0")
    lay_out(tmp_path, "8:0", "sda", rotates="1")
    lay_out(tmp_path, "253:0", "dm-0", rotates="0", slaves="nvme0n1 sda")
    assert read_disk_class("253:0", sys=tmp_path) == "hdd"


def test_nothing_is_said_of_what_is_no_disk(tmp_path: Path) -> None:
    lay_out(tmp_path, "7:0", "loop0", rotates="0")
    lay_out(tmp_path, "259:0", "nvme0n1", rotates="0")
    lay_out(tmp_path, "253:0", "dm-0", rotates="0", slaves="nvme0n1 loop0")
    assert read_disk_class("7:0", sys=tmp_path) == ""
    assert read_disk_class("253:0", sys=tmp_path) == ""
    assert read_disk_class("0:55", sys=tmp_path) == ""
    assert find_disk_class(tmp_path / "nowhere", sys=tmp_path) == ""
