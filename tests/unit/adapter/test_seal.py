"""Seals: what is sealed comes back whole, or not at all."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from sublet.adapter import seal
from sublet.adapter.seal import BadSeal, JobSeal, SealKey, seal_to
from sublet.base import limits
from sublet.base.errors import Refused
from sublet.wire.manifest import check_tree
from sublet.wire.message import FileEntry, Tree
from tests.fakes.blobs_memory import MemoryBlobs

KEY = bytes(range(32))
CHUNK = 256


def make_seal(job: str = "job") -> JobSeal:
    return JobSeal(KEY, job=job)


def make_tree(contents: dict[str, bytes], blobs: MemoryBlobs) -> Tree:
    size = limits.CHUNK_BYTES
    return Tree(
        files=tuple(
            FileEntry(
                path=path,
                size=len(content),
                mode=0o644,
                chunks=tuple(
                    blobs.put(content[start : start + size])
                    for start in range(0, len(content), size)
                ),
            )
            for path, content in sorted(contents.items())
        )
    )


def test_key_opens_what_was_sealed_to_it(tmp_path: Path) -> None:
    key = SealKey.load_or_create(tmp_path / "seal_key")
    sealed = seal_to(key.line, b"secret", about="job")
    again = SealKey.load_or_create(tmp_path / "seal_key")
    assert again.open(sealed, about="job") == b"secret"
    for other, about in ((key, "other job"), (SealKey.generate(), "job")):
        with pytest.raises(BadSeal):
            other.open(sealed, about=about)
    assert (tmp_path / "seal_key").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("line", ["", "x25519:", "x25519:zz", "rsa:" + "00" * 32])
def test_refuses_no_key(line: str) -> None:
    with pytest.raises(Refused):
        seal_to(line, b"secret", about="job")


def test_refuses_a_loose_key(tmp_path: Path) -> None:
    SealKey.load_or_create(tmp_path / "seal_key")
    (tmp_path / "seal_key").chmod(0o644)
    with pytest.raises(Refused):
        SealKey.load_or_create(tmp_path / "seal_key")


def test_bytes_open_under_their_kind_alone() -> None:
    sealed = make_seal().seal(b"words", kind="stdout|1|0")
    assert make_seal().open(sealed, kind="stdout|1|0") == b"words"
    assert make_seal().seal(b"words", kind="stdout|1|0") != sealed
    for job, kind in (
        ("job", "stderr|1|0"),
        ("job", "stdout|1|5"),
        ("b", "stdout|1|0"),
    ):
        with pytest.raises(BadSeal):
            make_seal(job).open(sealed, kind=kind)
    for place in (0, len(sealed) // 2, len(sealed) - 1):
        changed = bytearray(sealed)
        changed[place] ^= 1
        with pytest.raises(BadSeal):
            make_seal().open(bytes(changed), kind="stdout|1|0")


@settings(max_examples=60, deadline=None)
@given(
    contents=st.dictionaries(
        st.sampled_from(["a", "b/c", "b/d", "z"]), st.binary(max_size=900), max_size=4
    )
)
def test_folder_comes_back(contents: dict[str, bytes]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(limits, "CHUNK_BYTES", CHUNK)
        plain, carried, back = MemoryBlobs(), MemoryBlobs(), MemoryBlobs()
        tree = make_tree(contents, plain)
        sealed = make_seal().seal_tree(tree, kind="in", source=plain, into=carried)
        check_tree(sealed)  # whoever carries it sees a lawful folder of one file
        opened = make_seal().open_tree(sealed, kind="in", source=carried, into=back)
        assert opened == tree
        for file in tree.files:
            assert all(back.has(key) for key in file.chunks)


def test_folder_cannot_be_cut_or_mixed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "CHUNK_BYTES", CHUNK)
    plain, carried = MemoryBlobs(), MemoryBlobs()
    trees = [make_tree({"a": bytes([fill]) * 1_000}, plain) for fill in (1, 2)]
    first, second = (
        make_seal().seal_tree(tree, kind="in", source=plain, into=carried)
        for tree in trees
    )
    file, other = first.files[0], second.files[0]
    mixed = (file.chunks[0], other.chunks[1], *file.chunks[2:])
    swapped = (file.chunks[0], file.chunks[2], file.chunks[1], *file.chunks[3:])
    for chunks in (
        mixed,
        swapped,
        file.chunks[:-1],
        (*file.chunks, file.chunks[-1]),
        (),
    ):
        changed = Tree(files=(replace(file, chunks=tuple(chunks)),))
        with pytest.raises(BadSeal):
            make_seal().open_tree(
                changed, kind="in", source=carried, into=MemoryBlobs()
            )
    with pytest.raises(BadSeal):
        make_seal().open_tree(first, kind="out", source=carried, into=MemoryBlobs())


def test_nothing_shows_through(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "CHUNK_BYTES", CHUNK)
    plain, carried = MemoryBlobs(), MemoryBlobs()
    tree = make_tree({"canary-name": b"canary-content" * 50}, plain)
    sealed = make_seal().seal_tree(tree, kind="in", source=plain, into=carried)
    everything = b"".join(carried.get(key) for key in sealed.files[0].chunks)
    assert b"canary" not in everything
    assert repr(make_seal()) == "JobSeal(job)"
    assert sealed.files[0].path == seal.SEALED_PATH
