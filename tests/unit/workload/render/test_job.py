"""A render before anything is rented: inputs, frames, price."""

from pathlib import Path

import pytest

from sublet.base.errors import Refused
from sublet.core.render.planner import Nature, Pace
from sublet.core.render.unit import Unit
from sublet.workload.render.job import (
    Plan,
    Scene,
    find_frames,
    find_nature,
    hash_sources,
    look_at,
    make_plan,
    price,
)
from sublet.workload.render.wish import BY_RECORD_MILLI, RenderWish, parse_wish
from sublet.workload.run.wish import Source
from tests.unit.core.render.test_unit import RECIPE

SCENE = Scene(
    file="scene/a.json",
    sources=(),
    bytes=2,
    root=RECIPE.root,
    build="toy 1",
    facts=None,
    project=None,
)


def make(frames: int, *, frame_s: float) -> Plan:
    numbers = tuple(range(1, frames + 1))
    pace = Pace(frame_s=frame_s, begin_s=0.0)
    return Plan(SCENE, RECIPE, numbers, tuple(map(Unit, numbers)), pace, 24.0)


def test_price_grows_with_the_check() -> None:
    terms = {"price_hour": 3_600_000, "speed_milli": 1_000, "cap": 10**9, "machines": 2}
    plain, all_of_it, by_record = (
        price(make(10, frame_s=10.0), check_milli=check, **terms)
        for check in (0, 1_000, BY_RECORD_MILLI)
    )
    assert plain.likely == 100_000  # a hundred seconds at a milli-dollar each
    assert plain.likely < by_record.likely < all_of_it.likely
    assert plain.low < plain.likely < plain.high


def test_fast_machine_bills_no_less_an_hour_and_no_more_a_frame() -> None:
    terms = {"cap": 10**9, "machines": 1, "check_milli": 0}
    slow, fast = (
        price(make(10, frame_s=10.0), price_hour=hour, speed_milli=speed, **terms)
        for hour, speed in ((1_000_000, 1_000), (2_000_000, 2_000))
    )
    assert slow.likely == fast.likely
    assert fast.finish_ms < slow.finish_ms


def test_root_is_of_names_and_contents(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("1")
    (tmp_path / "b").write_text("2")
    both = (Source(str(tmp_path), "scene", ("a", "b")),)
    first = hash_sources(both)
    assert hash_sources(both) == first
    assert hash_sources((Source(str(tmp_path), "other", ("a", "b")),)) != first
    assert hash_sources((Source(str(tmp_path), "scene", ("a",)),)) != first
    (tmp_path / "a").write_text("3")
    assert hash_sources(both) != first


async def test_toy_is_planned_without_blender(tmp_path: Path) -> None:
    scene = tmp_path / "scene.json"
    scene.write_text("{}")
    asked = parse_wish(RenderWish(scene=str(scene), frames="1-3", resolution="32x16"))
    seen = await look_at(asked, work=tmp_path, bytes_max=1 << 20)
    plan = await make_plan(asked, seen, machines=2, is_measured=False)
    assert (plan.recipe.engine, plan.recipe.width) == ("toy", 32)
    assert {unit.frame for unit in plan.units} == {1, 2, 3}


async def test_toy_that_is_no_json_is_refused(tmp_path: Path) -> None:
    scene = tmp_path / "scene.json"
    scene.write_text("{")
    asked = parse_wish(RenderWish(scene=str(scene)))
    with pytest.raises(Refused, match="no toy scene"):
        await look_at(asked, work=tmp_path, bytes_max=1 << 20)


def test_toy_has_one_frame_and_is_cut_as_one_likes() -> None:
    assert find_frames(None) == (1,)
    assert find_nature(None) == Nature()
