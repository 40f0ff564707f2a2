"""Manifests and trees: what a stranger may ask to be laid out, and what not."""

from typing import Any

import pytest
from blake3 import blake3
from msgspec import structs

from sublet.base import limits
from sublet.base.errors import Faults
from sublet.wire.codec import decode, encode
from sublet.wire.manifest import (
    check_manifest,
    check_tree,
    commitment,
    count_bytes,
    size_chunks,
    tree_id,
)
from sublet.wire.message import FileEntry, Manifest, SealedJob, Tree, Volume
from sublet.wire.path import find_path_fault

CHUNK = "0x" + "ab" * 32


def _file(path: str, **changes: Any) -> FileEntry:
    return structs.replace(FileEntry(path, 5, 0o644, (CHUNK,)), **changes)


def _tree(*paths: str) -> Tree:
    return Tree(tuple(_file(path) for path in paths))


MANIFEST = Manifest(
    v=1,
    salt="0123456789abcdef" * 2,
    kind="script",
    argv=("train.py", "--epochs", "3"),
    env={"EPOCHS": "3"},
    secrets={"TOKEN": "hunter2"},
    inputs=_tree("data/digits.csv", "train.py"),
    outputs=("model", "report.png"),
    checkpoint="checkpoint",
    resume=_tree("state.npz"),
    cpus_milli=1_000,
    memory_bytes=1 << 30,
    disk_bytes=1 << 30,
    timeout_s=600,
)


def _codes(check: Any, value: object) -> list[str]:
    with pytest.raises(Faults) as error:
        check(value)
    return [fault.code for fault in error.value.faults]


# ---- identity ---------------------------------------------------------------------


def test_commitment_is_blake3_of_canonical_bytes() -> None:
    raw = encode(MANIFEST)
    assert commitment(MANIFEST) == "0x" + blake3(raw).hexdigest()
    again = decode(raw, Manifest, size_max=limits.MANIFEST_BYTES_MAX)
    assert commitment(again) == commitment(MANIFEST)


def test_every_field_enters_the_commitment() -> None:
    changes: dict[str, Any] = {
        "v": 2, "salt": "", "kind": "command", "argv": (), "env": {}, "secrets": {},
        "inputs": Tree(()), "outputs": (), "checkpoint": "", "resume": Tree(()),
        "cpus_milli": 1, "memory_bytes": 1, "disk_bytes": 1, "timeout_s": 1,
            "egress": ("a.org:443",), "image": "python:3.12",
        "lengthens": True, "volumes": (Volume("db", "/data"),), "sealed": SealedJob("job", (), b""),
    }  # fmt: skip
    assert tuple(changes) == Manifest.__struct_fields__
    others = {
        commitment(structs.replace(MANIFEST, **{name: value}))
        for name, value in changes.items()
    }
    assert len(others | {commitment(MANIFEST)}) == len(changes) + 1


def test_tree_id_is_blake3_of_canonical_bytes() -> None:
    assert tree_id(Tree(())) == "0x" + blake3(b'{"files":[]}').hexdigest()
    assert tree_id(_tree("a")) != tree_id(_tree("b"))


# ---- paths and trees --------------------------------------------------------------


@pytest.mark.parametrize(
    "path",
    [
        "a",
        "a/b/c",
        ".hidden",
        "..data",
        "a..b",
        "with space",
        "naïve/模型.bin",
        "back\\slash",
        "x" * 255,
        "/".join(["x" * 127] * 8),  # 1,023 bytes
    ],
)
def test_plain_relative_paths_are_good(path: str) -> None:
    assert find_path_fault(path) == ""
    check_tree(_tree(path))


@pytest.mark.parametrize(
    "path",
    [
        "",
        "/",
        "/etc/passwd",
        "..",
        "../a",
        "a/../b",
        "a/..",
        ".",
        "./a",
        "a/./b",
        "a//b",
        "a/",
        "a\0b",
        "a\nb",
        "\x1b[2J",
        "a\x7fb",
        "a\x85b",
        "\ud800",
        "x" * 256,
        "ü" * 128,  # 256 bytes
        "/".join(["x" * 127] * 9),
    ],
)
def test_hostile_paths_are_refused(path: str) -> None:
    assert find_path_fault(path)
    assert "bad_path" in _codes(check_tree, _tree(path))


@pytest.mark.parametrize(
    ("tree", "code"),
    [
        (_tree("a", "a"), "bad_path"),  # twice
        (_tree("a", "a/b"), "bad_path"),  # a file and a folder
        (_tree("a", "a.txt", "a/b"), "bad_path"),  # the same, with one in between
        (_tree("a", "a.b", "a/b/c"), "bad_path"),
        (_tree("b", "a"), "unsorted"),
        (Tree((_file("a", mode=0o600),)), "bad_mode"),
        (Tree((_file("a", mode=0o4755),)), "bad_mode"),  # set-uid
        (Tree((_file("a", size=-1),)), "bad_size"),
        (Tree((_file("a", size=0),)), "bad_size"),  # no bytes, one chunk
        (Tree((_file("a", size=5, chunks=()),)), "bad_size"),
        (Tree((_file("a", size=limits.CHUNK_BYTES + 1),)), "bad_size"),
        (Tree((_file("a", chunks=("../../etc/passwd",)),)), "bad_chunk"),
        (Tree((_file("a", size=1 << 80),)), "bad_size"),
        (Tree((_file("a", offset=-1),)), "bad_offset"),
        (Tree((_file("a", offset=limits.CHUNK_BYTES - 4),)), "bad_offset"),
        (Tree((_file("a", size=0, chunks=(), offset=1),)), "bad_offset"),
        (
            Tree(
                (
                    _file(
                        "a",
                        size=limits.CHUNK_BYTES + 1,
                        chunks=(CHUNK, CHUNK),
                        offset=1,
                    ),
                )
            ),
            "bad_offset",
        ),
        (Tree((_file("a"),) * (limits.FILES_PER_TREE_MAX + 1)), "too_many_files"),
    ],
)
def test_bad_trees_are_refused(tree: Tree, code: str) -> None:
    assert code in _codes(check_tree, tree)


def test_trees_of_good_shape_pass() -> None:
    whole = limits.CHUNK_BYTES
    for tree in (
        Tree(()),
        _tree("a", "a.txt", "b/a", "b/b"),
        Tree((_file("a", size=0, chunks=()),)),
        Tree((_file("a", size=whole),)),
        Tree((_file("a", size=whole + 1, chunks=(CHUNK,) * 2, mode=0o755),)),
    ):
        check_tree(tree)


def test_trees_have_a_total_size() -> None:
    half = limits.TREE_BYTES_MAX // 2
    chunks = (CHUNK,) * (half // limits.CHUNK_BYTES)
    pair = tuple(_file(name, size=half, chunks=chunks) for name in "ab")
    check_tree(Tree(pair))
    assert _codes(check_tree, Tree((*pair, _file("c")))) == ["too_large"]


# ---- manifests --------------------------------------------------------------------


def test_good_manifest_passes() -> None:
    check_manifest(MANIFEST)
    bare = structs.replace(
        MANIFEST, kind="command", argv=("true",), inputs=Tree(()), outputs=(),
        checkpoint="", resume=Tree(()), env={}, secrets={}, disk_bytes=0, timeout_s=0,
    )  # fmt: skip
    check_manifest(bare)


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"v": 2}, "v"),
        ({"salt": ""}, "salt"),
        ({"salt": "A" * 32}, "salt"),
        ({"kind": "container"}, "kind"),
        ({"argv": ()}, "argv"),
        ({"kind": "command", "argv": ("",)}, "argv"),
        ({"kind": "command", "argv": ("echo", "a\0b")}, "argv"),
        ({"argv": ("missing.py",)}, "argv"),
        ({"argv": ("/etc/passwd",)}, "argv"),
        ({"env": {"": "x"}}, "env"),
        ({"env": {"A=B": "x"}}, "env"),
        ({"env": {"1A": "x"}}, "env"),
        ({"env": {"A\n": "x"}}, "env"),
        ({"env": {"A" * 129: "x"}}, "env"),
        ({"env": {"A": "\0"}}, "env"),
        ({"env": {f"A{n}": "" for n in range(256)}}, "env"),  # and one secret
        ({"secrets": {"A-B": "x"}}, "secrets"),
        ({"secrets": {"EPOCHS": "x"}}, "secrets"),  # in env as well
        ({"inputs": _tree("../train.py", "train.py")}, "inputs"),
        ({"resume": _tree("../state")}, "resume"),
        ({"outputs": ("../secrets",)}, "outputs"),
        ({"outputs": ("/etc",)}, "outputs"),
        ({"outputs": ("model", "model")}, "outputs"),
        ({"outputs": ("model", "model/a")}, "outputs"),
        ({"checkpoint": "/var"}, "checkpoint"),
        ({"checkpoint": ""}, "resume"),  # a checkpoint without a folder for it
        ({"cpus_milli": 0}, "cpus_milli"),
        ({"cpus_milli": limits.CPUS_MILLI_MAX + 1}, "cpus_milli"),
        ({"memory_bytes": -1}, "memory_bytes"),
        ({"memory_bytes": 0}, "memory_bytes"),
        ({"disk_bytes": -1}, "disk_bytes"),
        ({"disk_bytes": 1 << 62}, "disk_bytes"),
        ({"timeout_s": -1}, "timeout_s"),
        ({"timeout_s": limits.LEASE_S_MAX + 1}, "timeout_s"),
        ({"env": {"A": "x" * limits.MANIFEST_BYTES_MAX}}, "manifest"),
    ],
)
def test_bad_manifests_are_refused(changes: dict[str, Any], field: str) -> None:
    with pytest.raises(Faults) as error:
        check_manifest(structs.replace(MANIFEST, **changes))
    assert field in [fault.field for fault in error.value.faults]


def test_all_faults_are_told_at_once() -> None:
    bad = structs.replace(MANIFEST, salt="", kind="", outputs=("..",), cpus_milli=0)
    with pytest.raises(Faults) as error:
        check_manifest(bad)
    fields = {fault.field for fault in error.value.faults}
    assert fields == {"salt", "kind", "outputs", "cpus_milli"}


def test_endless_faults_are_cut_short() -> None:
    codes = _codes(check_tree, Tree((_file("../a"),) * 50_000))
    assert len(codes) == 21
    assert codes[-1] == "more_faults"


def test_faults_repeat_no_secret_and_no_escape() -> None:
    bad = structs.replace(
        MANIFEST, secrets={"A\x1b": "hunter2\0"}, outputs=("\x1b[2J",)
    )
    with pytest.raises(Faults) as error:
        check_manifest(bad)
    assert "hunter2" not in str(error.value)
    assert "\x1b" not in str(error.value)


def _sized(path: str, size: int, *chunks: str, offset: int = 0) -> FileEntry:
    return FileEntry(path, size, 0o644, chunks, offset=offset)


def test_chunks_weigh_what_they_hold() -> None:
    full, rest, shared, resumed = ("0x" + digit * 64 for digit in "1234")
    inputs = Tree(
        files=(
            _sized("big", limits.CHUNK_BYTES + 5, full, rest),
            _sized("empty", 0),
            _sized("one", 300, shared),
            _sized("same", 300, shared),
            _sized("two", 100, shared, offset=300),
        )
    )
    resume = Tree(files=(_sized("state", 7, resumed),))
    assert size_chunks(inputs, resume) == {
        full: limits.CHUNK_BYTES,
        rest: 5,
        shared: 400,
        resumed: 7,
    }
    assert count_bytes(inputs, resume) == limits.CHUNK_BYTES + 5 + 700 + 7


def test_a_chunk_counts_though_little_of_it_is_used() -> None:
    end = limits.CHUNK_BYTES - 1
    files = [_sized(f"{n}", 1, f"0x{n:064x}", offset=end) for n in range(3)]
    assert count_bytes(Tree(files=tuple(files))) == 3 * limits.CHUNK_BYTES
