"""Renders for the verification benchmark: run by a Python that has ``bpy``.

``python blender.py SCENE`` reads JSON lines: frame, width, height, samples, seed, tiles
(none: the whole frame), whether to denoise, where to write; and answers each with the
CPU seconds that it took. One Blender to a process.
"""

import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np


def main() -> None:
    """Open the scene; render what is asked until nothing more comes."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # Blender talks there, from now on
    import bpy  # type: ignore[import-not-found,unused-ignore]

    bpy.ops.wm.open_mainfile(filepath=sys.argv[1], use_scripts=False)
    scene = bpy.context.scene
    scene.render.engine = "CYCLES"
    scene.render.use_compositing = scene.render.use_sequencer = False
    scene.render.threads_mode, scene.render.threads = "FIXED", 1
    scene.render.resolution_percentage = 100
    scene.render.use_persistent_data = True
    scene.cycles.device = "CPU"
    scene.cycles.use_adaptive_sampling = False
    build = f"blender {bpy.app.version_string} {bpy.app.build_hash.decode()}"
    answers.write(json.dumps({"build": build}) + "\n")
    for line in sys.stdin:
        asked = json.loads(line)
        began_s = time.process_time()
        pictures = render(bpy, asked)
        spent_s = time.process_time() - began_s
        np.savez(asked["output"], *pictures)
        answers.write(json.dumps({"cpu_s": spent_s}) + "\n")


def render(bpy: Any, asked: dict[str, Any]) -> list[Any]:
    """Render a frame, or tiles of it one after the other."""
    scene = bpy.context.scene
    width, height = asked["width"], asked["height"]
    scene.render.resolution_x, scene.render.resolution_y = width, height
    scene.cycles.samples, scene.cycles.seed = asked["samples"], asked["seed"]
    scene.cycles.use_denoising = asked["denoise"]
    scene.frame_set(asked["frame"])
    pictures = []
    for tile in asked["tiles"] or [None]:
        border = scene.render
        border.use_border = border.use_crop_to_border = tile is not None
        if tile is not None:
            left, top, right, bottom = tile
            border.border_min_x = (left + 0.25) / width
            border.border_max_x = (right + 0.25) / width
            border.border_min_y = (height - bottom + 0.25) / height
            border.border_max_y = (height - top + 0.25) / height
        pictures.append(render_once(bpy))
    return pictures


def render_once(bpy: Any) -> Any:
    """Render, and read the pixels back by way of a file, as Blender itself does."""
    scene = bpy.context.scene
    with tempfile.TemporaryDirectory() as folder:
        place = str(Path(folder) / "picture.exr")
        image = scene.render.image_settings
        if hasattr(image, "media_type"):  # since 5.0
            image.media_type = "IMAGE"
        image.file_format, image.color_mode = "OPEN_EXR", "RGBA"
        image.color_depth, image.exr_codec = "32", "NONE"
        scene.render.use_file_extension = False
        scene.render.filepath = place
        bpy.ops.render.render(write_still=True)
        read = bpy.data.images.load(place)
        width, height = read.size
        pixels = np.empty(width * height * 4, np.float32)
        read.pixels.foreach_get(pixels)
        bpy.data.images.remove(read)
        return pixels.reshape(height, width, 4)[::-1].copy()


if __name__ == "__main__":
    main()
