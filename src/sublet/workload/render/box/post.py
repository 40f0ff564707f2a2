"""What is done once to a whole picture: denoise, compositor, view transform, files.

A program: ``python -m …box.post REQUEST ANSWER`` in a sandbox with bpy, on the
tenant's machine. Merged pictures take the place of the render layers in the scene's
own compositor, so that Blender's own pipeline does the rest as one machine would, and
renders nothing. Without a compositor of the scene's own, a picture passes straight
through. The scene's denoiser works before the compositor, as it does in Cycles.
"""

import json
import os
import sys
from typing import Any

from sublet.workload.render.box.drawing import write_preview
from sublet.workload.render.box.facts import find_denoiser, find_layer_nodes
from sublet.workload.render.box.opening import open_scene

_COMBINED = ("Image", "Combined")  # of a plain picture, of one with passes
_PREFILTERS = {"NONE": "None", "FAST": "Fast", "ACCURATE": "Accurate"}
_QUALITIES = {"HIGH": "High", "BALANCED": "Balanced", "FAST": "Fast"}


def prepare(request: dict[str, Any]) -> Any:
    """Open the scene and put a picture in the place of what it renders; give that.

    Raises:
        ValueError: the scene cannot be opened, or wants passes that are not there.
    """
    open_scene(request["scene"], has_scripts=request["has_scripts"])
    import bpy

    scene = bpy.context.scene
    render = scene.render
    render.resolution_x, render.resolution_y = request["width"], request["height"]
    render.resolution_percentage = 100
    render.use_border, render.use_sequencer, render.use_stamp = False, False, False
    render.use_file_extension = False
    if scene.camera is None:  # Blender asks for one, though it renders nothing
        camera = bpy.data.objects.new("camera", bpy.data.cameras.new("camera"))
        scene.collection.objects.link(camera)
        scene.camera = camera
    picture = bpy.data.images.load(request["frames"][0]["picture"])
    picture.alpha_mode = "PREMUL"
    # The picture holds what the renderer wrote: it is in the working space already.
    picture.colorspace_settings.name = bpy.data.colorspace.working_space
    tree = scene.compositing_node_group if render.use_compositing else None
    if tree is None:
        tree = make_passage()
    scene.compositing_node_group = tree = make_own(tree)
    render.use_compositing = True
    denoises = request["denoises"] and find_denoiser(scene)
    for node in list(find_layer_nodes(tree)):
        replace_node(node, picture, denoiser=scene if denoises else None)
    for node in list(tree.nodes):
        if node.type == "OUTPUT_FILE":
            tree.nodes.remove(node)
    return picture


def make_passage() -> Any:
    """Make a compositor that changes nothing."""
    import bpy

    tree = bpy.data.node_groups.new("passage", "CompositorNodeTree")
    tree.interface.new_socket(
        name="Image", in_out="OUTPUT", socket_type="NodeSocketColor"
    )
    layers = tree.nodes.new("CompositorNodeRLayers")
    output = tree.nodes.new("NodeGroupOutput")
    tree.links.new(layers.outputs["Image"], output.inputs[0])
    return tree


def make_own(tree: Any) -> Any:
    """Give a tree that can be changed: a linked one, and groups in it, are copied."""
    if tree.library is not None:
        tree = tree.copy()
    for node in tree.nodes:
        if node.type == "GROUP" and node.node_tree is not None:
            node.node_tree = make_own(node.node_tree)
    return tree


def replace_node(node: Any, picture: Any, *, denoiser: Any) -> None:
    """Put a picture where a render layer was.

    Raises:
        ValueError: it does not hold what the layer gave.
    """
    tree = node.id_data
    source = tree.nodes.new("CompositorNodeImage")
    source.image = picture
    if picture.type == "MULTILAYER" and node.layer:
        source.layer = node.layer
    combined = find_socket(source, *_COMBINED)
    if denoiser is not None:
        combined = add_denoiser(tree, source, combined, scene=denoiser)
    for output in node.outputs:
        if not output.is_linked:
            continue
        given = combined if output.name in _COMBINED else None
        given = given or find_socket(source, output.name)
        if given is None:
            raise ValueError(f"its compositor takes the pass {output.name!r}")
        for link in list(output.links):
            tree.links.new(given, link.to_socket)
    tree.nodes.remove(node)


def find_socket(node: Any, *names: str) -> Any:
    """Give the first output of one of these names, or None."""
    found = [each for each in node.outputs if each.name in names and each.enabled]
    return found[0] if found else None


def add_denoiser(tree: Any, source: Any, combined: Any, *, scene: Any) -> Any:
    """Denoise as the scene's own settings say; give what comes out.

    Albedo and normals guide it where the picture has them.
    """
    node = tree.nodes.new("CompositorNodeDenoise")
    cycles = scene.cycles
    node.inputs["HDR"].default_value = True
    node.inputs["Prefilter"].default_value = _PREFILTERS[cycles.denoising_prefilter]
    node.inputs["Quality"].default_value = _QUALITIES[cycles.denoising_quality]
    tree.links.new(combined, node.inputs["Image"])
    guides = cycles.denoising_input_passes
    for name, word in (("Albedo", "ALBEDO"), ("Normal", "NORMAL")):
        guide = find_socket(source, f"Denoising {name}")
        if guide is not None and word in guides:
            tree.links.new(guide, node.inputs[name])
    return node.outputs["Image"]


def finish(number: int, frame: dict[str, Any], picture: Any, wish: Any) -> None:
    """Write the files of one frame, named by its place in the request.

    Raises:
        ValueError: the picture cannot be read, or has another size.
    """
    import bpy

    scene = bpy.context.scene
    scene.frame_set(frame["frame"])
    picture.filepath = frame["picture"]
    picture.reload()
    if tuple(picture.size) not in ((wish["width"], wish["height"]), (0, 0)):
        raise ValueError(f"the picture of frame {frame['frame']} has another size")
    if not picture.has_data and picture.type != "MULTILAYER":
        raise ValueError(f"the picture of frame {frame['frame']} cannot be read")
    bpy.ops.render.render()
    result = bpy.data.images["Render Result"]
    folder = os.path.dirname(sys.argv[2])
    place = os.path.join(folder, str(number))
    if wish["has_exr"]:
        with_format(scene, "OPEN_EXR")
        result.save_render(f"{place}.exr", scene=scene)
    if wish["has_png"] or wish["preview_width"]:
        with_format(scene, "PNG")
        result.save_render(f"{place}.png", scene=scene)
    if wish["preview_width"]:
        write_preview(
            f"{place}.png",
            f"{place}.jpg",
            width=wish["preview_width"],
            has_watermark=wish["has_watermark"],
        )


def with_format(scene: Any, kind: str) -> None:
    """Set the format; details of the same format are the scene's own."""
    settings = scene.render.image_settings
    if settings.file_format == kind:
        return
    settings.media_type = "IMAGE"  # before the format, since 5.0
    settings.file_format = kind
    settings.color_mode = "RGBA"
    settings.color_depth = "32" if kind == "OPEN_EXR" else "8"
    if kind == "OPEN_EXR":
        settings.exr_codec = "ZIP"


def main() -> None:
    """Read the request, write the files and the answer."""
    with open(sys.argv[1], encoding="utf-8") as file:
        request = json.load(file)
    fault = ""
    try:
        picture = prepare(request)
        for number, frame in enumerate(request["frames"]):
            finish(number, frame, picture, request)
    except (ValueError, OSError, RuntimeError) as error:
        fault = " ".join(str(error).split())[:500] or type(error).__name__
    with open(sys.argv[2], "w", encoding="utf-8", errors="backslashreplace") as file:
        json.dump({"fault": fault}, file)
    sys.stdout.flush()
    os._exit(0)  # taking Blender down in order may crash


if __name__ == "__main__":
    main()
