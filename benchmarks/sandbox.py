"""What does each sandbox cost, to start and to live in?

``true`` in each kind of sandbox as a job has it (warden, control groups, own uid, limits)
beside ``true`` by the bare tool, in turn; then, in each of them and on the bare machine,
what a system call, a small file and a new process cost. What does not work on this
machine is left out, and its reason said.

``ROUNDS=2 CALLS=2000 make bench NAME=sandbox`` is a small one.
"""

import asyncio
import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

from benchmarks.rig.frame import close, console, median, run, scratch, show, time_ms
from sublet.adapter.job_python import find_job_python
from sublet.provider.sandboxes import make_adapters
from sublet.service.ports import Bind, Sandbox, SandboxSpec

ROUNDS = int(os.environ.get("ROUNDS", "15"))
CALLS = int(os.environ.get("CALLS", "20000"))
JOB_UID = 66_998
MB = 1 << 20
BARE = {
    "bubblewrap": ("bwrap",),
    "podman": ("crun", "podman run"),
    "gvisor": ("runsc",),
}
BWRAP = (
    "bwrap", "--unshare-all", "--hostname", "job", "--ro-bind", "/", "/", "--proc",
    "/proc", "--dev", "/dev", "--tmpfs", "/tmp", "--die-with-parent", "--new-session",
    "--cap-drop", "ALL", "--clearenv", "--", "/bin/true",
)  # fmt: skip
OCI = {  # {0} is a folder with a bundle
    "crun": "crun --cgroup-manager=disabled --root={0}/crun run --bundle={0} bench",
    "runsc": "runsc --rootless --ignore-cgroups --network=none --platform=ptrace"
    " --root={0}/runsc run --bundle={0} bench",
    "podman": "podman --root={0}/store --runroot={0}/runs --cgroup-manager=cgroupfs"
    " --storage-driver=vfs run --rm --network=none --ulimit nofile=1024:4096"
    " --ulimit nproc=1024:2048 --rootfs {0}/root /bin/true",
}
# crun stumbles over v2 groups beside v1, so it is shown a machine without them.
HIDE = "umount /sys/fs/cgroup/unified 2>/dev/null; exec "
# The smallest of several passes: what it costs when nobody is in the way.
PROBE = """
import json, os, sys, time
calls = int(sys.argv[1])
def best(count, work):
    times = []
    for _ in range(5):
        begun = time.perf_counter()
        for _ in range(count):
            work()
        times.append((time.perf_counter() - begun) / count * 1e6)
    return min(times)
block = bytes(4096)
def write():
    handle = os.open("file", os.O_CREAT | os.O_WRONLY | os.O_TRUNC)
    os.write(handle, block)
    os.close(handle)
def spawn():
    os.waitpid(os.posix_spawn("/bin/true", ["true"], {}), 0)
print(json.dumps({
    "syscall_us": best(calls, os.getppid),
    "file_us": best(max(1, calls // 40), write),
    "spawn_us": best(max(1, calls // 1000), spawn),
    "loop_us": best(max(1, calls // 1000), lambda: sum(range(10_000))),
}))
"""
KINDS = {
    "syscall_us": "a system call (getppid, with Python's own cost), µs",
    "file_us": "a file made and 4 KiB written, µs",
    "spawn_us": "a process started and awaited, µs",
    "loop_us": "10,000 turns of a Python loop, µs",
}


class Box:
    """One kind of sandbox, used again and again."""

    def __init__(self, sandbox: Sandbox, folder: Path) -> None:
        """Take an adapter, and a folder for the state of each use."""
        self.name = sandbox.name
        self._sandbox = sandbox
        self._folder = folder
        self._count = 0

    def start(self) -> None:
        """Run ``true`` once, from nothing to its end."""
        self.run("/bin/true")

    def run(self, *argv: str) -> str:
        """Run a program; give what it printed."""
        self._count += 1
        return asyncio.run(self._run(argv, self._folder / f"{self.name}{self._count}"))

    async def _run(self, argv: tuple[str, ...], base: Path) -> str:
        work, log = base / "work", base / "log"
        work.mkdir(parents=True)
        spec = SandboxSpec(
            argv=argv,
            env={},
            directory="/work",
            binds=(Bind(str(work), "/work", is_writable=True),),
            uid=JOB_UID,
            memory_bytes=512 * MB,
            cpus_milli=1_000,
            processes_max=64,
            tmp_bytes=16 * MB,
            file_bytes_max=16 * MB,
            disk_bytes=16 * MB,
            watched=(),
            stdout=str(log),
            stderr=str(log),
        )
        await self._sandbox.start(spec, folder=base / "state")
        state = await self._sandbox.wait_ended(base / "state")
        if state.exit_code:
            raise SystemExit(f"{argv[0]} in {self.name}: {state} {log.read_text()}")
        return log.read_text()


def bare_tools(folder: Path) -> dict[str, Callable[[], object]]:
    """Give ``true`` by each tool alone; the OCI ones on the smallest of bundles."""
    bundle, busybox = folder / "bundle", shutil.which("busybox")
    for point in ("bin", "proc", "dev", "sys"):
        (bundle / "root" / point).mkdir(parents=True)
    if busybox:
        shutil.copy(busybox, bundle / "root/bin/true")  # it is what it is called
    config = {
        "ociVersion": "1.0.2",
        "root": {"path": "root", "readonly": True},
        "process": {
            "user": {"uid": 0, "gid": 0},
            "args": ["/bin/true"],
            "cwd": "/",
            "noNewPrivileges": True,
        },
        "mounts": [{"destination": "/proc", "type": "proc", "source": "proc"}],
        "linux": {
            "namespaces": [
                {"type": kind}
                for kind in ("pid", "ipc", "uts", "mount", "cgroup", "network")
            ]
        },
    }
    (bundle / "config.json").write_text(json.dumps(config))

    def by(line: str) -> Callable[[], object]:
        line = f"{HIDE}{line.format(bundle)} </dev/null"
        return lambda: run("unshare", "-m", "sh", "-c", line)

    oci = {
        "podman run" if tool == "podman" else tool: by(line)
        for tool, line in OCI.items()
        if busybox and shutil.which(tool) and os.geteuid() == 0
    }
    return {"bwrap": lambda: run(*BWRAP), **oci}


def find_boxes(folder: Path) -> list[Box]:
    """Try the sandboxes out; say why one of them is left out."""
    boxes = []
    for adapter in make_adapters():
        probe = adapter.probe()
        if probe.is_ok:
            boxes.append(Box(adapter, folder))
        else:
            console.print(f"{adapter.name} does not work here: {probe.reason}")
    if not boxes:
        raise SystemExit("no sandbox works here")
    return boxes


def probe_natively(folder: Path) -> str:
    """Run the probe on the bare machine, by the same interpreter, on the same disk."""
    argv = [find_job_python().outside, "-S", "-c", PROBE, str(CALLS)]
    return subprocess.run(
        argv, cwd=folder, env={}, capture_output=True, text=True, check=True
    ).stdout


def show_starts(times: dict[str, list[float]]) -> None:
    """Show how long each one took from nothing to the end of ``true``."""
    rows = [
        (name, f"{median(got):.1f}", f"{min(got):.1f}", str(len(got)))
        for name, got in times.items()
    ]
    show("true, start to end", ["", "median ms", "fastest ms", "runs"], rows)


def show_costs(costs: dict[str, dict[str, float]]) -> None:
    """Show what things cost inside."""
    rows = [
        (text, *(f"{cost[key]:.2f}" for cost in costs.values()))
        for key, text in KINDS.items()
    ]
    show("what things cost there", ["", *costs], rows)


def main() -> None:
    """Take turns; show; say it in one line."""
    with scratch() as name:
        folder = Path(name)
        folder.chmod(0o755)
        boxes = find_boxes(folder)
        tools = bare_tools(folder)
        work: dict[str, Callable[[], object]] = {}
        for box in boxes:
            work |= {tool: tools[tool] for tool in BARE[box.name] if tool in tools}
            work[box.name] = box.start
        for once in work.values():
            once()
        console.print(f"true, {ROUNDS} times each, in turn")
        times: dict[str, list[float]] = {name: [] for name in work}
        for _ in range(ROUNDS):
            for kind, once in work.items():
                times[kind].append(time_ms(once))
        python = find_job_python().inside
        costs = {"native": json.loads(probe_natively(folder))}
        for box in boxes:
            costs[box.name] = json.loads(box.run(python, "-S", "-c", PROBE, str(CALLS)))
    show_starts(times)
    show_costs(costs)
    figures = {
        f"{kind.replace(' ', '_')}_ms": median(got) for kind, got in times.items()
    }
    for kind, cost in costs.items():
        figures |= {f"{kind}_{key}": cost[key] for key in KINDS}
    close("sandbox", **figures)


if __name__ == "__main__":
    main()
