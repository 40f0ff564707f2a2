"""`pip install sublet` is light: the tenant's path pulls no package of an extra."""

import subprocess
import sys

import pytest

# Packages that only an extra brings; the tenant's path must work without them.
EXTRAS = (
    "bpy",
    "numba",
    "numpy",
    "openjd",
    "prometheus_client",
    "psutil",
    "pynvml",
    "pyseccomp",
    "reportlab",
    "uv",
)

# Verbs that fold a log or run a market here, and renders, which look at pixels: they
# say which extra they need. A package stands for all that is in it.
HEAVY = (
    "sublet.cli.audit",
    "sublet.cli.audit_erasure",
    "sublet.cli.local_market",
    "sublet.cli.up",
    "sublet.workload.render",
)

WALL = f"""
import sys

class Wall:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {EXTRAS!r}:
            raise ModuleNotFoundError(name + " is not in the base install", name=name)

sys.meta_path.insert(0, Wall())
"""

IMPORT_ALL = """
import importlib, pkgutil
names = ["sublet", "sublet.cli.main"]
for package in {packages!r}:
    root = importlib.import_module(package)
    names += [m.name for m in pkgutil.walk_packages(root.__path__, package + ".")]
heavy = {heavy!r}
for name in sorted(set(names)):
    if not any(name == one or name.startswith(one + ".") for one in heavy):
        importlib.import_module(name)
print(len(names))
"""


def run(program: str) -> "subprocess.CompletedProcess[str]":
    """Run a program in an interpreter that lacks the extras."""
    return subprocess.run(
        [sys.executable, "-c", WALL + program],
        capture_output=True,
        text=True,
        check=False,
    )


def test_tenant_path_needs_no_extra() -> None:
    floors = ("base", "wire", "sdk", "workload", "cli")
    packages = tuple(f"sublet.{floor}" for floor in floors)
    done = run(IMPORT_ALL.format(packages=packages, heavy=HEAVY))
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 50


@pytest.mark.parametrize("verb", ["audit", "up"])
def test_heavy_verb_names_its_extra(verb: str) -> None:
    done = run(
        f"from sublet.cli.root import run_command\nexit(run_command([{verb!r}]))"
    )
    assert done.returncode == 2
    assert "pip install 'sublet[node]'" in done.stderr


def test_wall_stops_an_extra() -> None:
    assert "numpy is not in the base install" in run("import numpy").stderr
