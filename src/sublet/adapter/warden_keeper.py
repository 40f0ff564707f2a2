"""The road from the warden to an OCI runtime: the bundle laid out, the runtime kept.

Part of the warden's program (see there for what may be imported). The forked child
makes mount, process and network namespaces, lays the bundle out in memory (it holds the
job's secrets), gives up its uid, and starts the runtime as the first process of the
new process namespace. Then it stays, as its keeper: when it is killed, or its warden
is, the kernel kills everything in that namespace, runtimes' helpers included. A SIGTERM
it hands on by the runtime's own word for that.
"""

from __future__ import annotations

import _signal as signal  # type: ignore[import-not-found]  # has no stubs
import ctypes
import os
import resource

from sublet.adapter.warden_child import (
    STAGE,
    bind_read_only,
    join_network,
    mount,
    stage,
)
from sublet.adapter.warden_meter import write_text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_CLONE_NEWNS, _CLONE_NEWUSER = 0x20000, 0x10000000
_CLONE_NEWPID, _CLONE_NEWNET = 0x20000000, 0x40000000
_PR_SET_PDEATHSIG = 1
_SIOCSIFFLAGS = 0x8914
_UP_AND_RUNNING = b"\x41".ljust(24, b"\0")  # the rest of a struct ifreq
_SIGKILL = 9


def keep_runtime(spec: dict[str, Any], *, out: int, err: int, status: int) -> int:
    """Run a container by its runtime; give its exit code, 128 + n for signal n."""
    launch = spec["launch"]
    os.umask(0o022)
    signal.set_wakeup_fd(-1)  # that one is the warden's
    os.setsid()  # Ctrl-C at the agent's terminal is no business of the job
    for path in spec["cgroup"]["joins"]:
        write_text(path, "0")
    _separate(is_root=spec["uid"] >= 0, network=spec["network"])
    lay_out(launch, uid=spec["uid"])
    for limit, soft, hard in launch["rlimits"]:
        resource.setrlimit(limit, (soft, hard))
    os.dup2(os.open("/dev/null", os.O_RDONLY), 0)
    os.dup2(out, 1)
    os.dup2(err, 2)
    os.set_inheritable(status, True)
    if spec["uid"] >= 0:
        os.fchown(status, spec["uid"], spec["uid"])  # it opens it by a path
    env = {"PATH": "/nonexistent", "XDG_RUNTIME_DIR": f"{STAGE}/state"}
    runtime = os.fork()
    if runtime == 0:
        mount("proc", "/proc", "proc", 0)  # the runtime looks for its children there
        _drop(spec["uid"])
        for number in (signal.SIGINT, signal.SIGHUP, signal.SIGPIPE, signal.SIGTERM):
            signal.signal(number, signal.SIG_DFL)
        argv = [word.replace("STATUS", str(status)) for word in launch["run"]]
        os.execve(argv[0], argv, env)  # noqa: S606

    def end(*_: object) -> None:
        if os.fork() == 0:
            os.execve(launch["end"][0], launch["end"], env)  # noqa: S606

    signal.signal(signal.SIGTERM, end)
    _drop(spec["uid"])
    os.close(status)
    while True:
        pid, code = os.waitpid(-1, 0)
        if pid == runtime:
            code = os.waitstatus_to_exitcode(code)
            return code if code >= 0 else 128 - code


def _separate(*, is_root: bool, network: int) -> None:
    """Leave the host's mounts, processes and network; without root, its users too.

    Runtimes talk to their helpers through sockets named in a network namespace.
    """
    if network >= 0:
        join_network(network)
    uid, gid = os.getuid(), os.getgid()
    flags = _CLONE_NEWNS | _CLONE_NEWPID | (0 if network >= 0 else _CLONE_NEWNET)
    flags |= 0 if is_root else _CLONE_NEWUSER
    if ctypes.CDLL(None, use_errno=True).unshare(flags):
        raise OSError(ctypes.get_errno(), "cannot make namespaces")
    if not is_root:
        write_text("/proc/self/setgroups", "deny")
        write_text("/proc/self/uid_map", f"0 {uid} 1")
        write_text("/proc/self/gid_map", f"0 {gid} 1")
    if network < 0:
        _raise_loopback()


def _raise_loopback() -> None:
    """Let what runs here talk to itself by 127.0.0.1."""
    import _socket  # only jobs of this kind pay for it
    import fcntl

    door = _socket.socket(_socket.AF_INET, _socket.SOCK_DGRAM)
    fcntl.ioctl(door.fileno(), _SIOCSIFFLAGS, b"lo".ljust(16, b"\0") + _UP_AND_RUNNING)
    door.close()


def lay_out(launch: dict[str, Any], *, uid: int) -> None:
    """Stage what is bound, and write the bundle, all of it in memory."""
    stage(launch["sources"])
    for place in launch["fixed"]:
        bind_read_only(place, place)
    # crun stumbles over v2 groups beside v1; ours were joined before.
    mount("tmpfs", "/sys/fs/cgroup", "tmpfs", 0)
    for folder in launch["folders"]:
        os.mkdir(f"{STAGE}/{folder}")
    for path, target in launch["links"]:
        os.symlink(target, f"{STAGE}/{path}")
    for path, content in launch["files"]:
        with open(f"{STAGE}/{path}", "wb") as file:
            file.write(content)
    for source, point in (*launch["points"], *launch["gathered"]):
        place = f"{STAGE}/{point}"
        if os.path.isdir(source):
            os.makedirs(place, exist_ok=True)
        else:
            os.makedirs(os.path.dirname(place), exist_ok=True)
            os.close(os.open(place, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o644))
    for source, point in launch["gathered"]:
        bind_read_only(source, f"{STAGE}/{point}")
    os.mkdir(f"{STAGE}/state", 0o700)
    if uid >= 0:
        os.chown(f"{STAGE}/state", uid, uid)
        os.chown(f"{STAGE}/bundle/config.json", uid, uid)
    os.chmod(f"{STAGE}/bundle/config.json", 0o400)


def _drop(uid: int) -> None:
    """Become nobody in particular; and be gone when the parent is."""
    if uid >= 0:
        os.setgroups([])
        os.setresgid(uid, uid, uid)
        os.setresuid(uid, uid, uid)
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, _SIGKILL, 0, 0, 0)
