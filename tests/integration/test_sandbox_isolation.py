"""What a job cannot do: tried from inside each real sandbox.

Each row is one thing that a hostile job would reach for. The row's program prints
"open" where it got through; it must print "shut". Its twin, what a job may do, is
next to it, so that "shut" is never just a broken program.
"""

import asyncio
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from sublet.adapter.job_python import find_job_python
from sublet.adapter.sandbox_bubblewrap import BubblewrapSandbox
from sublet.adapter.sandbox_oci import GvisorSandbox, PodmanSandbox
from sublet.base.errors import Refused, Unavailable
from sublet.service.ports import Bind, Sandbox, SandboxSpec, SandboxState

pytestmark = pytest.mark.sandbox

MIB = 1 << 20
PYTHON = find_job_python().inside


class Cell:
    """One sandbox to run programs in, with a work folder."""

    def __init__(self, base: Path, sandbox: Sandbox) -> None:
        self.base = base
        self.sandbox = sandbox
        self.work = base / "work"
        self.work.mkdir()
        self.count = 0

    def spec(self, *argv: str, **changes: object) -> SandboxSpec:
        fields: dict[str, object] = {
            "argv": argv,
            "env": {"PATH": "/usr/bin:/bin"},
            "directory": "/work",
            "binds": (Bind(str(self.work), "/work", is_writable=True),),
            "uid": 64_200,
            "memory_bytes": 256 * MIB,
            "cpus_milli": 2_000,
            "processes_max": 64,
            "tmp_bytes": 16 * MIB,
            "file_bytes_max": 64 * MIB,
            "disk_bytes": 64 * MIB,
            "watched": (str(self.work),),
            "stdout": str(self.base / f"stdout{self.count}"),
            "stderr": str(self.base / f"stderr{self.count}"),
            "timeout_s": 40,
        }
        return SandboxSpec(**{**fields, **changes})  # type: ignore[arg-type]  # a test's short way

    async def run(self, *argv: str, **changes: object) -> SandboxState:
        self.count += 1
        self.folder = self.base / f"sandbox{self.count}"
        await self.sandbox.start(self.spec(*argv, **changes), folder=self.folder)
        return await self.sandbox.wait_ended(self.folder)

    async def python(self, program: str, **changes: object) -> SandboxState:
        return await self.run(PYTHON, "-S", "-c", program, **changes)

    def said(self) -> str:
        return (self.base / f"stdout{self.count}").read_text().strip()

    def complained(self) -> str:
        return (self.base / f"stderr{self.count}").read_text()


KINDS: dict[str, Callable[[], Sandbox]] = {
    "bubblewrap": BubblewrapSandbox,
    "podman": PodmanSandbox,
    "gvisor": GvisorSandbox,
}


PODMAN = pytest.param("podman", marks=pytest.mark.container)
GVISOR = pytest.param("gvisor", marks=pytest.mark.container)


@pytest.fixture(params=["bubblewrap", PODMAN, GVISOR])
def cell(request: pytest.FixtureRequest, tmp_path: Path) -> Cell:
    return Cell(tmp_path, KINDS[request.param]())


@pytest.fixture(params=["bubblewrap", PODMAN])
def host_cell(request: pytest.FixtureRequest, tmp_path: Path) -> Cell:
    """A sandbox whose jobs talk to the host's kernel."""
    return Cell(tmp_path, KINDS[request.param]())


TRY = """
import ctypes, errno, fcntl, os, socket
libc = ctypes.CDLL(None, use_errno=True)
def call(name, *arguments):
    if getattr(libc, name)(*arguments) < 0:
        raise OSError(ctypes.get_errno(), name)
def syscall(number, *arguments):
    if libc.syscall(number, *arguments) < 0:
        raise OSError(ctypes.get_errno(), str(number))
try:
    {attempt}
    print("open")
except OSError as error:
    print("shut", errno.errorcode[error.errno])
"""

FORBIDDEN = {
    # the host's files
    "the password hashes": 'open("/etc/shadow").read()',
    "root's home": 'open("/root/.bashrc").read()',
    "the home folders": 'os.listdir("/home")',
    "the host's /var": 'os.listdir("/var")',
    "kernel memory": 'open("/proc/kcore", "rb").read(1)',
    "a disk": 'open("/dev/vda", "rb").read(1)',
    "a new device node": "os.mknod('/work/vda', 0o60666, os.makedev(254, 0))",
    # what is shared with other jobs
    "writing to /usr": 'open("/usr/bin/evil", "w")',
    "writing to the root": 'open("/evil", "w")',
    "writing to /etc": 'open("/etc/passwd", "a")',
    "writing to the interpreter": f'open("{PYTHON}", "ab")',
    "a kernel setting": 'open("/proc/sys/kernel/core_pattern", "w").write("|/x")',
    "sysrq": 'open("/proc/sysrq-trigger", "w").write("b")',
    # becoming somebody
    "another user": "os.setuid(1001)",
    "another group": "os.setgroups([0])",
    # other namespaces and mounts
    "a network namespace": 'call("unshare", 0x40000000)',
    "a mount": 'call("mount", b"none", b"/tmp", b"tmpfs", 0, None)',
    "an unmount": 'call("umount2", b"/work", 2)',
    "a new root": 'call("chroot", b"/work")',
    "the new mount interface": 'syscall(430, b"tmpfs", 0)',
    "another process's namespace": "call('setns', os.open('/proc/self/ns/net', 0), 0)",
    # large or privileged parts of the kernel
    "bpf": "syscall(321, 0, 0, 0)",
    "io_uring": "syscall(425, 8, 0)",
    "userfaultfd": "syscall(323, 0)",
    "perf events": "syscall(298, 0, 0, -1, -1, 0)",
    "kernel keys": "syscall(250, 0, -3, 0, 0, 0)",
    "a kernel module": "syscall(175, 0, 0, 0)",
    "another kernel": "syscall(246, 0, 0, 0, 0)",
    "the clock": "syscall(227, 0, 0)",
    "typing into the terminal": "fcntl.ioctl(0, 0x5412, b'x')",
    # the network
    "the internet": 'socket.create_connection(("192.0.2.1", 80), timeout=3)',
    "the host's services": 'socket.create_connection(("127.0.0.1", 22), timeout=3)',
    "raw packets": "socket.socket(17, socket.SOCK_RAW)",
    "virtual sockets": "socket.socket(40, socket.SOCK_STREAM)",
    "kernel crypto": "socket.socket(38, socket.SOCK_SEQPACKET)",
    "raw IP": "socket.socket(socket.AF_INET, socket.SOCK_RAW, 1)",
}

# gVisor lets a job have these from a kernel of its own, which is not the host's.
FORBIDDEN_BY_HOST = {
    "kernel settings": 'os.listdir("/sys/kernel")',
    "the control groups": 'os.listdir("/sys/fs/cgroup")',
    "root": "os.setuid(0)",
    "a root-owned file": "os.chown('/work', 0, 0)",
    "a user namespace": 'call("unshare", 0x10000000)',
    "a mount namespace": 'call("unshare", 0x00020000)',
    "a clone with namespaces": "syscall(56, 0x10000011, 0, 0, 0, 0)",
    "tracing": 'call("ptrace", 0, 0, 0, 0)',
    "the kernel's log": "syscall(103, 3, 0, 0)",
    "netlink": "socket.socket(16, socket.SOCK_RAW)",
}

ALLOWED = {
    "reading a program": 'open("/usr/bin/env", "rb").read(1)',
    "writing its folder": 'open("/work/file", "w").write("x")',
    "writing /tmp": 'open("/tmp/file", "w").write("x")',
    "shared memory": 'open("/dev/shm/file", "w").write("x")',
    "randomness": 'open("/dev/urandom", "rb").read(1)',
    "a process": "os.waitpid(os.posix_spawn('/bin/true', ['true'], {}), 0)",
    "a thread": "import threading; t = threading.Thread(); t.start(); t.join()",
    "a local socket": "socket.socketpair()",
    "a listening socket": "socket.create_server(('127.0.0.1', 0))",
    "its own status": 'open("/proc/self/status").read()',
}


@pytest.mark.parametrize("attempt", FORBIDDEN.values(), ids=FORBIDDEN)
async def test_job_cannot_reach(cell: Cell, attempt: str) -> None:
    state = await cell.python(TRY.format(attempt=attempt))
    assert state.reason == "exited", cell.complained()
    assert cell.said().startswith("shut"), cell.said() + cell.complained()


@pytest.mark.parametrize(
    "attempt", FORBIDDEN_BY_HOST.values(), ids=list(FORBIDDEN_BY_HOST)
)
async def test_job_cannot_reach_in_the_host(host_cell: Cell, attempt: str) -> None:
    await test_job_cannot_reach(host_cell, attempt)


@pytest.mark.parametrize("attempt", ALLOWED.values(), ids=ALLOWED)
async def test_job_can_use(cell: Cell, attempt: str) -> None:
    await cell.python(TRY.format(attempt=attempt))
    assert cell.said() == "open", cell.complained()


async def test_sees_only_its_own_processes(cell: Cell) -> None:
    await cell.run("sh", "-c", "ls /proc | grep -c '^[0-9]'; cat /proc/1/cmdline")
    count, *command = cell.said().splitlines()
    assert int(count) <= 5  # bubblewrap, sh, ls, grep
    # Host paths stand in bubblewrap's options, and those in no process list.
    assert str(cell.base) not in "".join(command)


async def test_has_no_privileges(host_cell: Cell) -> None:
    await host_cell.run("sh", "-c", "id -u; id -G; cat /proc/self/status")
    uid, groups, *status = host_cell.said().splitlines()
    fields = dict(line.split(":\t", 1) for line in status if ":\t" in line)
    assert (uid, groups) == ("1000", "1000")
    for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
        assert int(fields[name], 16) == 0
    assert fields["NoNewPrivs"] == "1"
    assert fields["Seccomp"] == "2"


async def test_inherits_no_open_files(cell: Cell) -> None:
    with (cell.base / "secret").open("w") as file:
        os.set_inheritable(file.fileno(), True)
        await cell.run(
            "sh", "-c", "for fd in /proc/self/fd/*; do printf '%s ' ${fd##*/}; done"
        )
    assert cell.said() == "0 1 2 3"  # the last one is ls reading the folder


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give out uids")
async def test_runs_under_its_own_host_uid(cell: Cell) -> None:
    await cell.run("sh", "-c", "echo x > file")
    assert (cell.work / "file").stat().st_uid == 64_200


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give out uids")
async def test_given_files_become_its_own(cell: Cell) -> None:
    (cell.work / "deep").mkdir()
    (cell.work / "deep/file").write_text("old")
    (cell.work / "link").symlink_to("/etc/passwd")
    await cell.run("sh", "-c", "echo new > deep/file && rm link && echo done")
    assert cell.said() == "done"
    assert os.stat("/etc/passwd").st_uid == 0  # noqa: PTH116 (not followed)


async def test_read_only_binds_stay_so(cell: Cell) -> None:
    shared = cell.base / "shared"
    shared.mkdir(mode=0o777)
    shared.chmod(0o777)
    binds = (*cell.spec("x").binds, Bind(str(shared), "/shared"))
    await cell.run("sh", "-c", "touch /shared/x || echo shut", binds=binds)
    assert cell.said() == "shut"


# ---- limits -----------------------------------------------------------------------


async def test_memory_is_limited(cell: Cell) -> None:
    state = await cell.python("x = bytearray(512 << 20); print('open')")
    assert (state.reason, state.exit_code) == ("out_of_memory", 137)
    assert cell.said() == ""
    assert 128 * MIB < state.memory_bytes_max <= 256 * MIB


async def test_memory_below_the_limit_is_fine(cell: Cell) -> None:
    state = await cell.python("x = bytearray(128 << 20); print('open')")
    assert (state.reason, state.exit_code) == ("exited", 0)
    assert state.memory_bytes_max >= 128 * MIB


async def test_tmp_counts_as_memory(cell: Cell) -> None:
    program = "dd if=/dev/zero of=/tmp/x bs=1M count=400"
    sizes = {"tmp_bytes": 1 << 30, "file_bytes_max": 1 << 30}
    state = await cell.run("sh", "-c", program, **sizes)
    assert state.reason == "out_of_memory"


async def test_tmp_is_limited(cell: Cell) -> None:
    await cell.run("sh", "-c", "dd if=/dev/zero of=/tmp/x bs=1M count=100")
    assert "No space left" in cell.complained()


FORK = """
import os, signal
count = 0
try:
    while count < 500:
        if os.fork() == 0:
            signal.pause()
        count += 1
except OSError:
    pass
print(count, flush=True)
"""


async def test_processes_are_limited(host_cell: Cell) -> None:
    state = await host_cell.python(FORK, processes_max=32)
    assert state.reason == "exited"
    assert 20 <= int(host_cell.said()) < 32


@pytest.mark.container
async def test_fork_bomb_ends_with_its_kernel(tmp_path: Path) -> None:
    """gVisor's kernel dies where the host gives it no more threads."""
    cell = Cell(tmp_path, GvisorSandbox())
    state = await cell.python(FORK, processes_max=32)
    assert state.exit_code != 0
    assert cell.said() == ""


async def test_processor_time_is_limited(cell: Cell) -> None:
    program = """
import time
begun = time.monotonic()
while time.monotonic() - begun < 1.0:
    pass
"""
    state = await cell.python(program, cpus_milli=300)
    assert state.cpu_ms < state.ran_ms * 0.6  # 0.3, and the first period's burst
    assert state.cpu_ms > 100


async def test_file_size_is_limited(cell: Cell) -> None:
    program = "trap '' XFSZ; dd if=/dev/zero of=x bs=1M count=3; echo"
    await cell.run("sh", "-c", program, file_bytes_max=2 * MIB)
    assert "File too large" in cell.complained()
    assert (cell.work / "x").stat().st_size == 2 * MIB


async def test_removed_open_files_count(cell: Cell) -> None:
    program = """
import os, time
file = open("hidden", "wb")
os.remove("hidden")
file.write(bytes(8 << 20))
file.flush()
time.sleep(30)
"""
    state = await cell.python(program, disk_bytes=4 * MIB)
    assert state.reason == "disk_full"


async def test_sparse_files_cost_what_they_hold(cell: Cell) -> None:
    state = await cell.run("sh", "-c", "truncate -s 60M x; sleep 1.5", disk_bytes=MIB)
    assert state.reason == "exited"


# ---- bad specs --------------------------------------------------------------------

BAD = {
    # A NUL would end one option of bubblewrap and begin another.
    "an option in a value": {"env": {"A": "x\0--bind\0/\0/host"}},
    "an option in a name": {"env": {"A\0--bind\0/\0/host": "x"}},
    "an option in an argument": {"argv": ("echo", "a\0b")},
    "a name with an equals sign": {"env": {"A=B": "x"}},
    "a nameless variable": {"env": {"": "x"}},
    "half a character": {"argv": ("echo", "\ud800")},
}


@pytest.mark.parametrize("changes", BAD.values(), ids=BAD)
async def test_refuses_hostile_texts(cell: Cell, changes: dict[str, object]) -> None:
    fields: dict[str, Any] = {"argv": ("true",), **changes}
    spec = msgspec.structs.replace(cell.spec("true"), **fields)
    with pytest.raises(Refused):
        await cell.sandbox.start(spec, folder=cell.base / "sandbox")
    assert list((cell.base / "sandbox").iterdir()) == []  # nothing is left behind


async def test_says_why_it_did_not_start(cell: Cell) -> None:
    binds = (Bind(str(cell.base / "missing"), "/missing"),)
    with pytest.raises(Unavailable, match="did not start"):
        await cell.run("true", binds=binds)
    assert list(cell.folder.iterdir()) == []


async def test_unknown_program_ends_with_a_reason(cell: Cell) -> None:
    state = await cell.run("no-such-program")
    assert state.exit_code != 0
    said = cell.complained()
    assert "no-such-program" in said or "No such file" in said  # as its init puts it


async def test_many_at_once_stay_apart(cell: Cell) -> None:
    async def one(number: int) -> str:
        work = cell.base / f"work{number}"
        work.mkdir()
        stdout = cell.base / f"own{number}"
        spec = cell.spec(
            *("sh", "-c", f"echo {number} > x; cat x; set -- /work/*; echo $#"),
            binds=(Bind(str(work), "/work", is_writable=True),),
            uid=64_300 + number,
            stdout=str(stdout),
        )
        await cell.sandbox.start(spec, folder=cell.base / f"many{number}")
        await cell.sandbox.wait_ended(cell.base / f"many{number}")
        return stdout.read_text()

    said = await asyncio.gather(*(one(number) for number in range(8)))
    assert said == [f"{number}\n1\n" for number in range(8)]
