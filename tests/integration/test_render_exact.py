"""Blender's units are what one machine would render: bit for bit, or a clear no."""

import base64
import json
import shutil
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from msgspec.structs import replace

from sublet.core.render.tile import (
    crop,
    merge_frame,
    merge_samples,
    split_picture,
)
from sublet.core.render.unit import Recipe, SampleRange, Tile, Unit
from tests.rig.render_box import BUILD, RenderBox, needs_blender

pytestmark = needs_blender

SCENES = Path("tests/data/render")
RECIPE = Recipe(
    scene="room.blend",
    root="0x" + "1" * 64,
    build=BUILD,
    engine="cycles",
    device="cpu",
    width=96,
    height=54,
    samples=8,
    seed=0,
)


@pytest.fixture(scope="module")
def box(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RenderBox]:
    """One warm worker with all scenes, as a lease would have it."""
    folder = tmp_path_factory.mktemp("inputs")
    for place in SCENES.glob("*.blend"):
        shutil.copy(place, folder)
    write_gltf(folder / "shape.gltf")
    (folder / "shape.usda").write_text(USD)
    (folder / "empty.usda").write_text("#usda 1.0\n")
    (folder / "junk.blend").write_bytes(b"junk" * 100)
    (folder / "junk.glb").write_bytes(b"junk" * 100)
    with RenderBox(folder) as box:
        yield box


USD = """#usda 1.0
def Mesh "Triangle"
{
    int[] faceVertexCounts = [3]
    int[] faceVertexIndices = [0, 1, 2]
    point3f[] points = [(0, 0, 0), (1, 0, 0), (0, 0, 1)]
}
"""


def write_gltf(place: Path) -> None:
    """Write a triangle."""
    points = struct.pack("<9f", 0, 0, 0, 1, 0, 0, 0, 1, 0)
    uri = "data:application/octet-stream;base64," + base64.b64encode(points).decode()
    accessor = {"bufferView": 0, "componentType": 5126, "count": 3, "type": "VEC3"}
    gltf = {
        "asset": {"version": "2.0"},
        "buffers": [{"uri": uri, "byteLength": 36}],
        "bufferViews": [{"buffer": 0, "byteLength": 36}],
        "accessors": [{**accessor, "min": [0, 0, 0], "max": [1, 1, 0]}],
        "meshes": [{"primitives": [{"attributes": {"POSITION": 0}}]}],
        "nodes": [{"mesh": 0}],
        "scenes": [{"nodes": [0]}],
        "scene": 0,
    }
    place.write_text(json.dumps(gltf))


@pytest.mark.parametrize("scene", ["room.blend", "kenney_platformer.blend"])
def test_merged_tiles_are_the_frame(box: RenderBox, scene: str) -> None:
    recipe = replace(RECIPE, scene=scene)
    whole, report = box.render(recipe, Unit(frame=2))
    assert report.device == "cpu" and report.kernel.startswith("cpu-")
    assert whole[:, :, :3].std() > 0.01, "there is something to see"
    for columns, rows in ((2, 2), (3, 1)):
        tiles = split_picture(
            width=recipe.width, height=recipe.height, columns=columns, rows=rows
        )
        units = [Unit(frame=2, tile=tile) for tile in tiles]
        parts = [(unit, box.render(recipe, unit)[0]) for unit in units]
        assert merge_frame(parts, recipe).tobytes() == whole.tobytes()
    # A probe, at a place that no tile of a plan has.
    tile = Tile(39, 17, 55, 33)
    probe, _ = box.render(recipe, Unit(frame=2, tile=tile))
    assert probe.tobytes() == crop(whole, tile).tobytes()


def test_sample_ranges_are_the_frame_but_for_rounding(box: RenderBox) -> None:
    whole, _ = box.render(RECIPE, Unit(frame=1))
    ranges = [SampleRange(0, 3), SampleRange(3, 5)]
    parts = [
        (part, box.render(RECIPE, Unit(frame=1, samples=part))[0]) for part in ranges
    ]
    merged = merge_samples(parts, samples=RECIPE.samples)
    assert np.allclose(merged, whole, rtol=1e-5, atol=1e-5)
    assert not np.allclose(parts[0][1], whole, rtol=1e-2, atol=1e-2)


def test_warm_worker_gives_what_a_cold_one_gives(
    box: RenderBox, tmp_path: Path
) -> None:
    recipe = replace(RECIPE, scene="kenney_platformer.blend")
    box.render(recipe, Unit(frame=7))
    warm, _ = box.render(recipe, Unit(frame=3))
    shutil.copy(SCENES / recipe.scene, tmp_path)
    with RenderBox(tmp_path) as other:
        cold, report = other.render(recipe, Unit(frame=3))
        assert cold.tobytes() == warm.tobytes()
        fewer = replace(recipe, samples=RECIPE.samples - 1)
        assert other.render(fewer, Unit(frame=3))[1].pixels != report.pixels
        seed = replace(recipe, seed=1)
        assert other.render(seed, Unit(frame=3))[1].pixels != report.pixels
        assert other.progress, "Blender's own words are passed on"
        assert all(0 <= line["progress"] <= 1 for line in other.progress)


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"build": "blender 4.5.3 67807e1800cc"}, "wrong_build"),
        ({"device": "cuda"}, "wrong_device"),
        ({"device": "optix"}, "wrong_device"),
        ({"engine": "workbench", "device": "cuda"}, "wrong_device"),
        ({"scene": "none.blend"}, "no_scene"),
        ({"scene": "../room.blend"}, "no_scene"),
        ({"scene": "junk.blend"}, "bad_scene"),
        ({"scene": "junk.glb"}, "bad_scene"),
        ({"scene": "shape.gltf"}, "no_camera"),
        ({"scene": "shape.usda"}, "no_camera"),
        ({"scene": "empty.usda", "default_camera": True}, "bad_scene"),
    ],
)
def test_what_cannot_be_rendered_is_said(box: RenderBox, change, error: str) -> None:
    if error == "wrong_device" and shutil.which("nvidia-smi"):
        pytest.skip("there is such a device here")
    code, result = box.ask(replace(RECIPE, **change), Unit(frame=1))
    assert (code, result["error"]) == (1, error), result


@pytest.mark.parametrize("scene", ["shape.gltf", "shape.usda"])
def test_default_camera_sees_the_scene(box: RenderBox, scene: str) -> None:
    recipe = replace(RECIPE, scene=scene, default_camera=True)
    picture, _ = box.render(recipe, Unit(frame=1))
    light = picture[:, :, :3].sum(axis=2)
    differs = light != light[0, 0]
    rows, columns = np.nonzero(differs)
    assert len(rows) > 100, "the triangle is there"
    inside = (rows.min() > 0, rows.max() < 53, columns.min() > 0, columns.max() < 95)
    assert all(inside), "and all of it"


MAKE = """
import sys, bpy
bpy.ops.wm.read_factory_settings()
text = bpy.data.texts.new("start.py")
text.use_module = True
text.write("open('was_run', 'w').close()")
bpy.context.scene.cycles.use_adaptive_sampling = True
bpy.ops.wm.save_as_mainfile(filepath=sys.argv[1], compress=False)
raw = open(sys.argv[1], "rb").read()
assert raw[:17] == b"BLENDER17-01v0500"
open(sys.argv[2], "wb").write(raw[:13] + b"0600" + raw[17:])
"""


def test_scripts_versions_and_adaptive_ranges(box: RenderBox) -> None:
    folder = box.folder
    names = [str(folder / name) for name in ("script.blend", "newer.blend")]
    subprocess.run(
        [sys.executable, "-c", MAKE, *names],
        check=True,
        capture_output=True,
        timeout=120,
    )
    recipe = replace(RECIPE, scene="script.blend", samples=2, width=32, height=18)
    box.render(recipe, Unit(frame=1))
    assert not (folder / "was_run").exists()
    code, result = box.ask(recipe, Unit(frame=1, samples=SampleRange(0, 1)))
    assert (code, result["error"]) == (1, "not_splittable")
    newer = replace(recipe, scene="newer.blend")
    code, result = box.ask(newer, Unit(frame=1))
    assert (code, result["error"]) == (1, "newer_scene")
    assert "6.0" in result["message"] and "5.0" in result["message"]
    box.render(replace(recipe, scripts=True), Unit(frame=1))
    assert (folder / "was_run").exists(), "the test can tell"
    (folder / "was_run").unlink()
    box.render(replace(recipe, seed=3), Unit(frame=1))
    assert not (folder / "was_run").exists(), "and they are off again"
