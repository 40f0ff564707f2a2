"""The Python that runs jobs: the agent's own base interpreter, seen from inside.

Where it is not part of ``/usr`` (pyenv, uv, conda), it is bound read-only at
``/opt/python``. Environments are built for the path inside, so they hold everywhere.

An image has a system of its own, which that interpreter does not fit: what runs there
on our behalf brings its C library and its loader along, all in one folder.
"""

import re
import shutil
import subprocess
import sys
import sysconfig
from functools import cache
from pathlib import Path

from msgspec import Struct

from sublet.base.errors import Unavailable
from sublet.service.ports import Bind, SandboxSpec

OWN_FOLDER = "/run/sublet"  # of what a sandbox has of ours
_INSIDE = "/opt/python"
_LIBRARIES = f"{OWN_FOLDER}/lib"
_PORTABLE = f"{OWN_FOLDER}/python"
_LISTED = re.compile(r"^\s*(?:\S+ => )?(/\S+) \(0x[0-9a-f]+\)$", re.MULTILINE)
_LDD_TIMEOUT_S = 10


class JobPython(Struct, frozen=True):
    """One interpreter: where it is outside, where inside, what to bind for it."""

    outside: str
    inside: str
    binds: tuple[Bind, ...]
    loader: tuple[str, ...] = ()  # what to put before ``inside``

    @property
    def command(self) -> tuple[str, ...]:
        """How it is called inside."""
        return (*self.loader, self.inside)


def find_python_for(spec: SandboxSpec) -> JobPython:
    """Find what a sandbox's own helper runs on; bound only where it has one.

    Raises:
        Unavailable: it cannot be brought into an image.
    """
    if spec.root and spec.network != "none":
        return find_portable_python()
    return find_job_python()


@cache
def find_portable_python() -> JobPython:
    """Find the interpreter, with what it needs to run on a foreign system.

    Raises:
        Unavailable: ``ldd`` does not say what it needs.
    """
    outside = find_job_python().outside
    name = Path(outside).name
    try:
        said = subprocess.run(
            [shutil.which("ldd") or "/usr/bin/ldd", outside],
            capture_output=True,
            text=True,
            timeout=_LDD_TIMEOUT_S,
            check=True,
        ).stdout
    except (OSError, subprocess.SubprocessError) as error:
        raise Unavailable(f"ldd says nothing of {outside}: {error}") from error
    libraries = {Path(path).name: path for path in _LISTED.findall(said)}
    loader = next((one for one in libraries if one.startswith("ld")), None)
    if loader is None:
        raise Unavailable(f"ldd names no loader of {outside}")
    inside = f"{_PORTABLE}/bin/{name}"
    binds = [
        Bind(outside, inside),
        Bind(sysconfig.get_path("stdlib"), f"{_PORTABLE}/{sys.platlibdir}/{name}"),
        *(Bind(path, f"{_LIBRARIES}/{one}") for one, path in libraries.items()),
    ]
    words = (f"{_LIBRARIES}/{loader}", "--library-path", _LIBRARIES)
    return JobPython(outside, inside, tuple(binds), loader=words)


@cache
def find_job_python() -> JobPython:
    """Find the interpreter below this process's virtual environment."""
    name = f"python{sys.version_info.major}.{sys.version_info.minor}"
    prefix = Path(sys.base_prefix).resolve()
    outside = str(prefix / "bin" / name)
    if prefix.is_relative_to("/usr"):
        return JobPython(outside, outside, ())
    binds = [Bind(str(prefix), _INSIDE)]
    # A build with a shared libpython looks for it where it was installed.
    binds += [Bind(path, path) for path in _find_shared_library()]
    return JobPython(outside, f"{_INSIDE}/bin/{name}", tuple(binds))


def _find_shared_library() -> list[str]:
    loaded = Path("/proc/self/maps").read_text().splitlines()
    paths = {line.split(maxsplit=5)[5] for line in loaded if "/libpython" in line}
    return sorted(path for path in paths if not path.startswith("/usr/"))
