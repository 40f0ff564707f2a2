"""Deliveries that claim too much, and a machine whose disk is full.

The provider says once what is wrong, keeps nothing of it, and goes on serving.
"""

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import asyncssh
import pytest
from blake3 import blake3

from sublet.base import limits
from sublet.core.lease.phase import Fault, Phase
from sublet.provider.lease_state import Stage
from sublet.wire.message import (
    Deliver,
    FileEntry,
    Manifest,
    Missing,
    Tree,
    Trouble,
    Uploaded,
)
from tests.integration.provider_house import (
    RawTenant,
    hear,
    make_manifest,
    running_house,
    tenant_of,
    wait_true,
)

CHUNK = "0x" + blake3(b"x").hexdigest()
SMALL_DISK = "2m"


def tree_of(*files: tuple[str, int, int]) -> Tree:
    """Give a tree: path, claimed size, number of chunks."""
    return Tree(
        files=tuple(
            FileEntry(path, size, 0o644, (CHUNK,) * chunks)
            for path, size, chunks in files
        )
    )


def list_names(folder: Path) -> set[str]:
    """List every name below a folder."""
    return {path.name for path in folder.rglob("*")}


BOMBS = [
    # what the tree claims
    ("outside", tree_of(("../../evil", 1, 1))),
    ("absolute", tree_of(("/etc/evil", 1, 1))),
    ("inner dots", tree_of(("a/../../evil", 1, 1))),
    ("twice", tree_of(("evil", 1, 1), ("evil", 1, 1))),
    ("file and folder", tree_of(("evil", 1, 1), ("evil/evil", 1, 1))),
    ("too few chunks", tree_of(("evil", 10 * limits.CHUNK_BYTES, 1))),
    ("too many chunks", tree_of(("evil", 1, 500))),
    ("negative", tree_of(("evil", -1, 0))),
    ("more than leased", tree_of(("evil", 600 * limits.CHUNK_BYTES, 600))),
    ("set-uid", Tree(files=(FileEntry("evil", 1, 0o4755, (CHUNK,)),))),
    ("no digest", Tree(files=(FileEntry("evil", 1, 0o644, ("0x../../evil",)),))),
]


@pytest.mark.parametrize(("what", "tree"), BOMBS, ids=[what for what, _ in BOMBS])
async def test_bomb_is_refused_by_name(tmp_path: Path, what: str, tree: Tree) -> None:
    manifest = make_manifest("true", inputs=tree)
    good = make_manifest("true")
    async with (
        running_house(tmp_path) as house,
        tenant_of(tmp_path, house.guest) as client,
    ):
        tenant = RawTenant(client)
        lease = await tenant.rent(manifest)
        async with tenant.dial(lease) as channel:
            await channel.open_job()
            await channel.say(Deliver(manifest=manifest, order=tenant.order))
            trouble = await hear(channel, Trouble)
            assert trouble.code in ("faults", "bad_field", "not_leased", "bad_chunk")
            assert trouble.message
        assert [r.stage for r in house.agent.roster.records()] == [Stage.ACCEPTED]
        assert list_names(tmp_path).isdisjoint({"evil", "manifest.json"})
        # Another job of the same tenant is served as if nothing had been.
        lease = await tenant.rent(good)
        async with tenant.dial(lease) as channel:
            await tenant.begin(channel, good)
            await tenant.wait_phase(lease, Phase.SETTLING)


async def test_chunk_may_not_outgrow_itself(tmp_path: Path) -> None:
    """One byte was promised; megabytes come: none of them are kept."""
    manifest = make_manifest("true", inputs=tree_of(("in", 1, 1)))
    async with (
        running_house(tmp_path) as house,
        tenant_of(tmp_path, house.guest) as client,
    ):
        tenant = RawTenant(client)
        lease = await tenant.rent(manifest)
        async with tenant.dial(lease) as channel:
            await channel.open_job()
            await channel.say(Deliver(manifest=manifest, order=tenant.order))
            assert (await hear(channel, Missing)).chunks == (CHUNK,)
            sftp = await channel.open_sftp()
            piece = b"y" * (1 << 20)
            with pytest.raises(asyncssh.SFTPError):
                async with sftp.open(f"/chunks/{CHUNK[2:]}.part", "wb") as file:
                    for number in range(8):
                        await file.write(piece, number * len(piece))
                    await file.write(b"z", 1 << 40)  # a hole of a terabyte
            await channel.say(Uploaded())
            assert (await hear(channel, Missing)).chunks == (CHUNK,)
        kept = sum(
            path.stat().st_size
            for path in (house.home / "leases" / lease.id).rglob("*")
            if path.is_file()
        )
        assert kept <= limits.CHUNK_BYTES + (1 << 20)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Give a provider's home on a disk of two megabytes."""
    place = tmp_path / "provider"
    place.mkdir(mode=0o700)
    mount = shutil.which("mount")
    options = ["-t", "tmpfs", "-o", f"size={SMALL_DISK},mode=700", "none", str(place)]
    if not mount or subprocess.run([mount, *options], check=False).returncode:
        pytest.skip("nothing can be mounted here")
    try:
        yield place
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=True)


def with_input(content: bytes) -> Manifest:
    """Give a job that brings this much."""
    key = "0x" + blake3(content).hexdigest()
    tree = Tree(files=(FileEntry("in", len(content), 0o644, (key,)),))
    return make_manifest("true", inputs=tree)


async def test_full_disk_fails_one_job(tmp_path: Path, small_disk: Path) -> None:
    """The inputs do not fit on the owner's disk: nobody pays, and the next job runs."""
    content = bytes(range(256)) * 12_000  # three megabytes
    node: dict[str, object] = {"market": {"deliver_s": 4, "prepare_s": 4}}
    manifest, good = with_input(content), make_manifest("true")
    async with (
        running_house(tmp_path, node=node) as house,
        tenant_of(tmp_path, house.guest) as client,
    ):
        assert house.home == small_disk
        tenant = RawTenant(client)
        lease = await tenant.rent(manifest)
        async with tenant.dial(lease) as channel:
            await channel.open_job()
            await channel.say(Deliver(manifest=manifest, order=tenant.order))
            [key] = (await hear(channel, Missing)).chunks
            sftp = await channel.open_sftp()
            with pytest.raises(asyncssh.SFTPError):
                async with sftp.open(f"/chunks/{key[2:]}", "wb") as file:
                    await file.write(content)
        over = await tenant.wait_phase(lease, Phase.SETTLED)
        assert (over.owed, over.paid) == (0, 0)
        assert over.fault is not Fault.NOBODY
        await wait_true(lambda: not list((small_disk / "leases").iterdir()))
        lease = await tenant.rent(good)
        async with tenant.dial(lease) as channel:
            await tenant.begin(channel, good)
            await tenant.wait_phase(lease, Phase.SETTLING)
