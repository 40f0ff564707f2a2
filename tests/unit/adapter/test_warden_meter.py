"""What the warden reads and keeps, over ordinary files and folders."""

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from sublet.adapter.warden_meter import (
    DEPTH_MAX,
    ENTRY_BYTES,
    Cgroup,
    Stream,
    measure_folder,
    measure_unlinked,
    read_number,
)

NUMBERS = {
    "a single number": ("12345\n", "", 12_345),
    "a line of many": ("usage_usec 7\nuser_usec 5\n", "usage_usec", 7),
    "a later line": ("low 0\noom 1\noom_kill 3\n", "oom_kill", 3),
    "a key that is not there": ("low 0\n", "oom_kill", 0),
    "nothing": ("", "", 0),
    "a word": ("max\n", "", 0),
}


@pytest.mark.parametrize(("text", "key", "expected"), NUMBERS.values(), ids=NUMBERS)
def test_reads_numbers_of_the_kernel(
    tmp_path: Path, text: str, key: str, expected: int
) -> None:
    path = tmp_path / "file"
    path.write_text(text)
    assert read_number(str(path), key) == expected


def test_missing_file_counts_nothing(tmp_path: Path) -> None:
    assert read_number(str(tmp_path / "missing"), "") == 0


def blocks(path: Path) -> int:
    return path.lstat().st_blocks * 512


def test_measures_all_below_a_folder(tmp_path: Path) -> None:
    deep = tmp_path / "a/b"
    deep.mkdir(parents=True)
    (deep / "file").write_bytes(bytes(100_000))
    (tmp_path / "other").write_bytes(bytes(5_000))
    parts = (tmp_path / "a", deep, deep / "file", tmp_path / "other")
    assert measure_folder(str(tmp_path), set()) == sum(map(blocks, parts))


def test_counts_hard_links_once(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(bytes(100_000))
    before = measure_folder(str(tmp_path), set())
    (tmp_path / "link").hardlink_to(tmp_path / "file")
    assert measure_folder(str(tmp_path), set()) == before


def test_follows_no_symlink(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("/usr")
    (tmp_path / "loop").symlink_to(".")
    assert measure_folder(str(tmp_path), set()) < 100_000


def test_folder_that_vanished_counts_nothing(tmp_path: Path) -> None:
    assert measure_folder(str(tmp_path / "gone"), set()) == 0


def test_too_deep_cannot_be_measured(tmp_path: Path) -> None:
    # A job can nest folders deeper than any path reaches; that must not hide them.
    handle = os.open(tmp_path, os.O_RDONLY)
    for _ in range(40):
        os.mkdir("x" * 200, dir_fd=handle)
        deeper = os.open("x" * 200, os.O_RDONLY, dir_fd=handle)
        os.close(handle)
        handle = deeper
    assert measure_folder(str(tmp_path), set()) >= 40 * 4_096
    for _ in range(DEPTH_MAX):
        os.mkdir("x", dir_fd=handle)
        deeper = os.open("x", os.O_RDONLY, dir_fd=handle)
        os.close(handle)
        handle = deeper
    os.close(handle)
    with pytest.raises(OSError, match="too deep"):
        measure_folder(str(tmp_path), set())
    subprocess.run(["/bin/rm", "-rf", str(tmp_path / ("x" * 200))], check=True)


def test_empty_files_cost_something(tmp_path: Path) -> None:
    # They take inodes, of which a disk has only so many.
    for number in range(100):
        (tmp_path / str(number)).touch()
        (tmp_path / f"link{number}").symlink_to("x")
    assert measure_folder(str(tmp_path), set()) == 200 * ENTRY_BYTES


def test_exchanged_folder_leads_nowhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A job puts a symlink where the meter has just seen a folder."""
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    look = os.stat

    def exchange(path: object, **how: Any) -> os.stat_result:
        found = look(path, **how)  # type: ignore[arg-type]  # any path
        if path == "folder" and not (tmp_path / "folder").is_symlink():
            (tmp_path / "folder").rmdir()
            (tmp_path / "folder").symlink_to("/usr")
        return found

    monkeypatch.setattr(os, "stat", exchange)
    assert measure_folder(str(tmp_path), set()) < 10 * ENTRY_BYTES


def test_finds_removed_files_still_open(tmp_path: Path) -> None:
    device = {tmp_path.stat().st_dev}
    seen: set[tuple[int, int]] = set()
    before = measure_unlinked([os.getpid()], devices=device, seen=set())
    with (tmp_path / "file").open("wb") as file:
        file.write(bytes(100_000))
        file.flush()
        (tmp_path / "file").unlink()
        held = measure_unlinked([os.getpid()], devices=device, seen=seen)
        assert held - before >= 100_000
        # Seen once, it does not count again for another process.
        assert measure_unlinked([os.getpid()], devices=device, seen=seen) == 0


def test_other_disks_do_not_count(tmp_path: Path) -> None:
    with (tmp_path / "file").open("wb") as file:
        file.write(bytes(100_000))
        file.flush()
        (tmp_path / "file").unlink()
        assert measure_unlinked([os.getpid()], devices={0}, seen=set()) == 0


def stream(path: Path, content: bytes, *, bytes_max: int) -> Stream:
    """Let a stream keep what a job writes, until the job closes its end."""
    made = Stream(str(path), bytes_max=bytes_max)
    os.write(made.sink, content)
    os.close(made.sink)
    while made.pump():
        pass
    os.close(made.source)
    os.close(made.file)
    return made


def test_stream_keeps_everything_below_the_limit(tmp_path: Path) -> None:
    stream(tmp_path / "log", b"x" * 1_000, bytes_max=1_000)
    assert (tmp_path / "log").read_bytes() == b"x" * 1_000


def test_stream_notes_where_it_was_cut(tmp_path: Path) -> None:
    stream(tmp_path / "log", b"x" * 1_001, bytes_max=1_000)
    note = b"\n[sublet: cut here, after 1000 bytes]\n"
    assert (tmp_path / "log").read_bytes() == b"x" * 1_000 + note


def test_stream_counts_what_was_there(tmp_path: Path) -> None:
    (tmp_path / "log").write_bytes(b"y" * 900)
    stream(tmp_path / "log", b"x" * 200, bytes_max=1_000)
    assert (tmp_path / "log").read_bytes().startswith(b"y" * 900 + b"x" * 100 + b"\n[")


def test_stream_follows_no_symlink(tmp_path: Path) -> None:
    (tmp_path / "log").symlink_to(tmp_path / "target")
    with pytest.raises(OSError, match="symbolic"):
        Stream(str(tmp_path / "log"), bytes_max=1_000)


def test_stream_remembers_its_head(tmp_path: Path) -> None:
    made = stream(tmp_path / "log", b"bwrap: no " + b"x" * 5_000, bytes_max=1 << 20)
    assert made.head.startswith(b"bwrap: no ")
    assert len(made.head) == 400


def group(base: Path) -> Cgroup:
    return Cgroup(
        {
            "joins": [str(base / "cgroup.procs")],
            "kill": str(base / "cgroup.kill"),
            "cpu": [str(base / "cpu.stat"), "usage_usec", 1_000],
            "memory": [str(base / "memory.current"), ""],
            "oom": [str(base / "memory.events"), "oom_kill"],
            "folders": [str(base / "gone"), str(base)],
            "shared": [str(base)],
        }
    )


def test_group_reads_its_meters(tmp_path: Path) -> None:
    (tmp_path / "cgroup.procs").write_text("12\n34\n")
    (tmp_path / "cpu.stat").write_text("usage_usec 2500\n")
    (tmp_path / "memory.events").write_text("oom_kill 1\n")
    found = group(tmp_path)
    assert (found.pids(), found.cpu_ms(), found.out_of_memory_kills()) == (
        [12, 34],
        2,
        1,
    )


def test_group_remembers_the_largest_use(tmp_path: Path) -> None:
    found = group(tmp_path)
    for used, largest in (("500", 500), ("900", 900), ("100", 900)):
        (tmp_path / "memory.current").write_text(used)
        assert found.memory_bytes_max() == largest


def test_group_that_is_gone_is_empty(tmp_path: Path) -> None:
    assert group(tmp_path / "gone").pids() == []


def test_group_leaves_shared_folders_in_use(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    group(tmp_path).remove()
    assert (tmp_path / "other").is_dir()
