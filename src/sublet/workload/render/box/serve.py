"""Renders units for as long as the lease lasts: the warm program of a worker.

One JSON line per task comes on standard input, with ``data`` = ``{"recipe", "unit"}``.
Lines of progress go out, then one with the report; ``unit.exr`` is in the task's folder.
With ``"units"``, such as the probes of one unit, there is a list of reports, and
``0.exr``, ``1.exr`` … A unit that cannot be rendered ends with exit code 1 and
``{"error", "message"}``, the error a stable name. The scene lies in the work folder,
where this program is started.

What Blender and scripts print goes to standard error: the protocol has the real
standard output for itself. An engine is a module with ``Fault`` and
``Engine().render(recipe, unit, tell)``, that gives the pixels and what it used.
"""

import importlib
import json
import os
import sys
import time
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import IO, Any

BLOCK = 16  # pixels, the side of what one leaf of the hash is over
PROGRESS_S = 0.5  # between two lines of progress
TEXT_LENGTH_MAX = 200

Tell = Callable[[float, str], None]


def main() -> None:
    """Take tasks until standard input ends."""
    # Our own copy of standard output, before anything can write to it.
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    engines: dict[str, Any] = {}
    for line in sys.stdin:
        task = json.loads(line)
        code, result = run(task, engines, make_teller(out))
        write_line(out, {"done": True, "exit_code": code, "result": result})


def run(task: dict[str, Any], engines: dict[str, Any], tell: Tell) -> tuple[int, Any]:
    """Render one task's unit; gives exit code and report, or what went wrong."""
    data = task["data"]
    recipe, is_one = data["recipe"], "unit" in data
    units = [data["unit"]] if is_one else data["units"]
    name = "engine_toy" if recipe["engine"] == "toy" else "engine_blender"
    module = importlib.import_module(name)
    try:
        if name not in engines:
            engines[name] = module.Engine()
        reports = []
        for number, unit in enumerate(units):
            part = tell_part(tell, number, len(units))
            pixels, used = engines[name].render(recipe, unit, part)
            place = Path(task["output"], "unit.exr" if is_one else f"{number}.exr")
            place.write_bytes(importlib.import_module("exr").encode_exr(pixels))
            reports.append(make_report(pixels, used))
    except module.Fault as fault:
        return 1, {"error": fault.code, "message": str(fault)}
    return 0, reports[0] if is_one else reports


def make_report(pixels: Any, used: dict[str, Any]) -> dict[str, Any]:
    """Say what was rendered."""
    height, width = pixels.shape[:2]
    return {"pixels": hash_pixels(pixels), "width": width, "height": height, **used}


def tell_part(tell: Tell, number: int, count: int) -> Tell:
    """Give what a unit's progress is told to, where it is one of several."""
    return lambda share, text: tell((number + share) / count, text)


def hash_pixels(pixels: Any) -> str:
    """The root of the Merkle tree over blocks: as ``core.render.picture`` has it."""
    height, width = pixels.shape[:2]
    level = [
        sha256(b"\0" + pixels[y : y + BLOCK, x : x + BLOCK].tobytes()).digest()
        for y in range(0, height, BLOCK)
        for x in range(0, width, BLOCK)
    ]
    while len(level) > 1:
        pairs = zip(level[::2], level[1::2], strict=False)
        above = [sha256(b"\1" + left + right).digest() for left, right in pairs]
        level = above + level[len(above) * 2 :]
    return "0x" + level[0].hex()


def make_teller(out: IO[str]) -> Tell:
    """Give what an engine tells its progress to; not every word goes out."""
    last_s = 0.0

    def tell(share: float, text: str) -> None:
        nonlocal last_s
        now_s = time.monotonic()
        if now_s - last_s >= PROGRESS_S:
            last_s = now_s
            share = min(max(share, 0.0), 1.0)
            write_line(out, {"progress": share, "text": text[:TEXT_LENGTH_MAX]})

    return tell


def write_line(out: IO[str], line: dict[str, Any]) -> None:
    """Send one line of the protocol."""
    out.write(json.dumps(line) + "\n")
    out.flush()


if __name__ == "__main__":
    main()
