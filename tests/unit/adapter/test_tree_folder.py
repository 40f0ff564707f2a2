"""Folders to trees and back, with folders and trees that mean harm."""

import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from sublet.adapter.tree_folder import (
    DEPTH_MAX,
    Skipped,
    list_tree,
    read_file,
    read_tree,
)
from sublet.adapter.tree_writing import write_tree
from sublet.base import limits
from sublet.base.errors import Refused, Unavailable
from sublet.wire.manifest import size_chunks
from sublet.wire.message import FileEntry, Tree
from tests.fakes.blobs_memory import MemoryBlobs


def _code_of(call: Callable[[], object]) -> str:
    with pytest.raises(Refused) as error:
        call()
    return error.value.code


def _names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def _tree_of(path: str, content: bytes, blobs: MemoryBlobs, mode: int = 0o644) -> Tree:
    entry = FileEntry(path, len(content), mode, (blobs.put(content),))
    return Tree(files=(entry,))


# ---- there and back ---------------------------------------------------------------


def test_round_trips_a_folder(tmp_path: Path) -> None:
    blobs, source = MemoryBlobs(), tmp_path / "source"
    (source / "deep/er").mkdir(parents=True)
    (source / "empty").write_bytes(b"")
    (source / "deep/er/ünï").write_bytes(b"text")
    (source / "big").write_bytes(bytes(limits.CHUNK_BYTES) + b"tail")
    (source / "run.sh").write_bytes(b"#!/bin/sh\n")
    (source / "run.sh").chmod(0o4777)
    tree = read_tree(source, blobs=blobs)
    assert [f.path for f in tree.files] == ["big", "deep/er/ünï", "empty", "run.sh"]
    assert [len(f.chunks) for f in tree.files] == [2, 1, 0, 1]
    assert [f.mode for f in tree.files] == [0o644, 0o644, 0o644, 0o755]
    target = tmp_path / "target"
    write_tree(tree, target, blobs=blobs)
    assert read_tree(target, blobs=blobs) == tree
    assert (target / "run.sh").stat().st_mode & 0o7777 == 0o755
    assert (target / "big").stat().st_mode & 0o7777 == 0o644


def test_reads_only_what_is_included(tmp_path: Path) -> None:
    blobs = MemoryBlobs()
    for path in ("a/b/one", "a/two", "three", "four"):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_bytes(path.encode())
    tree = read_tree(tmp_path, blobs=blobs, include=("a/b", "a", "three", "gone/x"))
    assert [f.path for f in tree.files] == ["a/b/one", "a/two", "three"]
    assert [read_file(f, blobs=blobs) for f in tree.files] == [
        b"a/b/one", b"a/two", b"three"
    ]  # fmt: skip


def test_small_files_share_chunks(tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    size = limits.PACKED_BYTES_MAX
    contents = {f"d/{number:02}": bytes([number]) * size for number in range(20)}
    contents |= {"d/none": b"", "d/large": bytes(size + 1), "d.x": b"sorts before d/"}
    (source / "d").mkdir(parents=True)
    for path, content in contents.items():
        (source / path).write_bytes(content)
    blobs = MemoryBlobs()
    tree = read_tree(source, blobs=blobs)
    # 20 files of a sixteenth of a chunk and a bit fill two; the large one has its own.
    assert len(blobs.chunks) == 3
    sizes = size_chunks(tree)
    assert sizes == {key: len(blobs.get(key)) for key in sizes}
    assert read_tree(source, blobs=blobs) == tree
    write_tree(tree, target, blobs=blobs)
    assert {path: (target / path).read_bytes() for path in contents} == contents


def test_reads_a_shared_chunk_once(tmp_path: Path) -> None:
    blobs = _CountingBlobs()
    keys = [blobs.put(bytes([number]) * 100) for number in range(2)]
    files = [  # as only a liar mixes them
        FileEntry(f"{number:03}", 1, 0o644, (keys[number % 2],), offset=number)
        for number in range(100)
    ]
    write_tree(Tree(files=tuple(files)), tmp_path, blobs=blobs)
    assert blobs.reads == 2
    assert (tmp_path / "041").read_bytes() == b"\1"


@pytest.mark.parametrize("offset", [-1, 97, 100, limits.CHUNK_BYTES])
def test_refuses_a_place_beyond_the_chunk(tmp_path: Path, offset: int) -> None:
    blobs = MemoryBlobs()
    entry = FileEntry("x", 4, 0o644, (blobs.put(bytes(100)),), offset=offset)
    call = lambda: write_tree(Tree(files=(entry,)), tmp_path, blobs=blobs)  # noqa: E731
    assert _code_of(call) == "bad_tree"
    assert _names(tmp_path) == []


def test_leaves_out_endings(tmp_path: Path) -> None:
    for name in ("kept", "draft.tmp", "draft.part"):
        (tmp_path / name).write_bytes(name.encode())
    blobs = MemoryBlobs()
    tree = read_tree(tmp_path, blobs=blobs, without=(".tmp", ".part"))
    assert [file.path for file in tree.files] == ["kept"]
    assert list(blobs.chunks.values()) == [b"kept"]
    seen = list_tree(tmp_path, without=(".tmp", ".part"))
    assert [each.path for each in seen] == ["kept"]


class _CountingBlobs(MemoryBlobs):
    """Counts how often a chunk is read."""

    def __init__(self) -> None:
        super().__init__()
        self.reads = 0

    def get(self, key: str) -> bytes:
        self.reads += 1
        return super().get(key)


def test_replaces_a_file_that_was_there(tmp_path: Path) -> None:
    blobs = MemoryBlobs()
    (tmp_path / "x").write_bytes(b"old, and longer")
    write_tree(_tree_of("x", b"new", blobs), tmp_path, blobs=blobs)
    assert (tmp_path / "x").read_bytes() == b"new"
    assert _names(tmp_path) == ["x"]


# ---- reading what means harm ------------------------------------------------------


def _symlink(folder: Path) -> None:
    (folder / "odd").symlink_to("/etc/passwd")


def _folder_symlink(folder: Path) -> None:
    (folder / "odd").symlink_to("/etc")


def _inner_symlink(folder: Path) -> None:
    (folder / "odd").symlink_to("good")


def _fifo(folder: Path) -> None:
    os.mkfifo(folder / "odd")


def _socket(folder: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(folder / "odd"))


def _bad_name(folder: Path) -> None:
    (folder / os.fsdecode(b"odd\xff")).write_bytes(b"")


def _escape_name(folder: Path) -> None:
    (folder / "odd\x1b[2J").write_bytes(b"")


_ODD: list[tuple[Callable[[Path], None], str]] = [
    (_symlink, "symlink"),  # a file of the host
    (_folder_symlink, "symlink"),  # a folder of the host
    (_inner_symlink, "symlink"),  # even one that stays inside
    (_fifo, "special_file"),  # opening one would hang
    (_socket, "special_file"),
    (_bad_name, "bad_name"),  # not UTF-8
    (_escape_name, "bad_name"),  # would reach a reader's terminal
]


@pytest.mark.parametrize(("make", "code"), _ODD)
def test_refuses_what_cannot_travel(
    tmp_path: Path, make: Callable[[Path], None], code: str
) -> None:
    (tmp_path / "good").write_bytes(b"good")
    make(tmp_path)
    assert _code_of(lambda: read_tree(tmp_path, blobs=MemoryBlobs())) == code


@pytest.mark.parametrize(("make", "code"), _ODD)
def test_skips_by_name_when_asked(
    tmp_path: Path, make: Callable[[Path], None], code: str
) -> None:
    (tmp_path / "good").write_bytes(b"good")
    make(tmp_path)
    skipped: list[Skipped] = []
    tree = read_tree(tmp_path, blobs=MemoryBlobs(), skipped=skipped)
    assert [f.path for f in tree.files] == ["good"]
    assert [s.code for s in skipped] == [code]
    assert skipped[0].message.isprintable()


def test_follows_no_included_symlink(tmp_path: Path) -> None:
    (tmp_path / "out").symlink_to("/etc")
    skipped: list[Skipped] = []
    tree = read_tree(
        tmp_path, blobs=MemoryBlobs(), include=("out/hostname", "out"), skipped=skipped
    )
    assert tree.files == ()
    assert {s.code for s in skipped} == {"symlink"}


@pytest.mark.parametrize("path", ["../x", "/etc", "a/../../x", "", ".", "a//b"])
def test_refuses_included_path_outside(tmp_path: Path, path: str) -> None:
    call = lambda: read_tree(tmp_path, blobs=MemoryBlobs(), include=(path,))  # noqa: E731
    assert _code_of(call) == "bad_path"


def test_refuses_a_sparse_bomb(tmp_path: Path) -> None:
    with (tmp_path / "bomb").open("wb") as file:
        file.truncate(1 << 42)
    assert _code_of(lambda: read_tree(tmp_path, blobs=MemoryBlobs())) == (
        "tree_too_large"
    )


def test_counts_hard_links_each(tmp_path: Path) -> None:
    (tmp_path / "one").write_bytes(bytes(600))
    (tmp_path / "two").hardlink_to(tmp_path / "one")
    blobs = MemoryBlobs()
    assert len(read_tree(tmp_path, blobs=blobs, bytes_max=1_200).files) == 2
    call = lambda: read_tree(tmp_path, blobs=blobs, bytes_max=1_199)  # noqa: E731
    assert _code_of(call) == "tree_too_large"


def test_refuses_too_many_files(tmp_path: Path) -> None:
    for number in range(4):
        (tmp_path / str(number)).mkdir()  # folders count too: they cost a look
    blobs = MemoryBlobs()
    assert read_tree(tmp_path, blobs=blobs, files_max=4).files == ()
    assert _code_of(lambda: read_tree(tmp_path, blobs=blobs, files_max=3)) == (
        "too_many_files"
    )


def test_refuses_a_bottomless_folder(tmp_path: Path) -> None:
    deep = tmp_path.joinpath(*["d"] * (DEPTH_MAX + 1))
    deep.mkdir(parents=True)
    assert _code_of(lambda: read_tree(tmp_path, blobs=MemoryBlobs())) == ("bad_name")


class _WritingBlobs(MemoryBlobs):
    """A store during whose ``put`` the job writes on."""

    def __init__(self, write: Callable[[], None]) -> None:
        super().__init__()
        self._write = write

    def put(self, content: bytes) -> str:
        self._write()
        return super().put(content)


def test_refuses_a_file_that_grows(tmp_path: Path) -> None:
    victim = tmp_path / "log"
    victim.write_bytes(bytes(limits.PACKED_BYTES_MAX + 1))

    def grow() -> None:
        with victim.open("ab") as file:
            file.write(b"more\n")

    call = lambda: read_tree(tmp_path, blobs=_WritingBlobs(grow))  # noqa: E731
    assert _code_of(call) == "changed_while_read"


def test_refuses_a_file_that_shrinks(tmp_path: Path) -> None:
    victim = tmp_path / "log"
    victim.write_bytes(bytes(limits.CHUNK_BYTES + 1))
    blobs = _WritingBlobs(lambda: os.truncate(victim, 3))
    assert _code_of(lambda: read_tree(tmp_path, blobs=blobs)) == "changed_while_read"


def test_reports_a_full_store(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"1234")
    with pytest.raises(Unavailable):
        read_tree(tmp_path, blobs=MemoryBlobs(bytes_max=3))


def test_refuses_a_missing_folder(tmp_path: Path) -> None:
    call = lambda: read_tree(tmp_path / "gone", blobs=MemoryBlobs())  # noqa: E731
    assert _code_of(call) == "no_folder"


def test_lists_what_it_would_read(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a/x").write_bytes(b"x")
    (tmp_path / "link").symlink_to("/etc/passwd")
    before = list_tree(tmp_path)
    assert [seen.path for seen in before] == ["a/x"]
    assert list_tree(tmp_path) == before
    (tmp_path / "a/x").write_bytes(b"xy")
    assert list_tree(tmp_path) != before
    assert list_tree(tmp_path, include=("b",)) == ()


# ---- writing what means harm ------------------------------------------------------


@pytest.mark.parametrize(
    "path",
    [
        "../out",  # leaves the folder
        "/etc/cron.d/x",  # ignores the folder
        "a/../../out",  # leaves it in the middle
        "a/./b",  # two names for one file
        "a//b",
        "",
        "nul\0",
        "esc\x1b[2J",
        "\udcff",  # not UTF-8
        "n" * 256,  # no file system takes it
        "/".join(["d"] * (DEPTH_MAX + 1)),
    ],
)
def test_writes_no_unlawful_path(tmp_path: Path, path: str) -> None:
    blobs, target = MemoryBlobs(), tmp_path / "target"
    tree = _tree_of(path, b"x", blobs)
    assert _code_of(lambda: write_tree(tree, target, blobs=blobs)) == "bad_path"
    assert _names(tmp_path) == []


def test_writes_through_no_symlink(tmp_path: Path) -> None:
    blobs = MemoryBlobs()
    outside, target = tmp_path / "outside", tmp_path / "target"
    outside.mkdir()
    target.mkdir()
    (target / "way").symlink_to(outside)
    (target / "file").symlink_to(outside / "file")
    (outside / "file").write_bytes(b"untouched")
    tree = _tree_of("way/x", b"x", blobs)
    assert _code_of(lambda: write_tree(tree, target, blobs=blobs)) == "in_the_way"
    write_tree(_tree_of("file", b"new", blobs), target, blobs=blobs)
    assert (outside / "file").read_bytes() == b"untouched"
    assert _names(outside) == ["file"]
    assert not (target / "file").is_symlink()


def test_refuses_a_file_as_folder(tmp_path: Path) -> None:
    blobs = MemoryBlobs()
    (tmp_path / "a").write_bytes(b"a file")
    (tmp_path / "b").mkdir()
    for path in ("a/b", "b"):
        tree = _tree_of(path, b"x", blobs)
        assert _code_of(lambda: write_tree(tree, tmp_path, blobs=blobs)) == (  # noqa: B023
            "in_the_way"
        )
    assert _names(tmp_path) == ["a", "b"]


def test_sets_no_other_mode(tmp_path: Path) -> None:
    blobs = MemoryBlobs()
    write_tree(_tree_of("s", b"x", blobs, mode=0o6777), tmp_path, blobs=blobs)
    assert (tmp_path / "s").stat().st_mode & 0o7777 == 0o755


@pytest.mark.parametrize(
    ("size", "chunks"),
    [
        (5, 1),  # the chunk holds four bytes
        (0, 1),  # an empty file with a chunk
        (4, 0),  # bytes out of nowhere
        (4, 2),  # one chunk too many
        (-1, 0),
    ],
)
def test_refuses_a_size_that_lies(tmp_path: Path, size: int, chunks: int) -> None:
    blobs = MemoryBlobs()
    key = blobs.put(b"four")
    tree = Tree(files=(FileEntry("x", size, 0o644, (key,) * chunks),))
    assert _code_of(lambda: write_tree(tree, tmp_path, blobs=blobs)) == "bad_tree"
    assert _names(tmp_path) == []


def test_refuses_the_same_path_twice(tmp_path: Path) -> None:
    blobs = MemoryBlobs()
    entry = FileEntry("x", 1, 0o644, (blobs.put(b"x"),))
    tree = Tree(files=(entry, entry))
    assert _code_of(lambda: write_tree(tree, tmp_path, blobs=blobs)) == "bad_tree"


def test_leaves_no_half_written_file(tmp_path: Path) -> None:
    blobs = MemoryBlobs()
    key = blobs.put(bytes(limits.CHUNK_BYTES))
    missing = "0x" + "1" * 64
    entry = FileEntry("x", limits.CHUNK_BYTES + 1, 0o644, (key, missing))
    tree = Tree(files=(entry,))
    assert _code_of(lambda: write_tree(tree, tmp_path, blobs=blobs)) == "no_chunk"
    assert _names(tmp_path) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give files away")
def test_gives_files_to_owner(tmp_path: Path) -> None:
    blobs = MemoryBlobs()
    write_tree(_tree_of("a/x", b"x", blobs), tmp_path, blobs=blobs, owner=66_001)
    assert (tmp_path / "a").stat().st_uid == (tmp_path / "a/x").stat().st_uid == 66_001
