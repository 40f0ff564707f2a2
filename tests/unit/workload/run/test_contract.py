"""What goes along with an attempt, counted."""

from sublet.base import limits
from sublet.wire.message import FileEntry, Manifest, Tree
from sublet.workload.run.contract import size_chunks

FULL, REST, SMALL, RESUMED = ("0x" + digit * 64 for digit in "1234")


def make_manifest(inputs: Tree, resume: Tree) -> Manifest:
    return Manifest(
        v=1,
        salt="0x" + "0" * 64,
        kind="command",
        argv=("true",),
        env={},
        secrets={},
        inputs=inputs,
        outputs=(),
        checkpoint="",
        resume=resume,
        cpus_milli=1_000,
        memory_bytes=1 << 30,
        disk_bytes=1 << 30,
        timeout_s=60,
    )


def file(path: str, size: int, *chunks: str) -> FileEntry:
    return FileEntry(path=path, size=size, mode=0o644, chunks=chunks)


def test_chunks_weigh_what_they_hold() -> None:
    manifest = make_manifest(
        Tree(
            files=(
                file("big", limits.CHUNK_BYTES + 5, FULL, REST),
                file("empty", 0),
                file("script.py", 300, SMALL),
            )
        ),
        Tree(files=(file("state", 7, RESUMED),)),
    )
    assert size_chunks(manifest) == {
        FULL: limits.CHUNK_BYTES,
        REST: 5,
        SMALL: 300,
        RESUMED: 7,
    }
