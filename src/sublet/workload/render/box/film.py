"""A video of frames, and one sheet with all of them: from PNG files.

A program: ``python -m …box.film REQUEST ANSWER`` in a sandbox with bpy. Blender's own
encoder writes H.264 in MP4. No scene is opened.
"""

import json
import os
import sys
from typing import Any

from sublet.workload.render.box.drawing import draw_sheet, read_pixels, write_pixels


def encode(request: dict[str, Any], target: str) -> None:
    """Write the video. H.264 wants even sides: an odd last row or column is cut."""
    import bpy

    bpy.ops.wm.read_factory_settings(use_empty=True)
    scene = bpy.context.scene
    files = request["files"]
    first = bpy.data.images.load(files[0])
    width, height = first.size
    render = scene.render
    render.resolution_x, render.resolution_y = width // 2 * 2, height // 2 * 2
    render.resolution_percentage = 100
    fps = request["fps"]
    render.fps = max(1, min(32_767, round(fps)))
    render.fps_base = render.fps / fps
    scene.frame_start, scene.frame_end = 1, len(files)
    # The frames are as a screen shows them: nothing is to be done to them again.
    scene.view_settings.view_transform = "Standard"
    scene.sequencer_colorspace_settings.name = "sRGB"
    editor = scene.sequence_editor_create()
    for number, file in enumerate(files, start=1):
        editor.strips.new_image(
            name=str(number),
            filepath=file,
            channel=1,
            frame_start=number,
            fit_method="ORIGINAL",
        )
    render.use_sequencer, render.use_compositing = True, False
    settings = render.image_settings
    settings.media_type, settings.file_format = "VIDEO", "FFMPEG"
    settings.color_mode = "RGB"
    video = render.ffmpeg
    video.format, video.codec = "MPEG4", "H264"
    video.constant_rate_factor = request["quality"]
    video.ffmpeg_preset = "GOOD"
    video.audio_codec = "NONE"
    render.use_file_extension = False
    render.filepath = target
    bpy.ops.render.render(animation=True)


def main() -> None:
    """Read the request, write what it asks for and the answer."""
    with open(sys.argv[1], encoding="utf-8") as file:
        request = json.load(file)
    folder = os.path.dirname(sys.argv[2])
    fault = ""
    try:
        if request["has_video"]:
            encode(request, os.path.join(folder, "video.mp4"))
        if request["sheet_files"]:
            width = request["sheet_width"]
            files = request["sheet_files"]
            frames = [read_pixels(file, width=width) for file in files]
            sheet = draw_sheet(frames, columns=request["sheet_columns"])
            write_pixels(sheet, os.path.join(folder, "sheet.jpg"))
    except (ValueError, OSError, RuntimeError) as error:
        fault = " ".join(str(error).split())[:500] or type(error).__name__
    with open(sys.argv[2], "w", encoding="utf-8", errors="backslashreplace") as file:
        json.dump({"fault": fault}, file)
    sys.stdout.flush()
    os._exit(0)  # taking Blender down in order may crash


if __name__ == "__main__":
    main()
