"""How heavy is the base install, and how long does ``sublet --help`` take?

Builds the wheel, installs it without extras into a fresh environment (locked versions,
compiled), and counts every byte below site-packages and bin, ``.pyc`` files included,
less what an empty environment has. Then starts ``sublet --help`` many times, each a
process of its own, from a warm disk cache, and beside it an interpreter that does
nothing.
"""

import os
from pathlib import Path

from benchmarks.rig.frame import (
    PYTHON,
    ROOT,
    UV,
    close,
    median,
    run,
    scratch,
    show,
    time_ms,
)

RUNS = 25
MB = 1_000_000  # bytes


def size_bytes(folder: Path) -> int:
    """Add up the files below a folder, hard links once."""
    seen: set[int] = set()
    total = 0
    for path in folder.rglob("*"):
        status = path.lstat()
        if path.is_file() and not path.is_symlink() and status.st_ino not in seen:
            seen.add(status.st_ino)
            total += status.st_size
    return total


def largest(packages: Path, *, count: int) -> list[tuple[str, int]]:
    """Name the largest things in site-packages, with their bytes."""
    sizes = [
        (path.name, size_bytes(path) if path.is_dir() else path.stat().st_size)
        for path in packages.iterdir()
    ]
    return sorted(sizes, key=lambda row: -row[1])[:count]


def main() -> None:
    """Build, install, weigh, time."""
    with scratch() as folder_name:
        folder = Path(folder_name)
        environment = folder / "venv"
        run(UV, "build", "--quiet", "--wheel", "--out-dir", folder, ROOT)
        wheel = next(folder.glob("sublet-*.whl"))
        wishes = folder / "requirements.txt"
        exported = run(
            UV, "export", "--quiet", "--locked", "--no-dev", "--no-emit-project",
            "--no-hashes", "--project", ROOT,
        )  # fmt: skip
        wishes.write_text(exported)
        run(UV, "venv", "--quiet", "--python", PYTHON.resolve(), environment)
        empty = size_bytes(environment)
        run(
            UV, "pip", "install", "--quiet", "--compile-bytecode", "--no-deps",
            "--python", environment / "bin/python", "-r", wishes, wheel,
        )  # fmt: skip
        weight = size_bytes(environment) - empty
        packages = next(environment.glob("lib/python*/site-packages"))
        sublet, python = environment / "bin/sublet", environment / "bin/python"
        clean = {"HOME": str(folder), "PATH": os.environ["PATH"]}

        run(sublet, "--help", env=clean)
        help_ms, bare_ms = [], []
        for _ in range(RUNS):
            bare_ms.append(time_ms(lambda: run(python, "-c", "pass", env=clean)))
            help_ms.append(time_ms(lambda: run(sublet, "--help", env=clean)))

        show(
            "The base install, .pyc included",
            ["package", "MB"],
            [(name, f"{size / MB:.1f}") for name, size in largest(packages, count=8)]
            + [("all that it adds to an empty environment", f"{weight / MB:.1f}")],
        )
        show(
            f"Start-up, {RUNS} runs each, alternating",
            ["command", "median ms", "fastest ms"],
            [
                ("python -c pass", f"{median(bare_ms):.0f}", f"{min(bare_ms):.0f}"),
                ("sublet --help", f"{median(help_ms):.0f}", f"{min(help_ms):.0f}"),
            ],
        )
        close("install", size_mb=weight / MB, help_ms=median(help_ms))


if __name__ == "__main__":
    main()
