"""A worker's warm program in a process of its own, as the harness would start it."""

import importlib.util
import json
import os
import subprocess
import sys
from ctypes.util import find_library
from pathlib import Path
from typing import Any

import msgspec
import pytest

from sublet.adapter.exr_file import read_picture
from sublet.core.render.picture import Picture, hash_pixels
from sublet.core.render.unit import Recipe, Unit, UnitReport, get_tile
from sublet.workload.render.box import read_programs

needs_blender = pytest.mark.skipif(
    importlib.util.find_spec("bpy") is None or find_library("Xi") is None,
    reason="no bpy (it comes with the extra render, for Python 3.11 alone), or not the "
    "libraries of X that it is linked with: apt install libxi6, libsm6, libgl1 ...",
)
BUILD = "blender 5.0.1 a3db93c5b259"  # of the bpy that is locked


class RenderBox:
    """Starts ``serve.py`` in a folder of inputs; renders what it is asked, in turn."""

    def __init__(self, folder: Path, env: dict[str, str] | None = None) -> None:
        """Lay the programs out beside the inputs and start."""
        self.folder = folder
        self.programs = folder / ".programs"
        self.programs.mkdir(exist_ok=True)
        for name, text in read_programs().items():
            (self.programs / name).write_text(text)
        self.errors = (folder / ".stderr").open("wb")
        self.process = subprocess.Popen(
            [sys.executable, str(self.programs / "serve.py")],
            cwd=folder,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.errors,
            env={**os.environ, "SUBLET_RENDER_THREADS": "1", **(env or {})},
        )
        self.progress: list[dict[str, Any]] = []
        self.tasks = 0

    def __enter__(self) -> "RenderBox":
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.communicate()
        self.errors.close()

    def ask(self, recipe: Recipe, unit: Unit) -> tuple[int, dict[str, Any]]:
        """Send a unit; give exit code and result, whatever they are."""
        return self.ask_data(recipe, unit=msgspec.to_builtins(unit))

    def ask_data(self, recipe: Recipe, **data: Any) -> tuple[int, Any]:
        """Send a task with the recipe; give exit code and result."""
        self.tasks += 1
        output = self.folder / f".out{self.tasks}"
        output.mkdir()
        data["recipe"] = msgspec.to_builtins(recipe)
        task = {"task": self.tasks, "args": [], "env": {}, "data": data}
        line = json.dumps({**task, "output": str(output)}) + "\n"
        assert self.process.stdin and self.process.stdout
        self.process.stdin.write(line.encode())
        self.process.stdin.flush()
        while raw := self.process.stdout.readline():
            said = json.loads(raw)
            if said.get("done"):
                return said["exit_code"], said["result"]
            self.progress.append(said)
        raise AssertionError(f"it ended: {self.read_errors()}")

    def render(self, recipe: Recipe, unit: Unit) -> tuple[Picture, UnitReport]:
        """Render a unit; give its picture, read as a tenant reads it, and the report."""
        code, result = self.ask(recipe, unit)
        assert code == 0, f"{result}\n{self.read_errors()}"
        report = msgspec.convert(result, UnitReport)
        tile = get_tile(unit, recipe)
        place = self.folder / f".out{self.tasks}" / "unit.exr"
        picture = read_picture(place, width=tile.width, height=tile.height)
        assert report.pixels == hash_pixels(picture)
        assert (report.width, report.height) == (tile.width, tile.height)
        return picture, report

    def read_errors(self) -> str:
        """The end of what it printed."""
        return (self.folder / ".stderr").read_text(errors="replace")[-2_000:]
