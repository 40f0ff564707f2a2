"""Measures what a scene's frames take: two small renders of one frame, one JSON answer.

A program: ``python -m …box.measure REQUEST ANSWER`` in a sandbox with bpy, on the
tenant's machine. The request has two recipes, the second with more samples; the answer
says what each took in seconds, the first time that a scene is opened left out.
"""

import importlib
import json
import os
import sys
from typing import Any


def measure(request: dict[str, Any]) -> dict[str, Any]:
    """Render both, after one that is not counted; say what went wrong, if anything."""
    # The engine finds its neighbours as on a worker: beside it.
    sys.path.append(os.path.dirname(os.path.abspath(__file__)))
    module = importlib.import_module("engine_blender")
    os.chdir(request["folder"])
    engine = module.Engine()
    unit = {"frame": request["frame"], "tile": None, "samples": None}
    seconds = []
    try:
        for recipe in (request["recipes"][0], *request["recipes"]):
            _, used = engine.render(recipe, unit, lambda share, text: None)
            seconds.append(used["seconds"])
    except module.Fault as fault:
        return {"fault": f"{fault.code}: {fault}"[:500], "seconds": []}
    return {"fault": "", "seconds": seconds[1:]}


def main() -> None:
    """Answer a request."""
    with open(sys.argv[1], encoding="utf-8") as file:
        request = json.load(file)
    answer = measure(request)
    with open(sys.argv[2], "w", encoding="utf-8") as file:
        json.dump(answer, file)


if __name__ == "__main__":
    main()
