"""Units lie within their recipe, and a report that lies about a limit is not read."""

import msgspec
import pytest

from sublet.base.errors import Refused
from sublet.core.render.unit import (
    Recipe,
    SampleRange,
    Tile,
    Unit,
    UnitReport,
    check_unit,
    compute_settings,
    get_range,
    get_tile,
)

RECIPE = Recipe(
    scene="scene.json",
    root="0x" + "1" * 64,
    build="toy 1",
    engine="toy",
    device="cpu",
    width=16,
    height=9,
    samples=8,
    seed=0,
)
REPORT = {
    "pixels": "0x" + "2" * 64,
    "width": 16,
    "height": 9,
    "device": "cpu",
    "kernel": "toy",
    "build": "toy 1",
    "seconds": 0.5,
}


def test_whole_unit_is_all_of_it() -> None:
    unit = Unit(frame=1)
    check_unit(unit, RECIPE)
    assert get_tile(unit, RECIPE) == Tile(0, 0, 16, 9)
    assert get_range(unit, RECIPE) == SampleRange(0, 8)


@pytest.mark.parametrize(
    "tile",
    [
        Tile(0, 0, 17, 9),  # beyond the right edge
        Tile(0, 0, 16, 10),  # beyond the bottom
        Tile(4, 4, 4, 5),  # empty
        Tile(5, 4, 4, 5),  # turned round
        Tile(-1, 0, 4, 5),  # beyond the left edge
    ],
)
def test_tile_outside_is_refused(tile: Tile) -> None:
    with pytest.raises(Refused, match="tile"):
        check_unit(Unit(frame=1, tile=tile), RECIPE)


@pytest.mark.parametrize("part", [SampleRange(0, 9), SampleRange(8, 1)])
def test_foreign_samples_are_refused(part: SampleRange) -> None:
    with pytest.raises(Refused, match="samples"):
        check_unit(Unit(frame=1, samples=part), RECIPE)


def test_every_setting_changes_the_digest() -> None:
    digests = {compute_settings(RECIPE)}
    for field in Recipe.__struct_fields__:
        value = getattr(RECIPE, field)
        other = {str: "other", int: 5, bool: not value}[type(value)]
        changed = msgspec.structs.replace(RECIPE, **{field: other})
        digests.add(compute_settings(changed))
    assert len(digests) == 1 + len(Recipe.__struct_fields__)


@pytest.mark.parametrize(
    "lie",
    [
        {"width": 1 << 20},
        {"height": 0},
        {"seconds": -1.0},
        {"seconds": float("nan")},
        {"pixels": "0x12"},
        {"device": "abacus"},
        {"kernel": "\x1b[2J"},
        {"build": "x" * 10_000},
        {"more": 1},
    ],
)
def test_report_holds_the_limits(lie: dict[str, object]) -> None:
    assert msgspec.convert(REPORT, UnitReport).kernel == "toy"
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({**REPORT, **lie}, UnitReport)


def test_units_survive_json() -> None:
    unit = Unit(frame=-3, tile=Tile(1, 2, 3, 4), samples=SampleRange(4, 4))
    assert msgspec.json.decode(msgspec.json.encode(unit), type=Unit) == unit
