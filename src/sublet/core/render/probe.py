"""Which parts of a unit another provider renders again: its probes. Pure.

A worker commits to a picture by its hash before anybody says where it is probed. The
places follow from a salt that the tenant keeps to itself until then, and from the hash:
SHAKE-256 is the dice, so that nobody chose them, and whoever is told the salt draws the
same ones. Weights and draws are integers: the same on every machine.

A probe is a **block** of the grid that the hash is a tree over (``picture``), so a
probed part of a picture can be shown to belong to what was committed to without
the rest of it. Every other probe, the first one included, falls where the committed
picture varies, for in a flat sky all pictures are alike; the rest falls anywhere, for a
picture that was forged to be flat where it is false shows no variation there.

A checker renders the probes alone. Where a part of a scene is not exactly the whole (an
unbiased volume: every seventh pixel is off by more than 1 %) it renders all of the unit,
and the probes are cut out of that; else two honest checkers would name an honest worker
a liar.

Not here: whether a unit is probed at all (``rate``), what two pictures of a probe say
(``compare``).
"""

from collections.abc import Sequence
from hashlib import sha256, shake_256

import msgspec
import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from sublet.base.ids import Digest
from sublet.core.render.picture import BLOCK, Picture, count_blocks
from sublet.core.render.unit import Recipe, Tile, Unit, compute_settings, get_tile

PROBES = 5  # of one unit
SALT_BYTES = 32
_DRAW_BYTES = 16  # so many that the remainder favours nothing that can be measured
_DARK = 0x3C000000  # float32 bits of 2^-7: what is darker is black
_STEP_BITS = 15  # 256 steps to a doubling: the rule of ``compare`` is four of them
_STEPS_MAX = 1 << 12  # 16 doublings over black; a lamp counts no more


class Probe(Struct, frozen=True, forbid_unknown_fields=True):
    """One block of a unit's picture, numbered row by row from its top left."""

    block: int
    tile: Tile  # the same, in pixels of the frame

    def of(self, unit: Unit) -> Unit:
        """The unit that renders this block alone."""
        return msgspec.structs.replace(unit, tile=self.tile)


def make_seed(*, salt: bytes, recipe: Recipe, unit: Unit, pixels: Digest) -> bytes:
    """Derive what the dice of one unit are thrown with, 32 bytes.

    Args:
        salt: the tenant's, of this job; secret while it may still draw.
        recipe: of the job.
        unit: that was rendered.
        pixels: the hash that its worker committed to.
    """
    about = msgspec.json.encode(
        {"pixels": pixels, "settings": compute_settings(recipe), "unit": unit},
        order="sorted",
    )
    return sha256(b"sublet render seed v1\n" + salt + about).digest()


def draw_below(seed: bytes, purpose: str, bound: int) -> int:
    """Draw a number from 0 to below ``bound``, the same for the same seed and purpose.

    >>> draw_below(bytes(32), "example", 1)
    0
    """
    thrown = shake_256(seed + purpose.encode()).digest(_DRAW_BYTES)
    return int.from_bytes(thrown, "big") % bound


def draw_probes(
    picture: Picture, *, recipe: Recipe, unit: Unit, seed: bytes, count: int = PROBES
) -> tuple[Probe, ...]:
    """Draw the probes of a unit, all different; all of its blocks where it has no more.

    Args:
        picture: that was committed to; of the size of the unit's tile.
        recipe: of the job.
        unit: that it is of.
        seed: from ``make_seed``.
        count: how many.
    """
    tile = get_tile(unit, recipe)
    weights = weigh_blocks(picture)
    total = len(weights)
    if total <= count:
        return tuple(locate(tile, block) for block in range(total))
    drawn: dict[int, None] = {}
    for number in range(count):
        choices = _find_choices(weights, number, drawn)
        drawn[_draw(choices, seed, number)] = None
    return tuple(locate(tile, block) for block in drawn)


def list_checked(
    probes: Sequence[Probe], *, recipe: Recipe, unit: Unit
) -> tuple[Unit, ...]:
    """Say what a checker renders: each probe, or all of the unit."""
    if not recipe.is_exact:
        return (unit,)
    return tuple(probe.of(unit) for probe in probes)


def cut_checked(
    pictures: Sequence[Picture],
    probes: Sequence[Probe],
    *,
    recipe: Recipe,
    unit: Unit,
) -> list[Picture]:
    """Give each probe's pixels, of the pictures that ``list_checked`` asks for."""
    if recipe.is_exact:
        return list(pictures)
    return cut_probes(pictures[0], probes, recipe=recipe, unit=unit)


def cut_probes(
    picture: Picture, probes: Sequence[Probe], *, recipe: Recipe, unit: Unit
) -> list[Picture]:
    """Give each probe's pixels, out of the whole unit's picture."""
    base = get_tile(unit, recipe)
    return [
        picture[
            one.tile.top - base.top : one.tile.bottom - base.top,
            one.tile.left - base.left : one.tile.right - base.left,
        ]
        for one in probes
    ]


def locate(tile: Tile, block: int) -> Probe:
    """Say where a block of a tile's picture lies in the frame."""
    columns, _ = count_blocks(width=tile.width, height=tile.height)
    row, column = divmod(block, columns)
    left, top = tile.left + column * BLOCK, tile.top + row * BLOCK
    return Probe(
        block=block,
        tile=Tile(
            left=left,
            top=top,
            right=min(left + BLOCK, tile.right),
            bottom=min(top + BLOCK, tile.bottom),
        ),
    )


def weigh_blocks(picture: Picture) -> NDArray[np.int64]:
    """Say how much a picture varies in each block: shape (blocks,), row by row.

    The sum over neighbouring pixels of how far they are apart, on a scale on which equal
    ratios of light are equal steps, as in ``compare``. Zero: all pixels are alike.
    """
    height, width = picture.shape[:2]
    columns, rows = count_blocks(width=width, height=height)
    steps = _measure_steps(picture)
    apart = np.zeros((rows * BLOCK, columns * BLOCK), np.int64)
    apart[: height - 1, :width] += np.abs(np.diff(steps, axis=0)).sum(axis=2)
    apart[:height, : width - 1] += np.abs(np.diff(steps, axis=1)).sum(axis=2)
    blocks = apart.reshape(rows, BLOCK, columns, BLOCK)
    weights: NDArray[np.int64] = blocks.sum(axis=(1, 3)).reshape(-1)
    return weights


def _measure_steps(picture: Picture) -> NDArray[np.int64]:
    """Read floats as steps of brightness: the bits of a positive one grow with its log.

    No arithmetic on floats, which machines may round in different orders.
    """
    bits = np.ascontiguousarray(picture, dtype="<f4").view("<i4").astype(np.int64)
    steps: NDArray[np.int64] = np.clip((bits - _DARK) >> _STEP_BITS, 0, _STEPS_MAX)
    return steps


def _find_choices(
    weights: NDArray[np.int64], number: int, drawn: dict[int, None]
) -> NDArray[np.int64]:
    """Give the weights of a draw: where it varies, or each block alike."""
    left = weights.copy()
    left[list(drawn)] = 0
    if number % 2 == 0 and left.any():
        return left
    left[:] = 1
    left[list(drawn)] = 0
    return left


def _draw(weights: NDArray[np.int64], seed: bytes, number: int) -> int:
    ends = np.cumsum(weights)
    place = draw_below(seed, f"probe {number}", int(ends[-1]))
    return int(np.searchsorted(ends, place, side="right"))
