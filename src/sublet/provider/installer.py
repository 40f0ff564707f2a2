"""A script's dependencies, installed once and bound read-only into its jobs.

An environment is built by ``uv`` in a sandbox of its own that reaches the package
registry and nothing else, in a folder of its own; then it is published by a rename
under a key: the hash of what was asked for, of the Python and of the platform. The
next job with the same needs gets it at once. Jobs see it at ``/env``.

Two tries. First with wheels only: nothing of a stranger's runs, so what lands in the
shared download cache is what the registry sent. If a package has to be built from
source, its own code runs, and could leave anything in a cache that other tenants'
installs read: so the second try gets an empty cache that is thrown away.

Least recently used environments go when all together become too large.
"""

import asyncio
import contextlib
import hashlib
import platform
import secrets
from collections.abc import Callable, Collection
from pathlib import Path

import msgspec
from msgspec import Struct

from sublet.adapter.egress_proxy import REGISTRY, EgressProxy
from sublet.adapter.job_python import find_job_python
from sublet.adapter.shelf import Shelf, clear_away, measure
from sublet.base.errors import Refused, Unavailable
from sublet.core.egress import Destination
from sublet.provider.install_output import Say, explain, follow
from sublet.provider.script_metadata import (
    Requirements,
    check_python,
    read_requirements,
)
from sublet.service.ports import Bind, Sandbox, SandboxSpec

TARGET = "/env"  # where every sandbox sees the environment
_UV = "/opt/uv/uv"
_CACHE = "/cache"
_LAYOUT = 1  # raised when environments are built differently, so that old ones go
_MEMORY_BYTES = 2 << 30
_CPUS_MILLI = 2_000
_PROCESSES_MAX = 512
_TMP_BYTES = 256 << 20
_FILE_BYTES_MAX = 8 << 30
_TIMEOUT_S = 900
_LOG_BYTES_MAX = 1 << 20
_NEEDS_BUILD = ("building from source is disabled", "Building source distributions")


class Environment(Struct, frozen=True):
    """Installed dependencies, ready to be bound into a sandbox."""

    folder: Path
    python: str = f"{TARGET}/bin/python"  # inside

    @property
    def bind(self) -> Bind:
        """Give it to a job: read-only, so that jobs cannot hand each other anything."""
        return Bind(str(self.folder), TARGET)


class _Record(Struct, frozen=True):
    """Beside each environment."""

    size_bytes: int
    requirements: Requirements


class Installer:
    """Builds and keeps the environments of one provider."""

    def __init__(
        self,
        sandbox: Sandbox,
        *,
        folder: Path,
        uid: int,
        bytes_max: int = 32 << 30,
        index: str = "https://pypi.org/simple",
        allow: Collection[Destination] = REGISTRY,
        in_use: Callable[[], Collection[Path]] = tuple,
    ) -> None:
        """Take a folder of the provider's; nothing is made or started yet.

        Args:
            sandbox: where installs run.
            folder: for environments and the download cache.
            uid: host uid of the installs, no job's.
            bytes_max: what all environments may hold together.
            index: the package index; its hosts must be in ``allow``.
            allow: what an install may reach.
            in_use: folders of the environments that running jobs have bound.
        """
        self._sandbox = sandbox
        self._environments = folder / "environments"
        self._drafts = folder / "installs"
        self._cache = folder / "uv-cache"
        self._uid = uid
        self._bytes_max = bytes_max
        self._index = index
        self._allow = allow
        self._shelf = Shelf(
            self._environments, trash=self._drafts, bytes_max=bytes_max, in_use=in_use
        )
        self._locks: dict[str, asyncio.Lock] = {}

    async def open(self) -> None:
        """Make the folders; stop and remove what an earlier run left half done."""
        for place in (self._environments, self._drafts, self._cache):
            place.mkdir(mode=0o700, parents=True, exist_ok=True)
        for draft in self._drafts.iterdir():
            await self._discard(draft)

    async def install(self, script: str, *, say: Say) -> Environment:
        """Give the environment that this script's metadata asks for.

        Installs of the same needs wait for one another; ``say`` gets lines for people.

        Raises:
            Refused: the metadata is wrong, or the packages cannot be installed.
            Unavailable: the registry or the sandbox did not answer.
        """
        requirements = read_requirements(script)
        check_python(requirements, version=platform.python_version())
        key = compute_key(requirements, index=self._index)
        async with self._locks.setdefault(key, asyncio.Lock()):
            environment = Environment(self._shelf.place(key))
            if not environment.folder.is_dir():
                await self._build(key, requirements, say)
            self._shelf.touch(key)
        await self._shelf.evict(keep=environment.folder)
        return environment

    # -- building

    async def _build(self, key: str, requirements: Requirements, say: Say) -> None:
        shared = [self._cache]
        for caches in (shared, []):
            draft = self._drafts / f"{key}-{secrets.token_hex(4)}"
            draft.mkdir(mode=0o700)
            try:
                problem = await self._try(draft, requirements, say, caches=caches)
                if problem is None:
                    await asyncio.to_thread(self._publish, draft, key, requirements)
                    return
            finally:
                await self._discard(draft)
            if caches is shared and any(word in problem for word in _NEEDS_BUILD):
                say("a package has to be built from source")
                continue
            raise Refused(
                f"the dependencies cannot be installed:\n{problem}",
                code="install_failed",
                field="dependencies",
            )

    async def _try(
        self, draft: Path, requirements: Requirements, say: Say, *, caches: list[Path]
    ) -> str | None:
        """Build into ``draft/env``; say what went wrong, or None."""
        for name in ("env", "cache", "network"):
            (draft / name).mkdir(mode=0o755)
        cache = caches[0] if caches else draft / "cache"
        log = draft / "log"
        path = draft / "network" / "registry"
        async with EgressProxy(path=path, allow=self._allow) as proxy:
            spec = self._make_spec(requirements, draft, cache=cache, network=str(path))
            await self._sandbox.start(spec, folder=draft / "sandbox")
            state = await follow(
                self._sandbox.wait_ended(draft / "sandbox"), log=log, say=say
            )
        if state.reason == "exited" and state.exit_code == 0:
            return None
        if proxy.failures and not proxy.rows():
            raise Unavailable("the package registry does not answer", retry_after_s=30)
        return explain(state, log.read_text(errors="replace"))

    def _make_spec(
        self, requirements: Requirements, draft: Path, *, cache: Path, network: str
    ) -> SandboxSpec:
        is_shared = cache == self._cache
        python = find_job_python()
        script = f'set -e; {_UV} venv -q --python "$1" {TARGET}; shift; exec "$@"'
        install = [_UV, "pip", "install", "--python", f"{TARGET}/bin/python"]
        install += ["--no-build"] if is_shared else []
        install += ["--", *requirements.dependencies]
        command = install if requirements.dependencies else ["true"]
        return SandboxSpec(
            argv=("/bin/sh", "-c", script, "install", python.inside, *command),
            env={
                "PATH": "/usr/local/bin:/usr/bin:/bin",
                "HOME": "/tmp",  # noqa: S108  # the sandbox's own
                "LANG": "C.UTF-8",
                "SSL_CERT_FILE": "/etc/ssl/certs/ca-certificates.crt",
                "UV_CACHE_DIR": _CACHE,
                "UV_DEFAULT_INDEX": self._index,
                "UV_LINK_MODE": "copy",  # never shares a file with the cache
                "UV_NO_CONFIG": "1",
                "UV_NO_PROGRESS": "1",
                "UV_PYTHON_DOWNLOADS": "never",
                "UV_SYSTEM_CERTS": "1",
            },
            directory="/tmp",  # noqa: S108
            binds=(
                Bind(str(draft / "env"), TARGET, is_writable=True),
                Bind(str(cache), _CACHE, is_writable=True),
                Bind(_find_uv(), _UV),
            ),
            uid=self._uid,
            memory_bytes=_MEMORY_BYTES,
            cpus_milli=_CPUS_MILLI,
            processes_max=_PROCESSES_MAX,
            tmp_bytes=_TMP_BYTES,
            file_bytes_max=_FILE_BYTES_MAX,
            disk_bytes=self._bytes_max,
            watched=(str(draft / "env"), str(draft / "cache")),
            network=network,
            stdout=str(draft / "log"),
            stderr=str(draft / "log"),
            log_bytes_max=_LOG_BYTES_MAX,
            timeout_s=_TIMEOUT_S,
        )

    def _publish(self, draft: Path, key: str, requirements: Requirements) -> None:
        record = _Record(measure(draft / "env"), requirements)
        self._shelf.put(draft / "env", key=key, record=record)

    async def _discard(self, draft: Path) -> None:
        with contextlib.suppress(Refused):  # no sandbox was ever started in it
            await self._sandbox.stop(draft / "sandbox", grace_s=0)
        await clear_away(draft)


def compute_key(requirements: Requirements, *, index: str) -> str:
    """Hash everything that an environment depends on; 32 hex digits."""
    parts = (
        requirements,
        platform.python_version(),
        find_job_python().inside,
        platform.machine(),
        platform.libc_ver(),
        index,
        _LAYOUT,
    )
    return hashlib.sha256(msgspec.json.encode(parts)).hexdigest()[:32]


def _find_uv() -> str:
    try:
        import uv

        return str(Path(uv.find_uv_bin()).resolve())
    except (ImportError, FileNotFoundError) as error:
        raise Unavailable(
            "uv is not installed; pip install 'sublet[provider]'"
        ) from error
