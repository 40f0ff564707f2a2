"""What bubblewrap is told: pure, from a spec to its options.

The options are texts, and two things that only the warden can make: ``bytes`` stand
for the number of an anonymous file that holds them, and ``(path,)`` for a host path,
staged where the job's uid can reach it; ``(path, below)`` for what lies in it. They
travel through ``--args FD``: host paths and secrets stand in no process list.
"""

from collections.abc import Mapping, Sequence
from pathlib import PurePath

from sublet.adapter.image_place import Underlay
from sublet.adapter.job_python import OWN_FOLDER, JobPython
from sublet.adapter.nvidia import GPU_FOLDER, GpuFiles
from sublet.base.errors import Refused
from sublet.service.ports import Bind, SandboxSpec

Option = str | bytes | tuple[str] | tuple[str, str]

PROXY_PORT = 3128
_BRIDGE = f"{OWN_FOLDER}/bridge.py"
_NETWORK = f"{OWN_FOLDER}/network"  # the folder of the proxy's socket

_ISOLATION = (
    *("--unshare-user", "--disable-userns", "--unshare-pid", "--unshare-ipc"),
    *("--unshare-uts", "--unshare-cgroup", "--hostname", "job"),
    *("--die-with-parent", "--new-session", "--cap-drop", "ALL", "--clearenv"),
)
# Parts of the host's /etc that programs need and that are no secret.
SHARED = (
    *(
        "/etc/ld.so.cache",
        "/etc/alternatives",
        "/etc/ssl/certs",
        "/etc/ssl/openssl.cnf",
    ),
    *("/etc/pki/tls/certs", "/etc/pki/ca-trust/extracted", "/etc/fonts"),
)
WRITTEN = {
    "/etc/passwd": "root:x:0:0:root:/:/bin/sh\n"
    "job:x:1000:1000:job:{home}:/bin/sh\n"
    "nobody:x:65534:65534:nobody:/:/bin/false\n",
    "/etc/group": "root:x:0:\njob:x:1000:\nnogroup:x:65534:\n",
    "/etc/hosts": "127.0.0.1 localhost job\n::1 localhost\n",
    "/etc/nsswitch.conf": "passwd: files\ngroup: files\nhosts: files\n",
}


def build_options(
    spec: SandboxSpec,
    *,
    python: JobPython,
    gpu: GpuFiles,
    root_links: Mapping[str, str],
    seccomp: bytes,
    bridge: str,
    shares_network: bool = False,
    underlays: Sequence[Underlay] = (),
) -> tuple[Option, ...]:
    """Say everything that the sandbox is.

    Args:
        spec: what the caller gives the job.
        python: the interpreter that jobs get.
        gpu: the device nodes and libraries of the leased GPUs.
        root_links: where /bin, /lib … point to in /usr, as on this host; "" for a
            folder of its own.
        seccomp: the compiled filter.
        bridge: host path of ``network_bridge.py``.
        shares_network: the process is in the network of another sandbox already.
        underlays: of the image, for what is bound where it has no folder.

    Raises:
        Refused: a text holds a NUL, which would end it and begin another option.
    """
    binds = [*gpu.binds, *spec.binds]
    binds += build_network_binds(spec, python=python, bridge=bridge)
    options: list[Option] = [*_ISOLATION]
    options += ["--uid", str(spec.inside_uid), "--gid", str(spec.inside_gid)]
    if not shares_network:
        options.append("--unshare-net")
    if spec.root:  # an image has its mount points, and an /etc of its own
        options += _image_root(spec.root, underlays)
    else:
        options += _system_root(root_links, home=spec.directory)
        binds = [*python.binds, *binds]
    options += ["--proc", "/proc", "--dev", "/dev"]
    options += ["--size", str(spec.tmp_bytes), "--perms", "1777", "--tmpfs", "/tmp"]  # noqa: S108
    for node in gpu.devices:
        options += ["--dev-bind", node, node]
    folders = find_own_folders(spec, gpu=gpu)
    for folder in folders:
        options += ["--tmpfs", folder]
    for bind in binds:
        kind = "--bind" if bind.is_writable else "--ro-bind"
        options += [kind, (bind.source,), bind.target]
    for name, value in sorted(build_env(spec, gpu=gpu).items()):
        options += ["--setenv", name, value]
    made = (one.path for one in underlays if one.path)
    for folder in (*folders, *made, "/"):
        options += ["--remount-ro", folder]
    options += ["--chdir", spec.directory]
    options += ["--seccomp", seccomp]
    check_texts(options)
    return tuple(options)


def find_own_folders(spec: SandboxSpec, *, gpu: GpuFiles) -> tuple[str, ...]:
    """Name the folders in memory that what is bound by us lies in."""
    wanted = ((GPU_FOLDER, bool(gpu.binds)), (OWN_FOLDER, spec.network != "none"))
    return tuple(folder for folder, is_wanted in wanted if is_wanted)


def build_network_binds(
    spec: SandboxSpec, *, python: JobPython, bridge: str
) -> list[Bind]:
    """Say what a job needs to see of its way out, where it has one."""
    if spec.network == "none":
        return []
    # The folder: a proxy that is started anew puts a new socket there.
    folder = str(PurePath(spec.network).parent)
    helper = python.binds if spec.root else ()
    return [*helper, Bind(bridge, _BRIDGE), Bind(folder, _NETWORK)]


def build_argv(spec: SandboxSpec, *, python: JobPython) -> tuple[str, ...]:
    """Say what runs inside: the program, behind the bridge where it has a network.

    Raises:
        Refused: there is no program, or a NUL in its arguments.
    """
    if not spec.argv:
        raise Refused("a job needs a program to run", code="bad_command", field="argv")
    check_texts(list(spec.argv))
    if spec.network == "none":
        return spec.argv
    path = f"{_NETWORK}/{PurePath(spec.network).name}"
    door = (*python.command, "-I", "-S", _BRIDGE, str(PROXY_PORT), path)
    return (*door, *spec.argv)


def build_env(spec: SandboxSpec, *, gpu: GpuFiles) -> dict[str, str]:
    """Give the job's environment; what the spec says wins.

    The driver's libraries are looked for last of all that the spec names: an image may
    bring one that fits it better.

    Raises:
        Refused: a name that cannot be one.
    """
    env = {"HOME": spec.directory, "PATH": "/usr/local/bin:/usr/bin:/bin", **gpu.env}
    if spec.network != "none":
        env |= build_proxy_env()
    env |= spec.env
    if gpu.binds:
        named = (env.get("LD_LIBRARY_PATH"), GPU_FOLDER)
        env["LD_LIBRARY_PATH"] = ":".join(filter(None, named))
    for name in env:
        if not name or "=" in name:
            raise Refused(
                f"{name!r} cannot be the name of an environment variable; "
                "use letters, digits and underscores",
                code="bad_environment",
                field="env",
            )
    return env


def build_proxy_env() -> dict[str, str]:
    """Tell ordinary tools where the way out is; some read one case, some the other."""
    proxy = f"http://127.0.0.1:{PROXY_PORT}"
    names = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")
    env = dict.fromkeys(names, proxy) | {"NO_PROXY": "localhost,127.0.0.1,::1"}
    return env | {name.lower(): value for name, value in env.items()}


def _image_root(root: str, underlays: Sequence[Underlay]) -> list[Option]:
    """Show an image; bubblewrap makes what mount points are missing in memory."""
    options: list[Option] = []
    if all(one.path for one in underlays):
        options += ["--ro-bind", (root,), "/"]
    for one in underlays:
        if one.path:
            options += ["--perms", "0755", "--tmpfs", one.path]
        for name in one.names:
            path = f"{one.path}/{name}"
            options += ["--ro-bind", (root, path), path]
        for name, target in one.links:
            options += ["--symlink", target, f"{one.path}/{name}"]
    return options


def _system_root(root_links: Mapping[str, str], *, home: str) -> list[Option]:
    options: list[Option] = ["--ro-bind", "/usr", "/usr", "--dir", "/run"]
    for path, target in root_links.items():
        kind = ["--symlink", target] if target else ["--ro-bind", path]
        options += [*kind, path]
    for path in SHARED:
        options += ["--ro-bind-try", path, path]
    for path, text in WRITTEN.items():
        content = text.format(home=home).encode()
        options += ["--perms", "0644", "--ro-bind-data", content, path]
    return options


def check_texts(options: list[Option] | list[str]) -> None:
    """Refuse what no program can be told.

    Raises:
        Refused: a NUL, or half a character.
    """
    for option in options:
        text = "".join(option) if isinstance(option, tuple) else option
        if isinstance(text, bytes):
            continue
        if "\0" in text or not _is_encodable(text):
            raise Refused(
                "arguments, paths and environment variables hold no NUL and no half "
                "characters; remove them",
                code="bad_text",
            )


def _is_encodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
