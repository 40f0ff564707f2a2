"""What every images adapter must do: one suite for the fake and the real one.

Hostile images, which only the real one has to bear: ``tests/integration``.
"""

import os
import stat
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from sublet.adapter.images_skopeo import SkopeoImages
from sublet.adapter.sandbox_bubblewrap import BubblewrapSandbox
from sublet.base.errors import Refused
from sublet.core.image import ImageRules, parse_reference, parse_registry
from sublet.service.image_port import Image, Images
from tests.fakes.images_fake import FakeImages
from tests.image_rig import (
    Packed,
    Registry,
    busybox_image,
    busybox_layer,
    entry,
    folder,
    link,
    pack_image,
    pack_layer,
    running_registry,
)

UID = 64_998


class Desk:
    """An images adapter, and the registry that it may reach."""

    def __init__(self, images: Images, registry: Registry, base: Path) -> None:
        self.images = images
        self.registry = registry
        self.base = base
        self.said: list[str] = []

    async def fetch(self, name: str) -> Image:
        reference = parse_reference(self.registry.reference(name), field="image")
        registry = parse_registry(f"http://{self.registry.host}", field="registries")
        return await self.images.fetch(reference, registry, say=self.said.append)

    async def unpack(
        self, packed: Packed, *, bytes_max: int = 64 << 20, name: str = "own"
    ) -> Image:
        archive = packed.write_archive(self.base / f"{name}.tar")
        return await self.images.unpack(
            "oci-archive",
            archive,
            folder=self.base / name,
            bytes_max=bytes_max,
            uid=UID,
            say=self.said.append,
        )


@pytest.fixture(
    params=["fake", pytest.param("skopeo", marks=pytest.mark.container)],
)
async def desk(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Desk]:
    async with running_registry(busybox=busybox_image()) as registry:
        if request.param == "fake":
            yield Desk(FakeImages(tmp_path / "shelf", registry), registry, tmp_path)
            return
        images = SkopeoImages(
            BubblewrapSandbox(),
            folder=tmp_path / "images",
            uid=UID,
            rules=ImageRules(bytes_max=64 << 20),
        )
        await images.open()
        yield Desk(images, registry, tmp_path)


def modes(root: str) -> set[int]:
    """What kinds of rights files and folders have; links have none."""
    found = set()
    for place, folders, files in os.walk(root):
        for name in (*folders, *files):
            status = Path(place, name).lstat()
            if not stat.S_ISLNK(status.st_mode):
                found.add(stat.S_IMODE(status.st_mode))
    return found


async def test_gives_a_root_and_what_the_image_asks_for(desk: Desk) -> None:
    image = await desk.fetch("busybox:latest")
    root = Path(image.root)
    assert (root / "app/greeting").read_text() == "hello from the image\n"
    assert (root / "bin/sh").readlink() == Path("busybox")
    assert dict(image.env)["FROM_IMAGE"] == "yes"
    assert (image.entrypoint, image.cmd) == (("/bin/cat",), ("greeting",))
    assert (image.directory, image.uid, image.gid) == ("/app", 4242, 4343)
    assert image.digest == desk.registry.images["busybox:latest"].digest
    assert desk.said


async def test_nothing_is_setuid_and_all_can_be_read(desk: Desk) -> None:
    image = await desk.fetch("busybox:latest")
    assert modes(image.root) <= {0o755, 0o644}


async def test_has_what_sandboxes_mount_on(desk: Desk) -> None:
    root = Path((await desk.fetch("busybox:latest")).root)
    assert all((root / name).is_dir() for name in ("proc", "dev", "tmp", "work"))
    assert (root / "run/init").is_file()


async def test_a_tag_that_moved_gives_another_image(desk: Desk) -> None:
    first = await desk.fetch("busybox:latest")
    desk.registry.images["busybox:latest"] = busybox_image(User="7:8")
    second = await desk.fetch("busybox:latest")
    assert first.digest != second.digest
    assert (second.uid, second.gid) == (7, 8)


async def test_is_fetched_once(desk: Desk) -> None:
    first = await desk.fetch("busybox:latest")
    blobs = [path for path in desk.registry.asked if "/blobs/" in path]
    assert await desk.fetch(f"busybox@{first.digest}") == first
    assert [path for path in desk.registry.asked if "/blobs/" in path] == blobs


async def test_unknown_image_is_refused(desk: Desk) -> None:
    with pytest.raises(Refused, match="image") as caught:
        await desk.fetch("nothing:latest")
    assert caught.value.code == "bad_image"


async def test_own_image_lies_where_it_is_told_to(desk: Desk) -> None:
    image = await desk.unpack(busybox_image(Cmd=["other"]))
    assert image.root == str(desk.base / "own")
    assert (desk.base / "own/app/greeting").is_file()
    assert image.cmd == ("other",)
    assert sorted(path.name for path in desk.base.glob("own*")) == ["own", "own.tar"]


async def test_root_folder_as_one_archive(desk: Desk) -> None:
    archive = desk.base / "root.tar"
    archive.write_bytes(pack_layer(busybox_layer()))
    image = await desk.images.unpack(
        "dir",
        archive,
        folder=desk.base / "own",
        bytes_max=64 << 20,
        uid=UID,
        say=desk.said.append,
    )
    assert (desk.base / "own/app/greeting").is_file()
    assert (image.entrypoint, image.cmd, image.uid) == ((), (), 0)


async def test_later_layers_win(desk: Desk) -> None:
    image = await desk.unpack(
        pack_image(
            [
                folder("a"),
                entry("a/gone", "1"),
                entry("a/stays", "1"),
                folder("b"),
                entry("b/old", "1"),
                entry("c", "1"),
                link("usr", "a"),
            ],
            [
                entry("a/.wh.gone"),
                entry("b/.wh..wh..opq"),
                entry("b/new", "2"),
                entry("c", "2"),
                entry("usr/through", "2"),
            ],
        )
    )
    root = Path(image.root)
    assert sorted(path.name for path in (root / "a").iterdir()) == ["stays", "through"]
    assert [path.name for path in (root / "b").iterdir()] == ["new"]
    assert (root / "c").read_text() == "2"


async def test_too_large_is_refused_and_leaves_nothing(desk: Desk) -> None:
    with pytest.raises(Refused, match="larger") as caught:
        await desk.unpack(
            pack_image([entry("zeros", bytes(3 << 20))]), bytes_max=2 << 20
        )
    assert caught.value.code == "bad_image"
    assert [path.name for path in desk.base.glob("own*")] == ["own.tar"]


async def test_what_is_no_archive_is_refused(desk: Desk) -> None:
    packed = pack_image(b"this is no tar archive" * 100)
    with pytest.raises(Refused) as caught:
        await desk.unpack(packed)
    assert caught.value.code == "bad_image"
