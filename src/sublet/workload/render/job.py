"""A render before anything is rented: the scene looked at, cut into units, and priced.

Not here: what runs then (``render``), how a scene is looked at (``tracing``).
"""

import asyncio
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from blake3 import blake3
from msgspec import Struct, structs

from sublet.base.errors import Refused
from sublet.base.ids import Digest
from sublet.base.limits import RENDER_SEED_MAX
from sublet.base.units import parse_size
from sublet.core.render.money import RenderQuote, make_quote, spread
from sublet.core.render.planner import (
    Nature,
    Pace,
    estimate_unit,
    may_tile,
    plan_units,
)
from sublet.core.render.rate import WHOLE_PPM, compute_extra_ppm
from sublet.core.render.unit import Recipe, Unit
from sublet.workload.render.measuring import measure_pace
from sublet.workload.render.packing import find_absolute, pack, relink
from sublet.workload.render.tracing import (
    Facts,
    Project,
    check_facts,
    open_project,
    trace_scene,
)
from sublet.workload.render.wish import BY_RECORD_MILLI, Asked
from sublet.workload.run.wish import Source

SCENE_FOLDER = "scene"  # of the inputs, so that no file of the scene hides one of ours
TOY = ".json"
TOY_BUILD = "toy 1"
TOY_SAMPLES, TOY_SIZE = 16, (64, 36)
PROBE_SHARE_PPM = 180_000  # of a unit, that five probes of it take: docs/benchmarks.md
ENGINES = {
    "CYCLES": "cycles",
    "BLENDER_EEVEE": "eevee",
    "BLENDER_EEVEE_NEXT": "eevee",
    "BLENDER_WORKBENCH": "workbench",
}
START_MS = 60_000  # until a new machine has Blender; less where it had it before
UNKNOWN = Pace(frame_s=60.0, begin_s=1.0)


class Scene(Struct, frozen=True):
    """A scene that was looked at, and what of it goes along."""

    file: str  # within the inputs
    sources: tuple[Source, ...]
    bytes: int
    root: Digest
    build: str
    facts: Facts | None  # of Blender's; None for the toy
    project: Project | None
    warnings: tuple[str, ...] = ()


class Plan(Struct, frozen=True):
    """What is to be rendered."""

    scene: Scene
    recipe: Recipe
    frames: tuple[int, ...]
    units: tuple[Unit, ...]
    pace: Pace  # on this machine; ``UNKNOWN`` where nothing was measured
    fps: float


async def look_at(asked: Asked, *, work: Path, bytes_max: int) -> Scene:
    """Trace a scene and say what goes along.

    Args:
        asked: for what.
        work: a folder of the job's own, for copies of files with absolute paths.
        bytes_max: most bytes of inputs.

    Raises:
        Faults: files are missing or lie elsewhere, or no worker could render it.
        Unavailable: no Blender or no sandbox here.
    """
    if asked.scene.suffix.lower() == TOY:
        return await asyncio.to_thread(_look_at_toy, asked.scene)
    project = open_project(
        str(asked.scene), project=None if asked.project is None else str(asked.project)
    )
    trace = await trace_scene(project, has_scripts=asked.scripts)
    facts = trace.facts
    check_facts(
        facts,
        version=_parse_version(facts.build),
        has_default_camera=asked.default_camera,
    )
    packing = pack(project, trace, bytes_max=bytes_max)
    copies = work / "relinked"
    copies.mkdir(parents=True, exist_ok=True)
    packing = await relink(
        project, packing, find_absolute(project, trace), folder=copies
    )
    sources = tuple(_below(source) for source in packing.sources)
    return Scene(
        file=f"{SCENE_FOLDER}/{packing.scene}",
        sources=sources,
        bytes=packing.bytes,
        root=await asyncio.to_thread(hash_sources, sources),
        build=facts.build,
        facts=facts,
        project=project,
        warnings=packing.warnings,
    )


def make_recipe(asked: Asked, scene: Scene) -> Recipe:
    """Put together what all units have in common.

    Raises:
        Refused: an engine that nobody renders with.
    """
    facts = scene.facts
    if facts is None:
        engine, size, samples, seed = "toy", TOY_SIZE, TOY_SAMPLES, 0
    else:
        engine = asked.engine or ENGINES.get(facts.engine, "")
        size, samples = (facts.width, facts.height), max(1, facts.samples)
        seed = facts.seed & RENDER_SEED_MAX
    if not engine:
        raise Refused(
            f"the scene is for {facts.engine if facts else ''}, which no worker has; "
            "name another with --engine",
            code="unknown_engine",
            field="--engine",
        )
    width, height = asked.size or size
    recipe = Recipe(
        scene=scene.file,
        root=scene.root,
        build=scene.build,
        engine=engine,  # type: ignore[arg-type]  # one of ``wish.ENGINES``
        device=asked.device,  # type: ignore[arg-type]
        width=width,
        height=height,
        samples=asked.samples or samples,
        seed=seed if asked.seed is None else asked.seed,
        scripts=asked.scripts,
        volume_biased=asked.volume_biased,
        default_camera=asked.default_camera,
    )
    is_exact = may_tile(recipe, find_nature(facts))
    return structs.replace(recipe, is_exact=is_exact)


async def make_plan(
    asked: Asked, scene: Scene, *, machines: int, is_measured: bool
) -> Plan:
    """Cut a render into units.

    Args:
        asked: for what.
        scene: looked at.
        machines: at one time.
        is_measured: render a little of it here first, to say how long it takes.

    Raises:
        Refused: tiles that would change the picture, too many units, or a scene that
            cannot be rendered here.
    """
    recipe, facts = make_recipe(asked, scene), scene.facts
    frames = asked.frames or find_frames(facts)
    pace = UNKNOWN
    if is_measured and scene.project is not None:
        pace = await measure_pace(scene.project, recipe, frame=frames[len(frames) // 2])
    units = plan_units(
        recipe,
        frames,
        workers=machines,
        nature=find_nature(facts),
        pace=pace,
        tiles=asked.tiles,
    )
    fps = facts.fps if facts is not None else 24.0
    return Plan(scene, recipe, frames, units, pace, fps)


def find_frames(facts: Facts | None) -> tuple[int, ...]:
    """Give the frames that the scene itself names."""
    if facts is None:
        return (1,)
    return tuple(range(facts.frame_start, facts.frame_end + 1, facts.frame_step)) or (
        facts.frame_start,
    )


def find_nature(facts: Facts | None) -> Nature:
    """Say what keeps a scene from being cut."""
    if facts is None:
        return Nature()
    takes_passes = facts.compositor.is_used and bool(facts.compositor.passes)
    return Nature(
        has_volumes=facts.has_volumes,
        is_adaptive=facts.is_adaptive,
        is_guided=facts.is_guided,
        has_freestyle=facts.has_freestyle or facts.has_views or takes_passes,
    )


def price(
    plan: Plan,
    *,
    price_hour: int,
    speed_milli: int,
    cap: int,
    check_milli: int,
    machines: int,
) -> RenderQuote:
    """Say what a plan costs on machines of a price and a speed.

    Args:
        plan: what is rendered.
        price_hour: of one machine, micro-USD.
        speed_milli: of one machine, in thousandths of this one.
        cap: that the tenant pays at most.
        check_milli: share of the units that is checked; ``BY_RECORD_MILLI``.
        machines: at one time.
    """
    seconds = sum(
        estimate_unit(unit, plan.recipe, pace=plan.pace) for unit in plan.units
    )
    probe_ppm = PROBE_SHARE_PPM if plan.recipe.is_exact else WHOLE_PPM
    extra_milli = check_milli * probe_ppm // 1_000_000
    if check_milli == BY_RECORD_MILLI:
        extra_ppm = compute_extra_ppm(
            units=len(plan.units), providers=machines, probe_ppm=probe_ppm
        )
        extra_milli = extra_ppm // 1_000
    return make_quote(
        spread(round(seconds * 1_000)),
        units=len(plan.units),
        price_hour=price_hour,
        speed_milli=speed_milli,
        cap=cap,
        check_milli=extra_milli,
        machines=machines,
        start_ms=START_MS,
    )


def find_bytes_max(options: Mapping[str, Any], default: str) -> int:
    """Say how many bytes of inputs fit on the disk that is asked for.

    Raises:
        Refused: it is no size.
    """
    return parse_size(options.get("disk") or default, field="--disk") // 2


def hash_sources(sources: Sequence[Source]) -> Digest:
    """Hash names and contents of all inputs, in order: the scene's root."""
    found = blake3()
    for source in sorted(sources, key=lambda one: one.name):
        base = Path(source.path)
        for name in sorted(source.include) if base.is_dir() else ("",):
            place = base / name if name else base
            content = blake3().update_mmap(place).digest()
            label = f"{source.name}/{name}".encode()
            found.update(len(label).to_bytes(4, "big") + label + content)
    return "0x" + found.hexdigest()


def _below(source: Source) -> Source:
    name = f"{SCENE_FOLDER}/{source.name}" if source.name else SCENE_FOLDER
    return structs.replace(source, name=name)


def _look_at_toy(path: Path) -> Scene:
    try:
        json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise Refused(
            f"SCENE: {path} is no toy scene: {error}", code="bad_scene", field="SCENE"
        ) from None
    sources = (Source(str(path.resolve()), f"{SCENE_FOLDER}/{path.name}"),)
    return Scene(
        file=f"{SCENE_FOLDER}/{path.name}",
        sources=sources,
        bytes=path.stat().st_size,
        root=hash_sources(sources),
        build=TOY_BUILD,
        facts=None,
        project=None,
    )


def _parse_version(build: str) -> tuple[int, int]:
    """Read major and minor of "blender 5.0.1 a3db93c5b259"."""
    major, minor, *_ = build.split()[1].split(".")
    return int(major), int(minor)
