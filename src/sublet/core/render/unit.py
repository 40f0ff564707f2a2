"""What a render consists of: units, the recipe that they share, what a worker reports.

A **unit** is the smallest thing that a worker renders: a frame, or a tile of it, with
all of its samples or some. The **recipe** is all that the units of a job have in
common. Both travel to a worker as JSON; its **report** comes back the same way and is
hostile: read it with ``msgspec.convert``, which holds the limits.

Not here: pixels (``picture``), the arithmetic of tiles (``tile``), which units a job is
cut into (``planner``).
"""

from typing import Annotated, Literal

import msgspec
from blake3 import blake3
from msgspec import Meta, Struct

from sublet.base import limits
from sublet.base.errors import Refused
from sublet.base.ids import Digest

Side = Annotated[int, Meta(ge=1, le=limits.PICTURE_SIDE_MAX)]  # pixels
Edge = Annotated[int, Meta(ge=0, le=limits.PICTURE_SIDE_MAX)]  # pixels from a corner
Frame = Annotated[
    int, Meta(ge=-limits.RENDER_FRAME_MAX, le=limits.RENDER_FRAME_MAX)
]  # as the scene counts them
Samples = Annotated[int, Meta(ge=1, le=limits.RENDER_SAMPLES_MAX)]
Offset = Annotated[int, Meta(ge=0, le=limits.RENDER_SAMPLES_MAX)]  # of samples
Seed = Annotated[int, Meta(ge=0, le=limits.RENDER_SEED_MAX)]
Name = Annotated[
    str,
    Meta(max_length=limits.TEXT_LENGTH_MAX, pattern=r"\A[^\x00-\x1f\x7f-\x9f]*\Z"),
]
Path = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=limits.PATH_LENGTH_MAX,
        pattern=r"\A[^\x00-\x1f\x7f-\x9f]*\Z",
    ),
]
Seconds = Annotated[float, Meta(ge=0, le=limits.LEASE_S_MAX)]
Engine = Literal["cycles", "eevee", "workbench", "toy"]
Device = Literal["cpu", "cuda", "optix"]


class Tile(Struct, frozen=True, forbid_unknown_fields=True):
    """A part of a picture in pixels, half-open: x from the left, y from the top."""

    left: Edge
    top: Edge
    right: Edge
    bottom: Edge

    @property
    def width(self) -> int:
        """Pixels from left to right."""
        return self.right - self.left

    @property
    def height(self) -> int:
        """Pixels from top to bottom."""
        return self.bottom - self.top


class SampleRange(Struct, frozen=True, forbid_unknown_fields=True):
    """Some of the samples that each pixel is the mean of."""

    first: Offset
    count: Samples


class Unit(Struct, frozen=True, forbid_unknown_fields=True):
    """The smallest thing that a worker renders."""

    frame: Frame
    tile: Tile | None = None  # None: the whole frame
    samples: SampleRange | None = None  # None: all of the recipe's


class Recipe(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What all units of a job have in common."""

    scene: Path  # of the file that is opened, inside the inputs
    root: Digest  # content hash of all inputs
    build: Name  # "blender 5.0.1 a3db93c5b259", as bpy.app says
    engine: Engine
    device: Device
    width: Side
    height: Side
    samples: Samples
    seed: Seed
    scripts: bool = False  # the scene's own Python runs; sandboxed either way
    volume_biased: bool = False  # ray marching: faster, and splits exactly
    is_exact: bool = True  # a part rendered alone is the whole's, bit for bit
    default_camera: bool = (
        False  # a scene without a camera gets a default one, and light
    )


class UnitReport(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What a worker says of a unit that it rendered; hostile."""

    pixels: Digest  # ``picture.hash_pixels`` of what it rendered
    width: Side
    height: Side
    device: Device  # that was really used
    kernel: Name  # class of equal arithmetic: "cpu-avx2", "cuda-sm_90", "toy"
    build: Name
    seconds: Seconds  # of the render call


def compute_settings(recipe: Recipe) -> Digest:
    """Digest a recipe: BLAKE3 of its canonical JSON. Equal digests, equal pictures."""
    return "0x" + blake3(msgspec.json.encode(recipe, order="sorted")).hexdigest()


def get_tile(unit: Unit, recipe: Recipe) -> Tile:
    """The part of the picture that a unit is: all of it, where it names no tile."""
    return unit.tile or Tile(0, 0, recipe.width, recipe.height)


def get_range(unit: Unit, recipe: Recipe) -> SampleRange:
    """The samples that a unit is: all of them, where it names none."""
    return unit.samples or SampleRange(0, recipe.samples)


def check_unit(unit: Unit, recipe: Recipe) -> None:
    """Check that a unit lies within its recipe.

    Raises:
        Refused: its tile is empty or leaves the picture, or its samples are not the
            recipe's.
    """
    tile, samples = get_tile(unit, recipe), get_range(unit, recipe)
    is_inside = (
        0 <= tile.left < tile.right <= recipe.width
        and 0 <= tile.top < tile.bottom <= recipe.height
    )
    if not is_inside:
        raise Refused(
            f"a tile of a picture of {recipe.width} by {recipe.height} pixels lies"
            f" inside it and is not empty; this one is {tile}",
            code="bad_tile",
            field="tile",
        )
    if not 0 <= samples.first < samples.first + samples.count <= recipe.samples:
        raise Refused(
            f"a part of {recipe.samples} samples lies within them;"
            f" this one is {samples}",
            code="bad_samples",
            field="samples",
        )
