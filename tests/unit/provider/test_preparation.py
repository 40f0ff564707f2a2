"""What a job is given of its volumes."""

from pathlib import Path

from msgspec.structs import replace

from sublet.adapter.blobs_folder import FolderBlobs
from sublet.provider.preparation import lay_out, make_spec
from sublet.provider.record import LeaseFolder
from sublet.provider.surroundings import Program
from sublet.service.ports import Bind
from sublet.wire.message import FileEntry, Tree
from tests.unit.provider.lease_maker import make_record
from tests.unit.wire.test_volume import GOOD


def test_volumes_are_bound_and_count_against_the_disk(tmp_path: Path) -> None:
    folder, program = LeaseFolder(tmp_path), Program(("true",), {})
    spec = make_spec(GOOD, program, record=make_record(), folder=folder)
    assert [bind for bind in spec.binds if bind.target != "/work"] == [
        Bind(str(folder.volumes / one.name), one.mount, is_writable=True)
        for one in GOOD.volumes
    ]
    assert spec.watched == (str(folder.work), str(folder.volumes))
    assert not folder.volumes.is_relative_to(folder.work)  # where the job is at home
    bare = replace(GOOD, volumes=())
    spec = make_spec(bare, program, record=make_record(), folder=folder)
    assert spec.watched == (str(folder.work),) and len(spec.binds) == 1


async def test_resumed_volumes_are_laid_out(tmp_path: Path) -> None:
    folder = LeaseFolder(tmp_path)
    folder.create_data()
    blobs = FolderBlobs(folder.chunks)
    key = blobs.put(b"kept")
    resume = Tree((FileEntry("db/deep/a", 4, 0o644, (key,)),))
    await lay_out(replace(GOOD, resume=resume), folder, blobs=blobs)
    assert (folder.volumes / "db/deep/a").read_bytes() == b"kept"
    for one in GOOD.volumes:
        assert (folder.volumes / one.name).stat().st_mode & 0o777 == 0o700
    assert list(folder.work.iterdir()) == [] and not blobs.has(key)
