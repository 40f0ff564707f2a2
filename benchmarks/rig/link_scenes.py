"""Makes linked scenes out of real ones, and renders them to see what is opened.

A program: ``link_scenes.py make SCENE FOLDER`` unpacks a scene's textures into
``FOLDER/assets``, links it into a set, and the set into ``FOLDER/shots/shot.blend``, two
libraries deep. ``link_scenes.py render SCENE`` renders each frame of up to three, tiny.
"""

import os
import sys
from pathlib import Path

import bpy

FRAMES_MAX = 3


def save(path: Path) -> None:
    """Save with relative paths."""
    path.parent.mkdir(parents=True, exist_ok=True)
    bpy.ops.wm.save_as_mainfile(filepath=str(path), compress=True)
    bpy.ops.file.make_paths_relative()
    bpy.ops.wm.save_mainfile(compress=True)


def unpack(folder: Path) -> None:
    """Write each packed picture beside the library that holds it."""
    for number, picture in enumerate(bpy.data.images):
        if not picture.packed_file:
            continue
        kind = picture.file_format.lower()
        place = folder / "tex" / f"{number:02}.{'jpg' if kind == 'jpeg' else kind}"
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(picture.packed_file.data)
        picture.filepath = str(place)
        picture.unpack(method="REMOVE")


def link(path: Path, name: str) -> None:
    """Instance a collection of another file."""
    with bpy.data.libraries.load(str(path), link=True) as (_, wanted):
        wanted.collections = [name]
    held = bpy.data.objects.new(name, None)
    held.instance_type, held.instance_collection = (
        "COLLECTION",
        bpy.data.collections[name],
    )
    bpy.context.scene.collection.objects.link(held)


def collect(name: str) -> None:
    """Put everything but cameras into one collection."""
    found = bpy.data.collections.new(name)
    for each in bpy.context.scene.objects:
        if each.type != "CAMERA":
            found.objects.link(each)
    bpy.context.scene.collection.children.link(found)


def make(scene: Path, folder: Path) -> None:
    """Write library, set and shot."""
    bpy.ops.wm.open_mainfile(filepath=str(scene), load_ui=False)
    unpack(folder / "assets")
    collect("Assets")
    save(folder / "assets/assets.blend")
    bpy.ops.wm.read_factory_settings(use_empty=True)
    link(folder / "assets/assets.blend", "Assets")
    collect("Set")
    save(folder / "sets/set.blend")
    bpy.ops.wm.read_factory_settings(use_empty=True)
    link(folder / "sets/set.blend", "Set")
    now = bpy.context.scene
    now.camera = bpy.data.objects.new("Cam", bpy.data.cameras.new("Cam"))
    now.camera.location, now.camera.rotation_euler = (0, -14, 8), (1.1, 0, 0)
    now.collection.objects.link(now.camera)
    now.render.engine, now.frame_end = "CYCLES", 1
    save(folder / "shots/shot.blend")


def render(scene: Path) -> None:
    """Render, so that everything is opened that a picture needs."""
    bpy.ops.wm.open_mainfile(filepath=str(scene), load_ui=False)
    now = bpy.context.scene
    now.render.resolution_x, now.render.resolution_y = 32, 18
    now.render.resolution_percentage = 100
    now.cycles.samples, now.cycles.use_denoising = 1, False
    for frame in range(now.frame_start, min(now.frame_end, FRAMES_MAX) + 1):
        now.frame_set(frame)
        bpy.ops.render.render()


if __name__ == "__main__":
    if sys.argv[1] == "make":
        make(Path(sys.argv[2]), Path(sys.argv[3]))
    else:
        render(Path(sys.argv[2]))
    sys.stdout.flush()
    os._exit(0)
