"""The Python that runs jobs: the agent's own base interpreter, seen from inside.

Where it is not part of ``/usr`` (pyenv, uv, conda), it is bound read-only at
``/opt/python``. Environments are built for the path inside, so they hold everywhere.
"""

import sys
from functools import cache
from pathlib import Path

from msgspec import Struct

from sublet.service.ports import Bind

_INSIDE = "/opt/python"


class JobPython(Struct, frozen=True):
    """One interpreter: where it is outside, where inside, what to bind for it."""

    outside: str
    inside: str
    binds: tuple[Bind, ...]


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
