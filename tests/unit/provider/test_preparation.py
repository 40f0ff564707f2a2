"""What a job is given of its volumes."""

from pathlib import Path

import pytest
from msgspec.structs import replace

from sublet.adapter.blobs_folder import FolderBlobs
from sublet.base.errors import Refused
from sublet.provider.preparation import lay_out, make_spec
from sublet.provider.record import LeaseFolder
from sublet.provider.surroundings import Program
from sublet.service.ports import Bind
from sublet.wire.message import FileEntry, Tree, Volume
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
    assert not blobs.has(key)
    # HOME is /work, and a program looks for ~/.cache there.
    (link,) = folder.work.iterdir()
    assert (link.name, link.readlink()) == (".cache", Path("/root/.cache"))


async def test_links_of_homes_lead_nobody_out(tmp_path: Path) -> None:
    folder, victim = LeaseFolder(tmp_path / "lease"), tmp_path / "victim"
    folder.create_data()
    victim.mkdir()
    (folder.work / "a").symlink_to(victim)
    volumes = (Volume("x", "/root/a/b"),)
    with pytest.raises(Refused):
        await lay_out(
            replace(GOOD, volumes=volumes), folder, blobs=FolderBlobs(folder.chunks)
        )
    assert list(victim.iterdir()) == []


def test_home_that_is_a_volume_is_home(tmp_path: Path) -> None:
    volumes = (Volume("x", "/root"),)
    for env, home in (({}, "/root"), ({"HOME": "/else"}, "/else")):
        spec = make_spec(
            replace(GOOD, volumes=volumes, env=env),
            Program(("true",), {}),
            record=make_record(),
            folder=LeaseFolder(tmp_path),
        )
        assert spec.env["HOME"] == home
