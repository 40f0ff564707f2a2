"""The sandbox port on OCI runtimes: crun as podman uses it, and gVisor's runsc.

One bundle for both (``oci_bundle``); both are started by the warden's keeper under the
job's own uid, so that a hole in a runtime leads to nobody's rights. podman itself
starts nothing here: it would hand the job to a monitor that leaves our control group,
and take a third of a second. What it stands for is what it runs: crun, and its init.
"""

import os
import resource
import shutil
import socket
from pathlib import Path, PurePath

import msgspec

from sublet.adapter.bubblewrap_options import SHARED
from sublet.adapter.image_place import find_spec_underlays
from sublet.adapter.job_python import find_python_for
from sublet.adapter.nvidia import GpuFiles
from sublet.adapter.oci_bundle import STAGE, Bundle, Identity, build_bundle
from sublet.adapter.sandbox_warden import (
    HERE,
    WardenSandbox,
    find_files_max,
    find_root_links,
)
from sublet.adapter.seccomp_filter import compile_filter
from sublet.base.errors import Refused, Unavailable
from sublet.service.ports import SandboxSpec

_ID = "job"  # each runtime has a state folder of its own, so one name does
_PID_FILE = "--pid-file=/proc/self/fd/STATUS"
_NO_DOOR = "its kernel has a network of its own, which no port leads into"
_INITS = ("catatonit", "/usr/libexec/podman/catatonit", "tini-static")


def find_init() -> str:
    """Find a static init for PID 1, which understands ``-g``.

    Raises:
        Unavailable: none is installed.
    """
    for name in _INITS:
        found = shutil.which(name)
        if found:
            return str(Path(found).resolve())
    raise Unavailable("catatonit is not installed; apt install catatonit")


class _OciSandbox(WardenSandbox):
    """What the runtimes share."""

    def _launch(
        self, bundle: Bundle, *, flags: list[str], rlimits: tuple[tuple[int, int], ...]
    ) -> dict[str, object]:
        runtime = [self.find_program(), f"--root={STAGE}/state", *flags]
        run = ["run", f"--bundle={STAGE}/bundle", _PID_FILE, _ID]
        return {
            "kind": self._program_name,
            "run": [*runtime, *run],
            "end": [*runtime, "kill", _ID, "TERM"],
            "rlimits": tuple((limit, most, most) for limit, most in rlimits),
            **msgspec.structs.asdict(bundle),
        }

    def _bundle(
        self,
        spec: SandboxSpec,
        *,
        identity: Identity,
        gpu: GpuFiles,
        seccomp: bytes,
        rlimits: dict[str, int],
    ) -> Bundle:
        return build_bundle(
            spec,
            identity=identity,
            python=find_python_for(spec),
            gpu=gpu,
            root_links=find_root_links(),
            shared=tuple(path for path in SHARED if os.path.exists(path)),  # noqa: PTH110
            init=find_init(),
            bridge=str(HERE / "network_bridge.py"),
            seccomp=seccomp,
            rlimits=rlimits,
            underlays=find_spec_underlays(spec),
        )


class PodmanSandbox(_OciSandbox):
    """Containers as podman runs them, by crun; implements ``service.ports.Sandbox``."""

    name = "podman"
    _program_name = "crun"
    _package = "crun"

    def _write_launch(
        self, spec: SandboxSpec, *, uid: int, shares_network: bool
    ) -> dict[str, object]:
        files, size = find_files_max(), spec.file_bytes_max
        bundle = self._bundle(
            spec,
            identity=Identity(spec.inside_uid, spec.inside_gid, max(uid, 0)),
            gpu=self._find_gpu_files(spec.gpu_uuids),
            seccomp=compile_filter(),
            rlimits={},
        )
        return self._launch(
            bundle,
            flags=["--cgroup-manager=disabled"],
            rlimits=(
                (resource.RLIMIT_CORE, 0),
                (resource.RLIMIT_FSIZE, size),
                (resource.RLIMIT_NOFILE, files),
            ),
        )


class GvisorSandbox(_OciSandbox):
    """Jobs on a kernel of their own, by runsc; implements ``service.ports.Sandbox``.

    For the hostile class: the job's system calls reach gVisor's kernel, and that one
    asks the host for little. It runs as root there, without any capability.
    """

    name = "gvisor"
    has_gpu = False  # Debian's build has no nvproxy
    _program_name = "runsc"
    _package = "runsc"
    _own_processes = 256  # threads of its kernel and its file servers; dies with less

    def _write_launch(
        self, spec: SandboxSpec, *, uid: int, shares_network: bool
    ) -> dict[str, object]:
        if spec.gpu_uuids:
            raise Refused("gvisor reaches no GPU on this machine", code="no_gpu")
        files = find_files_max()
        bundle = self._bundle(
            spec,
            identity=Identity(0, 0, max(uid, 0), is_mapped=False),
            gpu=GpuFiles((), (), {}),
            seccomp=b"",
            rlimits={
                "RLIMIT_CORE": 0,
                "RLIMIT_FSIZE": spec.file_bytes_max,
                "RLIMIT_NOFILE": files,
            },
        )
        flags = [
            "--rootless",
            "--ignore-cgroups",
            "--network=none",
            "--platform=ptrace",
        ]
        flags += ["--host-uds=open"] if _reaches_sockets(spec) else []
        return self._launch(
            bundle,
            flags=flags,
            rlimits=((resource.RLIMIT_CORE, 0), (resource.RLIMIT_NOFILE, files)),
        )

    async def start(self, spec: SandboxSpec, *, folder: PurePath) -> None:
        """Start the process; beside another one it shares folders, and no network.

        Raises:
            Refused: the spec cannot be carried out, or the folder was used before.
            Unavailable: the sandbox could not be set up; nothing is left behind.
        """
        await super().start(msgspec.structs.replace(spec, beside=""), folder=folder)

    async def connect(self, folder: PurePath, *, port: int) -> socket.socket:
        """Refuse: its kernel has a loopback of its own, which nobody else reaches.

        Raises:
            Refused: nothing runs.
            Unavailable: always, where something runs.
        """
        if self.read_state(folder).phase == "ended":
            raise Refused("nothing runs in this sandbox", code="not_running")
        raise Unavailable(f"gvisor, port {port}: {_NO_DOOR}", code="no_port_forwarding")


def _reaches_sockets(spec: SandboxSpec) -> bool:
    """Say whether sockets of the host are bound: a proxy's, a shell's."""
    return spec.network != "none" or any(
        Path(bind.source).is_socket() for bind in spec.binds
    )
