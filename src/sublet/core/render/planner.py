"""Which units a render is cut into, and how long each may take. Pure.

Frames first: they split exactly and for nothing. Where there are fewer frames than
machines, each is cut into tiles; one large still into ranges of its samples, which take
equally long where tiles do not. What does not split exactly stays whole. No unit is so
small that beginning it is more than a twentieth of its time: a worker stays warm from
unit to unit, so larger ones need not be made.

Not here: who renders which unit (``core.task``), what it costs.
"""

from collections.abc import Sequence
from math import ceil

from msgspec import Struct

from sublet.base import limits
from sublet.base.errors import Refused
from sublet.core.render.tile import split_picture, split_samples
from sublet.core.render.unit import Recipe, Unit, get_range, get_tile

BEGIN_SHARE = 0.05  # of a unit's time, that it may take to begin it
STILL_PIXELS_MIN = 1 << 22  # from here on a still is large
RANGE_SAMPLES_MIN = 64  # of one range: fewer are not worth merging


class Nature(Struct, frozen=True, kw_only=True):
    """What the trace says of a scene that decides how its frames may be cut."""

    has_volumes: bool = False  # tiles differ, and cost three times as much
    is_adaptive: bool = False  # a range of samples needs to know the others
    is_guided: bool = False  # path guiding learns from all that it renders
    has_freestyle: bool = False  # lines are drawn over the whole picture


class Pace(Struct, frozen=True, kw_only=True):
    """How long a frame takes on a machine of the kind that is rented."""

    frame_s: float  # a whole frame of the recipe, beginning included
    begin_s: float  # of it, before the first sample: the scene is prepared


def may_tile(recipe: Recipe, nature: Nature) -> bool:
    """Say whether tiles of this scene are the frame bit for bit."""
    is_exact = not nature.has_volumes or recipe.volume_biased
    sees_all = nature.is_guided or nature.has_freestyle
    return recipe.engine in ("cycles", "toy") and is_exact and not sees_all


def may_range(recipe: Recipe, nature: Nature) -> bool:
    """Say whether ranges of samples are the frame, but for float32's rounding."""
    return may_tile(recipe, nature) and not nature.is_adaptive


def plan_units(
    recipe: Recipe,
    frames: Sequence[int],
    *,
    workers: int,
    nature: Nature,
    pace: Pace,
    tiles: tuple[int, int] | None = None,
) -> tuple[Unit, ...]:
    """Cut a render into units, frame by frame, each pixel and each sample once.

    Args:
        recipe: of the job.
        frames: to be rendered, all different.
        workers: machines that are expected; at least one.
        nature: of the scene.
        pace: of a machine.
        tiles: columns and rows that the artist asks for; chosen here where None.

    Raises:
        Refused: the tiles that were asked for would change the picture, or there are
            more units than a job may have.
    """
    if tiles is not None:
        if tiles != (1, 1) and not may_tile(recipe, nature):
            raise Refused(
                "this scene cannot be cut into tiles exactly: volumes (without"
                " biased ray marching), path guiding, Freestyle and engines other than"
                " Cycles see the whole frame; leave --tiles away",
                code="not_splittable",
                field="--tiles",
            )
        return _cut(recipe, frames, *tiles)
    parts = _count_parts(len(frames), workers=workers, pace=pace)
    if parts == 1 or not may_tile(recipe, nature):
        return _cut(recipe, frames, 1, 1)
    is_large = recipe.width * recipe.height >= STILL_PIXELS_MIN
    ranges = min(parts, recipe.samples // RANGE_SAMPLES_MIN)
    if len(frames) == 1 and is_large and ranges > 1 and may_range(recipe, nature):
        cut = split_samples(samples=recipe.samples, parts=ranges)
        return tuple(Unit(frame=frames[0], samples=part) for part in cut)
    return _cut(recipe, frames, *choose_grid(recipe, parts))


def choose_grid(recipe: Recipe, parts: int) -> tuple[int, int]:
    """Choose columns and rows of so many tiles, as square as that goes.

    Fewer where the picture has too few pixels along a side.
    """
    width, height = recipe.width, recipe.height
    found = [
        (columns, parts // columns)
        for columns in range(1, min(parts, width) + 1)
        if parts % columns == 0 and parts // columns <= height
    ]
    if not found:
        return choose_grid(recipe, parts - 1)
    # The less edge the tiles have, the squarer they are.
    return min(found, key=lambda grid: (grid[0] * height + grid[1] * width, grid))


def estimate_frame(
    recipe: Recipe,
    *,
    seconds: float,
    begin_s: float,
    width: int,
    height: int,
    samples: int,
) -> Pace:
    """Estimate a frame of the recipe from one that was measured with other settings.

    Args:
        recipe: what is asked about.
        seconds: that the measured frame took, beginning included.
        begin_s: of them before the first sample; does not grow with the picture.
        width: of the measured frame, in pixels.
        height: of it, in pixels.
        samples: of it.
    """
    work = recipe.width * recipe.height * recipe.samples
    measured = width * height * samples
    begin_s = min(begin_s, seconds)
    frame_s = begin_s + (seconds - begin_s) * work / measured
    return Pace(frame_s=frame_s, begin_s=begin_s)


def estimate_unit(unit: Unit, recipe: Recipe, *, pace: Pace) -> float:
    """Estimate the seconds of a unit: its share of the frame's, and its own beginning."""
    tile, part = get_tile(unit, recipe), get_range(unit, recipe)
    pixels = tile.width * tile.height / (recipe.width * recipe.height)
    share = pixels * part.count / recipe.samples
    return pace.begin_s + max(pace.frame_s - pace.begin_s, 0.0) * share


def _count_parts(frames: int, *, workers: int, pace: Pace) -> int:
    """Count the parts of each frame, so that all machines have one, if that pays."""
    wanted = max(1, ceil(workers / max(frames, 1)))
    if pace.begin_s <= 0:
        return wanted
    # A part takes begin + rest / parts; begin is at most its share of that.
    rest = max(pace.frame_s - pace.begin_s, 0.0)
    most = rest * BEGIN_SHARE / (pace.begin_s * (1 - BEGIN_SHARE))
    return wanted if most >= wanted else max(1, int(most))


def _cut(
    recipe: Recipe, frames: Sequence[int], columns: int, rows: int
) -> tuple[Unit, ...]:
    if len(frames) * columns * rows > limits.TASKS_MAX:
        raise Refused(
            f"{len(frames)} frames of {columns} by {rows} tiles are more units than"
            f" the {limits.TASKS_MAX} of one job; render them in several",
            code="too_many_units",
            field="--frames",
        )
    if columns == rows == 1:
        return tuple(Unit(frame=frame) for frame in frames)
    cut = split_picture(
        width=recipe.width, height=recipe.height, columns=columns, rows=rows
    )
    return tuple(Unit(frame=frame, tile=tile) for frame in frames for tile in cut)
