"""Units cover each pixel, sample and frame once, and are never too small to begin."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from sublet.base import limits
from sublet.base.errors import Refused
from sublet.core.render.planner import (
    BEGIN_SHARE,
    Nature,
    Pace,
    choose_grid,
    estimate_frame,
    estimate_unit,
    plan_units,
)
from sublet.core.render.unit import check_unit, get_range, get_tile
from tests.unit.core.render.test_unit import RECIPE

CYCLES = replace(RECIPE, engine="cycles", width=1_920, height=1_080, samples=512)
SLOW = Pace(frame_s=3_600.0, begin_s=1.0)
NATURES = st.builds(
    Nature,
    has_volumes=st.booleans(),
    is_adaptive=st.booleans(),
    is_guided=st.booleans(),
)
RECIPES = st.builds(
    lambda engine, width, height, samples, biased: replace(
        RECIPE,
        engine=engine,
        width=width,
        height=height,
        samples=samples,
        volume_biased=biased,
    ),
    st.sampled_from(["cycles", "eevee", "workbench", "toy"]),
    *(st.integers(1, 40), st.integers(1, 40), st.integers(1, 600), st.booleans()),
)
PACES = st.builds(Pace, frame_s=st.floats(0, 10_000), begin_s=st.floats(0, 100))


@given(
    RECIPES,
    st.lists(st.integers(-9, 99), unique=True, min_size=1, max_size=9),
    st.integers(1, 64),
    NATURES,
    PACES,
)
def test_units_are_each_sample_once(recipe, frames, workers, nature, pace) -> None:
    units = plan_units(recipe, frames, workers=workers, nature=nature, pace=pace)
    seen = {
        frame: np.zeros((recipe.height, recipe.width), np.int64) for frame in frames
    }
    spans: dict[tuple, list] = {}
    for unit in units:
        check_unit(unit, recipe)
        tile, part = get_tile(unit, recipe), get_range(unit, recipe)
        place = np.s_[tile.top : tile.bottom, tile.left : tile.right]
        seen[unit.frame][place] += part.count
        spans.setdefault((unit.frame, tile), []).append(part)
    # As many samples everywhere as the recipe has, and no range over another.
    assert all((counts == recipe.samples).all() for counts in seen.values())
    for parts in spans.values():
        parts.sort(key=lambda part: part.first)
        ends = [part.first + part.count for part in parts]
        assert [part.first for part in parts] == [0, *ends[:-1]]
    if len(units) > len(frames) and pace.begin_s:
        shares = [pace.begin_s / estimate_unit(x, recipe, pace=pace) for x in units]
        assert sum(shares) / len(shares) <= BEGIN_SHARE * 1.3, "uneven by a pixel"


def plan(recipe=CYCLES, frames=(1,), workers=8, nature=None, pace=SLOW, tiles=None):
    return plan_units(
        recipe,
        frames,
        workers=workers,
        nature=nature or Nature(),
        pace=pace,
        tiles=tiles,
    )


def test_many_frames_stay_whole() -> None:
    units = plan(frames=range(1, 25), workers=4)
    assert [unit.frame for unit in units] == list(range(1, 25))
    assert all(unit.tile is None and unit.samples is None for unit in units)


def test_few_frames_are_tiled() -> None:
    units = plan(frames=(1, 2), workers=8)
    assert len(units) == 8 and all(unit.tile for unit in units)


def test_one_large_still_is_cut_by_samples() -> None:
    large = replace(CYCLES, width=4_096, height=2_160)
    units = plan(large)
    assert [unit.samples.count for unit in units] == [64] * 8
    assert all(unit.tile for unit in plan(large, nature=Nature(is_adaptive=True)))
    assert all(unit.tile for unit in plan(replace(large, samples=64)))


@pytest.mark.parametrize(
    ("recipe", "nature"),
    [
        (CYCLES, Nature(has_volumes=True)),
        (CYCLES, Nature(is_guided=True)),
        (CYCLES, Nature(has_freestyle=True)),
        (replace(CYCLES, engine="eevee"), Nature()),
        (replace(CYCLES, engine="workbench"), Nature()),
    ],
)
def test_what_does_not_split_stays_whole(recipe, nature) -> None:
    assert len(plan(recipe, nature=nature)) == 1
    assert len(plan(recipe, nature=nature, tiles=(1, 1))) == 1
    with pytest.raises(Refused) as error:
        plan(recipe, nature=nature, tiles=(2, 2))
    assert error.value.code == "not_splittable"


def test_biased_volume_is_tiled() -> None:
    biased = replace(CYCLES, volume_biased=True)
    assert len(plan(biased, nature=Nature(has_volumes=True))) == 8


def test_short_frame_is_not_cut() -> None:
    assert len(plan(pace=Pace(frame_s=10, begin_s=1))) == 1
    # 20 times the beginning is in each of two parts, and not of three.
    assert len(plan(pace=Pace(frame_s=40, begin_s=1))) == 2


def test_asked_tiles_are_made() -> None:
    assert len(plan(frames=(1, 2, 3), tiles=(4, 3))) == 36


def test_too_many_units_are_refused() -> None:
    with pytest.raises(Refused) as error:
        plan(frames=range(limits.TASKS_MAX), tiles=(2, 1))
    assert error.value.code == "too_many_units"


@pytest.mark.parametrize(
    ("parts", "grid"), [(1, (1, 1)), (4, (2, 2)), (6, (3, 2)), (7, (7, 1)), (8, (4, 2))]
)
def test_tiles_are_nearly_square(parts: int, grid: tuple[int, int]) -> None:
    assert choose_grid(CYCLES, parts) == grid


def test_tiny_picture_has_fewer_tiles() -> None:
    assert choose_grid(replace(CYCLES, width=2, height=2), 7) == (2, 2)


def test_estimates_grow_with_the_work() -> None:
    pace = estimate_frame(
        CYCLES, seconds=3.0, begin_s=1.0, width=960, height=540, samples=128
    )
    assert pace == Pace(frame_s=1 + 2 * 16, begin_s=1.0)
    half = plan(pace=pace, tiles=(2, 1))[0]
    assert estimate_unit(half, CYCLES, pace=pace) == 1 + 16
