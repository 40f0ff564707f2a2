"""The frame of every benchmark: a table for people, one last line for machines.

Each benchmark is a module of its own, run by ``make bench NAME=…``. It prints what it
measures and on what, its table, and as its last line ``result: NAME key=value …``.
Figures are medians of what is measured in this very run; ratios compare runs that
alternate within it, so that a busy machine slows both sides.
"""

import os
import platform
import statistics
import subprocess
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from tempfile import TemporaryDirectory

from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).parents[2]
CACHE = ROOT / ".cache"  # survives between runs; ignored by git
UV = ROOT / ".venv/bin/uv"
PYTHON = ROOT / ".venv/bin/python"

console = Console(highlight=False)


def describe_machine() -> str:
    """Say what the figures were measured on, in one line."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        model = next(x.split(": ", 1)[1] for x in lines if x.startswith("model name"))
    except (OSError, StopIteration):
        model = platform.machine()
    cores = len(os.sched_getaffinity(0))
    load = os.getloadavg()[0]
    return (
        f"{cores} cores of {model}, load {load:.1f}, "
        f"Python {platform.python_version()}, {platform.system()} {platform.release()}"
    )


def show(title: str, header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table; the first column is text, the others are figures."""
    table = Table(title=title, title_justify="left", caption=describe_machine())
    for number, name in enumerate(header):
        table.add_column(name, justify="left" if number == 0 else "right")
    for row in rows:
        table.add_row(*row)
    console.print(table)


def close(name: str, **figures: int | float) -> None:
    """Print the last line; integers as they are, floats with what counts of them."""
    pairs = " ".join(
        f"{key}={value:.{1 if value >= 1 else 4}f}"
        if isinstance(value, float)
        else f"{key}={value}"
        for key, value in figures.items()
    )
    console.print(f"result: {name} {pairs}", soft_wrap=True)


def time_ms(work: Callable[[], object]) -> float:
    """Run it once; give the wall-clock milliseconds that it took."""
    start = time.perf_counter()
    work()
    return (time.perf_counter() - start) * 1_000


def percentile(values: Sequence[float], share: float) -> float:
    """Give the value below which this share (0 to 1) of the values lies."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def median(values: Sequence[float]) -> float:
    """Give the value in the middle."""
    return statistics.median(values)


def run(
    *argv: str | Path, env: dict[str, str] | None = None, cwd: Path | None = None
) -> str:
    """Run a command that must succeed; give what it printed."""
    done = subprocess.run(
        [str(part) for part in argv],
        env={**os.environ, **(env or {})},
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise SystemExit(
            f"{' '.join(map(str, argv))} ended with {done.returncode}:\n"
            f"{done.stdout}{done.stderr}"
        )
    return done.stdout


def scratch() -> AbstractContextManager[str]:
    """Give a folder on a real disk (not a memory file system) that goes afterwards."""
    CACHE.mkdir(exist_ok=True)
    return TemporaryDirectory(dir=CACHE, prefix="bench-")
