"""From merged pictures to what the artist gets: once, on the tenant's own machine.

``post_frames`` runs the scene's denoiser and compositor over merged pictures and
writes EXR, PNG and previews; ``make_film`` makes a video and a sheet with all frames.
All of it in the sandbox (``chamber``): a compositor is a part of a stranger's scene.
What is not here: the merge (``core.render``), sound, file output nodes, stamps.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from msgspec import Meta, Struct

from sublet.base.errors import Refused
from sublet.service.ports import Bind, Sandbox
from sublet.workload.render.chamber import Limits, run_program
from sublet.workload.render.tracing import Project
from sublet.workload.run.wish import refuse

FILE_BYTES_MAX = 1 << 34  # one picture or video that comes out
FRAMES_MAX = 10_000  # of one call
FPS_MAX = 1_000
QUALITIES = {"high": "HIGH", "medium": "MEDIUM", "low": "LOW"}
SHEET_WIDTH = 240  # pixels of one frame in a sheet
SHEET_FRAMES_MAX = 256  # more are thinned out evenly
_PICTURES = "/job/pictures"


class Picture(Struct, frozen=True):
    """A merged picture of one frame: float EXR, all of it."""

    frame: int
    path: Path


class PostWish(Struct, frozen=True, kw_only=True):
    """What is to be made of pictures."""

    width: int
    height: int
    denoises: bool = True  # where the scene says so, and no unit has done it
    has_exr: bool = True
    has_png: bool = True
    preview_width: int = 0  # pixels; 0: no previews
    has_watermark: bool = False  # on previews
    has_scripts: bool = False  # may the scene's own Python run, in there


class Posted(Struct, frozen=True):
    """The files of one frame; None for what was not asked for."""

    frame: int
    exr: Path | None
    png: Path | None
    preview: Path | None


class _Answer(Struct, frozen=True, forbid_unknown_fields=True):
    fault: Annotated[str, Meta(max_length=500)]


async def post_frames(
    project: Project,
    pictures: Sequence[Picture],
    *,
    wish: PostWish,
    folder: Path,
    takes: Limits = Limits(),  # noqa: B008  # frozen
    sandbox: Sandbox | None = None,
) -> tuple[Posted, ...]:
    """Finish pictures as the scene says; the files are whole when they appear.

    Args:
        project: the scene and its folder.
        pictures: merged, each frame once.
        wish: what is to be made.
        folder: for the files: FRAME.exr, FRAME.png, FRAME.jpg.
        takes: of this machine.
        sandbox: bubblewrap by default.

    Raises:
        Refused: the scene wants what the pictures do not hold, or took too much.
        Unavailable: no Blender or no sandbox here.
    """
    if not pictures:
        return ()
    _check_count(len(pictures))
    binds, places = _show([each.path for each in pictures])
    frames = [
        {"frame": each.frame, "picture": place}
        for each, place in zip(pictures, places, strict=True)
    ]
    request = {
        "scene": project.scene,
        "frames": frames,
        **{name: getattr(wish, name) for name in wish.__struct_fields__},
    }
    wanted = [("exr", wish.has_exr), ("png", wish.has_png)]
    wanted.append(("jpg", bool(wish.preview_width)))
    posted = []
    async with run_program(
        "post", request, reads=(*project.binds, *binds), limits=takes, sandbox=sandbox
    ) as chamber:
        _check_answer(chamber.read_answer(_Answer))
        for number, each in enumerate(pictures):
            taken = [
                chamber.take_file(
                    f"{number}.{ending}",
                    folder / f"{each.frame:04}.{ending}",
                    bytes_max=FILE_BYTES_MAX,
                )
                if is_wanted
                else None
                for ending, is_wanted in wanted
            ]
            posted.append(Posted(each.frame, *taken))
    return tuple(posted)


async def make_film(
    pictures: Sequence[Path],
    *,
    fps: float,
    folder: Path,
    has_video: bool = True,
    sheet_columns: int = 0,
    quality: str = "high",
    takes: Limits = Limits(),  # noqa: B008  # frozen
    sandbox: Sandbox | None = None,
) -> tuple[Path | None, Path | None]:
    """Make a video and a sheet of frames, in their order.

    Args:
        pictures: PNG files of one size.
        fps: frames a second.
        folder: for the files: video.mp4, sheet.jpg.
        has_video: whether there is to be a video.
        sheet_columns: of the sheet; 0: no sheet.
        quality: of the video: high, medium, low.
        takes: of this machine.
        sandbox: bubblewrap by default.

    Returns:
        The video and the sheet; None for what was not asked for.

    Raises:
        Refused: no pictures, too many, or none of them can be read.
        Unavailable: no Blender or no sandbox here.
    """
    if not pictures or not 0 < fps <= FPS_MAX or quality not in QUALITIES:
        raise refuse(
            "--video",
            f"wants at least one frame, up to {FPS_MAX} frames a second, and a quality "
            f"of {', '.join(QUALITIES)}",
            code="bad_video",
        )
    _check_count(len(pictures))
    binds, places = _show(pictures)
    step = -(-len(places) // SHEET_FRAMES_MAX)
    request = {
        "files": places,
        "fps": fps,
        "quality": QUALITIES[quality],
        "has_video": has_video,
        "sheet_files": places[::step] if sheet_columns else [],
        "sheet_columns": sheet_columns,
        "sheet_width": SHEET_WIDTH,
    }
    wanted = (("video.mp4", has_video), ("sheet.jpg", bool(sheet_columns)))
    async with run_program(
        "film", request, reads=binds, limits=takes, sandbox=sandbox
    ) as chamber:
        _check_answer(chamber.read_answer(_Answer))
        video, sheet = (
            chamber.take_file(name, folder / name, bytes_max=FILE_BYTES_MAX)
            if is_wanted
            else None
            for name, is_wanted in wanted
        )
    return video, sheet


def _check_count(count: int) -> None:
    if count > FRAMES_MAX:
        raise refuse(
            "--frames",
            f"{count} frames are more than {FRAMES_MAX} at one time; do it in parts",
            code="too_many_frames",
        )


def _show(paths: Sequence[Path]) -> tuple[tuple[Bind, ...], list[str]]:
    """Show the folders of pictures inside; give where each picture is there."""
    folders = dict.fromkeys(path.resolve().parent for path in paths)
    inside = {folder: f"{_PICTURES}/{n}" for n, folder in enumerate(folders)}
    binds = tuple(Bind(str(folder), place) for folder, place in inside.items())
    places = [
        f"{inside[path.resolve().parent]}/{path.resolve().name}" for path in paths
    ]
    return binds, places


def _check_answer(answer: _Answer) -> None:
    if answer.fault:
        raise Refused(
            f"SCENE: the pictures cannot be finished: {answer.fault}. Render whole "
            "frames where a compositor takes passes, or turn it off and use it on the "
            "EXR files afterwards",
            code="bad_post",
            field="SCENE",
        )
