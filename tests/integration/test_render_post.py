"""Units, merged and finished, against what Blender alone makes of the same scene."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import OpenEXR
import pytest

from sublet.adapter.exr_file import write_picture
from sublet.base.errors import Faults, Refused
from sublet.core.render.tile import merge_tiles
from sublet.core.render.unit import Recipe, Tile, Unit
from sublet.workload.render.box.drawing import add_watermark, draw_sheet
from sublet.workload.render.posting import (
    Picture,
    PostWish,
    make_film,
    post_frames,
)
from sublet.workload.render.tracing import check_facts, open_project
from tests.integration.render_house import (
    HERE,
    MAKE_TIMEOUT_S,
    TAKES,
    look,
)
from tests.rig.render_box import BUILD, RenderBox, needs_blender

pytestmark = [needs_blender, pytest.mark.sandbox]

WIDTH, HEIGHT = 96, 54
FRAMES = (1, 2)
TILES = (Tile(0, 0, 40, HEIGHT), Tile(40, 0, WIDTH, HEIGHT))
RECIPE = Recipe(
    scene="shot.blend",
    root="0x" + "00" * 32,
    build=BUILD,
    engine="cycles",
    device="cpu",
    width=WIDTH,
    height=HEIGHT,
    samples=4,
    seed=0,
)
WISH = PostWish(width=WIDTH, height=HEIGHT)
# Pixels that no rounding explains; Cycles denoises sums, and the compositor means.
DENOISED_OFF_MAX = 1e-4


@pytest.fixture(scope="module")
def glare() -> Iterator[Path]:
    """A scene, what Blender alone makes of it, and its merged units beside."""
    with TemporaryDirectory(prefix="glare-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        made = subprocess.run(
            [sys.executable, str(HERE / "render_glare.py"), name],
            capture_output=True,
            text=True,
            timeout=MAKE_TIMEOUT_S,
            env={"HOME": name, "PATH": "/usr/bin"},
        )
        assert made.returncode == 0, made.stderr[-2_000:]
        with RenderBox(folder) as worker:
            for frame in FRAMES:
                parts = [
                    (tile, worker.render(RECIPE, Unit(frame=frame, tile=tile))[0])
                    for tile in TILES
                ]
                merged = merge_tiles(parts, width=WIDTH, height=HEIGHT)
                write_picture(folder / f"merged{frame}.exr", merged)
        yield folder


def read_exr(path: Path) -> np.ndarray:
    with OpenEXR.File(str(path)) as file:
        return np.array(file.channels()["RGBA"].pixels)


def pictures(glare: Path) -> list[Picture]:
    return [Picture(frame, glare / f"merged{frame}.exr") for frame in FRAMES]


async def test_equals_one_machine_bit_for_bit(glare: Path, tmp_path: Path) -> None:
    project = open_project(str(glare / "shot.blend"))
    posted = await post_frames(
        project, pictures(glare), wish=WISH, folder=tmp_path, takes=TAKES
    )
    assert [each.frame for each in posted] == list(FRAMES)
    assert all(each.preview is None for each in posted)
    for each in posted:
        single = read_exr(glare / f"single{each.frame}.exr")
        assert np.array_equal(read_exr(each.exr), single)
        # The view transform, too: the files differ at most in what they say of themselves.
        assert read_png(each.png) == read_png(glare / f"single{each.frame}.png")
        # Else a compositor that was left out would pass.
        merged = read_exr_rgba(glare / f"merged{each.frame}.exr")
        assert np.abs(merged - single).max() > 0.1
    # The glare wanes from frame to frame: each had its own.
    first, second = (read_exr(each.exr) for each in posted)
    assert not np.array_equal(first, second)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        *("0001.exr", "0001.png", "0002.exr", "0002.png"),
    ]


def read_exr_rgba(path: Path) -> np.ndarray:
    """Read what we wrote: its channels stand one by one."""
    with OpenEXR.File(str(path), separate_channels=True) as file:
        channels = file.channels()
        return np.stack([channels[name].pixels for name in "RGBA"], axis=-1)


def read_png(path: Path) -> bytes:
    """Give what stands for the pixels of a PNG: its IDAT chunks."""
    raw, at, content = path.read_bytes(), 8, b""
    while at < len(raw):
        size, kind = int.from_bytes(raw[at : at + 4], "big"), raw[at + 4 : at + 8]
        if kind == b"IDAT":
            content += raw[at + 8 : at + 8 + size]
        at += size + 12
    assert content
    return content


async def test_denoises_after_the_merge(glare: Path, tmp_path: Path) -> None:
    project = open_project(str(glare / "denoised.blend"))
    first = pictures(glare)[:1]
    (each,) = await post_frames(project, first, wish=WISH, folder=tmp_path, takes=TAKES)
    merged = read_exr_rgba(glare / "merged1.exr")
    single, ours = read_exr(glare / "denoised1.exr"), read_exr(each.exr)
    assert np.abs(merged - single).max() > 0.1
    # Not bit for bit: see DENOISED_OFF_MAX.
    assert np.abs(ours - single).max() < DENOISED_OFF_MAX


async def test_refuses_passes_that_are_not_there(glare: Path, tmp_path: Path) -> None:
    project, trace = await look(glare / "deep.blend")
    assert trace.facts.compositor.is_used
    assert trace.facts.compositor.passes == ("Depth",)
    with pytest.raises(Faults, match="takes Depth"):
        check_facts(trace.facts, version=(5, 0))
    check_facts(trace.facts, version=(5, 0), has_passes=True)
    with pytest.raises(Refused, match="'Depth'") as caught:
        await post_frames(
            project, pictures(glare), wish=WISH, folder=tmp_path, takes=TAKES
        )
    assert caught.value.code == "bad_post"
    assert list(tmp_path.iterdir()) == []


async def test_refuses_pictures_of_another_size(glare: Path, tmp_path: Path) -> None:
    wish = PostWish(width=WIDTH * 2, height=HEIGHT)
    with pytest.raises(Refused, match="another size"):
        await post_frames(
            open_project(str(glare / "shot.blend")),
            pictures(glare),
            wish=wish,
            folder=tmp_path,
            takes=TAKES,
        )


async def test_makes_previews_video_and_sheet(glare: Path, tmp_path: Path) -> None:
    project = open_project(str(glare / "shot.blend"))
    places = {}
    for name, has_mark in (("marked", True), ("bare", False)):
        places[name] = tmp_path / name
        places[name].mkdir()
        wish = PostWish(
            width=WIDTH,
            height=HEIGHT,
            has_exr=False,
            has_png=not has_mark,
            preview_width=48,
            has_watermark=has_mark,
        )
        await post_frames(
            project, pictures(glare), wish=wish, folder=places[name], takes=TAKES
        )
    # Before payment nothing but the marked preview leaves the sandbox.
    assert {path.name for path in places["marked"].iterdir()} == {
        *("0001.jpg", "0002.jpg"),
    }
    marked, bare = (places[name] / "0001.jpg" for name in places)
    assert read_jpeg_size(bare) == read_jpeg_size(marked) == (48, 27)
    assert marked.read_bytes() != bare.read_bytes()
    frames = [places["bare"] / f"{frame:04}.png" for frame in FRAMES] * 3
    video, sheet = await make_film(
        frames, fps=23.976, folder=tmp_path, sheet_columns=3, takes=TAKES
    )
    assert read_jpeg_size(sheet) == (4 + 3 * (96 + 4), 4 + 2 * (54 + 4))
    raw = video.read_bytes()
    assert raw[4:8] == b"ftyp" and b"avc1" in raw
    assert read_durations(raw) == (len(frames), pytest.approx(23.976, rel=1e-3))


def read_jpeg_size(path: Path) -> tuple[int, int]:
    raw, at = path.read_bytes(), 2
    while raw[at + 1] not in (0xC0, 0xC2):
        at += 2 + int.from_bytes(raw[at + 2 : at + 4], "big")
    height, width = (int.from_bytes(raw[at + n : at + n + 2], "big") for n in (5, 7))
    return width, height


def read_durations(raw: bytes) -> tuple[int, float]:
    """Give frames, and frames a second, of an MP4 with one track."""
    at = raw.index(b"mdhd") + 4 + 4 + 8
    scale, duration = (int.from_bytes(raw[at + n : at + n + 4], "big") for n in (0, 4))
    at = raw.index(b"stsz") + 4 + 4 + 4
    count = int.from_bytes(raw[at : at + 4], "big")
    return count, count * scale / duration


async def test_refuses_a_film_of_nothing(tmp_path: Path) -> None:
    with pytest.raises(Refused) as caught:
        await make_film([], fps=24, folder=tmp_path)
    assert caught.value.code == "bad_video"


def test_watermark_leaves_no_part_bare() -> None:
    plain = np.full((90, 160, 4), 0.5, np.float32)
    changed = (add_watermark(plain) != plain).any(axis=-1)
    # No window of a third of the picture is without it, and most can still be seen.
    for top in range(0, 90, 30):
        for left in range(0, 160, 40):
            assert changed[top : top + 30, left : left + 40].any()
    assert 0.02 < changed.mean() < 0.4


def test_sheet_begins_at_the_top_left() -> None:
    frames = [np.full((2, 3, 4), value, np.float32) for value in (0.2, 0.4, 0.6)]
    sheet = draw_sheet(frames, columns=2)
    # The bottom row is first.
    assert sheet.shape == (4 + 2 * (2 + 4), 4 + 2 * (3 + 4), 4)
    assert (sheet[10:12, 4:7] == np.float32(0.2)).all()
    assert (sheet[10:12, 11:14] == np.float32(0.4)).all()
    assert (sheet[4:6, 4:7] == np.float32(0.6)).all()
