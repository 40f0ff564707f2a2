"""One scene with a compositor, and what Blender alone makes of it; a program.

``python render_glare.py FOLDER`` writes ``shot.blend`` and each frame of it
(``single1.exr``, ``single1.png``); ``denoised.blend``, without compositor but denoised;
``deep.blend``, whose compositor takes more than the picture.
"""

import os
import sys
from pathlib import Path
from typing import Any

import bpy

WIDTH, HEIGHT, SAMPLES = 96, 54, 4
FRAMES = (1, 2)


def build(folder: Path) -> None:
    """A bright ball on a plane; a glare that wanes, in a group within the compositor."""
    bpy.ops.wm.read_factory_settings(use_empty=True)
    scene = bpy.context.scene
    scene.render.engine = "CYCLES"
    scene.cycles.samples, scene.cycles.use_denoising = SAMPLES, False
    scene.render.resolution_x, scene.render.resolution_y = WIDTH, HEIGHT
    scene.render.threads_mode, scene.render.threads = "FIXED", 1
    camera = bpy.data.objects.new("Cam", bpy.data.cameras.new("Cam"))
    camera.location, camera.rotation_euler = (0, -7, 2), (1.35, 0, 0)
    lamp = bpy.data.objects.new("Sun", bpy.data.lights.new("Sun", "SUN"))
    lamp.data.energy, lamp.rotation_euler = 9, (0.6, 0.3, 0)
    for each in (camera, lamp):
        scene.collection.objects.link(each)
    scene.camera = camera
    bpy.ops.mesh.primitive_plane_add(size=20)
    bpy.ops.mesh.primitive_uv_sphere_add(segments=16, ring_count=8, location=(0, 0, 1))
    shader = bpy.data.materials.new("Glow")
    bpy.context.object.data.materials.append(shader)
    node = shader.node_tree.nodes["Principled BSDF"]
    node.inputs["Emission Color"].default_value = (1, 0.4, 0.1, 1)
    node.inputs["Emission Strength"].default_value = 6
    outer, inner = make_tree("Comp"), make_tree("Inner")
    inner.interface.new_socket(
        name="Image", in_out="INPUT", socket_type="NodeSocketColor"
    )
    source, glare = add(inner, "NodeGroupInput"), add(inner, "CompositorNodeGlare")
    inner.links.new(source.outputs[0], glare.inputs["Image"])
    inner.links.new(glare.outputs["Image"], inner.nodes["Group Output"].inputs[0])
    layers = add(outer, "CompositorNodeRLayers")
    layers.scene = scene
    strength = glare.inputs["Strength"]
    for frame, value in ((1, 1.0), (4, 0.1)):
        strength.default_value = value
        strength.keyframe_insert("default_value", frame=frame)
    group = add(outer, "CompositorNodeGroup")
    group.node_tree = inner
    outer.links.new(layers.outputs["Image"], group.inputs[0])
    outer.links.new(group.outputs[0], outer.nodes["Group Output"].inputs[0])
    scene.compositing_node_group = outer
    bpy.ops.wm.save_as_mainfile(filepath=str(folder / "shot.blend"))
    bpy.context.view_layer.use_pass_z = True
    layers.scene = scene  # only now it looks which passes there are
    blur = add(outer, "CompositorNodeBlur")
    outer.links.new(layers.outputs["Depth"], blur.inputs["Image"])
    bpy.ops.wm.save_as_mainfile(filepath=str(folder / "deep.blend"))
    bpy.ops.wm.open_mainfile(filepath=str(folder / "shot.blend"))


def make_tree(name: str) -> Any:
    """An empty compositor with one output."""
    tree = bpy.data.node_groups.new(name, "CompositorNodeTree")
    tree.interface.new_socket(
        name="Image", in_out="OUTPUT", socket_type="NodeSocketColor"
    )
    tree.nodes.new("NodeGroupOutput")
    return tree


def add(tree: Any, kind: str) -> Any:
    """Add a node."""
    return tree.nodes.new(kind)


def render_alone(folder: Path) -> None:
    """Let Blender do all of it, as on one machine; and once denoised."""
    scene = bpy.context.scene
    for frame in FRAMES:
        scene.frame_set(frame)
        shoot(folder, f"single{frame}")
    scene.render.use_compositing = False
    scene.cycles.use_denoising = True
    scene.cycles.denoising_input_passes = "RGB"
    bpy.ops.wm.save_as_mainfile(filepath=str(folder / "denoised.blend"), copy=True)
    scene.frame_set(1)
    shoot(folder, "denoised1")


def shoot(folder: Path, name: str) -> None:
    """Render the frame and write it in both formats."""
    scene = bpy.context.scene
    settings = scene.render.image_settings
    bpy.ops.render.render()
    for kind, depth, ending in (("OPEN_EXR", "32", "exr"), ("PNG", "8", "png")):
        settings.media_type, settings.file_format = "IMAGE", kind
        settings.color_mode, settings.color_depth = "RGBA", depth
        path = str(folder / f"{name}.{ending}")
        bpy.data.images["Render Result"].save_render(path, scene=scene)


if __name__ == "__main__":
    place = Path(sys.argv[1])
    build(place)
    render_alone(place)
    sys.stdout.flush()
    os._exit(0)
