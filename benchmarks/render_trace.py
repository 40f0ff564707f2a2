"""Which files of linked scenes are found before a render, and which are missed?

Ours (Blender itself, in the sandbox) beside ``blender-asset-tracer`` (BAT), the tracer of
Blender's own farm, which reads .blend files without Blender. The judge is neither: each
scene is rendered under ``strace``, and what Blender opens in the project is what it
needs. Scenes: real ones, their textures unpacked behind two libraries, and the tests'
own, with tiles, sequences, absolute paths and a font; SCENES names the folder of real
ones (by default ``../shared/data/scenes``), ONLY=dungeon runs less. glTF and USD are ours
alone: BAT does not read them.
"""

import asyncio
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from msgspec import Struct

from benchmarks.rig.frame import CACHE, ROOT, UV, close, console, scratch, show
from sublet.workload.render.chamber import Limits
from sublet.workload.render.packing import pack
from sublet.workload.render.tracing import open_project, trace_scene

TIMEOUT_S = 600
BYTES_MAX = 1 << 34
LINKER = ROOT / "benchmarks/rig/link_scenes.py"
MAKER = ROOT / "tests/integration/render_scenes.py"
BAT = CACHE / "tracer"
REAL = (
    *("kaykit_dungeon_b50", "kenney_platformer_b50"),
    *("usd_mini_cars_b50", "usd_teapot_b50"),
)
OTHERS = ("usd_teapot/Teapot.usd", "kenney_platformer/character.glb")
OWN = (("linked", "shots/shot.blend"), ("absolute", "shot.blend"))
# openat(AT_FDCWD, "/path", O_RDONLY…; how it ended may stand in a later line.
OPENED = re.compile(r'open(?:at)?\((?:AT_FDCWD, )?"([^"]+)", O_RDONLY')


class Scene(Struct):
    """A scene, its project, and whether BAT reads such."""

    name: str
    file: Path
    project: Path
    is_blend: bool = True


class Line(Struct):
    """What came of one scene; names within the project."""

    scene: Scene
    needed: set[str]
    ours: set[str]
    bat: set[str]
    ours_s: float
    bat_s: float

    def count(self, found: set[str]) -> tuple[int, int]:
        """Give how many files are missed, and how many were not needed."""
        return len(self.needed - found), len(found - self.needed)


def run(*argv: object, env: dict[str, str] | None = None) -> str:
    """Run a program to its end; give what it says."""
    return subprocess.run(
        [str(each) for each in argv],
        check=True,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        cwd=ROOT,
        env={**os.environ, **(env or {})},
    ).stdout


def make_scenes(folder: Path) -> Iterator[Scene]:
    """Make the scenes that are asked for."""
    only = os.environ.get("ONLY", "")
    real = Path(os.environ.get("SCENES", ROOT.parent / "shared/data/scenes"))
    for name in REAL if real.is_dir() else ():
        if only in name:
            place = folder / name
            run(sys.executable, LINKER, "make", real / f"blend/{name}.blend", place)
            yield Scene(name, place / "shots/shot.blend", place)
    run(sys.executable, MAKER, folder / "own")
    for name, file in OWN:
        if only in name:
            place = folder / "own" / name
            yield Scene(f"own {name}", place / file, place)
    for file in OTHERS if real.is_dir() else ():
        if only in file:
            place = folder / Path(file).parent
            shutil.copytree(real / Path(file).parent, place)
            yield Scene(file, folder / file, place, is_blend=False)


def find_needed(scene: Scene, log: Path) -> set[str]:
    """Say which files of the project Blender opens when it renders."""
    run(
        *("strace", "-f", "-qq", "-s", "4096", "-e", "trace=open,openat", "-o", log),
        *(sys.executable, LINKER, "render", scene.file),
    )
    opened = set()
    for line in log.read_text(errors="replace").splitlines():
        found = OPENED.search(line)
        if found and found[1].startswith(f"{scene.project}/"):
            path = Path(os.path.normpath(found[1]))
            if path.is_file():
                opened.add(str(path.relative_to(scene.project)))
    return opened


def find_ours(scene: Scene) -> set[str]:
    """Say which files we pack."""
    project = open_project(str(scene.file), project=str(scene.project))
    takes = Limits(timeout_s=TIMEOUT_S)
    trace = asyncio.run(trace_scene(project, takes=takes))
    packing = pack(project, trace, bytes_max=BYTES_MAX)
    names = {name for source in packing.sources for name in source.include}
    return names | {source.name for source in packing.sources if source.name}


def find_bats(scene: Scene) -> set[str]:
    """Say which files BAT lists."""
    said = json.loads(run(BAT / "bin/bat", "--quiet", "list", "--json", scene.file))
    files = {scene.file, *map(Path, said), *(Path(x) for y in said.values() for x in y)}
    found = {os.path.normpath(each) for each in files}
    return {
        os.path.relpath(each, scene.project)
        for each in found
        if each.startswith(f"{scene.project}/") and Path(each).is_file()
    }


def look(scene: Scene, log: Path) -> Line:
    """Try both on one scene."""
    needed = find_needed(scene, log) if scene.is_blend else set()
    began = time.monotonic()
    ours = find_ours(scene)
    ours_s, began = time.monotonic() - began, time.monotonic()
    bat = find_bats(scene) if scene.is_blend else set()
    return Line(scene, needed, ours, bat, ours_s, time.monotonic() - began)


def main() -> None:
    """Make, trace, judge."""
    if shutil.which("strace") is None:
        raise SystemExit("strace is the judge: apt install strace")
    env = {"UV_PROJECT_ENVIRONMENT": str(BAT)}
    run(UV, "sync", "--quiet", "--locked", "--only-group", "tracer", env=env)
    rows, lines = [], []
    with scratch() as name:
        folder = Path(name)
        folder.chmod(0o755)  # the sandbox's own user looks into it, too
        for scene in make_scenes(folder):
            line = look(scene, folder / "strace.log")
            if not scene.is_blend:
                found = str(len(line.ours))
                rows.append(
                    [scene.name, "", "", found, f"{line.ours_s:.1f} s", "", "", ""]
                )
                continue
            lines.append(line)
            missed, extra = line.count(line.ours)
            bat_missed, bat_extra = line.count(line.bat)
            numbers = [len(line.needed), missed, extra, f"{line.ours_s:.1f} s"]
            numbers += [bat_missed, bat_extra, f"{line.bat_s:.1f} s"]
            rows.append([scene.name, *map(str, numbers)])
            for path in sorted(line.needed - line.ours):
                console.print(f"ours misses {path} of {scene.name}")
            for path in sorted(line.ours - line.needed):
                console.print(f"{scene.name}: {path} is taken, and was not opened")
    header = (
        "scene",
        "files needed",
        "ours missed",
        "more",
        "",
        "BAT missed",
        "more",
        "",
    )
    show("Files that a render opens", header, rows)
    close(
        "render_trace",
        ours_missed=sum(line.count(line.ours)[0] for line in lines),
        bat_missed=sum(line.count(line.bat)[0] for line in lines),
        files=sum(len(line.needed) for line in lines),
        ours_more=sum(line.count(line.ours)[1] for line in lines),
        ours_s=sum(line.ours_s for line in lines) / len(lines),
        bat_s=sum(line.bat_s for line in lines) / len(lines),
    )


if __name__ == "__main__":
    main()
