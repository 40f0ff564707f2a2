"""Is a picture that was cut and joined again the picture of one machine? On real scenes.

Each scene is rendered whole by one warm worker, then in tiles of 2 by 2, 3 by 1 and 16 by
16, and in four ranges of samples (the .blend files, which do not sample adaptively), by
the same; the parts are read as a tenant reads them
and joined. *equal* is the share of pixels that have the same bits. *cost* is the seconds
of the parts' render calls to the whole frame's: it says what cutting costs, and on a
busy machine little.

Scenes: the ``.blend`` files, one USD and one glTF file of ``SCENES=FOLDER``, or of
``../shared/data/scenes`` beside this repository. ``SIZE=96x54 SAMPLES=4 GRIDS=2x2``
runs less. One thread each.
"""

import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from msgspec import Struct

from benchmarks.rig.frame import ROOT, close, console, show
from sublet.core.render.picture import Picture
from sublet.core.render.tile import merge_frame, split_picture, split_samples
from sublet.core.render.unit import Recipe, Unit
from tests.rig.render_box import BUILD, RenderBox

FRAME = 5
RANGES = 4
OTHERS = ("usd_teapot/Teapot.usd", "kenney_platformer/character.glb")


class Line(Struct):
    """What one scene came to."""

    name: str
    whole_s: float
    equal: dict[str, float]  # by cut: share of pixels with equal bits
    cost: dict[str, float]  # by cut: seconds to the whole frame's
    furthest: float = 0.0  # of sample ranges: largest difference of a value


def find_folder() -> Path | None:
    """Find the scenes; None where there are none."""
    places = [Path(os.environ["SCENES"])] if "SCENES" in os.environ else []
    # A worktree may lie beside the repository's own folder, or where it likes.
    places += [ROOT.parent / "shared/data/scenes", Path("../shared/data/scenes")]
    return next((each for each in places if (each / "blend").is_dir()), None)


def compare(box: RenderBox, recipe: Recipe, grids: Sequence[tuple[int, int]]) -> Line:
    """Render one scene whole and in parts."""
    whole, report = box.render(recipe, Unit(frame=FRAME))
    line = Line(name=recipe.scene, whole_s=report.seconds, equal={}, cost={})
    for columns, rows in grids:
        tiles = split_picture(
            width=recipe.width, height=recipe.height, columns=columns, rows=rows
        )
        units = [Unit(frame=FRAME, tile=tile) for tile in tiles]
        _join(box, recipe, units, whole, line, name=f"{columns}x{rows}")
    if recipe.default_camera:  # an importer's scene samples adaptively
        return line
    parts = split_samples(samples=recipe.samples, parts=min(RANGES, recipe.samples))
    units = [Unit(frame=FRAME, samples=part) for part in parts]
    merged = _join(box, recipe, units, whole, line, name="samples")
    line.furthest = float(np.abs(merged - whole).max())
    return line


def _join(
    box: RenderBox,
    recipe: Recipe,
    units: Sequence[Unit],
    whole: Picture,
    line: Line,
    *,
    name: str,
) -> Picture:
    done, seconds = [], 0.0
    for unit in units:
        picture, report = box.render(recipe, unit)
        done.append((unit, picture))
        seconds += report.seconds
    merged = merge_frame(done, recipe)
    bits, theirs = merged.view(np.uint32), whole.view(np.uint32)
    line.equal[name] = float((bits == theirs).all(axis=2).mean())
    line.cost[name] = seconds / line.whole_s
    return merged


def find_scenes(folder: Path) -> list[str]:
    """Name the scenes of a folder."""
    blends = sorted(path.relative_to(folder) for path in folder.glob("blend/*.blend"))
    return [str(path) for path in blends] + [
        name for name in OTHERS if (folder / name).is_file()
    ]


def main() -> None:
    """Render every scene, and compare."""
    folder = find_folder()
    if folder is None:
        console.print(
            "the scenes are not here: give SCENES=FOLDER, a folder with blend/*.blend"
        )
        sys.exit(2)
    width, height = map(int, os.environ.get("SIZE", "160x90").split("x"))
    wanted = os.environ.get("GRIDS", "2x2,3x1,16x16").split(",")
    grids = [(int(x), int(y)) for x, y in (grid.split("x") for grid in wanted)]
    lines: list[Line] = []
    with TemporaryDirectory() as made:
        inputs = Path(made, "inputs")
        shutil.copytree(folder, inputs)
        inputs.chmod(0o755)
        for name in find_scenes(inputs):
            recipe = Recipe(
                scene=name,
                root="0x" + "0" * 64,
                build=BUILD,
                engine="cycles",
                device="cpu",
                width=width,
                height=height,
                samples=int(os.environ.get("SAMPLES", "16")),
                seed=0,
                default_camera=name in OTHERS,
            )
            place = Path(made, f"box{len(lines)}")
            shutil.copytree(inputs, place)
            with RenderBox(place) as box:
                lines.append(compare(box, recipe, grids))
            done = lines[-1]
            shares = ", ".join(
                f"{cut} {share:.4f}" for cut, share in done.equal.items()
            )
            console.print(f"{name}: equal {shares}", soft_wrap=True)
    tell(lines, width=width, height=height)


def tell(lines: Sequence[Line], *, width: int, height: int) -> None:
    """Show the table and the result."""
    cuts = list(lines[0].equal)
    show(
        f"share of equal pixels, and cost to one whole frame, {width} by {height}",
        ["scene", "whole s", *cuts, *(f"{cut} cost" for cut in cuts), "furthest"],
        [
            (
                Path(line.name).name,
                f"{line.whole_s:.1f}",
                *(
                    f"{line.equal[cut]:.4f}" if cut in line.equal else ""
                    for cut in cuts
                ),
                *(f"{line.cost[cut]:.2f}" if cut in line.cost else "" for cut in cuts),
                f"{line.furthest:.1e}",
            )
            for line in lines
        ],
    )
    tiles = [cut for cut in cuts if cut != "samples"]
    ranged = [line for line in lines if "samples" in line.equal]
    equal = [all(line.equal[cut] == 1.0 for cut in tiles) for line in lines]
    close(
        "render_exact",
        scenes=len(lines),
        equal_scenes_share=sum(equal) / len(equal),
        sample_ranges_equal_share=sum(x.equal["samples"] for x in ranged)
        / max(len(ranged), 1),
        sample_ranges_furthest_ppm=max(x.furthest for x in lines) * 1_000_000,
    )


if __name__ == "__main__":
    main()
