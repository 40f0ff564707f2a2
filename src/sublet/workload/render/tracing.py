"""What a scene needs, found on the tenant's own machine before anything is rented.

``open_project`` finds the folder that a scene may take files from, ``trace_scene``
asks Blender, in a sandbox. What it says about a stranger's scene is a claim, read
strictly; which of the files go along is decided in ``packing``.
"""

import os
from pathlib import Path
from typing import Annotated

from msgspec import Meta, Struct

from sublet.base import limits
from sublet.base.errors import Faults, Refused
from sublet.service.ports import Bind, Sandbox
from sublet.workload.render.chamber import Limits, run_program
from sublet.workload.run.wish import refuse

ENDINGS = (".blend", ".gltf", ".glb", ".usd", ".usda", ".usdc", ".usdz")
SYSTEM = frozenset(
    (
        *("usr", "bin", "sbin", "lib", "lib32", "lib64", "libx32", "proc", "dev"),
        *("sys", "run", "etc", "opt", "job", "boot"),
    )
)  # of "/": what a sandbox has of its own there

_PLAIN = r"\A[^\x00-\x1f\x7f-\x9f]*\Z"  # nothing that a terminal would obey
Name = Annotated[str, Meta(max_length=500, pattern=_PLAIN)]
Place = Annotated[str, Meta(max_length=4_096, pattern=_PLAIN)]
Names = Annotated[tuple[Name, ...], Meta(max_length=64)]
Pixels = Annotated[int, Meta(ge=1, le=65_536)]
Frame = Annotated[int, Meta(ge=-1_048_574, le=1_048_574)]  # Blender's own limits


class Compositor(Struct, frozen=True, forbid_unknown_fields=True):
    """The scene's own work on its pictures."""

    is_used: bool
    passes: Names  # that it takes and one picture does not hold


class Strips(Struct, frozen=True, forbid_unknown_fields=True):
    """The scene's video editor, where that makes the picture."""

    is_used: bool
    scenes: Names  # that it shows


class Facts(Struct, frozen=True, forbid_unknown_fields=True):
    """What a plan and a quote have to know of a scene."""

    saved_with: Annotated[tuple[int, ...], Meta(min_length=2, max_length=2)]
    build: Name  # of the Blender that looked
    frame_start: Frame
    frame_end: Frame
    frame_step: Annotated[int, Meta(ge=1, le=1_048_574)]
    fps: Annotated[float, Meta(gt=0, le=100_000)]
    width: Pixels
    height: Pixels
    engine: Name  # "CYCLES", "BLENDER_EEVEE", "BLENDER_WORKBENCH"
    samples: Annotated[int, Meta(ge=0, le=1 << 24)]
    seed: Annotated[int, Meta(ge=-(1 << 31), lt=1 << 31)]
    camera: Name  # "": there is none
    has_volumes: bool
    has_freestyle: bool  # lines over the whole picture: no tiles
    is_adaptive: bool  # a range of samples needs to know the others
    is_guided: bool  # path guiding learns from all that it renders: no tiles
    has_views: bool  # stereo
    scripts: Names  # that would run; they do not unless asked
    drivers: Names  # in Python: without scripts they do nothing
    unbaked: Names  # simulations that every machine would run for itself
    denoiser: Name  # "": none; else its name and what it looks at
    compositor: Compositor
    strips: Strips


class Need(Struct, frozen=True, forbid_unknown_fields=True):
    """One file that a scene names."""

    path: Place  # absolute
    kind: Name
    size: Annotated[int, Meta(ge=-1)]  # bytes; -1: there is none
    is_there: bool
    user: Name  # the data-block that wants it
    holder: Place  # the file in which that stands
    is_absolute: bool  # as it is written there
    is_needed: bool  # the picture can depend on it


class _Answer(Struct, frozen=True, forbid_unknown_fields=True):
    fault: Name
    facts: Facts | None = None
    needs: Annotated[tuple[Need, ...], Meta(max_length=limits.FILES_PER_TREE_MAX)] = ()
    is_cut: bool = False


class Trace(Struct, frozen=True):
    """A scene, looked at."""

    facts: Facts
    needs: tuple[Need, ...]


class Project(Struct, frozen=True):
    """A scene and the folder that it may take files from."""

    scene: str  # absolute, symlinks followed
    folder: str  # the same
    spellings: tuple[str, ...]  # of the folder, as absolute paths may have it

    @property
    def binds(self) -> tuple[Bind, ...]:
        """Show the project where it is, so that absolute paths lead the same way."""
        return tuple(Bind(self.folder, each) for each in self.spellings)

    def find_name(self, path: str) -> str:
        """Give a path within the project, "" for one that is not in it."""
        for each in self.spellings:
            if path.startswith(each + "/"):
                return path[len(each) + 1 :]
        return ""


def open_project(scene: str, *, project: str | None = None) -> Project:
    """Find the folder that a scene may take files from: its own, or the one named.

    Raises:
        Refused: no such scene, a folder that does not contain it, or one that holds
            far more than a project.
    """
    if not scene.lower().endswith(ENDINGS):
        raise refuse(
            "SCENE", f"{scene} is none of {', '.join(ENDINGS)}", code="bad_scene"
        )
    real = os.path.realpath(scene)
    if not os.path.isfile(real):
        raise refuse("SCENE", f"{scene} is not there", code="no_scene")
    typed = os.path.abspath(project if project else os.path.dirname(scene) or ".")
    folder = os.path.realpath(typed)
    if not os.path.isdir(folder):
        raise refuse("--project", f"{typed} is no folder", code="no_project")
    parts = Path(folder).parts
    if len(parts) < 2 or parts[1] in SYSTEM or folder == str(Path.home()):
        raise refuse(
            "--project",
            f"{folder} is no project: all of it could be taken along; put the scene "
            "and its files into a folder of their own",
            code="bad_project",
        )
    if not real.startswith(folder + "/"):
        raise refuse(
            "--project",
            f"{scene} does not lie in {folder}; name a folder that contains it",
            code="bad_project",
        )
    spellings = tuple(dict.fromkeys((folder, typed)))
    return Project(real, folder, spellings)


async def trace_scene(
    project: Project,
    *,
    has_scripts: bool = False,
    takes: Limits = Limits(),  # noqa: B008  # frozen
    sandbox: Sandbox | None = None,
) -> Trace:
    """Ask Blender, in a sandbox, what the scene needs.

    Args:
        project: the scene and its folder.
        has_scripts: may the scene's own Python run, in there.
        takes: of this machine.
        sandbox: bubblewrap by default.

    Raises:
        Refused: it cannot be opened, or took too much; all that is wrong is said.
        Unavailable: no Blender or no sandbox here.
    """
    request = {"scene": project.scene, "has_scripts": has_scripts}
    async with run_program(
        "trace", request, reads=project.binds, limits=takes, sandbox=sandbox
    ) as chamber:
        answer = chamber.read_answer(_Answer)
    if answer.facts is None:
        raise refuse(
            "SCENE", f"Blender does not open it: {answer.fault}", code="bad_scene"
        )
    if answer.is_cut:
        raise refuse_many(len(answer.needs))
    return Trace(answer.facts, answer.needs)


def check_facts(
    facts: Facts,
    *,
    version: tuple[int, int],
    has_default_camera: bool = False,
    has_passes: bool = False,
) -> None:
    """Refuse a scene that no worker could render, or that nobody could finish.

    Args:
        facts: of the scene.
        version: major and minor of the Blender that renders.
        has_default_camera: workers give it one where it has none.
        has_passes: workers send whole frames with all passes.

    Raises:
        Faults: all reasons.
    """
    wrong: dict[str, str] = {}
    major, minor = facts.saved_with
    ours = ".".join(map(str, version))
    if (major, minor) > version:
        wrong["newer_scene"] = (
            f"it was saved with Blender {major}.{minor}, and {ours} renders it: parts "
            f"of it would be lost. Render with Blender {major}.{minor}, or save it "
            f"with {ours}"
        )
    if not facts.camera and not has_default_camera:
        wrong["no_camera"] = (
            "it has no camera; add one, and make it the scene's active camera"
        )
    if facts.strips.is_used:
        wrong["sequencer"] = (
            "its video editor makes the picture, which workers cannot; turn it off "
            "(Output > Post Processing > Sequencer), render the 3D scenes, and cut the "
            "frames afterwards"
        )
    if facts.has_views:
        wrong["stereo"] = (
            "it renders more than one view; turn Stereoscopy off, and render each eye's "
            "camera by itself"
        )
    if facts.compositor.passes and not has_passes:
        names = ", ".join(facts.compositor.passes)
        wrong["compositor_passes"] = (
            f"its compositor takes {names}, and parts of pictures come without passes; "
            "take the picture alone, or turn the compositor off (Output > Post "
            "Processing > Compositing)"
        )
    if wrong:
        raise Faults([refuse("SCENE", text, code=code) for code, text in wrong.items()])


def refuse_many(count: int) -> Refused:
    """Say that a scene needs more files than can go along."""
    return refuse(
        "SCENE",
        f"it needs {count} files or more, and {limits.FILES_PER_TREE_MAX} can go along; "
        "put frames into volumes or movies, or render in parts",
        code="too_many_files",
    )
