"""`pip install sublet` is light: the tenant's path pulls no package of an extra."""

import subprocess
import sys

# Packages that only an extra brings; the tenant's path must work without them.
EXTRAS = ("numpy", "psutil", "pynvml", "pyseccomp", "uv")

PROGRAM = """
import importlib, pkgutil, sys

class Wall:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {extras!r}:
            raise ImportError(f"{{name}} is not in the base install")

sys.meta_path.insert(0, Wall())
names = ["sublet", "sublet.cli.main"]
for package in {packages!r}:
    root = importlib.import_module(package)
    names += [m.name for m in pkgutil.walk_packages(root.__path__, package + ".")]
for name in names:
    importlib.import_module(name)
print(len(names))
"""


def run(packages: tuple[str, ...]) -> "subprocess.CompletedProcess[str]":
    """Import these packages, whole, in an interpreter that lacks the extras."""
    program = PROGRAM.format(extras=EXTRAS, packages=packages)
    return subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )


def test_tenant_path_needs_no_extra() -> None:
    done = run(
        ("sublet.base", "sublet.wire", "sublet.sdk", "sublet.workload", "sublet.cli")
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 10


def test_wall_stops_an_extra() -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(extras=EXTRAS, packages=("numpy",))],
        capture_output=True,
        text=True,
        check=False,
    )
    assert "numpy is not in the base install" in done.stderr
