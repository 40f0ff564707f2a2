"""Copies of .blend files whose absolute paths into the project became relative ones.

A program: ``python -m …box.relink REQUEST ANSWER`` in the same sandbox as ``trace``.
Nothing else in a file is changed; scripts stay off, whatever the job allows.
"""

import json
import os
import sys
from typing import Any

from sublet.workload.render.box.opening import open_scene


def make_relative(path: str, *, roots: list[str], root: str, folder: str) -> str:
    """Give a path as Blender writes it from a folder; "" where it stays as it is.

    Args:
        path: of Blender's.
        roots: how the project's folder may be spelt.
        root: how it is spelt here.
        folder: of the .blend that holds the path.

    >>> make_relative("/a/t.png", roots=["/a"], root="/b", folder="/b/shot")
    '//../t.png'
    """
    if path.startswith("//") or not path.startswith("/"):
        return ""
    for each in roots:
        if path.startswith(each.rstrip("/") + "/"):
            place = root + path[len(each.rstrip("/")) :]
            return "//" + os.path.relpath(place, folder)
    return ""


def relink(path: str, target: str, *, roots: list[str], root: str) -> int:
    """Write the copy of one file; say how many paths were changed.

    Raises:
        ValueError: Blender does not open it.
    """
    open_scene(path, has_scripts=False)
    import bpy

    folder = os.path.dirname(path)
    changed = 0

    def visit(owner: Any, old: str, _: Any) -> str | None:
        nonlocal changed
        is_library = type(owner).__name__ == "Library"
        if (owner.parent if is_library else owner.library) is not None:
            return None  # it stands in another file
        new = make_relative(old, roots=roots, root=root, folder=folder)
        changed += bool(new)
        return new or None

    # No flags: also files that are packed may be unpacked again, one day.
    bpy.data.file_path_foreach(visit, flags=set())
    for owner in bpy.data.objects:
        for modifier in owner.modifiers:
            if modifier.type == "NODES" and modifier.bake_directory:
                new = visit(owner, modifier.bake_directory, None)
                if new:
                    modifier.bake_directory = new
    bpy.ops.wm.save_as_mainfile(
        filepath=target, copy=True, relative_remap=False, compress=True
    )
    return changed


def main() -> None:
    """Read the request, write the copies and the answer."""
    with open(sys.argv[1], encoding="utf-8") as file:
        request = json.load(file)
    fault, changed = "", []
    folder = os.path.dirname(sys.argv[2])
    try:
        for number, path in enumerate(request["files"]):
            target = os.path.join(folder, f"{number}.blend")
            known = {"roots": request["roots"], "root": request["root"]}
            changed.append(relink(path, target, **known))
    except (ValueError, OSError, RuntimeError) as error:
        fault = str(error)[:500] or type(error).__name__
    with open(sys.argv[2], "w", encoding="utf-8", errors="backslashreplace") as file:
        json.dump({"fault": fault, "changed": changed}, file)
    sys.stdout.flush()
    os._exit(0)  # taking Blender down in order may crash


if __name__ == "__main__":
    main()
