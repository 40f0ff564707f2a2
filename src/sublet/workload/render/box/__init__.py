"""Programs that travel as text into a worker's sandbox and render units there.

``serve`` speaks the warm protocol and opens an engine. The engines know the standard
library, NumPy and, the one of Blender, ``bpy``; no line of them imports Sublet, and
what is heavy is imported where it is used.
"""

from importlib.resources import files

# Where each comes from; in the sandbox they lie beside each other.
_SOURCES = {
    "serve.py": "sublet.workload.render.box",
    "engine_blender.py": "sublet.workload.render.box",
    "engine_toy.py": "sublet.workload.render.box",
    "opening.py": "sublet.workload.render.box",
    "exr.py": "sublet.core.render",
}


def read_programs() -> dict[str, str]:
    """The programs' texts by file name; ``serve.py`` is the one to start."""
    return {
        name: (files(package) / name).read_text(encoding="utf-8")
        for name, package in _SOURCES.items()
    }
