"""The two programs that make images, each in a sandbox: skopeo, and our unpacker."""

import asyncio
import secrets
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

from sublet.adapter.egress_proxy import EgressProxy
from sublet.adapter.image_unpack import REFUSED
from sublet.adapter.job_python import find_job_python
from sublet.adapter.shelf import measure
from sublet.base.errors import Refused, Unavailable
from sublet.core.egress import Destination, parse_destination
from sublet.core.image import ImageRules, Registry
from sublet.service.ports import Bind, Sandbox, SandboxSpec, SandboxState

Say = Callable[[str], None]

FILES_MAX = 500_000  # of one image
MANIFEST_BYTES_MAX = 4 << 20
_UNPACK = "/run/sublet/unpack.py"
OUT = "/out"  # inside
SOURCE = "/source"
_MEMORY_BYTES = 1 << 30
_CPUS_MILLI = 2_000
_PROCESSES_MAX = 256
_TMP_BYTES = 64 << 20
_FETCH_S = 3_600
_UNPACK_S = 1_800
_LOG_BYTES_MAX = 1 << 20
_SAY_S = 2.0
_MIB = 1 << 20
_ERROR_LENGTH_MAX = 400
# Where the large registries send those who ask for layers and tokens.
_HOSTS = {
    "docker.io": (
        "registry-1.docker.io",
        "auth.docker.io",
        "index.docker.io",
        "production.cloudflare.docker.com",
        "*.r2.cloudflarestorage.com",
    ),
    "ghcr.io": ("ghcr.io", "pkg-containers.githubusercontent.com"),
    "quay.io": ("quay.io", "*.quay.io"),
}


class ImageTools:
    """Runs them; a draft is a folder of the caller's with ``out`` in it."""

    def __init__(self, sandbox: Sandbox, *, uid: int, rules: ImageRules) -> None:
        """Take where they run, under which host uid, and what registries need."""
        self._sandbox = sandbox
        self._uid = uid
        self._rules = rules

    async def copy(
        self,
        words: Sequence[str],
        draft: Path,
        *,
        bytes_max: int,
        say: Say,
        registry: Registry | None = None,
        source: Path | None = None,
    ) -> None:
        """Run skopeo; ``draft/manifest`` gets what it prints, ``draft/out`` the rest.

        Raises:
            Refused: it does not get what it was told to.
            Unavailable: the registry does not answer.
        """
        command, *names = words
        argv = ["skopeo", "--insecure-policy", f"--tmpdir={OUT}", command]
        argv += ["--dest-decompress", "--format=oci"] if command == "copy" else []
        if registry is not None and registry.is_plain:
            option = "--src-tls-verify" if command == "copy" else "--tls-verify"
            argv.append(f"{option}=false")
        argv += names
        binds = [Bind(str(draft / "out"), OUT, is_writable=True)]
        if source is not None:
            binds.append(Bind(str(source), f"{SOURCE}/archive"))
        spec = self._make_spec(
            argv,
            draft,
            binds=binds,
            bytes_max=bytes_max,
            timeout_s=_FETCH_S,
        )
        if registry is None:
            said = "reading the archive"
            state = await self._run(spec, draft, said=said, say=say)
            failures = 0
        else:
            socket = draft / "network" / "registry"
            socket.parent.mkdir(mode=0o755, exist_ok=True)
            allow = find_destinations(registry, self._rules)
            async with EgressProxy(path=socket, allow=allow) as proxy:
                spec = msgspec.structs.replace(spec, network=str(socket))
                said = f"fetching from {registry.host}"
                state = await self._run(spec, draft, said=said, say=say)
            failures = 0 if proxy.rows() else proxy.failures
        if state.reason == "exited" and state.exit_code == 0:
            return
        if failures:
            raise Unavailable(f"{said}: it does not answer", retry_after_s=30)
        raise refuse(_explain(state, draft / "log"))

    async def lay_out(
        self, kind: str, source: Path, draft: Path, bytes_max: int, say: Say
    ) -> Path:
        """Run the unpacker; give the folder with what it made."""
        made = draft / f"made-{secrets.token_hex(4)}"
        await asyncio.to_thread(made.mkdir, 0o755)
        inside = f"{SOURCE}/image"
        argv = [find_job_python().inside, "-I", "-S", _UNPACK]
        argv += [kind, inside, OUT, str(bytes_max), str(FILES_MAX)]
        script = Path(__file__).with_name("image_unpack.py")
        spec = self._make_spec(
            argv,
            draft,
            binds=[
                Bind(str(script), _UNPACK),
                Bind(str(source), inside),
                Bind(str(made), OUT, is_writable=True),
            ],
            bytes_max=2 * bytes_max,  # small files take whole blocks
            timeout_s=_UNPACK_S,
        )
        state = await self._run(spec, draft, said="unpacking the image", say=say)
        if state.reason == "exited" and state.exit_code == REFUSED:
            lines = (draft / "manifest").read_text(errors="replace").splitlines()
            raise refuse(_clean(lines[-1] if lines else "it is damaged"))
        if state.reason != "exited" or state.exit_code:
            raise refuse(_explain(state, draft / "log"))
        return made

    # ---- sandboxes ----------------------------------------------------------------

    def _make_spec(
        self,
        argv: Sequence[str],
        draft: Path,
        *,
        binds: Sequence[Bind],
        bytes_max: int,
        timeout_s: int,
    ) -> SandboxSpec:
        writable = tuple(bind.source for bind in binds if bind.is_writable)
        return SandboxSpec(
            argv=tuple(argv),
            env={
                "PATH": "/usr/local/bin:/usr/bin:/bin",
                "HOME": "/tmp",  # noqa: S108  # the sandbox's own
                "XDG_RUNTIME_DIR": "/tmp",  # noqa: S108
                "LANG": "C.UTF-8",
                "SSL_CERT_FILE": "/etc/ssl/certs/ca-certificates.crt",
            },
            directory="/tmp",  # noqa: S108
            binds=tuple(binds),
            uid=self._uid,
            memory_bytes=_MEMORY_BYTES,
            cpus_milli=_CPUS_MILLI,
            processes_max=_PROCESSES_MAX,
            tmp_bytes=_TMP_BYTES,
            file_bytes_max=max(bytes_max, _MIB),
            disk_bytes=max(bytes_max, _MIB),
            watched=writable,
            stdout=str(draft / "manifest"),
            stderr=str(draft / "log"),
            log_bytes_max=max(_LOG_BYTES_MAX, MANIFEST_BYTES_MAX),
            timeout_s=timeout_s,
        )

    async def _run(
        self, spec: SandboxSpec, draft: Path, *, said: str, say: Say
    ) -> SandboxState:
        """Run it to its end, and tell people how far it is."""
        folder = draft / f"run-{secrets.token_hex(4)}"
        for name in ("manifest", "log"):
            (draft / name).unlink(missing_ok=True)
        say(said)
        await self._sandbox.start(spec, folder=folder)
        ending = asyncio.ensure_future(self._sandbox.wait_ended(folder))
        try:
            while True:
                await asyncio.wait({ending}, timeout=_SAY_S)
                if ending.done():
                    return ending.result()
                size = await asyncio.to_thread(_measure_all, spec.watched)
                say(f"{said}: {size // _MIB} MiB")
        finally:
            ending.cancel()


def find_destinations(registry: Registry, rules: ImageRules) -> tuple[Destination, ...]:
    """Say what skopeo may reach for the images of a registry."""
    port = 80 if registry.is_plain else 443
    names = (*_HOSTS.get(registry.host, (registry.host,)), *rules.hosts)
    return tuple(
        parse_destination(name, field="images.hosts", port=port) for name in names
    )


def _measure_all(folders: Sequence[str]) -> int:
    try:
        return sum(measure(Path(folder)) for folder in folders)
    except OSError:  # something just went away
        return 0


def _explain(state: SandboxState, log: Path) -> str:
    """Say why, from what skopeo wrote last."""
    reasons = {
        "out_of_memory": "it needs more memory than images get here",
        "disk_full": "it is larger than this provider takes",
        "timeout": "it took too long",
    }
    if state.reason in reasons:
        return reasons[state.reason]
    try:
        lines = log.read_text(errors="replace").splitlines()
    except OSError:
        lines = []
    last = next((line for line in reversed(lines) if line.strip()), "")
    text = last.partition("msg=")[2] or last
    return _clean(text) or f"it ended with code {state.exit_code}"


def _clean(text: str) -> str:
    shown = "".join(letter for letter in text.strip() if letter.isprintable())
    return shown.strip('"')[:_ERROR_LENGTH_MAX]


def refuse(why: str) -> Refused:
    """Say why an image cannot be used."""
    return Refused(f"the image cannot be used: {why}", code="bad_image", field="image")
