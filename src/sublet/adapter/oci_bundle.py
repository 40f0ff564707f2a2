"""What an OCI runtime is told: pure, from a spec to a bundle.

The root is the host's system, read-only and as ``bubblewrap_options`` has it, or an
image's folder. Everything that is bound has been staged where the job's uid reaches
it, at a place that is its number (``warden_child.stage``); the bundle itself stands
in memory alone (``warden_keeper.lay_out``), for it holds the job's secrets.

What every runtime gets the same: no capabilities, no new privileges, no network, its
own namespaces, a read-only root, an init of ours as PID 1 that hands on signals.
"""

import base64
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from msgspec import Struct

from sublet.adapter.bubblewrap_options import (
    SHARED,
    WRITTEN,
    build_argv,
    build_env,
    build_network_binds,
    check_texts,
    find_own_folders,
)
from sublet.adapter.image_place import Underlay
from sublet.adapter.job_python import JobPython
from sublet.adapter.nvidia import GpuFiles
from sublet.base.errors import Refused
from sublet.service.ports import Bind, SandboxSpec

STAGE = "/run"  # as in warden_child
_INIT = "/run/init"
_ROOT = f"{STAGE}/root"  # where it is ours, not the image's folder itself
# The network is the one that the keeper is in: new, or another sandbox's.
_NAMESPACES = ("pid", "ipc", "uts", "mount", "cgroup")
_CAPABILITY_SETS = ("bounding", "effective", "inheritable", "permitted", "ambient")
_MASKED = (
    *("/proc/acpi", "/proc/kcore", "/proc/keys", "/proc/latency_stats"),
    *("/proc/timer_list", "/proc/timer_stats", "/proc/sched_debug", "/proc/scsi"),
    *("/sys/firmware", "/sys/fs/selinux", "/sys/dev/block"),
)
_READ_ONLY = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")
_IN_MEMORY = ("/tmp", "/dev")  # noqa: S108  # the runtime makes points there
_DEV_BYTES = 64 << 10


class Bundle(Struct, frozen=True):
    """What is laid out in the stage before the runtime reads it."""

    sources: tuple[str, ...]  # host paths; the n-th is staged at STAGE/n
    folders: tuple[str, ...]  # below the stage, in this order
    links: tuple[tuple[str, str], ...]  # (path below the stage, what it says)
    files: tuple[tuple[str, bytes], ...]
    points: tuple[tuple[str, str], ...]  # (place of a staged bind, its mount point)
    gathered: tuple[tuple[str, str], ...]  # the same, bound there before the start
    fixed: tuple[str, ...]  # places of staged binds that nobody may write to


class Identity(Struct, frozen=True):
    """Who the job is, inside and outside."""

    uid: int  # inside
    gid: int
    host_id: int  # what both are outside
    is_mapped: bool = True  # by a user namespace in the bundle


def build_bundle(
    spec: SandboxSpec,
    *,
    identity: Identity,
    python: JobPython,
    gpu: GpuFiles,
    root_links: Mapping[str, str],
    shared: Sequence[str],
    init: str,
    bridge: str,
    seccomp: bytes,
    rlimits: Mapping[str, int],
    underlays: Sequence[Underlay] = (),
) -> Bundle:
    """Say everything that the container is.

    Args:
        spec: what the caller gives the job.
        identity: who it is.
        python: the interpreter that jobs get; not in an image.
        gpu: the device nodes and libraries of the leased GPUs.
        root_links: where /bin, /lib … point to in /usr, as on this host; "" for a
            folder of its own.
        shared: the parts of /etc that this host has and jobs may see.
        init: host path of a static init.
        bridge: host path of ``network_bridge.py``.
        seccomp: the compiled filter; b"" for none.
        rlimits: that the runtime sets inside, by their OCI names.
        underlays: of the image, for what is bound where it has no folder.

    Raises:
        Refused: a text that cannot be one.
    """
    env = build_env(spec, gpu=gpu)
    check_texts([*env, *env.values(), spec.directory])
    binds = [Bind(init, _INIT), *gpu.binds, *spec.binds]
    binds += build_network_binds(spec, python=python, bridge=bridge)
    folders = ["bundle"]
    links: list[tuple[str, str]] = []
    files: list[tuple[str, bytes]] = []
    if not spec.root:
        system = _system_root(spec, python, root_links, shared)
        binds = [*system.binds, *binds]
        folders += system.folders
        links += system.links
        files += system.files
    named = [*(bind.source for bind in binds), *gpu.devices]
    sources = tuple(dict.fromkeys([*named, spec.root] if spec.root else named))
    staged = {source: f"{STAGE}/{number}" for number, source in enumerate(sources)}
    root = staged[spec.root] if spec.root else _ROOT
    shown: list[tuple[str, str]] = []
    mounts: list[dict[str, Any]] = []
    for number, under in enumerate(underlays):
        place = f"under{number}" if under.path else "root"
        folders += [place, *_list_folders(place, under.points)]
        links += [(f"{place}/{name}", says) for name, says in under.links]
        shown += [(f"{root}{under.path}/{x}", f"{place}/{x}") for x in under.names]
        if under.path:
            mounts.append(_bind(f"{STAGE}/{place}", under.path, False))
    if any(not under.path for under in underlays):
        root = _ROOT
    mounts += _own_mounts(spec)
    # An image has its mount points, and nobody can make more in it; gVisor's file
    # server makes none in memory, either. So each of these is one mount of many.
    own = find_own_folders(spec, gpu=gpu)
    gathered = [bind for bind in binds if _is_below(bind.target, own)]
    binds = [bind for bind in binds if bind not in gathered]
    folders += ["gathered", "gathered/run"] if own else []
    for folder in own:
        folders += [f"gathered{folder}", *([] if spec.root else [f"root{folder}"])]
        mounts.append(_bind(f"{STAGE}/gathered{folder}", folder, False))
    for bind in binds:
        mounts.append(_bind(staged[bind.source], bind.target, bind.is_writable))
    for node in gpu.devices:
        mounts.append(_bind(staged[node], node, True, is_device=True))
    config = _config(
        spec,
        identity=identity,
        argv=(_INIT, "-g", "--", *build_argv(spec, python=python)),
        env=env,
        root=root,
        mounts=mounts,
        seccomp=seccomp,
        rlimits=rlimits,
    )
    files.append(("bundle/config.json", msgspec.json.encode(config)))
    return Bundle(
        sources,
        tuple(folders),
        tuple(links),
        tuple(files),
        points=tuple(
            (staged[bind.source], f"root{bind.target}")
            for bind in binds
            if not spec.root and not _is_below(bind.target, _IN_MEMORY)
        ),
        gathered=(
            *((staged[bind.source], f"gathered{bind.target}") for bind in gathered),
            *shown,
        ),
        fixed=(staged[spec.root],) if spec.root else (),
    )


def _list_folders(place: str, points: Sequence[str]) -> list[str]:
    """Name the folders that lead to mount points, outer ones first, each once."""
    found: dict[str, None] = {}
    for point in points:
        folder = place
        for name in point.split("/"):
            folder = f"{folder}/{name}"
            found[folder] = None
    return list(found)


def _is_below(path: str, folders: Sequence[str]) -> bool:
    return path.startswith(tuple(f"{folder}/" for folder in folders))


def _config(
    spec: SandboxSpec,
    *,
    identity: Identity,
    argv: Sequence[str],
    env: Mapping[str, str],
    root: str,
    mounts: Sequence[dict[str, Any]],
    seccomp: bytes,
    rlimits: Mapping[str, int],
) -> dict[str, Any]:
    namespaces = [{"type": kind} for kind in _NAMESPACES]
    linux: dict[str, Any] = {
        "namespaces": namespaces,
        "maskedPaths": _MASKED,
        "readonlyPaths": _READ_ONLY,
    }
    if identity.is_mapped:
        namespaces.append({"type": "user"})
        for kind, inside in (("uid", identity.uid), ("gid", identity.gid)):
            mapping = {"containerID": inside, "hostID": identity.host_id, "size": 1}
            linux[f"{kind}Mappings"] = [mapping]
    annotations = {}
    if seccomp:
        annotations["run.oci.seccomp_bpf_data"] = base64.b64encode(seccomp).decode()
    return {
        "ociVersion": "1.0.2",
        "hostname": "job",
        # An image's is fixed in the stage: in its user namespace runsc could not, where
        # the mount below has flags of its own, as an encrypted scratch has.
        "root": {"path": root, "readonly": root == _ROOT},
        "process": {
            "terminal": False,
            "user": {"uid": identity.uid, "gid": identity.gid},
            "args": argv,
            "env": [f"{name}={value}" for name, value in sorted(env.items())],
            "cwd": spec.directory,
            "capabilities": dict.fromkeys(_CAPABILITY_SETS, ()),
            "noNewPrivileges": True,
            "rlimits": [
                {"type": name, "soft": most, "hard": most}
                for name, most in rlimits.items()
            ],
        },
        "mounts": mounts,
        "linux": linux,
        "annotations": annotations,
    }


class _System(Struct, frozen=True):
    binds: list[Bind]
    folders: list[str]
    links: list[tuple[str, str]]
    files: list[tuple[str, bytes]]


def _system_root(
    spec: SandboxSpec,
    python: JobPython,
    root_links: Mapping[str, str],
    shared: Sequence[str],
) -> _System:
    """Make a root of the host's system: a skeleton in memory, and binds over it."""
    binds = [Bind("/usr", "/usr"), *python.binds]
    links = []
    for path, target in root_links.items():
        if target:
            links.append((f"root{path}", target))
        else:
            binds.append(Bind(path, path))
    binds += [Bind(path, path) for path in SHARED if path in shared]
    files = [
        (f"root{path}", text.format(home=spec.directory).encode())
        for path, text in WRITTEN.items()
    ]
    points = ("/proc", "/dev", "/tmp", "/run", "/etc", "/sys", "/usr")  # noqa: S108
    folders = ["root", *(f"root{point}" for point in points)]
    return _System(binds, folders, links, files)


def _memory(target: str, size: int, *options: str) -> dict[str, Any]:
    sized = ["nosuid", "nodev", f"size={size}", *options]
    return {
        "destination": target,
        "type": "tmpfs",
        "source": "tmpfs",
        "options": sized,
    }


def _own_mounts(spec: SandboxSpec) -> list[dict[str, Any]]:
    proc = {
        "destination": "/proc",
        "type": "proc",
        "source": "proc",
        "options": ["nosuid", "noexec", "nodev"],
    }
    dev = _memory("/dev", _DEV_BYTES, "strictatime", "mode=755")
    dev["options"].remove("nodev")
    return [
        proc,
        dev,
        _memory("/dev/shm", spec.tmp_bytes, "noexec", "mode=1777"),  # noqa: S108
        _memory("/tmp", spec.tmp_bytes, "mode=1777"),  # noqa: S108
    ]


def _bind(
    source: str, target: str, is_writable: bool, *, is_device: bool = False
) -> dict[str, Any]:
    if not target.startswith("/") or ".." in target.split("/"):
        raise Refused(f"{target!r} is no place to bind at", code="bad_text")
    options = ["rbind", "nosuid", "rw" if is_writable else "ro"]
    if not is_device:
        options.append("nodev")
    return {
        "destination": target,
        "type": "bind",
        "source": source,
        "options": options,
    }
