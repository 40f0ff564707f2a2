"""Images by their references: where they come from, and who allows that. Pure.

A reference names an image of a registry, as everywhere (``python:3.12``,
``ghcr.io/owner/name@sha256:…``), or a file of the tenant's own that goes along:
``oci-archive:PATH``, ``docker-archive:PATH``, or ``dir:PATH``, a root folder in one
tar archive.

Not here: how one is fetched (``adapter.images_skopeo``).
"""

import re

from msgspec import Struct
from msgspec.structs import replace

from sublet.base.errors import Refused

FEATURE = "image"  # as offers and orders have it: runs images that the tenant brings
DEFAULT_REGISTRY = "docker.io"
DEFAULT_REGISTRIES = (DEFAULT_REGISTRY, "ghcr.io", "quay.io")
ARCHIVES = ("oci-archive", "docker-archive", "dir")
REFERENCE_LENGTH_MAX = 512
_HOST_LENGTH_MAX = 100  # so that ``image:HOST`` is one text of a document
_HOST = re.compile(
    r"\A[a-z0-9](?:[a-z0-9-]*[a-z0-9])?(?:\.[a-z0-9](?:[a-z0-9-]*[a-z0-9])?)*"
    r"(?::[0-9]{1,5})?\Z"
)
_PART = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_REPOSITORY = re.compile(rf"\A{_PART}(?:/{_PART})*\Z")
_TAG = re.compile(r"\A[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}\Z")
_DIGEST = re.compile(r"\Asha256:[0-9a-f]{64}\Z")


class Reference(Struct, frozen=True):
    """What an image is called."""

    kind: str  # "registry", or one of ARCHIVES
    host: str = ""  # of the registry, "docker.io", "localhost:5000"
    repository: str = ""
    tag: str = ""  # "" where there is a digest
    digest: str = ""  # "sha256:…" of its manifest, or ""
    path: str = ""  # of an archive

    @property
    def feature(self) -> str:
        """What an order requires of a machine for this image."""
        return f"{FEATURE}:{self.host}" if self.host else FEATURE

    def pinned(self, digest: str) -> "Reference":
        """The same image by the digest that its tag now has."""
        return replace(self, digest=digest, tag="")

    def __str__(self) -> str:
        if self.kind in ARCHIVES:
            return f"{self.kind}:{self.path}"
        end = f"@{self.digest}" if self.digest else f":{self.tag}"
        return f"{self.host}/{self.repository}{end}"


class Registry(Struct, frozen=True):
    """A registry that an owner lets images come from."""

    host: str
    is_plain: bool = False  # spoken to by http, where it does not answer by https

    def __str__(self) -> str:
        return f"http://{self.host}" if self.is_plain else self.host


class ImageRules(Struct, frozen=True):
    """What images an owner lets tenants run."""

    registries: tuple[Registry, ...] = tuple(map(Registry, DEFAULT_REGISTRIES))
    hosts: tuple[str, ...] = ()  # "NAME:PORT" that registries send downloads to
    own: bool = True  # those that tenants bring along
    bytes_max: int = 20 << 30  # of one, unpacked
    shelf_bytes_max: int = 60 << 30  # of those that are kept, together

    @property
    def features(self) -> tuple[str, ...]:
        """What an offer says of it."""
        own = (FEATURE,) if self.own else ()
        return (*own, *(f"{FEATURE}:{one.host}" for one in self.registries))


def parse_reference(text: str, *, field: str) -> Reference:
    """Read a reference; what is left out in it is as everywhere.

    Raises:
        Refused: it is none (``bad_image``).

    >>> str(parse_reference("python:3.12", field="--image"))
    'docker.io/library/python:3.12'
    >>> str(parse_reference("oci-archive:my/image.tar", field="--image"))
    'oci-archive:my/image.tar'
    """

    def refuse(why: str) -> Refused:
        return Refused(
            f"{field}: {text[:120]!r} {why}; write it like python:3.12, "
            "ghcr.io/owner/name@sha256:… or oci-archive:FILE",
            code="bad_image",
            field=field,
        )

    if len(text) > REFERENCE_LENGTH_MAX or not text.isprintable():
        raise refuse("is too long, or no plain text")
    scheme, _, rest = text.partition(":")
    if scheme in ARCHIVES:
        if not rest:
            raise refuse("names no file")
        return Reference(scheme, path=rest)
    name, _, digest = text.removeprefix("docker://").partition("@")
    if digest and _DIGEST.match(digest) is None:
        raise refuse("has a digest that is none")
    head, slash, tail = name.partition("/")
    is_host = bool(slash) and ("." in head or ":" in head or head == "localhost")
    host, path = (head, tail) if is_host else (DEFAULT_REGISTRY, name)
    repository, _, tag = path.partition(":")
    if host == DEFAULT_REGISTRY and "/" not in repository:
        repository = f"library/{repository}"
    if len(host) > _HOST_LENGTH_MAX or _HOST.match(host) is None:
        raise refuse("names no registry")
    if _REPOSITORY.match(repository) is None:
        raise refuse("names no image")
    if ":" in path and _TAG.match(tag) is None:
        raise refuse("has a tag that is none")
    # What a tag beside a digest pointed at is what the digest says, or a mistake.
    tag = "" if digest else tag or "latest"
    return Reference("registry", host, repository, tag, digest)


def parse_registry(text: str, *, field: str) -> Registry:
    """Read a registry as an owner names it.

    Raises:
        Refused: it is none (``bad_registry``).

    >>> parse_registry("http://10.0.0.5:5000", field="images.registries").is_plain
    True
    """
    host = text.strip().lower().removeprefix("https://").removesuffix("/")
    is_plain = host.startswith("http://")
    host = host.removeprefix("http://")
    if len(host) > _HOST_LENGTH_MAX or _HOST.match(host) is None:
        raise Refused(
            f"{field}: {text[:80]!r} is no registry; write it like docker.io or "
            "http://10.0.0.5:5000",
            code="bad_registry",
            field=field,
        )
    return Registry(host, is_plain)


def check_allowed(wanted: Reference, rules: ImageRules) -> Registry | None:
    """Check an image against an owner's rules; give its registry, if it has one.

    Raises:
        Refused: it may not run here (``image_forbidden``).
    """
    if wanted.kind in ARCHIVES:
        if rules.own:
            return None
        why = "is brought along, and this machine's owner takes none"
    else:
        for one in rules.registries:
            if one.host == wanted.host:
                return one
        why = f"is of {wanted.host}, which this machine's owner does not allow"
    raise Refused(
        f"manifest.image: {wanted} {why}; run it elsewhere",
        code="image_forbidden",
        field="manifest.image",
    )
