"""What is remembered of a lease survives the agent, and holds no secret."""

from pathlib import Path

import pytest

from sublet.base.errors import Broken, Unavailable
from sublet.provider.record import LeaseFolder, write_atomic
from sublet.wire.message import Manifest, Tree
from tests.unit.provider.lease_maker import make_record

SECRET = "hunter2-hunter2"


@pytest.fixture
def folder(tmp_path: Path) -> LeaseFolder:
    folder = LeaseFolder(tmp_path / "lease")
    for _ in range(2):  # twice is harmless
        folder.create()
        folder.create_data()
    return folder


def test_reads_what_it_wrote(folder: LeaseFolder) -> None:
    assert folder.find_record() is None
    record = make_record(ran_ms=5, owed=6)
    folder.write_record(record)
    assert folder.find_record() == record
    assert folder.path.stat().st_mode & 0o077 == 0


def test_keeps_no_secret(folder: LeaseFolder) -> None:
    nothing = Tree(files=())
    manifest = Manifest(
        v=1,
        salt="0" * 32,
        kind="command",
        argv=("true",),
        env={"A": "b"},
        secrets={"TOKEN": SECRET},
        inputs=nothing,
        outputs=(),
        checkpoint="",
        resume=nothing,
        cpus_milli=1,
        memory_bytes=1,
        disk_bytes=1,
        timeout_s=1,
    )
    folder.write_manifest(manifest)
    kept = folder.find_manifest()
    assert kept is not None
    assert kept.secrets == {"TOKEN": ""}
    assert kept.env == {"A": "b"}
    for path in folder.path.rglob("*"):
        assert not path.is_file() or SECRET not in path.read_text()


def test_names_a_damaged_record(folder: LeaseFolder) -> None:
    (folder.path / "record.json").write_bytes(b"{}")
    with pytest.raises(Broken, match="move the folder away"):
        folder.find_record()


def test_keeps_old_file_on_failure(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_atomic(path, b"old")
    (tmp_path / ".file.new").mkdir()  # whatever the disk does: the draft fails
    with pytest.raises(Unavailable):
        write_atomic(path, b"new")
    assert path.read_bytes() == b"old"
