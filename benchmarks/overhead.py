"""What does a market cost over the bare sandbox, and what does the usual tool cost?

On a warm local market (a node, one provider, credits, as ``sublet up`` makes it) runs
``sublet run -- true`` from Enter to exit code: a lease is ordered, matched, signed,
delivered, started in its sandbox, metered, paid and settled. Beside it, in turn: the
same without the warm process, ``true`` in plain bubblewrap, ``true`` in the provider's
whole sandbox (warden, control groups, limits), and ``ray job submit -- true`` on a
running head, from PyPI, in an environment of its own below ``.cache``.
"""

import asyncio
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from benchmarks.rig.frame import (
    CACHE,
    PYTHON,
    ROOT,
    UV,
    close,
    console,
    median,
    run,
    scratch,
    show,
    time_ms,
)
from sublet.adapter.sandbox_bubblewrap import BubblewrapSandbox
from sublet.cli.local_market import LocalMarket
from sublet.cli.up import WarmProcess
from sublet.service.ports import SandboxSpec

RUNS = 21
RAY_RUNS = 5
RAY_PORT = 8_365
RAY_READY_S = 90
RAY_END_S = 10
WARM_READY_S = 20
MB = 1 << 20
JOB_UID = 66_999
BWRAP = (
    "bwrap", "--unshare-all", "--hostname", "job", "--ro-bind", "/", "/", "--proc",
    "/proc", "--dev", "/dev", "--tmpfs", "/tmp", "--die-with-parent", "--new-session",
    "--cap-drop", "ALL", "--clearenv", "--", "/bin/true",
)  # fmt: skip
SUBLET_TARGET_MS = 150
RAY_TARGET = 25


class Sandbox:
    """``true`` in the provider's own sandbox, again and again."""

    def __init__(self, folder: Path) -> None:
        """Take a folder for the state of each."""
        self._folder = folder
        self._sandbox = BubblewrapSandbox()
        self._count = 0

    def run(self) -> None:
        """Run it once."""
        self._count += 1
        asyncio.run(self._run(self._folder / str(self._count)))

    async def _run(self, folder: Path) -> None:
        spec = SandboxSpec(
            argv=("/bin/true",),
            env={},
            directory="/",
            binds=(),
            uid=JOB_UID,
            memory_bytes=512 * MB,
            cpus_milli=1_000,
            processes_max=64,
            tmp_bytes=16 * MB,
            file_bytes_max=16 * MB,
            disk_bytes=16 * MB,
            watched=(),
        )
        await self._sandbox.start(spec, folder=folder)
        state = await self._sandbox.wait_ended(folder)
        if state.exit_code:
            raise SystemExit(f"true in the sandbox ended with {state}")


class Ray:
    """A running Ray head, and jobs on it."""

    def __init__(self) -> None:
        """Install Ray, once, into an environment of its own."""
        self._venv = CACHE / "ray"
        console.print("preparing Ray (the first time it is downloaded)")
        env = {"UV_PROJECT_ENVIRONMENT": str(self._venv)}
        run(
            UV, "sync", "--quiet", "--locked", "--only-group", "bench",
            "--compile-bytecode", "--python", PYTHON.resolve(), "--project", ROOT,
            env=env,
        )  # fmt: skip

    @contextmanager
    def head(self, folder: Path) -> Iterator[None]:
        """Run a head in a process group of its own."""
        argv: list[str | Path] = [
            self._venv / "bin/ray", "start", "--head", "--block", "--num-cpus", "2",
            "--port", "0", "--include-dashboard", "true", "--dashboard-port",
            str(RAY_PORT), "--disable-usage-stats", "--temp-dir", folder,
        ]  # fmt: skip
        with (folder / "head.log").open("wb") as log:
            process = subprocess.Popen(
                argv,
                stdout=log,
                stderr=log,
                start_new_session=True,
                env={**os.environ, "PATH": f"{self._venv}/bin:{os.environ['PATH']}"},
            )
        try:
            self._wait_ready()
            yield
        finally:
            os.killpg(process.pid, signal.SIGTERM)
            with suppress(subprocess.TimeoutExpired):
                process.wait(RAY_END_S)
            end_processes_naming(str(folder))
            process.wait()

    def submit(self) -> None:
        """Submit ``true`` and wait for its end."""
        run(
            self._venv / "bin/ray", "job", "submit", "--address",
            f"http://127.0.0.1:{RAY_PORT}", "--", "true",
        )  # fmt: skip

    def _wait_ready(self) -> None:
        limit = time.monotonic() + RAY_READY_S
        while True:
            try:
                return self.submit()
            except SystemExit:
                if time.monotonic() > limit:
                    raise


def end_processes_naming(folder: str) -> None:
    """Kill what Ray leaves behind: the processes that name its own folder."""
    for place in Path("/proc").glob("[0-9]*"):
        try:
            if folder.encode() in (place / "cmdline").read_bytes():
                os.kill(int(place.name), signal.SIGKILL)
        except OSError:
            continue


def main() -> None:
    """Start everything, take turns, show."""
    if shutil.which("bwrap") is None:
        raise SystemExit("bubblewrap is needed: apt-get install bubblewrap libseccomp2")
    ray = Ray()
    with scratch() as name:
        folder = Path(name)
        tenant = folder / "tenant"
        market = LocalMarket(
            folder,
            providers=1,
            tenant_home=tenant,
            listen="127.0.0.1:0",
            say=lambda text: console.print(text, style="dim"),
        )
        with market, WarmProcess(tenant), ray.head(make(Path("/tmp/sublet-ray"))):
            wait_for(tenant / "warm.sock")
            times = take_turns(tenant, Sandbox(make(folder / "sandboxes")), ray)
    report(times)


def take_turns(tenant: Path, sandbox: Sandbox, ray: Ray) -> dict[str, list[float]]:
    """Measure each of the five, alternating; milliseconds."""
    sublet = PYTHON.with_name("sublet")
    warm = {"SUBLET_HOME": str(tenant)}
    cold = {**warm, "SUBLET_NO_WARM": "1"}
    work = {
        "warm": lambda: run(sublet, "run", "--", "true", env=warm),
        "cold": lambda: run(sublet, "run", "--", "true", env=cold),
        "bwrap": lambda: run(*BWRAP),
        "sandbox": sandbox.run,
    }
    for once in work.values():
        once()
    times: dict[str, list[float]] = {name: [] for name in (*work, "ray")}
    for turn in range(RUNS):
        for name, once in work.items():
            times[name].append(time_ms(once))
        if turn % (RUNS // RAY_RUNS) == 0:
            times["ray"].append(time_ms(ray.submit))
    return times


def report(times: dict[str, list[float]]) -> None:
    """Show all and the last line."""
    names = {
        "warm": "sublet run -- true",
        "cold": "the same without the warm process",
        "bwrap": "true in plain bubblewrap",
        "sandbox": "true in the provider's whole sandbox",
        "ray": "ray job submit -- true",
    }
    show(
        "Enter to exit code, in turn",
        ["", "median ms", "fastest ms", "runs"],
        [
            (
                text,
                f"{median(times[key]):.0f}",
                f"{min(times[key]):.0f}",
                str(len(times[key])),
            )
            for key, text in names.items()
        ],
    )
    over = median(times["warm"]) - median(times["bwrap"])
    ratio = median(times["ray"]) / median(times["warm"])
    console.print(
        f"over plain bubblewrap: {over:.0f} ms (target: at most {SUBLET_TARGET_MS}); "
        f"{ratio:.0f} times faster than Ray (target: at least {RAY_TARGET})"
    )
    close("overhead", over_sandbox_ms=over, times_faster_than_ray=ratio)


def make(folder: Path) -> Path:
    """Make a folder, empty."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True, mode=0o700)
    return folder


def wait_for(place: Path) -> None:
    """Wait until the warm process listens."""
    limit = time.monotonic() + WARM_READY_S
    while not place.exists():
        if time.monotonic() > limit:
            raise SystemExit("the warm process did not come up")
        time.sleep(0.05)


if __name__ == "__main__":
    main()
