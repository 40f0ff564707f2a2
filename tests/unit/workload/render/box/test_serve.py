"""The warm program with the toy engine: protocol, progress, faults, exact splits."""

from pathlib import Path

import msgspec
import pytest
from msgspec.structs import replace

from sublet.adapter.exr_file import read_picture
from sublet.core.render.picture import hash_pixels
from sublet.core.render.tile import (
    crop,
    merge_frame,
    merge_samples,
    split_picture,
    split_samples,
)
from sublet.core.render.unit import Recipe, Tile, Unit, UnitReport
from tests.rig.render_box import RenderBox
from tests.unit.core.render.test_unit import RECIPE

TOY = replace(RECIPE, width=40, height=24)


@pytest.fixture
def box(tmp_path: Path):
    (tmp_path / "scene.json").write_text('{"colour": [1.0, 0.25, 0.7]}')
    with RenderBox(tmp_path) as box:
        yield box


def test_unit_comes_with_its_report(box: RenderBox) -> None:
    picture, report = box.render(TOY, Unit(frame=3))
    assert report.kernel == "toy" and report.device == "cpu"
    assert picture[:, :, :3].std() > 0.05
    again, same = box.render(TOY, Unit(frame=3))
    assert same.pixels == report.pixels and again.tobytes() == picture.tobytes()


@pytest.mark.parametrize(("columns", "rows"), [(2, 2), (3, 1), (7, 5)])
def test_tiles_are_the_frame(box: RenderBox, columns: int, rows: int) -> None:
    whole, _ = box.render(TOY, Unit(frame=2))
    tiles = split_picture(width=40, height=24, columns=columns, rows=rows)
    units = [Unit(frame=2, tile=tile) for tile in tiles]
    merged = merge_frame([(unit, box.render(TOY, unit)[0]) for unit in units], TOY)
    assert merged.tobytes() == whole.tobytes()


def test_sample_ranges_are_the_frame(box: RenderBox) -> None:
    whole, _ = box.render(TOY, Unit(frame=2))
    parts = [
        (part, box.render(TOY, Unit(frame=2, samples=part))[0])
        for part in split_samples(samples=TOY.samples, parts=4)
    ]
    assert merge_samples(parts, samples=TOY.samples).tobytes() == whole.tobytes()
    assert len({picture.tobytes() for _, picture in parts}) == 4


def test_probe_is_part_of_the_frame(box: RenderBox) -> None:
    whole, _ = box.render(TOY, Unit(frame=2))
    tile = Tile(17, 5, 33, 21)
    probe, _ = box.render(TOY, Unit(frame=2, tile=tile))
    assert probe.tobytes() == crop(whole, tile).tobytes()


def test_probes_of_a_unit_are_one_task(box: RenderBox) -> None:
    whole, _ = box.render(TOY, Unit(3))
    tiles = [Tile(16, 0, 32, 16), Tile(32, 16, 40, 24)]
    units = [Unit(3, tile=tile) for tile in tiles]
    code, result = box.ask_data(TOY, units=msgspec.to_builtins(units))
    assert code == 0
    reports = msgspec.convert(result, list[UnitReport])
    for number, (tile, report) in enumerate(zip(tiles, reports, strict=True)):
        part = crop(whole, tile)
        place = box.folder / f".out{box.tasks}" / f"{number}.exr"
        read = read_picture(place, width=tile.width, height=tile.height)
        assert (read == part).all()
        assert report.pixels == hash_pixels(part)


@pytest.mark.parametrize(
    "other",
    [
        replace(TOY, seed=1),  # another seed
        replace(TOY, samples=7),  # fewer samples
        replace(TOY, width=41),  # another size
    ],
)
def test_every_cheat_changes_the_picture(box: RenderBox, other: Recipe) -> None:
    _, honest = box.render(TOY, Unit(frame=2))
    _, cheat = box.render(other, Unit(frame=2))
    _, frame = box.render(TOY, Unit(frame=3))
    assert len({honest.pixels, cheat.pixels, frame.pixels}) == 3


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"build": "toy 2"}, "wrong_build"),
        ({"device": "cuda"}, "wrong_device"),
        ({"scene": "none.json"}, "no_scene"),
        ({"scene": "bad.json"}, "bad_scene"),
    ],
)
def test_fault_is_told_and_survived(box: RenderBox, change, error: str) -> None:
    (box.folder / "bad.json").write_text("{")
    code, result = box.ask(replace(TOY, **change), Unit(frame=1))
    assert (code, result["error"]) == (1, error)
    assert len(result["message"].split()) > 2
    box.render(TOY, Unit(frame=1))


def test_progress_is_told_within_bounds(box: RenderBox) -> None:
    many = replace(TOY, samples=256)
    box.render(many, Unit(frame=1))
    shares = [line["progress"] for line in box.progress]
    assert shares and shares == sorted(shares)
    assert shares[0] > 0 and shares[-1] <= 1
    assert len(shares) < many.samples, "not every sample is worth a line"
