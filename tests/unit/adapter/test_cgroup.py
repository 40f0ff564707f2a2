"""Control groups, v1 and v2, over folders that look like the kernel's.

The kernel's own behaviour is tried in ``tests/integration/test_sandbox_isolation.py``.
"""

from pathlib import Path

import pytest

from sublet.adapter.cgroup import (
    Home,
    create_group,
    find_own,
    group_of,
    prepare_unified,
    read_limits,
    sweep,
)
from sublet.base.errors import Unavailable

FILES_V1 = {
    "memory": ("memory.limit_in_bytes", "memory.memsw.limit_in_bytes"),
    "cpu": ("cpu.cfs_period_us", "cpu.cfs_quota_us"),
    "cpuacct": (),
    "pids": ("pids.max",),
    "unified": (),
}
FILES_V2 = ("memory.max", "memory.swap.max", "cpu.max", "pids.max")


def mount(point: Path, kind: str, options: str, *, root: str = "/") -> str:
    """Write a line of ``/proc/self/mountinfo``."""
    return f"30 25 0:26 {root} {point} rw,nosuid - {kind} cgroup rw,{options}"


def test_finds_groups_of_both_versions(tmp_path: Path) -> None:
    for name in ("memory/agent", "cpu/agent", "unified/agent"):
        (tmp_path / name).mkdir(parents=True)
    mounts = "\n".join(
        [
            "22 1 254:0 / / rw - ext4 /dev/vda rw",
            mount(tmp_path / "memory", "cgroup", "memory"),
            mount(tmp_path / "cpu", "cgroup", "cpu,cpuacct"),
            mount(tmp_path / "unified", "cgroup2", "nsdelegate"),
        ]
    )
    own = find_own(
        mounts=mounts, membership="4:memory:/agent\n2:cpu,cpuacct:/agent\n0::/agent"
    )
    assert own == {
        "memory": tmp_path / "memory/agent",
        "cpu": tmp_path / "cpu/agent",
        "cpuacct": tmp_path / "cpu/agent",
        "unified": tmp_path / "unified/agent",
    }


def test_finds_its_part_in_a_container(tmp_path: Path) -> None:
    # The mount shows only the container's part; the membership is the host's path.
    mounts = mount(tmp_path, "cgroup", "memory", root="/docker/abc")
    (tmp_path / "inner").mkdir()
    deeper = find_own(mounts=mounts, membership="4:memory:/docker/abc/inner")
    hidden = find_own(mounts=mounts, membership="4:memory:/elsewhere")
    assert deeper == {"memory": tmp_path / "inner"}
    assert hidden == {"memory": tmp_path}


@pytest.fixture
def home_v1(tmp_path: Path) -> Home:
    for controller, names in FILES_V1.items():
        (tmp_path / controller / "sublet/job").mkdir(parents=True)
        for name in names:
            (tmp_path / controller / "sublet/job" / name).touch()
    return Home(1, {name: tmp_path / name / "sublet" for name in FILES_V1})


def kernel_makes_files(folder: Path, names: tuple[str, ...]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).touch()


def test_refuses_a_name_that_is_taken(home_v1: Home) -> None:
    with pytest.raises(Unavailable):
        create_group(home_v1, name="job", memory_bytes=1, cpus_milli=1, processes_max=1)


def test_names_the_files_of_version_1(home_v1: Home, tmp_path: Path) -> None:
    group = group_of(home_v1, name="job")
    assert group.joins[0] == f"{tmp_path}/memory/sublet/job/cgroup.procs"
    assert len(group.joins) == 5
    assert group.kill == f"{tmp_path}/unified/sublet/job/cgroup.kill"
    assert group.cpu == (f"{tmp_path}/cpuacct/sublet/job/cpuacct.usage", "", 1_000_000)
    assert group.oom == (f"{tmp_path}/memory/sublet/job/memory.oom_control", "oom_kill")
    assert set(group.shared) == {str(tmp_path / name / "sublet") for name in FILES_V1}
    assert group.folders[-5:] == group.shared  # outer ones last


def test_names_the_files_of_version_2(tmp_path: Path) -> None:
    group = group_of(Home(2, {"unified": tmp_path}), name="job")
    assert group.joins == (f"{tmp_path}/job/cgroup.procs",)
    assert group.kill == f"{tmp_path}/job/cgroup.kill"
    assert group.cpu == (f"{tmp_path}/job/cpu.stat", "usage_usec", 1_000)
    assert group.memory == (f"{tmp_path}/job/memory.peak", "")
    assert group.folders == (f"{tmp_path}/job",)
    assert group.shared == ()


def test_kernel_that_refuses_leaves_nothing(tmp_path: Path) -> None:
    # An ordinary folder has none of the kernel's files: the first limit fails.
    home = Home(2, {"unified": tmp_path / "sublet"})
    with pytest.raises(Unavailable, match="control group failed"):
        create_group(home, name="job", memory_bytes=1, cpus_milli=1, processes_max=1)
    assert not (tmp_path / "sublet/job").exists()


def unified(base: Path, *, offered: str, enabled: str) -> Path:
    """Make what looks like a v2 group with one process in it."""
    own = base / "own"
    kernel_makes_files(own / "sublet", ("cgroup.subtree_control",))
    kernel_makes_files(own / "sublet-agent", ("cgroup.procs",))
    (own / "cgroup.controllers").write_text(offered)
    (own / "cgroup.subtree_control").write_text(enabled)
    (own / "cgroup.procs").write_text("4242\n")
    return own


def test_passes_controllers_to_the_jobs(tmp_path: Path) -> None:
    own = unified(
        tmp_path, offered="cpuset cpu io memory pids", enabled="cpu memory pids"
    )
    assert prepare_unified(own) == own / "sublet"
    wanted = "+memory +cpu +pids"
    assert (own / "sublet/cgroup.subtree_control").read_text() == wanted
    assert (own / "cgroup.subtree_control").read_text() == "cpu memory pids"


def test_enables_what_is_not_yet(tmp_path: Path) -> None:
    own = unified(tmp_path, offered="cpu memory pids", enabled="")
    prepare_unified(own)
    assert (own / "cgroup.subtree_control").read_text() == "+memory +cpu +pids"


def test_names_controllers_that_are_missing(tmp_path: Path) -> None:
    own = unified(tmp_path, offered="cpu hugetlb", enabled="")
    with pytest.raises(Unavailable, match=r"no memory, pids controller.*systemd-run"):
        prepare_unified(own)


def test_names_the_cure_without_rights(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="Delegate=yes"):
        prepare_unified(tmp_path / "missing")


def test_sweeps_what_is_gone_already(tmp_path: Path) -> None:
    assert sweep(group_of(Home(2, {"unified": tmp_path}), name="job"))


def write(folder: Path, **files: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "cgroup.procs").touch()
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_text(text)


def test_tightest_limit_around_counts_v2(tmp_path: Path) -> None:
    write(tmp_path / "a", cpu__max="150000 100000", memory__max="4294967296")
    write(tmp_path / "a/b", cpu__max="max 100000", memory__max="8589934592")
    assert read_limits({"unified": tmp_path / "a/b"}) == (1_500, 4 << 30)


def test_tightest_limit_around_counts_v1(tmp_path: Path) -> None:
    cpu, memory = tmp_path / "cpu/a", tmp_path / "memory/a"
    write(cpu, cpu__cfs_quota_us="50000", cpu__cfs_period_us="100000")
    write(cpu / "b", cpu__cfs_quota_us="-1", cpu__cfs_period_us="100000")
    write(memory, memory__limit_in_bytes="1073741824")
    write(memory / "b", memory__limit_in_bytes="9223372036854771712")
    assert read_limits({"cpu": cpu / "b", "memory": memory / "b"}) == (500, 1 << 30)


def test_no_limit_is_none(tmp_path: Path) -> None:
    write(tmp_path / "a", cpu__max="max 100000", memory__max="max")
    assert read_limits({"unified": tmp_path / "a"}) == (None, None)
    assert read_limits({}) == (None, None)
