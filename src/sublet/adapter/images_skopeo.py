"""The images port: fetched by skopeo, unpacked by ``image_unpack``, each in a sandbox.

Neither has a right on this machine. skopeo reaches the registry and nothing else; the
unpacker reaches nothing at all; both have limits of memory, time and disk. What comes
of it is looked at once more from outside before anything is mounted on it.

Images of registries stand on a shelf by the digest of their manifest, which a tag is
first resolved to. Those that tenants bring along do not: they go where their job goes.
"""

import asyncio
import contextlib
import hashlib
import secrets
import shutil
import stat
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from pathlib import Path, PurePath
from typing import Annotated

import msgspec
from msgspec import Meta, Struct

from sublet.adapter.image_tools import (
    MANIFEST_BYTES_MAX,
    OUT,
    SOURCE,
    ImageTools,
    Say,
    refuse,
)
from sublet.adapter.image_unpack import FILES, FOLDERS
from sublet.adapter.shelf import Shelf, clear_away, measure
from sublet.base import limits
from sublet.base.errors import Broken, Refused
from sublet.core.image import ImageRules, Reference, Registry
from sublet.service.image_port import Image
from sublet.service.ports import (
    Probe,
    Sandbox,
)

_LAYOUT = 2  # raised when roots are made differently, so that old ones go
_ABOUT_BYTES_MAX = 4 << 20
_LAYERS_SHARE = 2  # layers lie beside what they are unpacked to
_MIB = 1 << 20
_Texts = Annotated[tuple[str, ...], Meta(max_length=1_024)]
_Number = Annotated[int, Meta(ge=0, lt=1 << 31)]


class _About(Struct, frozen=True, forbid_unknown_fields=True):
    """What the unpacker says of an image."""

    env: _Texts
    entrypoint: _Texts
    cmd: _Texts
    directory: str
    uid: _Number
    gid: _Number


class _Record(Struct, frozen=True):
    """Beside each image on the shelf."""

    size_bytes: int
    image: Image


class SkopeoImages:
    """Images by skopeo, in sandboxes; implements ``service.image_port.Images``."""

    def __init__(
        self,
        sandbox: Sandbox,
        *,
        folder: Path,
        uid: int,
        rules: ImageRules,
        in_use: Callable[[], Collection[Path]] = tuple,
    ) -> None:
        """Take a folder of the provider's; nothing is made or started yet.

        Args:
            sandbox: where images are fetched and unpacked, on this host's own system.
            folder: for the shelf and for what is being made.
            uid: host uid of both, no job's.
            rules: how large images may be, what registries need.
            in_use: folders of the shelf that running jobs have as their root.
        """
        self._sandbox = sandbox
        self._tools = ImageTools(sandbox, uid=uid, rules=rules)
        self._rules = rules
        self._images = folder / "images"
        self._drafts = folder / "drafts"
        self._shelf = Shelf(
            self._images,
            trash=self._drafts,
            bytes_max=rules.shelf_bytes_max,
            in_use=in_use,
        )
        self._locks: dict[str, asyncio.Lock] = {}

    async def open(self) -> None:
        """Make the folders; stop and remove what an earlier run left half done."""
        for place in (self._images, self._drafts):
            place.mkdir(mode=0o700, parents=True, exist_ok=True)
        for draft in self._drafts.iterdir():
            await self._discard(draft)

    def probe(self) -> Probe:
        """Say whether images can be fetched and unpacked on this machine."""
        if shutil.which("skopeo") is None:
            return Probe(False, "skopeo is not installed; apt install skopeo")
        return Probe(True, "skopeo fetches, a sandbox unpacks")

    async def fetch(
        self, reference: Reference, registry: Registry, *, say: Say
    ) -> Image:
        """Give an image of a registry; it is kept for the next job that wants it.

        Raises:
            Refused: there is none of that name, it is not what its digest says, or it
                is larger than this owner takes.
            Unavailable: the registry does not answer.
        """
        if not reference.digest:
            say(f"asking {reference.host} for {reference.repository}:{reference.tag}")
            reference = await self._resolve(reference, registry, say)
        key = _key_of(reference)
        async with self._locks.setdefault(key, asyncio.Lock()):
            image = self._find(key)
            if image is None:
                async with self._draft() as draft:
                    await self._tools.copy(
                        ("copy", f"docker://{reference}", f"dir:{OUT}/layers"),
                        draft,
                        registry=registry,
                        bytes_max=_LAYERS_SHARE * self._rules.bytes_max,
                        say=say,
                    )
                    image = await _unpack(
                        self._tools,
                        "layers",
                        draft / "out" / "layers",
                        draft,
                        digest=reference.digest,
                        bytes_max=self._rules.bytes_max,
                        say=say,
                    )
                    image = await asyncio.to_thread(self._keep, key, image)
            self._shelf.touch(key)
        await self._shelf.evict(keep=self._shelf.place(key))
        return image

    async def unpack(
        self,
        kind: str,
        archive: PurePath,
        *,
        folder: PurePath,
        bytes_max: int,
        uid: int,
        say: Say,
    ) -> Image:
        """Unpack an archive that a tenant brought, into a new folder that is its own.

        Raises:
            Refused: it is no such archive, damaged, or too large.
            Unavailable: the disk or the sandbox failed.
        """
        place = Path(folder)
        bytes_max = min(bytes_max, self._rules.bytes_max)
        digest = await asyncio.to_thread(_hash, Path(archive))
        tools = ImageTools(self._sandbox, uid=uid, rules=self._rules)
        async with self._draft(place.with_name(f"{place.name}-draft")) as draft:
            source = Path(archive)
            if kind == "oci-archive":
                # skopeo would unpack it by itself, and fail at the owners in it.
                folder = await tools.lay_out("tar", source, draft, bytes_max, say)
                source, kind = folder / "root", "oci"
            if kind != "dir":
                await tools.copy(
                    ("copy", f"{kind}:{SOURCE}/archive", f"dir:{OUT}/layers"),
                    draft,
                    source=source,
                    bytes_max=_LAYERS_SHARE * bytes_max,
                    say=say,
                )
                source = draft / "out" / "layers"
            image = await _unpack(
                tools,
                "tar" if kind == "dir" else "layers",
                source,
                draft,
                digest=digest,
                bytes_max=bytes_max,
                say=say,
            )
            await asyncio.to_thread(Path(image.root).rename, place)
        return msgspec.structs.replace(image, root=str(place))

    # ---- the shelf ----------------------------------------------------------------

    def _find(self, key: str) -> Image | None:
        place = self._shelf.place(key)
        try:
            raw = place.with_suffix(".json").read_bytes()
            record = msgspec.json.decode(raw, type=_Record)
        except (OSError, msgspec.MsgspecError):
            return None
        return record.image if place.is_dir() else None

    def _keep(self, key: str, image: Image) -> Image:
        draft = Path(image.root)
        kept = msgspec.structs.replace(image, root=str(self._shelf.place(key)))
        self._shelf.put(draft, key=key, record=_Record(measure(draft), kept))
        return kept

    @contextlib.asynccontextmanager
    async def _draft(self, place: Path | None = None) -> AsyncIterator[Path]:
        draft = place or self._drafts / secrets.token_hex(8)
        draft.mkdir(mode=0o700)
        (draft / "out").mkdir(mode=0o755)
        try:
            yield draft
        finally:
            await self._discard(draft)

    async def _discard(self, draft: Path) -> None:
        for run in await asyncio.to_thread(lambda: list(draft.glob("run-*"))):
            with contextlib.suppress(Refused):  # no sandbox was ever started in it
                await self._sandbox.stop(run, grace_s=0)
        await clear_away(draft)

    async def _resolve(
        self, reference: Reference, registry: Registry, say: Say
    ) -> Reference:
        """Say what a tag points at now."""
        async with self._draft() as draft:
            await self._tools.copy(
                ("inspect", "--raw", f"docker://{reference}"),
                draft,
                registry=registry,
                bytes_max=MANIFEST_BYTES_MAX,
                say=say,
            )
            content = await asyncio.to_thread(
                _read_bounded, draft / "manifest", MANIFEST_BYTES_MAX
            )
        return reference.pinned(f"sha256:{hashlib.sha256(content).hexdigest()}")


async def _unpack(
    tools: ImageTools,
    kind: str,
    source: Path,
    draft: Path,
    *,
    digest: str,
    bytes_max: int,
    say: Say,
) -> Image:
    made = await tools.lay_out(kind, source, draft, bytes_max, say)
    about = await asyncio.to_thread(_read_about, made)
    return Image(
        root=str(made / "root"),
        digest=digest,
        env=_read_env(about.env),
        entrypoint=about.entrypoint,
        cmd=about.cmd,
        directory=about.directory,
        uid=about.uid,
        gid=about.gid,
    )


def _key_of(reference: Reference) -> str:
    parts = f"{_LAYOUT} {reference.digest}"
    return hashlib.sha256(parts.encode()).hexdigest()[:32]


def _hash(path: Path) -> str:
    hasher = hashlib.sha256()
    try:
        with path.open("rb") as file:
            while block := file.read(_MIB):
                hasher.update(block)
    except OSError as error:
        raise refuse(f"{path.name} cannot be read: {error.strerror}") from error
    return f"sha256:{hasher.hexdigest()}"


def _read_bounded(path: Path, most: int) -> bytes:
    with path.open("rb") as file:
        content = file.read(most + 1)
    if len(content) > most:
        raise refuse("its manifest is too large")
    return content


def _read_about(made: Path) -> _About:
    """Read what the unpacker said, and look whether the root is what it has to be."""
    try:
        about = msgspec.json.decode(
            _read_bounded(made / "about.json", _ABOUT_BYTES_MAX), type=_About
        )
        for point in (".", *FOLDERS):
            _check_kind(made / "root" / point, stat.S_IFDIR)
        for point in FILES:
            _check_kind(made / "root" / point, stat.S_IFREG)
    except (OSError, msgspec.MsgspecError) as error:
        raise refuse(f"what it says of itself cannot be used: {error}") from error
    return about


def _check_kind(path: Path, kind: int) -> None:
    if stat.S_IFMT(path.lstat().st_mode) != kind:
        raise Broken(f"{path} is no place to mount anything on")


def _read_env(lines: Sequence[str]) -> dict[str, str]:
    pairs = (line.partition("=") for line in lines)
    env = {name: value for name, _, value in pairs if name and "\0" not in name + value}
    if len(env) > limits.ENVIRONMENT_VARIABLES_MAX:
        raise refuse(f"more than {limits.ENVIRONMENT_VARIABLES_MAX} variables")
    return env
