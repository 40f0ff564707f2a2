"""However a picture is cut, each pixel and each sample is there once."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from sublet.base.errors import Refused
from sublet.core.render.tile import (
    crop,
    merge_frame,
    merge_samples,
    merge_tiles,
    split_picture,
    split_samples,
)
from sublet.core.render.unit import SampleRange, Tile, Unit
from tests.unit.core.render.test_unit import RECIPE

SIDES = st.integers(1, 40)


@st.composite
def cuts(draw: st.DrawFn) -> tuple[int, int, int, int]:
    width, height = draw(SIDES), draw(SIDES)
    columns, rows = draw(st.integers(1, width)), draw(st.integers(1, height))
    return width, height, columns, rows


def noise(width: int, height: int, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).random((height, width, 4), np.float32)


@given(cuts(), st.randoms())
def test_split_and_merged_is_the_same(cut, random) -> None:
    width, height, columns, rows = cut
    tiles = split_picture(width=width, height=height, columns=columns, rows=rows)
    assert len(tiles) == columns * rows
    assert {tile.width for tile in tiles} <= {width // columns, -(-width // columns)}
    assert {tile.height for tile in tiles} <= {height // rows, -(-height // rows)}
    whole = noise(width, height)
    parts = [(tile, crop(whole, tile)) for tile in tiles]
    random.shuffle(parts)
    merged = merge_tiles(parts, width=width, height=height)
    assert merged.tobytes() == whole.tobytes()


@given(st.integers(1, 5_000), st.integers(1, 300))
def test_ranges_are_each_sample_once(samples: int, parts: int) -> None:
    if parts > samples:
        with pytest.raises(Refused):
            split_samples(samples=samples, parts=parts)
        return
    ranges = split_samples(samples=samples, parts=parts)
    spent = [n for one in ranges for n in range(one.first, one.first + one.count)]
    assert spent == list(range(samples))
    assert max(x.count for x in ranges) - min(x.count for x in ranges) <= 1


@pytest.mark.parametrize(("columns", "rows"), [(0, 1), (1, 0), (17, 1), (1, 10)])
def test_more_tiles_than_pixels_are_refused(columns: int, rows: int) -> None:
    with pytest.raises(Refused):
        split_picture(width=16, height=9, columns=columns, rows=rows)


TOP, BOTTOM = Tile(0, 0, 4, 2), Tile(0, 2, 4, 4)


@pytest.mark.parametrize(
    "parts",
    [
        [(TOP, noise(4, 2))],  # half of it is missing
        [(TOP, noise(4, 2)), (TOP, noise(4, 2)), (BOTTOM, noise(4, 2))],  # twice
        [(TOP, noise(4, 2)), (BOTTOM, noise(4, 3))],  # not of its size
        [(TOP, noise(4, 2)), (Tile(0, 2, 5, 4), noise(5, 2))],  # leaves the picture
    ],
)
def test_what_is_not_each_pixel_once_is_refused(parts) -> None:
    with pytest.raises(Refused):
        merge_tiles(parts, width=4, height=4)


def test_ranges_weigh_by_their_count() -> None:
    zeros, ones = np.zeros((1, 1, 4), np.float32), np.ones((1, 1, 4), np.float32)
    parts = [(SampleRange(6, 2), ones), (SampleRange(0, 6), zeros)]
    assert merge_samples(parts, samples=8).tolist() == [[[0.25] * 4]]


@pytest.mark.parametrize(
    "ranges",
    [
        [],
        [SampleRange(0, 4)],
        [SampleRange(0, 4), SampleRange(5, 3)],
        [SampleRange(0, 5), SampleRange(4, 4)],
        [SampleRange(0, 8), SampleRange(0, 8)],
    ],
)
def test_what_is_not_each_sample_once_is_refused(ranges) -> None:
    with pytest.raises(Refused):
        merge_samples([(one, noise(2, 2)) for one in ranges], samples=8)


@given(st.randoms())
def test_frame_cut_both_ways_is_the_mean(random) -> None:
    recipe = replace(RECIPE, width=4, height=4)
    both = [(SampleRange(0, 3), noise(4, 4, 1)), (SampleRange(3, 5), noise(4, 4, 2))]
    parts = [
        (Unit(frame=1, tile=tile, samples=part), crop(pixels, tile))
        for part, pixels in both
        for tile in (TOP, BOTTOM)
    ]
    random.shuffle(parts)
    expected = (both[0][1].astype(float) * 3 + both[1][1].astype(float) * 5) / 8
    merged = merge_frame(parts, recipe)
    assert merged.tobytes() == expected.astype(np.float32).tobytes()


def test_one_unit_is_its_frame() -> None:
    pixels = noise(16, 9)
    assert merge_frame([(Unit(frame=1), pixels)], RECIPE).tobytes() == pixels.tobytes()
