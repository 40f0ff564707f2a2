"""How surely are forged renders caught, and honest ones let through, at what cost?

Real pictures by Blender: each frame of eight scenes is a unit, rendered by two kernels
of Cycles (``CYCLES_CPU_NO_AVX2=1`` stands for another machine) and forged in every way
that a worker might try. Then units are tried as the market does it: the forger commits
to its hash, five probes are drawn from a secret, another provider's pixels decide. Each
unit is tried with DRAWS secrets. By a checker of the forger's own kernel class, and of
the other: *other kernel* (a CPU that says it is another machine) hides within the 1 %
that classes are allowed, and is told by equality alone. So does another Blender whose
picture is the same but for a few roundings, *other build, alike*: it has a row of its
own, and does not count, for nothing was forged that anybody could see.

That a probe rendered alone equals those pixels of the frame, bit for bit, is checked on
each scene; its cost is measured there, too, at COST_WIDTH: all probes of a unit in one
warm process that had another frame before, beside the whole frame, in CPU seconds.

Environment: FRAMES of each scene, WIDTH, SAMPLES, COST_WIDTH, COST_SAMPLES and DRAWS for
less; SCENES, the folder of scenes; BPY_PYTHON, a Python with bpy; OTHER_BPY_PYTHON, one
with another Blender (without it that forgery is left out).
"""

import json
import os
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.rig.frame import ROOT, close, percentile, scratch, show
from sublet.core.render.compare import CLOSE, EQUAL, Finding, compare, find_off
from sublet.core.render.picture import Picture, hash_pixels
from sublet.core.render.probe import SALT_BYTES, draw_probes, make_seed
from sublet.core.render.rate import compute_extra_ppm
from sublet.core.render.tile import crop
from sublet.core.render.unit import Recipe, Unit

FRAMES = int(os.environ.get("FRAMES", "25"))  # of each of the eight scenes
WIDTH = int(os.environ.get("WIDTH", "96"))
SAMPLES = int(os.environ.get("SAMPLES", "8"))
COST_WIDTH = int(os.environ.get("COST_WIDTH", "240"))
COST_SAMPLES = int(os.environ.get("COST_SAMPLES", "32"))
DRAWS = int(os.environ.get("DRAWS", "10"))
SCENES = Path(os.environ.get("SCENES", ROOT.parent / "shared/data/scenes"))
BPY_PYTHON = os.environ.get("BPY_PYTHON", sys.executable)
OTHER_BPY_PYTHON = os.environ.get("OTHER_BPY_PYTHON", "")
RENDERER = Path(__file__).parent / "rig/blender.py"  # with bpy alone, and not here
STILL = 0.01  # share of pixels of which no more are off: these frames show the same
FORGED_EVERY = 2  # units of which forgeries are rendered, too
PROVIDERS = 4  # that share the job whose cost is told
PROBED_FRAMES = (1, 9)  # of each scene, on which probes are rendered for real
BY_EQUALITY_ALONE = ("other kernel",)
UNCOUNTED = ("other build, alike",)


class Blender:
    """One warm Blender process with one scene."""

    def __init__(self, python: str, scene: Path, folder: Path, **env: str) -> None:
        """Start it, and wait until the scene is open."""
        self._output = folder / f"{id(self)}.npz"
        self._process = subprocess.Popen(
            [python, str(RENDERER), str(scene)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env={**os.environ, **env},
        )
        self.build = str(self._read()["build"])

    def render(self, frame: int, **rest: Any) -> tuple[list[Picture], float]:
        """Render; give the pictures and the CPU seconds."""
        width = rest.pop("width", WIDTH)
        asked = {"samples": SAMPLES, "seed": 0, "denoise": False, "tiles": []}
        asked |= {"frame": frame, "width": width, "height": width * 9 // 16}
        asked |= {"output": str(self._output)} | rest
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(asked) + "\n")
        self._process.stdin.flush()
        spent_s = float(self._read()["cpu_s"])
        with np.load(self._output) as held:
            return [held[f"arr_{number}"] for number in range(len(held))], spent_s

    def one(self, frame: int, **rest: Any) -> Picture:
        """Render one picture."""
        return self.render(frame, **rest)[0][0]

    def close(self) -> None:
        """End it."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()

    def _read(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit("Blender ended; is bpy there? Name a Python: BPY_PYTHON")
        found: dict[str, Any] = json.loads(line)
        return found


def main() -> None:
    """Render, forge, try, tell."""
    alarms: list[bool] = []  # of honest units, other class
    shares: list[tuple[float, float]] = []  # of honest ones: all probes, the worst
    caught: dict[tuple[str, str], list[bool]] = defaultdict(list)
    weakest: dict[str, list[float]] = defaultdict(list)
    costs_ppm: list[float] = []
    alike = units = 0
    with scratch() as name:
        for scene in find_scenes(Path(name)):
            print(f"{scene.stem} …", flush=True)
            rendered = render_scene(scene, Path(name))
            first, second, forged, costs, equal = rendered
            units += len(first)
            alike += equal
            costs_ppm += costs
            for frame, picture in first.items():
                for one, other in ((picture, second[frame]), (second[frame], picture)):
                    for found in try_unit(frame, one, other, rule=CLOSE):
                        alarms.append(not found.is_same)
                        shares.append((found.off_ppm / 1e6, found.worst_ppm / 1e6))
            for (cheat, frame), picture in forged.items():
                for rule, truth in ((EQUAL, first[frame]), (CLOSE, second[frame])):
                    for found in try_unit(frame, picture, truth, rule=rule):
                        caught[cheat, rule].append(not found.is_same)
                        if rule == CLOSE:
                            weakest[cheat].append(found.off_ppm / 1e6)
    tell(caught, weakest, shares)
    probe_ppm = int(sum(costs_ppm) / len(costs_ppm))
    extra_ppm = compute_extra_ppm(units=units, providers=PROVIDERS, probe_ppm=probe_ppm)
    counted = [
        sum(hits) / len(hits)
        for (cheat, rule), hits in caught.items()
        if cheat not in UNCOUNTED and (rule == EQUAL or cheat not in BY_EQUALITY_ALONE)
    ]
    print(
        f"{units} honest units, {len(alarms)} trials; probes equal to their frames, bit"
        f" for bit: {alike}; all probes of a unit cost {probe_ppm / 1e4:.1f} % of it"
    )
    close(
        "render_verify",
        caught_min=min(counted),
        false_alarms=sum(alarms) / len(alarms),
        extra_cost=extra_ppm / 1e6,
    )


def find_scenes(folder: Path) -> list[Path]:
    """Give the scenes; two more are made by the script that made some of them."""
    maker = SCENES / "render_make_scenes.py"
    if maker.exists():
        subprocess.run(
            [BPY_PYTHON, str(maker), str(folder)], check=True, capture_output=True
        )
    made = [*folder.glob("own_forest*.blend"), *folder.glob("own_smoke*.blend")]
    found = sorted([*(SCENES / "blend").glob("*_b50.blend"), *made])
    if not found:
        raise SystemExit(f"no scenes in {SCENES}; name their folder: SCENES")
    return found


Rendered = tuple[
    dict[int, Picture],
    dict[int, Picture],
    dict[tuple[str, int], Picture],
    list[float],
    int,
]


def render_scene(scene: Path, folder: Path) -> Rendered:
    """Render a scene honestly by two kernels, and forge every second unit of it."""
    frames = range(1, FRAMES + 1)
    machines = [
        Blender(BPY_PYTHON, scene, folder),
        Blender(BPY_PYTHON, scene, folder, CYCLES_CPU_NO_AVX2="1"),
    ]
    if OTHER_BPY_PYTHON:
        machines.append(Blender(OTHER_BPY_PYTHON, scene, folder))
    with ThreadPoolExecutor(len(machines)) as pool:
        own = pool.submit(render_own, machines[0], frames)
        others = [pool.submit(render_all, one, frames) for one in machines[1:]]
        first, forged, costs, equal = own.result()
        second, *builds = [one.result() for one in others]
    for machine in machines:
        machine.close()
    for frame in list(frames)[::FORGED_EVERY]:
        forged["other kernel", frame] = second[frame]
        for number, cheat in ((1, "neighbour's frame"), (7, "wrong frame")):
            forged[cheat, frame] = first[1 + (frame - 1 + number) % FRAMES]
        for pictures in builds:
            is_alike = not is_other(pictures[frame], first[frame])
            name = "other build, alike" if is_alike else "other build"
            forged[name, frame] = pictures[frame]
    forged = {
        (cheat, frame): picture
        for (cheat, frame), picture in forged.items()
        if is_forgery(cheat, picture, first[frame])
    }
    return first, second, forged, costs, equal


def is_forgery(cheat: str, picture: Picture, truth: Picture) -> bool:
    """Say whether a picture is not the true one; where a scene stood still it may be."""
    if cheat.endswith("frame"):
        return is_other(picture, truth)
    return hash_pixels(picture) != hash_pixels(truth)


def is_other(picture: Picture, truth: Picture) -> bool:
    """Say whether people could see a difference."""
    return bool(find_off(picture, truth).mean() > STILL)


def render_all(machine: Blender, frames: Sequence[int]) -> dict[int, Picture]:
    """Render the frames."""
    return {frame: machine.one(frame) for frame in frames}


def render_own(
    machine: Blender, frames: Sequence[int]
) -> tuple[dict[int, Picture], dict[tuple[str, int], Picture], list[float], int]:
    """Render what the first kernel has to: honest frames, forgeries, probes."""
    first = render_all(machine, frames)
    forged = {}
    for frame in list(frames)[::FORGED_EVERY]:
        few = max(1, SAMPLES // 4)
        for cheat, rest in {
            "half the samples": {"samples": SAMPLES // 2},
            "90 % of the samples": {"samples": SAMPLES * 9 // 10},
            "other seed": {"seed": 1},
            "a quarter, denoised": {"samples": few, "denoise": True},
        }.items():
            forged[cheat, frame] = machine.one(frame, **rest)
    costs, equal = [], 0
    size: dict[str, Any] = {"width": COST_WIDTH, "samples": COST_SAMPLES}
    for frame in PROBED_FRAMES:
        [whole], whole_s = machine.render(frame, **size)
        probes = draw(frame, whole, number=0)
        machine.one(frame + 3)  # as a checker does: it had something else before
        tiles = [
            (one.tile.left, one.tile.top, one.tile.right, one.tile.bottom)
            for one in probes
        ]
        parts, probes_s = machine.render(frame, tiles=tiles, **size)
        costs.append(probes_s / whole_s * 1e6)
        found = compare(
            probes, [crop(whole, one.tile) for one in probes], parts, rule=EQUAL
        )
        equal += sum(not one.unequal for one in found.probes)
        if not found.is_same:  # a volume: there a checker renders the whole unit again
            costs[-1] = 1e6
    return first, forged, costs, equal


def try_unit(
    frame: int, committed: Picture, truth: Picture, *, rule: str
) -> Iterator[Finding]:
    """Try a unit with as many secrets as asked for."""
    for number in range(DRAWS):
        probes = draw(frame, committed, number=number)
        yield compare(
            probes,
            [crop(committed, one.tile) for one in probes],
            [crop(truth, one.tile) for one in probes],
            rule=rule,
        )


def draw(frame: int, picture: Picture, *, number: int) -> Any:
    """Draw the probes of a committed picture from the given secret."""
    height, width = picture.shape[:2]
    recipe = Recipe(
        scene="benchmark.blend",
        root="0x" + "00" * 32,
        build="blender",
        engine="cycles",
        device="cpu",
        width=width,
        height=height,
        samples=SAMPLES,
        seed=0,
    )
    unit = Unit(frame=frame)
    salt = number.to_bytes(SALT_BYTES, "big")
    pixels = hash_pixels(picture)
    seed = make_seed(salt=salt, recipe=recipe, unit=unit, pixels=pixels)
    return draw_probes(picture, recipe=recipe, unit=unit, seed=seed)


def tell(
    caught: dict[tuple[str, str], list[bool]],
    weakest: dict[str, list[float]],
    shares: Sequence[tuple[float, float]],
) -> None:
    """Print both tables."""
    rows = []
    for cheat in sorted({cheat for cheat, _ in caught}):
        rules = [caught[cheat, rule] for rule in (EQUAL, CLOSE)]
        rows.append(
            [
                cheat,
                *(f"{sum(hits) / len(hits):.2%}" for hits in rules),
                f"{percentile(weakest[cheat], 0.01):.4f}",
                f"{len(rules[0])}",
            ]
        )
    header = ["cheat", "caught in its class", "by the other", "off, weakest 1 %", "n"]
    show("Forged units that were caught at 5 probes", header, rows)
    points = (0.5, 0.99, 0.995, 1.0)
    rows = [
        [name, *(f"{percentile([one[n] for one in shares], at):.4f}" for at in points)]
        for n, name in enumerate(("all probes together", "the worst probe"))
    ]
    show(
        "Honest units of the other class: share of pixels off by more than 1 %",
        ["", "median", "99 %", "99.5 %", "most"],
        rows,
    )


if __name__ == "__main__":
    main()
