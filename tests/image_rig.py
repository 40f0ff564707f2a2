"""Images for tests: packed by a few lines, and a registry that hands them out."""

import gzip
import hashlib
import io
import json
import shutil
import tarfile
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from aiohttp import web

from sublet.adapter.image_unpack import FILES, FOLDERS

MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"
CONFIG_TYPE = "application/vnd.oci.image.config.v1+json"
LAYER_TYPE = "application/vnd.oci.image.layer.v1.tar+gzip"
APPLETS = ("sh", "cat", "id", "ls", "env", "pwd", "touch", "sleep", "echo", "uname")


def entry(name: str, content: bytes | str = b"", **fields: object) -> "Entry":
    """Describe one member of a layer; fields are those of ``tarfile.TarInfo``."""
    raw = content.encode() if isinstance(content, str) else content
    return Entry(name, raw, fields)


@dataclass
class Entry:
    """One member of a layer."""

    name: str
    content: bytes
    fields: Mapping[str, object]


def folder(name: str) -> Entry:
    """Describe a folder."""
    return entry(name, type=tarfile.DIRTYPE, mode=0o755)


def link(name: str, target: str, *, is_hard: bool = False) -> Entry:
    """Describe a link."""
    kind = tarfile.LNKTYPE if is_hard else tarfile.SYMTYPE
    return entry(name, type=kind, linkname=target)


def pack_layer(entries: Iterable[Entry]) -> bytes:
    """Write a layer's tar archive, whatever its entries say."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as tar:
        for one in entries:
            info = tarfile.TarInfo(one.name)
            info.size = len(one.content)
            for name, value in one.fields.items():
                setattr(info, name, value)
            tar.addfile(info, io.BytesIO(one.content))
    return stream.getvalue()


def busybox_layer() -> list[Entry]:
    """The files of a system that is busybox alone."""
    program = Path(shutil.which("busybox") or "/bin/busybox").read_bytes()
    accounts = "root:x:0:0:root:/:/bin/sh\napp:x:4242:4343:app:/app:/bin/sh\n"
    return [
        folder("bin"),
        entry("bin/busybox", program, mode=0o4755),
        *(link(f"bin/{name}", "busybox") for name in APPLETS),
        folder("etc"),
        entry("etc/passwd", accounts),
        entry("etc/group", "root:x:0:\napp:x:4343:\n"),
        folder("app"),
        entry("app/greeting", "hello from the image\n", mode=0o600),
    ]


@dataclass
class Packed:
    """An image's blobs, by digest."""

    manifest: bytes
    blobs: dict[str, bytes] = field(default_factory=dict)

    @property
    def digest(self) -> str:
        """The digest of its manifest."""
        return _digest(self.manifest)

    def write_archive(self, path: Path) -> Path:
        """Write it as an OCI archive."""
        index = {
            "schemaVersion": 2,
            "manifests": [
                {
                    "mediaType": MANIFEST_TYPE,
                    "digest": self.digest,
                    "size": len(self.manifest),
                }
            ],
        }
        files = {
            "oci-layout": b'{"imageLayoutVersion": "1.0.0"}',
            "index.json": json.dumps(index).encode(),
        }
        for digest, blob in ({self.digest: self.manifest} | self.blobs).items():
            files[f"blobs/sha256/{digest.removeprefix('sha256:')}"] = blob
        path.write_bytes(pack_layer(entry(name, raw) for name, raw in files.items()))
        return path


def pack_image(
    *layers: Iterable[Entry] | bytes, config: Mapping[str, object] | None = None
) -> Packed:
    """Pack layers (or their raw archives) into an image."""
    raws = [one if isinstance(one, bytes) else pack_layer(one) for one in layers]
    blobs: dict[str, bytes] = {}
    described = []
    for raw in raws:
        blob = gzip.compress(raw, compresslevel=1, mtime=0)
        blobs[_digest(blob)] = blob
        described.append(
            {"mediaType": LAYER_TYPE, "digest": _digest(blob), "size": len(blob)}
        )
    about = json.dumps(
        {
            "architecture": "amd64",
            "os": "linux",
            "config": dict(config or {}),
            "rootfs": {"type": "layers", "diff_ids": [_digest(raw) for raw in raws]},
        }
    ).encode()
    blobs[_digest(about)] = about
    manifest = {
        "schemaVersion": 2,
        "mediaType": MANIFEST_TYPE,
        "config": {
            "mediaType": CONFIG_TYPE,
            "digest": _digest(about),
            "size": len(about),
        },
        "layers": described,
    }
    return Packed(json.dumps(manifest).encode(), blobs)


BUSYBOX_CONFIG = {
    "Env": ["PATH=/bin", "FROM_IMAGE=yes", "HOME=/nowhere"],
    "Entrypoint": ["/bin/cat"],
    "Cmd": ["greeting"],
    "WorkingDir": "/app",
    "User": "app",
}


def busybox_image(**config: object) -> Packed:
    """An image with a shell, an entrypoint, a user and a variable."""
    return pack_image(busybox_layer(), config=BUSYBOX_CONFIG | config)


def _digest(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


@dataclass
class Registry:
    """A registry that serves what it was given, whatever the digests say."""

    host: str = ""
    images: dict[str, Packed] = field(default_factory=dict)  # "name:tag"
    asked: list[str] = field(default_factory=list)

    def reference(self, name: str) -> str:
        """Name one of its images."""
        return f"{self.host}/{name}"


@asynccontextmanager
async def running_registry(**images: Packed) -> AsyncIterator[Registry]:
    """Serve images (``name=…``, as ``name:latest``) by the distribution API."""
    registry = Registry(images={f"{name}:latest": one for name, one in images.items()})

    async def ping(_: web.Request) -> web.Response:
        return web.json_response({})

    async def manifest(request: web.Request) -> web.Response:
        registry.asked.append(request.path)
        name, wanted = request.match_info["name"], request.match_info["wanted"]
        for known, image in registry.images.items():
            if known == f"{name}:{wanted}" or (
                image.digest == wanted and known.startswith(f"{name}:")
            ):
                headers = {"Docker-Content-Digest": image.digest}
                return web.Response(
                    body=image.manifest, content_type=MANIFEST_TYPE, headers=headers
                )
        error = {"code": "MANIFEST_UNKNOWN", "message": "manifest unknown"}
        return web.json_response({"errors": [error]}, status=404)

    async def blob(request: web.Request) -> web.Response:
        registry.asked.append(request.path)
        for image in registry.images.values():
            if (found := image.blobs.get(request.match_info["digest"])) is not None:
                return web.Response(body=found)
        return web.Response(status=404)

    app = web.Application()
    app.router.add_get("/v2/", ping)
    app.router.add_get("/v2/{name:.+}/manifests/{wanted}", manifest)
    app.router.add_get("/v2/{name:.+}/blobs/{digest}", blob)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        port = runner.addresses[0][1]
        # Go's programs never use a proxy for what they know to be this very machine;
        # this name of it they do not know.
        registry.host = f"0.0.0.0:{port}"
        yield registry
    finally:
        await runner.cleanup()


def lay_out_root(root: Path) -> str:
    """Make an image's root by hand, with busybox alone, as ``image_unpack`` leaves it."""
    for point in (*FOLDERS, "bin"):
        (root / point).mkdir(parents=True, exist_ok=True)
    for point in FILES:
        (root / point).touch()
    shutil.copy(shutil.which("busybox") or "/bin/busybox", root / "bin/busybox")
    for name in APPLETS:
        (root / "bin" / name).symlink_to("busybox")
    return str(root)
