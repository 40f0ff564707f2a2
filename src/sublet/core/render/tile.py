"""The arithmetic of tiles and sample ranges: cut a picture, and join it again. Pure.

Joining is exact: pixels of tiles are copied. Sample ranges are averaged in float64, by
their counts and in order, so that whoever joins them gets the same bits; against one
render of all samples that differs by the rounding of float32 alone.

Not here: how Blender is told of a tile (``workload.render.box.engine_blender``).
"""

from collections.abc import Iterable, Sequence
from itertools import pairwise

import numpy as np

from sublet.base.errors import Refused
from sublet.core.render.picture import CHANNELS, Picture
from sublet.core.render.unit import (
    Recipe,
    SampleRange,
    Tile,
    Unit,
    get_range,
    get_tile,
)


def split_picture(
    *, width: int, height: int, columns: int, rows: int
) -> tuple[Tile, ...]:
    """Cut a picture into tiles, row by row from the top left.

    They differ by at most one pixel in width and in height.

    Raises:
        Refused: more tiles than pixels, or fewer than one, along a side.

    >>> split_picture(width=5, height=2, columns=2, rows=1)
    (Tile(left=0, top=0, right=2, bottom=2), Tile(left=2, top=0, right=5, bottom=2))
    """
    if not (1 <= columns <= width and 1 <= rows <= height):
        raise Refused(
            f"{width} by {height} pixels cannot be cut into {columns} by {rows} tiles;"
            " a tile has at least one pixel",
            code="bad_tiles",
            field="--tiles",
        )
    return tuple(
        Tile(
            left=column * width // columns,
            top=row * height // rows,
            right=(column + 1) * width // columns,
            bottom=(row + 1) * height // rows,
        )
        for row in range(rows)
        for column in range(columns)
    )


def split_samples(*, samples: int, parts: int) -> tuple[SampleRange, ...]:
    """Cut samples into ranges that differ by at most one.

    Raises:
        Refused: more ranges than samples, or fewer than one.
    """
    if not 1 <= parts <= samples:
        raise Refused(
            f"{samples} samples cannot be cut into {parts} ranges",
            code="bad_samples",
            field="--samples",
        )
    edges = [part * samples // parts for part in range(parts + 1)]
    return tuple(
        SampleRange(first=first, count=last - first) for first, last in pairwise(edges)
    )


def crop(picture: Picture, tile: Tile) -> Picture:
    """The pixels of a tile, as a view."""
    return picture[tile.top : tile.bottom, tile.left : tile.right]


def merge_tiles(
    parts: Iterable[tuple[Tile, Picture]], *, width: int, height: int
) -> Picture:
    """Paste tiles into one picture; the order does not matter.

    Raises:
        Refused: together they are not each pixel once, or one is not of its size.
    """
    whole = np.zeros((height, width, CHANNELS), np.float32)
    covered = np.zeros((height, width), np.bool_)
    for tile, pixels in parts:
        place = covered[tile.top : tile.bottom, tile.left : tile.right]
        if pixels.shape != (tile.height, tile.width, CHANNELS) or (
            place.shape != (tile.height, tile.width)
        ):
            raise Refused(f"{tile} is not of its size", code="bad_tiles")
        if place.any():
            raise Refused(f"{tile} covers pixels of another", code="bad_tiles")
        place[:] = True
        crop(whole, tile)[:] = pixels
    if not covered.all():
        missing = int(covered.size - np.count_nonzero(covered))
        raise Refused(f"the tiles leave {missing} pixels out", code="bad_tiles")
    return whole


def merge_samples(
    parts: Iterable[tuple[SampleRange, Picture]], *, samples: int
) -> Picture:
    """Average sample ranges, each by its count; the order does not matter.

    Raises:
        Refused: together they are not each sample once.
    """
    ordered = sorted(parts, key=lambda part: part[0].first)
    reached = 0
    for one, _ in ordered:
        if one.first != reached:
            raise Refused(
                f"sample {min(one.first, reached)} is there twice or not at all",
                code="bad_samples",
            )
        reached += one.count
    if reached != samples or not ordered:
        raise Refused(f"{reached} of {samples} samples are there", code="bad_samples")
    if len(ordered) == 1:
        return ordered[0][1]
    total = np.zeros(ordered[0][1].shape, np.float64)
    for one, pixels in ordered:
        total += pixels.astype(np.float64) * one.count
    return (total / samples).astype(np.float32)


def merge_frame(parts: Sequence[tuple[Unit, Picture]], recipe: Recipe) -> Picture:
    """Join all units of one frame, however they were cut.

    Raises:
        Refused: they are not each pixel and each sample once.
    """
    of_tile: dict[Tile, list[tuple[SampleRange, Picture]]] = {}
    for unit, pixels in parts:
        part = (get_range(unit, recipe), pixels)
        of_tile.setdefault(get_tile(unit, recipe), []).append(part)
    return merge_tiles(
        (
            (tile, merge_samples(ranges, samples=recipe.samples))
            for tile, ranges in of_tile.items()
        ),
        width=recipe.width,
        height=recipe.height,
    )
