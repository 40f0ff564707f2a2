"""The folder of chunks: what its disk and its neighbours may do to it."""

from pathlib import Path

import pytest
from blake3 import blake3

from sublet.adapter.blobs_folder import FolderBlobs
from sublet.base.errors import Broken, Refused, Unavailable


def _file_of(blobs: FolderBlobs, key: str) -> Path:
    return blobs.path / key[2:4] / key[4:]


def test_finds_a_damaged_chunk(tmp_path: Path) -> None:
    blobs = FolderBlobs(tmp_path)
    key = blobs.put(b"whole")
    _file_of(blobs, key).write_bytes(b"whale")
    with pytest.raises(Broken) as error:
        blobs.get(key)
    assert error.value.code == "chunk_damaged"


def test_follows_no_symlink_when_reading(tmp_path: Path) -> None:
    blobs = FolderBlobs(tmp_path / "blobs")
    key = blobs.put(b"secret")
    real = tmp_path / "elsewhere"
    _file_of(blobs, key).rename(real)
    _file_of(blobs, key).symlink_to(real)
    with pytest.raises(Unavailable):
        blobs.get(key)


@pytest.mark.parametrize(
    "key",
    [
        "0x../../../etc/passwd",  # leaves the folder
        "0x" + "A" * 64,  # upper case has another name on disk
        "0" * 66,  # no prefix
        "0x" + "0" * 63,  # too short
        "",
    ],
)
def test_refuses_a_strange_key(tmp_path: Path, key: str) -> None:
    blobs = FolderBlobs(tmp_path)
    for ask in (blobs.has, blobs.get, blobs.drop):
        with pytest.raises(Refused) as error:
            ask(key)
        assert error.value.code == "bad_key"


def test_leaves_nothing_half_written(tmp_path: Path) -> None:
    blobs = FolderBlobs(tmp_path)
    key = blobs.put(b"first")
    blobs.drop(key)
    # A file where the chunk's shard belongs: the write must fail after its draft.
    _file_of(blobs, key).parent.rmdir()
    _file_of(blobs, key).parent.write_bytes(b"in the way")
    with pytest.raises(Unavailable) as error:
        blobs.put(b"first")
    assert error.value.code == "disk_failed"
    assert list((tmp_path / "new").iterdir()) == []


def test_takes_a_file_as_it_is(tmp_path: Path) -> None:
    blobs, file = FolderBlobs(tmp_path / "blobs"), tmp_path / "file"
    file.write_bytes(b"words")
    key = "0x" + blake3(b"words").hexdigest()
    blobs.take(file, key)
    assert blobs.get(key) == b"words"
    assert not file.exists()
    with pytest.raises(Unavailable):
        blobs.take(file, key)


def test_shared_chunks_outlive_either_store(tmp_path: Path) -> None:
    one = FolderBlobs(tmp_path / "one")
    key = one.put(b"words")
    two = one.share(tmp_path / "two")
    assert _file_of(two, key).samefile(_file_of(one, key))  # nothing is copied
    one.drop(key)
    assert two.get(key) == b"words"
    assert FolderBlobs(tmp_path / "none").share(tmp_path / "three").has(key) is False


def test_lists_and_drops_chunks(tmp_path: Path) -> None:
    blobs = FolderBlobs(tmp_path)
    one, two = blobs.put(b"one"), blobs.put(b"two")
    assert set(blobs.keys()) == {one, two}
    blobs.drop(one)
    blobs.drop(one)
    assert set(blobs.keys()) == {two}


def test_keeps_chunks_from_other_users(tmp_path: Path) -> None:
    blobs = FolderBlobs(tmp_path / "blobs")
    key = blobs.put(b"mine")
    assert _file_of(blobs, key).stat().st_mode & 0o077 == 0
    assert _file_of(blobs, key).parent.stat().st_mode & 0o077 == 0
