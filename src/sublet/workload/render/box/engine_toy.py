"""A renderer for tests: tiny, deterministic, with the contract of the real engine.

Its scene is JSON: ``{"colour": [r, g, b], "sample_s": 0.0}``, all of it optional. Each
sample of a pixel is a random number that depends on frame, seed, the pixel's place in
the whole picture, channel and sample alone. So tiles are exact, and sample ranges too
where their counts are powers of two, since every value is a small multiple of a power
of two. The picture shows a disc that moves with the frame.
"""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

BUILD = "toy 1"
BITS = 12  # of each random number
STEPS = 64  # of light between 0 and 1
DARK = 0.125

Tell = Callable[[float, str], None]


class Fault(Exception):
    """A unit cannot be rendered; ``code`` says why."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class Engine:
    """Renders units; a scene is opened once."""

    def __init__(self) -> None:
        self.opened = ("", "")  # scene and root
        self.scene: dict[str, Any] = {}
        self.opens = 0

    def render(
        self, recipe: dict[str, Any], unit: dict[str, Any], tell: Tell
    ) -> tuple[Any, dict[str, Any]]:
        """Render one unit: its pixels, and what was used.

        Raises:
            Fault: wrong_build, wrong_device, no_scene, bad_scene.
        """
        if recipe["build"] != BUILD:
            raise Fault("wrong_build", f"this is {BUILD}, not {recipe['build']}")
        if recipe["device"] != "cpu":
            raise Fault("wrong_device", f"{BUILD} has no {recipe['device']}, only cpu")
        self._open(recipe)
        began_s = time.monotonic()
        pixels = self._draw(recipe, unit, tell)
        seconds = time.monotonic() - began_s
        used = {"device": "cpu", "kernel": "toy", "build": BUILD, "seconds": seconds}
        return pixels, used

    def _open(self, recipe: dict[str, Any]) -> None:
        key = (recipe["scene"], recipe["root"])
        if key == self.opened:
            return
        try:
            self.scene = json.loads(Path(recipe["scene"]).read_bytes())
        except OSError as error:
            raise Fault("no_scene", f"{recipe['scene']}: {error.strerror}") from None
        except ValueError as error:
            raise Fault("bad_scene", f"{recipe['scene']}: {error}") from None
        self.opened = key
        self.opens += 1

    def _draw(self, recipe: dict[str, Any], unit: dict[str, Any], tell: Tell) -> Any:
        import numpy as np

        width, height = recipe["width"], recipe["height"]
        whole = {"left": 0, "top": 0, "right": width, "bottom": height}
        tile = unit.get("tile") or whole
        part = unit.get("samples") or {"first": 0, "count": recipe["samples"]}
        y, x = np.mgrid[tile["top"] : tile["bottom"], tile["left"] : tile["right"]]
        place = ((y * width + x) * 4)[:, :, None] + np.arange(3)
        total = np.zeros(place.shape, np.uint64)
        key = [unit["frame"] & 0xFFFFFFFF, recipe["seed"]]
        for done in range(1, part["count"] + 1):
            total += _mix(place, [*key, part["first"] + done])
            time.sleep(float(self.scene.get("sample_s", 0.0)))
            tell(done / part["count"], f"Sample {done}/{part['count']}")
        middle = (unit["frame"] * 7) % width
        inside = (x - middle) ** 2 + (y - height / 2) ** 2 < (height / 3) ** 2
        colour = np.array(self.scene.get("colour", [1.0, 0.5, 0.25]))
        light = np.where(inside[:, :, None], np.rint(colour * STEPS) / STEPS, DARK)
        pixels = np.ones((*x.shape, 4), np.float32)
        pixels[:, :, :3] = (3 * light + total / (part["count"] << BITS)) / 4
        return pixels


def _mix(place: Any, key: list[int]) -> Any:
    """Random numbers of BITS bits by place and key: the mixer of SplitMix64."""
    import numpy as np

    def whole(number: int) -> Any:
        return np.uint64(number)

    mixed = place.astype(np.uint64)
    for word in key:
        mixed = mixed + whole(word) + whole(0x9E3779B97F4A7C15)
        mixed = (mixed ^ (mixed >> whole(30))) * whole(0xBF58476D1CE4E5B9)
        mixed = (mixed ^ (mixed >> whole(27))) * whole(0x94D049BB133111EB)
        mixed = mixed ^ (mixed >> whole(31))
    return mixed >> whole(64 - BITS)
