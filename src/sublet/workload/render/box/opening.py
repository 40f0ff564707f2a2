"""Opens a scene inside a sandbox: .blend, glTF and USD; scripts stay off unless asked.

Travels into the sandbox with the programs beside it (``trace``, ``post``). Knows
Blender and the standard library, nothing of ours.
"""

import os
import sys
from pathlib import Path

BLEND = (".blend",)
GLTF = (".gltf", ".glb")
USD = (".usd", ".usda", ".usdc", ".usdz")


def find_own_modules() -> str:
    """Name the folder of modules that bpy brings and does not put on the path."""
    import importlib.util

    spec = importlib.util.find_spec("bpy")
    places = list(spec.submodule_search_locations or ()) if spec else []
    for place in places:
        for found in Path(place).glob("*/python/lib/python3*/site-packages"):
            return str(found)
    return ""


def open_scene(path: str, *, has_scripts: bool) -> None:
    """Make a file the open scene.

    Args:
        path: absolute.
        has_scripts: may the scene's own Python run.

    Raises:
        ValueError: Blender does not open it; says what Blender said.
    """
    # Where pxr is wanted, it has to be found before bpy is loaded.
    if "bpy" not in sys.modules:
        sys.path.append(find_own_modules())
    import bpy

    ending = os.path.splitext(path)[1].lower()
    try:
        if ending in BLEND:
            bpy.ops.wm.open_mainfile(
                filepath=path, load_ui=False, use_scripts=has_scripts
            )
            return
        bpy.ops.wm.read_factory_settings(use_empty=True)
        if ending in GLTF:
            bpy.ops.import_scene.gltf(filepath=path)
        elif ending in USD:
            bpy.ops.wm.usd_import(filepath=path)
        else:
            raise ValueError("it is no .blend, glTF or USD file")
        # Importers make cameras and choose none; workers take the first by name, too.
        cameras = [each for each in bpy.data.objects if each.type == "CAMERA"]
        if cameras:
            bpy.context.scene.camera = min(cameras, key=lambda each: each.name)
    except RuntimeError as error:
        raise ValueError(" ".join(str(error).split())[:500]) from None
