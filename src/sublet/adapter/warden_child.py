"""The road from the warden to bubblewrap: what the forked child does, and gives up.

Part of the warden's program (see there for what may be imported).
"""

from __future__ import annotations

import _signal as signal  # type: ignore[import-not-found]  # has no stubs
import ctypes
import os
import resource
import stat

from sublet.adapter.warden_meter import write_text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_CLONE_NEWNS = 0x20000
_CLONE_NEWNET = 0x40000000
_MS_BIND, _MS_REC, _MS_PRIVATE = 0x1000, 0x4000, 0x40000
_MS_RDONLY, _MS_REMOUNT = 1, 0x20
_KEPT = 0x40E  # nosuid, nodev, noexec, noatime: who is not root may not take them away
_PR_SET_CHILD_SUBREAPER = 36
STAGE = "/run"  # covered by a private tmpfs, in bubblewrap's mount namespace only


def adopt_orphans() -> None:
    """Become the parent of what bubblewrap leaves, so that it can be collected."""
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def join_network(handle: int) -> None:
    """Move this process into the network of another sandbox."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.setns(handle, _CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), "cannot enter the job's network")
    os.close(handle)


def leave_mounts() -> None:
    """Make a mount namespace for this process alone."""
    if ctypes.CDLL(None, use_errno=True).unshare(_CLONE_NEWNS):
        raise OSError(ctypes.get_errno(), "cannot make a mount namespace")


def mount(source: str, target: str, kind: str | None, flags: int) -> None:
    """Mount something; a new file system is writable for its owner only."""
    code = ctypes.CDLL(None, use_errno=True).mount(
        source.encode(),
        target.encode(),
        kind.encode() if kind else None,
        ctypes.c_ulong(flags),
        b"mode=755" if kind == "tmpfs" else None,
    )
    if code:
        raise OSError(ctypes.get_errno(), "cannot mount", target)


def bind_read_only(source: str, target: str) -> None:
    """Show a file or folder at another place, too, where nobody can write to it."""
    mount(source, target, None, _MS_BIND | _MS_REC)
    kept = os.statvfs(target).f_flag & _KEPT
    mount("none", target, None, _MS_REMOUNT | _MS_BIND | _MS_RDONLY | kept)


def stage(sources: list[str]) -> dict[str, str]:
    """Bind folders that only root can reach to where the job's uid reaches them.

    In a mount namespace of this process alone: each one in a place named by its
    number. Says where each one is now.
    """
    mount("none", "/", None, _MS_REC | _MS_PRIVATE)
    # Opened in the new namespace, and before the stage covers what lies there.
    handles = [os.open(source, os.O_PATH | os.O_CLOEXEC) for source in sources]
    mount("tmpfs", STAGE, "tmpfs", 0)
    staged = {}
    for number, (source, handle) in enumerate(zip(sources, handles, strict=True)):
        target = f"{STAGE}/{number}"
        if stat.S_ISDIR(os.fstat(handle).st_mode):
            os.mkdir(target)
        else:
            os.close(os.open(target, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC))
        mount(f"/proc/self/fd/{handle}", target, None, _MS_BIND | _MS_REC)
        staged[source] = target
    return staged


def anonymous_file(content: bytes) -> int:
    """Keep bytes in memory under a file descriptor that bubblewrap inherits."""
    handle = os.memfd_create("sublet", 0)
    view = memoryview(content)
    while view:
        view = view[os.write(handle, view) :]
    os.lseek(handle, 0, os.SEEK_SET)
    return handle


def resolve(
    options: list[str | bytes | tuple[str, ...]], *, is_root: bool
) -> list[str]:
    """Turn bytes into numbers of files that hold them, (path, below) into a path."""
    sources = [option[0] for option in options if isinstance(option, tuple)]
    staged: dict[str, str] = {}
    if is_root and sources:
        leave_mounts()
        staged = stage(list(dict.fromkeys(sources)))
    resolved = []
    for option in options:
        if isinstance(option, bytes):
            resolved.append(str(anonymous_file(option)))
        elif isinstance(option, tuple):
            source, *below = option
            resolved.append("".join((staged.get(source, source), *below)))
        else:
            resolved.append(option)
    return resolved


def become_bubblewrap(spec: dict[str, Any], *, out: int, err: int, status: int) -> int:
    """Give up everything that the job must not have, then become bubblewrap."""
    launch = spec["launch"]
    os.umask(0o022)
    os.setsid()  # Ctrl-C at the agent's terminal is no business of the job
    for path in spec["cgroup"]["joins"]:
        write_text(path, "0")
    if spec["network"] >= 0:
        join_network(spec["network"])
    options = resolve(launch["options"], is_root=spec["uid"] >= 0)
    os.set_inheritable(status, True)
    options += ["--json-status-fd", str(status)]
    args = anonymous_file(b"\0".join(map(os.fsencode, options)) + b"\0")
    for limit, soft, hard in launch["rlimits"]:
        resource.setrlimit(limit, (soft, hard))
    os.dup2(os.open("/dev/null", os.O_RDONLY), 0)
    os.dup2(out, 1)
    os.dup2(err, 2)
    if spec["uid"] >= 0:
        os.setgroups([])
        os.setresgid(spec["uid"], spec["uid"], spec["uid"])
        os.setresuid(spec["uid"], spec["uid"], spec["uid"])
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(number, signal.SIG_DFL)  # else the job would ignore them too
    argv = [launch["program"], "--args", str(args), "--", *launch["argv"]]
    os.execve(launch["program"], argv, {})  # noqa: S606
