"""When a checkpoint folder is read, and when it is left alone."""

from pathlib import Path

import pytest
from msgspec.structs import replace

from sublet.base.errors import Refused
from sublet.provider.checkpoint import (
    RESTLESS_MS,
    STILL_MS,
    CheckpointWatch,
    Kept,
    find_kept,
    place_resume,
)
from sublet.provider.record import LeaseFolder
from sublet.wire.message import Tree
from tests.fakes.blobs_memory import MemoryBlobs
from tests.unit.wire.test_volume import GOOD

BEGIN_MS = 1_000_000


def kept(folder: Path) -> Kept:
    return Kept(folder, ("ckpt",), "ckpt/")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "ckpt").mkdir()
    return tmp_path


@pytest.fixture
def watch(folder: Path) -> CheckpointWatch:
    watch = CheckpointWatch(kept(folder), blobs=MemoryBlobs(), bytes_max=1_000)
    assert watch.look(now_ms=BEGIN_MS) is None
    return watch


def _paths(tree: Tree | None) -> list[str] | None:
    return None if tree is None else [file.path for file in tree.files]


def test_waits_until_folder_rests(folder: Path, watch: CheckpointWatch) -> None:
    (folder / "ckpt/a").write_bytes(b"half")
    assert watch.look(now_ms=BEGIN_MS + 100) is None
    (folder / "ckpt/a").write_bytes(b"whole")
    assert watch.look(now_ms=BEGIN_MS + STILL_MS) is None
    at_ms = BEGIN_MS + 2 * STILL_MS
    assert _paths(watch.look(now_ms=at_ms)) == ["a"]
    assert watch.look(now_ms=at_ms + 10 * STILL_MS) is None  # nothing is new


def test_reads_a_restless_folder(folder: Path, watch: CheckpointWatch) -> None:
    found = []
    for at_ms in range(BEGIN_MS, BEGIN_MS + RESTLESS_MS + 1, STILL_MS // 2):
        (folder / "ckpt/a").write_bytes(str(at_ms).encode())
        found.append(_paths(watch.look(now_ms=at_ms)))
    assert found[:-1] == [None] * (len(found) - 1)
    assert found[-1] == ["a"]


def test_leaves_out_drafts(folder: Path, watch: CheckpointWatch) -> None:
    (folder / "ckpt/a.tmp").write_bytes(b"half")
    assert watch.look(now_ms=BEGIN_MS + RESTLESS_MS) is None
    (folder / "ckpt/a").write_bytes(b"whole")
    tree = watch.look(now_ms=BEGIN_MS + RESTLESS_MS)
    assert _paths(tree) == ["a"]


def test_takes_the_last_at_once(folder: Path, watch: CheckpointWatch) -> None:
    (folder / "ckpt/deep").mkdir()
    (folder / "ckpt/deep/a").write_bytes(b"last")
    assert _paths(watch.look(now_ms=BEGIN_MS, is_last=True)) == ["deep/a"]


def test_passes_over_resumed_files(folder: Path, watch: CheckpointWatch) -> None:
    (folder / "ckpt/a").write_bytes(b"from the last machine")
    watch.pass_over()
    assert watch.look(now_ms=BEGIN_MS, is_last=True) is None
    (folder / "ckpt/a").write_bytes(b"newer")
    assert _paths(watch.look(now_ms=BEGIN_MS, is_last=True)) == ["a"]


def test_persistent_volumes_travel_by_their_names(tmp_path: Path) -> None:
    folder = LeaseFolder(tmp_path)
    found = find_kept(GOOD, folder)
    assert found is not None
    watch = CheckpointWatch(found, blobs=MemoryBlobs(), bytes_max=1_000)
    for name in ("db", "db2", "cache", "other"):
        (folder.volumes / name / "deep").mkdir(parents=True)
        (folder.volumes / name / "deep/a").write_bytes(b"a")
    tree = watch.look(now_ms=BEGIN_MS, is_last=True)
    assert _paths(tree) == ["db/deep/a", "db2/deep/a"]
    assert find_kept(replace(GOOD, volumes=GOOD.volumes[2:]), folder) is None


def test_leaves_missing_folder_alone(tmp_path: Path) -> None:
    watch = CheckpointWatch(kept(tmp_path), blobs=MemoryBlobs(), bytes_max=1)
    assert watch.look(now_ms=BEGIN_MS, is_last=True) is None


def test_follows_no_symlink_out(folder: Path, watch: CheckpointWatch) -> None:
    (folder / "ckpt/passwd").symlink_to("/etc/passwd")
    (folder / "ckpt/a").write_bytes(b"a")
    assert _paths(watch.look(now_ms=BEGIN_MS, is_last=True)) == ["a"]


def test_refuses_too_large_checkpoint(folder: Path, watch: CheckpointWatch) -> None:
    (folder / "ckpt/a").write_bytes(bytes(1_001))
    with pytest.raises(Refused) as error:
        watch.look(now_ms=BEGIN_MS, is_last=True)
    assert error.value.code == "tree_too_large"


def test_places_what_it_took(folder: Path, watch: CheckpointWatch) -> None:
    (folder / "ckpt/a").write_bytes(b"a")
    tree = watch.look(now_ms=BEGIN_MS, is_last=True)
    assert tree is not None
    assert _paths(place_resume(tree, "ckpt")) == ["ckpt/a"]
