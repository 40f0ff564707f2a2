"""Folders as a hostile job leaves them: listed, overwritten and removed all the same."""

import os
from pathlib import Path

import pytest

from sublet.adapter.remains import list_remains, remove_folder, walk_deep
from sublet.adapter.scratch_tmpfs import _overwrite

DEPTH = 3_000  # beyond what paths reach, recursion goes and descriptors last


@pytest.fixture
def deep(tmp_path: Path) -> Path:
    """A file at the top, one at the bottom of very many folders, and a way out."""
    top = tmp_path / "top"
    top.mkdir()
    (top / "first").write_bytes(b"x" * 10)
    (top / "out").symlink_to("/usr")
    os.mkfifo(top / "pipe")
    handle = os.open(top, os.O_RDONLY)
    for _ in range(DEPTH):
        os.mkdir("d", dir_fd=handle)
        deeper = os.open("d", os.O_RDONLY, dir_fd=handle)
        os.close(handle)
        handle = deeper
    made = os.open("last", os.O_CREAT | os.O_WRONLY, 0o600, dir_fd=handle)
    os.write(made, b"secret")
    os.close(made)
    os.close(handle)
    return top


async def test_deep_folders_are_listed_and_removed(deep: Path) -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    digest, files, _ = list_remains(deep)
    assert (len(digest), files) == (66, 4)
    paths = {path for path, _, _ in walk_deep(deep)}
    assert paths == {b"first", b"out", b"pipe", b"d/" * DEPTH + b"last"}
    assert len(list(Path("/proc/self/fd").iterdir())) == before
    await remove_folder(deep)
    assert not deep.exists()


async def test_deep_folders_are_overwritten(deep: Path) -> None:
    _, files, _ = _overwrite(deep)
    assert files == 4
    assert (deep / "first").read_bytes() == bytes(10)
    for path, _, folder in walk_deep(deep):
        if path.endswith(b"last"):
            handle = os.open("last", os.O_RDONLY, dir_fd=folder)
            assert os.read(handle, 10) == bytes(6)
            os.close(handle)
    await remove_folder(deep)


def test_missing_folder_has_no_remains(tmp_path: Path) -> None:
    assert list_remains(tmp_path / "missing")[1:] == (0, 0)
