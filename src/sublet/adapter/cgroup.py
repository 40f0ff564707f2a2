"""Control groups: where a job's group goes and what is written into it, v1 and v2.

``find_home`` looks at how this machine mounts them (v1, v2, or both at once: then v1
limits and v2 kills); ``create_group`` makes the folders of one sandbox and sets its
limits; ``find_limits`` says what the agent itself is confined to. Processes join
from the warden, which also reads the meters and removes the folders.
"""

import contextlib
import os
import signal
import time
from pathlib import Path

from msgspec import Struct

from sublet.base.errors import Unavailable

PERIOD_US = 100_000  # of the CPU quota, the kernel's own default
QUOTA_US_MIN = 1_000  # the kernel refuses less
UNLIMITED_BYTES = 1 << 62  # what v1 shows where there is no limit is above this
CONTROLLERS = ("memory", "cpu", "pids")
_NAME = "sublet"  # the folder that holds the groups of all sandboxes
_CURE = (
    "run the provider as root, or inside a delegated group: "
    "systemd-run --user --scope -p Delegate=yes sublet provider start"
)


class Home(Struct, frozen=True):
    """The folders in which groups can be made, one per hierarchy."""

    version: int  # 1 or 2: which one holds the limits
    folders: dict[str, Path]  # by controller; v2 under "unified", in a hybrid too


class Group(Struct, frozen=True):
    """One sandbox's groups, as plain values for the warden and for a later sweep."""

    joins: tuple[str, ...]  # cgroup.procs of each; the first one is complete
    kill: str  # cgroup.kill, which old kernels lack; "" without v2
    cpu: tuple[str, str, int]  # file, key in it ("" for none), units per millisecond
    memory: tuple[str, str]  # file and key of the largest use, in bytes
    oom: tuple[str, str]  # file and key of the count of out-of-memory kills
    folders: tuple[str, ...]  # to remove, in this order
    shared: tuple[str, ...]  # those of them that other sandboxes may still use


# ---- where groups can be made -----------------------------------------------------


def find_own(*, mounts: str, membership: str) -> dict[str, Path]:
    """Find the folders of the group that this process is in, by controller.

    Args:
        mounts: text of ``/proc/self/mountinfo``.
        membership: text of ``/proc/self/cgroup``.

    Returns:
        Existing folders; the v2 hierarchy is called "unified".
    """
    groups = {}
    for line in membership.splitlines():
        _, listed, path = line.split(":", 2)
        for name in listed.split(","):
            groups[name or "unified"] = path
    own: dict[str, Path] = {}
    for line in mounts.splitlines():
        left, _, right = line.partition(" - ")
        root, point = left.split()[3:5]
        kind, _, options = right.split(maxsplit=2)
        names = ["unified"] if kind == "cgroup2" else options.split(",")
        if kind not in ("cgroup", "cgroup2"):
            continue
        for name in names:
            if name in groups and name not in own:
                own[name] = _locate(Path(point), root=root, path=groups[name])
    return own


def _locate(point: Path, *, root: str, path: str) -> Path:
    # In a container, the mount may show only the container's own part (its root).
    relative = path.removeprefix(root) if root != "/" else path
    own = point / relative.lstrip("/")
    return own if own.is_dir() else point


def find_home() -> Home:
    """Find where groups with memory, cpu and pids limits can be made, and prepare it.

    Raises:
        Unavailable: nowhere, or not by this user; says what to do.
    """
    own = _read_own()
    if all(name in own for name in CONTROLLERS):
        names = (*CONTROLLERS, "cpuacct", "unified")
        home = Home(1, {name: own[name] / _NAME for name in names if name in own})
        _make_folders(home)
        return home
    if "unified" not in own:
        raise Unavailable(f"no control groups are mounted here; {_CURE}")
    return Home(2, {"unified": prepare_unified(own["unified"])})


def _read_own() -> dict[str, Path]:
    try:
        return find_own(
            mounts=Path("/proc/self/mountinfo").read_text(),
            membership=Path("/proc/self/cgroup").read_text(),
        )
    except OSError as error:
        raise Unavailable(f"control groups cannot be read: {error}") from error


def _make_folders(home: Home) -> None:
    try:
        for folder in home.folders.values():
            folder.mkdir(exist_ok=True)
    except OSError as error:
        raise Unavailable(f"no right to make control groups; {_CURE}") from error


def prepare_unified(own: Path) -> Path:
    """Make a v2 group whose children can have limits, below this process's own.

    In v2 a group with limits for its children holds no processes itself, but at the
    very top: so those of ``own``, the agent among them, move into a child of it.

    Raises:
        Unavailable: the controllers are not there, or not for this user.
    """
    home = own / _NAME
    try:
        offered = (own / "cgroup.controllers").read_text().split()
        missing = [name for name in CONTROLLERS if name not in offered]
        if missing:
            raise Unavailable(
                f"control group {own} has no {', '.join(missing)} controller; {_CURE}"
            )
        enabled = (own / "cgroup.subtree_control").read_text().split()
        if any(name not in enabled for name in CONTROLLERS):
            _enable_below(own)
        home.mkdir(exist_ok=True)
        _write(home / "cgroup.subtree_control", _enabling())
    except OSError as error:
        raise Unavailable(f"no right to make control groups; {_CURE}") from error
    return home


def _enabling() -> str:
    return " ".join(f"+{name}" for name in CONTROLLERS)


def _enable_below(own: Path) -> None:
    leaf = own / f"{_NAME}-agent"
    try:
        _write(own / "cgroup.subtree_control", _enabling())
    except OSError:  # processes are in it
        leaf.mkdir(exist_ok=True)
        for pid in (own / "cgroup.procs").read_text().split():
            with contextlib.suppress(ProcessLookupError):
                _write(leaf / "cgroup.procs", pid)
        _write(own / "cgroup.subtree_control", _enabling())


def _write(path: Path, text: str) -> None:
    # Never creates: a kernel that lacks the file must not get an ordinary one.
    with path.open("r+") as file:
        file.write(text)


# ---- one sandbox's groups ---------------------------------------------------------


def create_group(
    home: Home, *, name: str, memory_bytes: int, cpus_milli: int, processes_max: int
) -> Group:
    """Make the groups of one sandbox and set their limits.

    Raises:
        Unavailable: the kernel refused; nothing is left behind.
    """
    quota_us = max(QUOTA_US_MIN, cpus_milli * PERIOD_US // 1_000)
    group = group_of(home, name=name)
    try:
        for folder in home.folders.values():
            folder.mkdir(exist_ok=True)
            (folder / name).mkdir()
        if home.version == 1:
            paths = {key: folder / name for key, folder in home.folders.items()}
            memory = paths["memory"]
            _write(memory / "memory.limit_in_bytes", str(memory_bytes))
            with contextlib.suppress(OSError):  # a kernel without swap accounting
                _write(memory / "memory.memsw.limit_in_bytes", str(memory_bytes))
            with contextlib.suppress(OSError):  # where it cannot be told apart
                # Else what lies in sockets counts for nobody but the whole machine.
                _write(memory / "memory.kmem.tcp.limit_in_bytes", str(memory_bytes))
            _write(paths["cpu"] / "cpu.cfs_period_us", str(PERIOD_US))
            _write(paths["cpu"] / "cpu.cfs_quota_us", str(quota_us))
            _write(paths["pids"] / "pids.max", str(processes_max))
        else:
            unified = home.folders["unified"] / name
            _write(unified / "memory.max", str(memory_bytes))
            with contextlib.suppress(OSError):  # a kernel without swap accounting
                _write(unified / "memory.swap.max", "0")
            _write(unified / "cpu.max", f"{quota_us} {PERIOD_US}")
            _write(unified / "pids.max", str(processes_max))
    except OSError as error:
        sweep(group)
        raise Unavailable(f"the sandbox's control group failed: {error}") from error
    return group


def group_of(home: Home, *, name: str) -> Group:
    """Say where the files of a sandbox's groups are; touches nothing."""
    paths = {key: folder / name for key, folder in home.folders.items()}
    unified = paths.get("unified")
    # cpu and cpuacct are often one hierarchy under two names; dict.fromkeys keeps one.
    folders = tuple(dict.fromkeys(str(path) for path in paths.values()))
    shared = tuple(dict.fromkeys(str(path) for path in home.folders.values()))
    kill = f"{unified}/cgroup.kill" if unified else ""
    joins = tuple(f"{folder}/cgroup.procs" for folder in folders)
    if home.version == 1:
        memory = paths["memory"]
        return Group(
            joins=joins,
            kill=kill,
            cpu=(str(paths.get("cpuacct", memory) / "cpuacct.usage"), "", 1_000_000),
            memory=(str(memory / "memory.max_usage_in_bytes"), ""),
            oom=(str(memory / "memory.oom_control"), "oom_kill"),
            folders=folders + shared,
            shared=shared,
        )
    assert unified is not None
    return Group(
        joins=joins,
        kill=kill,
        cpu=(str(unified / "cpu.stat"), "usage_usec", 1_000),
        memory=(str(unified / "memory.peak"), ""),
        oom=(str(unified / "memory.events"), "oom_kill"),
        folders=folders,  # the home stays: it holds the controllers' settings
        shared=(),
    )


def sweep(group: Group, *, wait_s: float = 2.0) -> bool:
    """Kill what is left in a group and remove it; say whether nothing is left.

    For a sandbox whose warden is dead. Harmless where the group is gone.
    """
    until = time.monotonic() + wait_s
    while pids := read_pids(group):
        _kill(group, pids)
        if time.monotonic() > until:
            return False
        time.sleep(0.005)
    for folder in group.folders:
        with contextlib.suppress(OSError):  # gone already, or used by another sandbox
            Path(folder).rmdir()
    return True


def read_pids(group: Group) -> list[int]:
    """List the processes of a group; none where it is gone."""
    try:
        return [int(line) for line in Path(group.joins[0]).read_text().split()]
    except OSError:
        return []


def _kill(group: Group, pids: list[int]) -> None:
    try:
        _write(Path(group.kill), "1")
    except OSError:
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


# ---- what confines this process itself --------------------------------------------


def find_limits() -> tuple[int | None, int | None]:
    """Say what this process may use: thousandths of a CPU, bytes of memory; or None."""
    try:
        own = _read_own()
    except Unavailable:
        return None, None
    return read_limits(own)


def read_limits(own: dict[str, Path]) -> tuple[int | None, int | None]:
    """Find the tightest CPU quota and memory limit of a group and those around it."""
    cpus: list[int] = []
    memory: list[int] = []
    for folder in _outward(own.get("cpu")):
        quota = _read_words(folder / "cpu.cfs_quota_us")
        period = _read_words(folder / "cpu.cfs_period_us")
        if quota and period and int(quota[0]) > 0:
            cpus.append(int(quota[0]) * 1_000 // int(period[0]))
    for folder in _outward(own.get("memory")):
        limit = _read_words(folder / "memory.limit_in_bytes")
        if limit and int(limit[0]) < UNLIMITED_BYTES:
            memory.append(int(limit[0]))
    for folder in _outward(own.get("unified")):
        share = _read_words(folder / "cpu.max")
        if len(share) == 2 and share[0] != "max":
            cpus.append(int(share[0]) * 1_000 // int(share[1]))
        limit = _read_words(folder / "memory.max")
        if limit and limit[0] != "max":
            memory.append(int(limit[0]))
    return min(cpus, default=None), min(memory, default=None)


def _outward(folder: Path | None) -> list[Path]:
    if folder is None:
        return []
    around = [folder, *folder.parents]
    return [path for path in around if (path / "cgroup.procs").exists()]


def _read_words(path: Path) -> list[str]:
    try:
        return path.read_text().split()
    except OSError:
        return []
