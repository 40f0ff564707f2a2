"""What a person asks of a render, as typed, and what it means. No files.

Not here: what the scene says itself (``tracing``), which units it becomes (``job``).
"""

import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TypeVar, get_args

from msgspec import Struct

from sublet.base import limits
from sublet.base.errors import Refused
from sublet.core.render.frames import parse_frames
from sublet.core.render.unit import Device, Engine
from sublet.workload.render.box.opening import BLEND, GLTF, USD
from sublet.workload.run.wish import Collector, refuse

T = TypeVar("T")
Typed = TypeVar("Typed", str, int)

ENGINES: tuple[str, ...] = get_args(Engine)
DEVICES: tuple[str, ...] = get_args(Device)
SCENES = (*BLEND, *GLTF, *USD, ".json")
VIDEOS = ("mp4",)
BY_RECORD = "by-record"  # of each provider
BY_RECORD_MILLI = -1
_SIZE = re.compile(r"\A(\d{1,6})x(\d{1,6})\Z")
_EVERY = re.compile(r"\Aevery:(\d{1,6})\Z")
_PART = re.compile(r"\A(\d{1,3}(?:\.\d{1,3})?)%\Z")


class RenderWish(Struct, frozen=True, kw_only=True):
    """A render as it was asked for; every text as it was typed, None where it was not."""

    scene: str
    frames: str | None = None  # "1-250:2"; None: the scene's own
    samples: int | None = None
    resolution: str | None = None  # "1920x1080"
    tiles: str = "auto"  # or "4x2"
    engine: str | None = None  # None: the scene's own
    device: str = "cpu"
    seed: int | None = None
    output: str = "render"
    video: str | None = None
    preview: str | None = None  # "every:10"
    approve: bool = False  # the preview, without asking
    watermark: bool = False  # on previews
    check: str = BY_RECORD  # or "100%" of the units, or "none"
    scripts: bool = False  # the scene's own Python
    volume_biased: bool = False
    default_camera: bool = False
    project: str | None = None  # the folder that a scene's files lie in


class Asked(Struct, frozen=True, kw_only=True):
    """The same, understood."""

    scene: Path
    output: Path
    project: Path | None
    frames: tuple[int, ...] | None
    samples: int | None
    size: tuple[int, int] | None
    tiles: tuple[int, int] | None  # columns, rows; None: as the planner thinks best
    engine: str | None
    device: str
    seed: int | None
    video: str
    preview_every: int  # 0: no preview
    approve: bool
    watermark: bool
    check_milli: int  # of the units, -1: by the providers' record
    scripts: bool
    volume_biased: bool
    default_camera: bool


def parse_wish(wish: RenderWish) -> Asked:
    """Read what was asked for.

    Raises:
        Faults: all that is wrong.
    """
    found = Collector()
    scene = Path(wish.scene)
    if scene.suffix.lower() not in SCENES:
        found.faults.append(
            refuse(
                "SCENE",
                f"{wish.scene[:200]} is no scene that Sublet renders; give a .blend, "
                "glTF (.gltf, .glb) or USD (.usd, .usda, .usdc, .usdz) file",
                code="bad_scene",
            )
        )
    asked = Asked(
        scene=scene,
        output=Path(wish.output),
        project=None if wish.project is None else Path(wish.project),
        frames=_take(found, None, parse_frames, wish.frames),
        samples=_take(found, None, _parse_samples, wish.samples),
        size=_take(found, None, _parse_size, wish.resolution),
        tiles=_take(found, None, _parse_tiles, wish.tiles),
        engine=_take(found, None, partial(_pick, "--engine", ENGINES), wish.engine),
        device=_take(found, "cpu", partial(_pick, "--device", DEVICES), wish.device),
        seed=_take(found, None, _parse_seed, wish.seed),
        video=_take(found, "", partial(_pick, "--video", VIDEOS), wish.video),
        preview_every=_take(found, 0, _parse_every, wish.preview),
        approve=wish.approve,
        watermark=wish.watermark,
        check_milli=_take(found, BY_RECORD_MILLI, _parse_check, wish.check),
        scripts=wish.scripts,
        volume_biased=wish.volume_biased,
        default_camera=wish.default_camera,
    )
    found.check()
    return asked


def _take(
    found: Collector, default: T, parse: Callable[[Typed], T], typed: Typed | None
) -> T:
    return default if typed is None else found.take(default, parse, typed)


def _pick(field: str, known: tuple[str, ...], text: str) -> str:
    if text not in known:
        raise refuse(
            field, f"{text[:40]!r} is none of {', '.join(known)}", code="unknown_word"
        )
    return text


def _parse_samples(count: int) -> int:
    if not 1 <= count <= limits.RENDER_SAMPLES_MAX:
        raise _out_of_range("--samples", count, 1, limits.RENDER_SAMPLES_MAX)
    return count


def _parse_seed(seed: int) -> int:
    if not 0 <= seed <= limits.RENDER_SEED_MAX:
        raise _out_of_range("--seed", seed, 0, limits.RENDER_SEED_MAX)
    return seed


def _parse_size(text: str) -> tuple[int, int]:
    match = _SIZE.match(text)
    if match is None:
        raise refuse(
            "--resolution", f"{text[:40]!r} is not like 1920x1080", code="bad_size"
        )
    width, height = int(match[1]), int(match[2])
    for side in (width, height):
        if not 1 <= side <= limits.PICTURE_SIDE_MAX:
            raise _out_of_range("--resolution", side, 1, limits.PICTURE_SIDE_MAX)
    return width, height


def _parse_tiles(text: str) -> tuple[int, int] | None:
    if text == "auto":
        return None
    match = _SIZE.match(text)
    if match is None or not (int(match[1]) and int(match[2])):
        raise refuse("--tiles", f"{text[:40]!r} is not auto or 4x2", code="bad_tiles")
    return int(match[1]), int(match[2])


def _parse_every(text: str) -> int:
    match = _EVERY.match(text)
    if match is None or not int(match[1]):
        raise refuse(
            "--preview", f"{text[:40]!r} is not like every:10", code="bad_preview"
        )
    return int(match[1])


def _parse_check(text: str) -> int:
    if text in (BY_RECORD, "none"):
        return BY_RECORD_MILLI if text == BY_RECORD else 0
    match = _PART.match(text)
    if match is None or float(match[1]) > 100:
        raise refuse(
            "--check",
            f"{text[:40]!r} is not {BY_RECORD}, none or a share of the units like 25%",
            code="bad_check",
        )
    return round(float(match[1]) * 10)


def _out_of_range(field: str, value: int, least: int, most: int) -> Refused:
    return refuse(
        field, f"{value} is not between {least} and {most}", code="out_of_range"
    )
