"""Outputs come to where they were asked for."""

from pathlib import Path

import pytest

from sublet.wire.message import FileEntry, Tree
from sublet.workload.run.layout import lay_out
from sublet.workload.run.wish import Wanted
from tests.fakes.blobs_memory import MemoryBlobs


@pytest.fixture
def blobs() -> MemoryBlobs:
    return MemoryBlobs()


def make_tree(blobs: MemoryBlobs, *paths: str) -> Tree:
    files = []
    for path in paths:
        content = path.encode()
        chunk = blobs.put(content)
        files.append(
            FileEntry(path=path, size=len(content), mode=0o644, chunks=(chunk,))
        )
    return Tree(files=tuple(files))


PLACES = [
    # asked for (remote, local), what comes, where it lies
    ("model", "", "model/a", "model/a"),
    ("model", "out", "model/a", "out/a"),
    ("model", "out", "model/deep/a", "out/deep/a"),
    ("m.bin", "", "m.bin", "m.bin"),
    ("m.bin", "best.bin", "m.bin", "best.bin"),
    ("m.bin", "new/", "m.bin", "new/m.bin"),
    ("m.bin", "there", "m.bin", "there/m.bin"),  # a folder that is there
    ("d/m.bin", "", "d/m.bin", "d/m.bin"),
]


@pytest.mark.parametrize(("remote", "local", "path", "place"), PLACES)
def test_files_lie_where_asked(
    tmp_path: Path, blobs: MemoryBlobs, remote: str, local: str, path: str, place: str
) -> None:
    (tmp_path / "there").mkdir()
    # An absolute place for the default too, so that no test changes the folder.
    kept = f"{tmp_path}/{local or remote}"
    missing = lay_out(make_tree(blobs, path), (Wanted(remote, kept),), blobs=blobs)
    assert missing == []
    assert (tmp_path / place).read_text() == path


def test_what_was_never_made_is_named(tmp_path: Path, blobs: MemoryBlobs) -> None:
    wanted = (Wanted("a", str(tmp_path / "a")), Wanted("b", str(tmp_path / "b")))
    assert lay_out(make_tree(blobs, "a"), wanted, blobs=blobs) == ["b"]
