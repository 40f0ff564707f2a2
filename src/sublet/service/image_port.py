"""The port of images; as in ``ports``, with a real adapter and a verified fake."""

from collections.abc import Callable, Mapping
from pathlib import PurePath
from typing import Protocol

from msgspec import Struct

from sublet.core.image import Reference, Registry
from sublet.service.ports import Probe


class Image(Struct, frozen=True):
    """An image, unpacked: a folder to be a sandbox's ``root``, and what it asks for."""

    root: str  # host folder; nothing in it is a device, everything can be read
    digest: str  # "sha256:…" of its manifest, or of the archive that was brought
    env: Mapping[str, str]
    entrypoint: tuple[str, ...]
    cmd: tuple[str, ...]
    directory: str  # a folder of the image, or ""
    uid: int  # that it wants to be inside
    gid: int


class Images(Protocol):
    """Fetches and unpacks what strangers packed, without trusting a byte of it."""

    def probe(self) -> Probe:
        """Say whether images can be fetched and unpacked on this machine."""
        ...

    async def fetch(
        self, reference: Reference, registry: Registry, *, say: Callable[[str], None]
    ) -> Image:
        """Give an image of a registry; it is kept for the next job that wants it.

        Raises:
            Refused: there is none of that name, it is not what its digest says, or it
                is larger than this owner takes.
            Unavailable: the registry does not answer.
        """
        ...

    async def unpack(
        self,
        kind: str,
        archive: PurePath,
        *,
        folder: PurePath,
        bytes_max: int,
        uid: int,
        say: Callable[[str], None],
    ) -> Image:
        """Unpack an archive that a tenant brought, into a new folder that is its own.

        Args:
            kind: ``oci-archive``, ``docker-archive`` or ``dir``.
            archive: the file; no link.
            folder: is made; who removes it forgets the image.
            bytes_max: that it may hold.
            uid: host uid that unpacks it, and that it belongs to.
            say: takes lines for people.

        Raises:
            Refused: it is no such archive, damaged, or too large.
            Unavailable: the disk or the sandbox failed.
        """
        ...
