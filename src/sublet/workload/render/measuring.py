"""How long a frame takes, found by two small renders on the tenant's own machine."""

from typing import Annotated

import msgspec
from msgspec import Meta, Struct, structs

from sublet.base.errors import Refused
from sublet.core.render.planner import Pace, estimate_frame
from sublet.core.render.unit import Recipe
from sublet.workload.render.chamber import Limits, run_program
from sublet.workload.render.tracing import Project

SIDE_MAX = 240  # pixels of the longer side of what is rendered
FEW, MORE = 2, 8  # samples
TIMEOUT_S = 300

Seconds = Annotated[float, Meta(ge=0, le=1e6)]


class _Answer(Struct, frozen=True, forbid_unknown_fields=True):
    fault: Annotated[str, Meta(max_length=500)]
    seconds: Annotated[tuple[Seconds, ...], Meta(max_length=2)]


async def measure_pace(project: Project, recipe: Recipe, *, frame: int) -> Pace:
    """Say how long a frame of a recipe takes on this machine, on its processor.

    A line through two small renders: what a frame takes before its first sample, and
    what each sample of each pixel takes then. A guess; caustics and volumes surprise.

    Raises:
        Refused: the scene cannot be rendered, or takes too long even so.
        Unavailable: no Blender or no sandbox here.
    """
    scale = min(1.0, SIDE_MAX / max(recipe.width, recipe.height))
    small = structs.replace(
        recipe,
        scene=project.find_name(project.scene),
        device="cpu",
        width=max(1, round(recipe.width * scale)),
        height=max(1, round(recipe.height * scale)),
    )
    recipes = [structs.replace(small, samples=count) for count in (FEW, MORE)]
    request = {
        "folder": project.folder,
        "frame": frame,
        "recipes": msgspec.to_builtins(recipes),
    }
    async with run_program(
        "measure", request, reads=project.binds, limits=Limits(timeout_s=TIMEOUT_S)
    ) as chamber:
        answer = chamber.read_answer(_Answer)
    if answer.fault or len(answer.seconds) < len(recipes):
        raise Refused(
            f"SCENE: it cannot be rendered here: {answer.fault}",
            code="bad_scene",
            field="SCENE",
        )
    few_s, more_s = answer.seconds
    slope_s = max(0.0, more_s - few_s) / (MORE - FEW)
    begin_s = max(0.0, few_s - slope_s * FEW)
    return estimate_frame(
        recipe,
        seconds=begin_s + slope_s * MORE,
        begin_s=begin_s,
        width=small.width,
        height=small.height,
        samples=MORE,
    )
