"""Images without skopeo and without a sandbox, for tests on any machine.

It reads what ``tests.image_rig`` packs, straight from the registry's memory, and lays
it out with the real unpacker: ``tests/ports/test_images.py`` holds it to the port.
"""

import asyncio
import gzip
import hashlib
import json
import secrets
import shutil
import tarfile
from pathlib import Path, PurePath
from typing import Any

import msgspec

from sublet.adapter import image_unpack
from sublet.base.errors import Refused
from sublet.core.image import Reference
from sublet.core.image import Registry as Allowed
from sublet.service.image_port import Image
from sublet.service.ports import Probe
from tests.image_rig import Packed, Registry


class FakeImages:
    """Images from memory; implements ``service.image_port.Images``."""

    def __init__(self, folder: Path, registry: Registry | None = None) -> None:
        """Take a folder for the shelf, and the one registry that there is."""
        self._folder = folder
        self._registry = registry or Registry()
        self._kept: dict[str, Image] = {}

    def probe(self) -> Probe:
        """Say that there are images, of a kind."""
        return Probe(is_ok=True, reason="images from memory")

    async def fetch(
        self, reference: Reference, registry: Allowed, *, say: Any
    ) -> Image:
        """Give an image of the registry in memory."""
        say(f"fetching from {registry.host}")
        name = reference.repository
        for known, packed in self._registry.images.items():
            is_tag = known == f"{name}:{reference.tag}"
            if is_tag or packed.digest == reference.digest:
                break
        else:
            raise _refuse("there is no such image")
        if packed.digest not in self._kept:
            self._folder.mkdir(parents=True, exist_ok=True)
            place = self._folder / secrets.token_hex(4)
            image = await asyncio.to_thread(_lay_out, packed, place, 1 << 30)
            self._kept[packed.digest] = image
        return self._kept[packed.digest]

    async def unpack(
        self,
        kind: str,
        archive: PurePath,
        *,
        folder: PurePath,
        bytes_max: int,
        uid: int,
        say: Any,
    ) -> Image:
        """Lay out an archive."""
        say("unpacking the image")
        place, path = Path(folder), Path(archive)
        if kind == "dir":
            image = await asyncio.to_thread(_unpack, "tar", path, place, bytes_max)
        else:
            packed = await asyncio.to_thread(_read_archive, path)
            image = await asyncio.to_thread(_lay_out, packed, place, bytes_max)
        digest = hashlib.sha256(await asyncio.to_thread(path.read_bytes)).hexdigest()
        return msgspec.structs.replace(image, digest=f"sha256:{digest}")


def _read_archive(path: Path) -> Packed:
    with tarfile.open(path) as tar:
        files = {}
        for member in tar:
            file = tar.extractfile(member)
            files[member.name] = file.read() if file else b""
    blobs = {
        f"sha256:{name.rpartition('/')[2]}": raw
        for name, raw in files.items()
        if name.startswith("blobs/")
    }
    (described,) = json.loads(files["index.json"])["manifests"]
    return Packed(blobs[described["digest"]], blobs)


def _lay_out(packed: Packed, place: Path, bytes_max: int) -> Image:
    """Write what skopeo would, and unpack that."""
    layers = place.with_name(f"{place.name}-layers")
    layers.mkdir()
    try:
        manifest = json.loads(packed.manifest)
        listed = []
        for layer in manifest["layers"]:
            raw = gzip.decompress(packed.blobs[layer["digest"]])
            name = hashlib.sha256(raw).hexdigest()
            (layers / name).write_bytes(raw)
            listed.append({"digest": f"sha256:{name}"})
        config = manifest["config"]["digest"]
        (layers / config[7:]).write_bytes(packed.blobs[config])
        written = {"config": {"digest": config}, "layers": listed}
        (layers / "manifest.json").write_text(json.dumps(written))
        image = _unpack("layers", layers, place, bytes_max)
    finally:
        shutil.rmtree(layers)
    return msgspec.structs.replace(image, digest=packed.digest)


def _unpack(kind: str, source: Path, place: Path, bytes_max: int) -> Image:
    draft = place.with_name(f"{place.name}-draft")
    draft.mkdir()
    try:
        about = image_unpack.unpack(
            kind, source, draft, bytes_max=bytes_max, files_max=100_000
        )
        (draft / "root").rename(place)
    except (image_unpack.RefusedImage, tarfile.TarError) as fault:
        raise _refuse(str(fault)) from fault
    finally:
        shutil.rmtree(draft)
    env = dict(line.partition("=")[::2] for line in about["env"])
    return msgspec.convert(
        {**about, "env": env, "root": str(place), "digest": ""}, Image
    )


def _refuse(why: str) -> Refused:
    return Refused(f"the image cannot be used: {why}", code="bad_image", field="image")
