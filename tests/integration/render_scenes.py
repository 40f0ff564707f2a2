"""Makes small scenes with Blender, as artists and attackers would; a program.

``python render_scenes.py FOLDER``: each scene in a project folder of its own. Blender
runs in a process of its own, because a second scene in one process sees the first.
"""

import os
import sys
from pathlib import Path

import bpy

BASE = Path(sys.argv[1]) if len(sys.argv) > 1 else Path()
EVIL = "import pathlib; pathlib.Path('{}').write_text('ran')"
REGISTERS = """
import bpy, pathlib
def act(*_):
    pathlib.Path('{0}').write_text('ran')
bpy.app.handlers.load_post.append(act)
bpy.app.handlers.render_pre.append(act)
bpy.app.handlers.frame_change_pre.append(act)
act()
"""


def fresh(folder: str) -> Path:
    """Begin an empty scene in a project folder of its own; give the folder."""
    bpy.ops.wm.read_factory_settings(use_empty=True)
    place = BASE / folder
    place.mkdir(parents=True, exist_ok=True)
    scene = bpy.context.scene
    scene.render.engine = "CYCLES"
    scene.cycles.samples = 4
    scene.cycles.use_denoising = False
    scene.cycles.use_adaptive_sampling = False
    scene.render.resolution_x, scene.render.resolution_y = 96, 54
    scene.frame_start, scene.frame_end = 1, 3
    return place


def save(path: Path, *, is_small: bool = True) -> None:
    """Save as it stands: paths are not touched."""
    bpy.ops.wm.save_as_mainfile(
        filepath=str(path), relative_remap=False, compress=is_small
    )


def add_camera() -> None:
    """Look at the origin from in front, with a lamp."""
    scene = bpy.context.scene
    camera = bpy.data.objects.new("Cam", bpy.data.cameras.new("Cam"))
    camera.location, camera.rotation_euler = (0, -6, 1), (1.4, 0, 0)
    lamp = bpy.data.objects.new("Sun", bpy.data.lights.new("Sun", "SUN"))
    lamp.data.energy, lamp.rotation_euler = 4, (0.6, 0.3, 0)
    for each in (camera, lamp):
        scene.collection.objects.link(each)
    scene.camera = camera


def add_box(name: str = "Box") -> bpy.types.Object:
    """Add a cube with a material of its own."""
    bpy.ops.mesh.primitive_cube_add()
    box = bpy.context.object
    box.name = name
    box.data.materials.append(bpy.data.materials.new(name))
    return box


def paint(path: Path) -> None:
    """Write a tiny picture."""
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = bpy.data.images.new("paint", 8, 8)
    picture.generated_type = "COLOR_GRID"
    picture.filepath_raw, picture.file_format = str(path), "PNG"
    picture.save()
    bpy.data.images.remove(picture)


def texture(
    box: bpy.types.Object,
    path: str,
    source: str = "FILE",
    *,
    drives: str = "Base Color",
) -> bpy.types.Node:
    """Give a box a texture by a path that is written as it stands."""
    tree = box.data.materials[0].node_tree
    node = tree.nodes.new("ShaderNodeTexImage")
    picture = bpy.data.images.new(Path(path).name, 8, 8)
    picture.source = source
    picture.filepath = path
    node.image = picture
    shader = tree.nodes.get("Principled BSDF")
    tree.links.new(node.outputs["Color"], shader.inputs[drives])
    return node


def link(path: str, collection: str) -> None:
    """Instance a collection of another file."""
    with bpy.data.libraries.load(path, link=True) as (_, wanted):
        wanted.collections = [collection]
    place = bpy.data.objects.new(collection, None)
    place.instance_type = "COLLECTION"
    place.instance_collection = bpy.data.collections[collection]
    bpy.context.scene.collection.objects.link(place)


def set_library(path: str) -> None:
    """Write the path of the only library as it shall stand in the file."""
    for library in bpy.data.libraries:
        if library.parent is None:
            library.filepath = path


def collect(name: str) -> None:
    """Put all meshes of the scene into a collection that can be linked."""
    found = bpy.data.collections.new(name)
    bpy.context.scene.collection.children.link(found)
    for each in bpy.data.objects:
        if each.type == "MESH":
            found.objects.link(each)


def make_linked() -> None:
    """A shot, a library, a library behind it, and textures of each kind behind both."""
    place = fresh("linked")
    deep, lib = place / "assets" / "deep", place / "assets"
    deep.mkdir(parents=True)
    for name in ("t.1001.png", "t.1002.png", "f_0001.png", "f_0002.png", "f_0003.png"):
        paint(deep / "tex" / name)
    box = add_box("Deep")
    tiled = texture(box, "//tex/t.<UDIM>.png", "TILED", drives="Roughness").image
    tiled.tiles.new(1002)
    sequence = texture(box, "//tex/f_0001.png", "SEQUENCE")
    sequence.image_user.frame_duration = 3
    collect("Deep")
    save(deep / "deep.blend")

    fresh("linked")
    paint(lib / "wood.png")
    texture(add_box("Middle"), "//wood.png")
    tree = bpy.data.materials["Middle"].node_tree
    lamp = tree.nodes.new("ShaderNodeTexIES")
    strength = tree.nodes["Principled BSDF"].inputs["Emission Strength"]
    tree.links.new(lamp.outputs[0], strength)
    (lib / "lamp.ies").write_text("IESNA91\n")
    lamp.mode, lamp.filepath = "EXTERNAL", "//lamp.ies"
    collect("Middle")
    link(str(deep / "deep.blend"), "Deep")
    bpy.data.collections["Middle"].objects.link(bpy.data.objects["Deep"])
    save(lib / "middle.blend")
    set_library("//deep/deep.blend")
    save(lib / "middle.blend")

    fresh("linked")
    add_camera()
    (place / "shots").mkdir()
    link(str(lib / "middle.blend"), "Middle")
    font = bpy.data.curves.new("Text", "FONT")
    words = bpy.data.objects.new("Text", font)
    bpy.context.scene.collection.objects.link(words)
    (place / "fonts").mkdir()
    own = Path(bpy.utils.system_resource("DATAFILES")) / "fonts"
    face = sorted(own.glob("*.woff2"))[0]
    (place / "fonts" / face.name).write_bytes(face.read_bytes())
    font.font = bpy.data.fonts.load(str(place / "fonts" / face.name))
    (place / "vdb").mkdir()
    for number in (1, 2):
        (place / "vdb" / f"smoke_{number:04}.vdb").write_bytes(b"vdb")
    smoke = bpy.data.volumes.new("Smoke")
    smoke.filepath, smoke.is_sequence = "//../vdb/smoke_0001.vdb", True
    smoke.frame_duration = 2
    cloud = bpy.data.objects.new("Smoke", smoke)
    cloud.hide_render = True
    bpy.context.scene.collection.objects.link(cloud)
    bpy.context.scene.sequence_editor_create()
    bpy.context.scene.render.use_sequencer = False
    save(place / "shots" / "shot.blend")
    set_library("//../assets/middle.blend")
    font.font.filepath = f"//../fonts/{face.name}"
    unused = bpy.data.images.new("unused", 4, 4)
    unused.source, unused.filepath = "FILE", "//gone/unused.png"
    unused.use_fake_user = True
    save(place / "shots" / "shot.blend")


def make_absolute() -> None:
    """Absolute paths into the project: of a library, and of a texture behind it."""
    place = fresh("absolute")
    paint(place / "a.png")
    texture(add_box("Lib"), str(place / "a.png"))
    collect("Lib")
    save(place / "lib.blend")
    fresh("absolute")
    add_camera()
    link(str(place / "lib.blend"), "Lib")
    texture(add_box("Own"), str(place / "a.png"))
    save(place / "shot.blend")
    set_library(str(place / "lib.blend"))
    save(place / "shot.blend")


def make_outside() -> None:
    """Paths that leave the project, each in its own way."""
    place = fresh("outside")
    paint(BASE / "elsewhere" / "above.png")
    paint(place / "inside.png")
    (place / "behind.png").symlink_to(BASE / "elsewhere" / "above.png")
    (place / "alias.png").symlink_to("inside.png")
    (place / ".secret.png").write_text("token")
    add_camera()
    for number, path in enumerate(
        (
            "//../elsewhere/above.png",
            "/etc/hostname",
            "//behind.png",
            "//alias.png",
            "//.secret.png",
            "//gone.png",
        )
    ):
        texture(add_box(f"Box{number}"), path)
    save(place / "shot.blend")


def make_hostile() -> None:
    """Python in every place where a .blend can hold it."""
    place = fresh("hostile")
    add_camera()
    box = add_box()
    text = bpy.data.texts.new("evil.py")
    text.from_string(REGISTERS.format("/job/out/text"))
    text.use_module = True
    curve = box.driver_add("location", 0)
    curve.driver.type = "SCRIPTED"
    code = EVIL.format("/job/out/driver")
    curve.driver.expression = f"exec({code!r}) or 0.0"
    # One more that wants to see what it may not, and to talk of it.
    spy = bpy.data.texts.new("spy.py")
    spy.from_string(
        "import socket, os\n"
        "said = []\n"
        "try:\n"
        "    socket.create_connection(('192.0.2.1', 80), timeout=2)\n"
        "    said.append('network')\n"
        "except OSError:\n"
        "    pass\n"
        f"if os.path.exists({str(BASE / 'elsewhere/above.png')!r}):\n"
        "    said.append('elsewhere')\n"
        f"try:\n    open({str(place / 'shot.blend')!r}, 'ab')\n"
        "    said.append('wrote')\n"
        "except OSError:\n"
        "    pass\n"
        "open('/job/out/spy', 'w').write(' '.join(said) or 'held')\n"
    )
    spy.use_module = True
    save(place / "shot.blend")


def make_endless() -> None:
    """A script that never ends."""
    place = fresh("endless")
    add_camera()
    text = bpy.data.texts.new("endless.py")
    text.from_string("while True:\n    pass\n")
    text.use_module = True
    save(place / "shot.blend")


def make_plain() -> None:
    """A box, by itself; uncompressed, so that its header can be forged."""
    place = fresh("plain")
    add_camera()
    add_box()
    save(place / "shot.blend", is_small=False)
    bpy.context.scene.camera = None
    save(place / "blind.blend")


def make_huge() -> None:
    """A texture of 100 GB, all holes."""
    place = fresh("huge")
    add_camera()
    texture(add_box(), "//huge.png")
    with (place / "huge.png").open("wb") as file:
        file.truncate(100_000_000_000)
    save(place / "shot.blend")


def make_bomb() -> None:
    """Half a megabyte that unpacks to sixteen gigabytes of one block of a .blend."""
    place = fresh("bomb")
    save(place / "small.blend", is_small=False)
    head = (place / "small.blend").read_bytes()[:17]
    size = 1 << 34
    block = b"DATA" + bytes(4) + bytes(8) + size.to_bytes(8, "little")
    block += (1).to_bytes(8, "little")
    content = head + block
    piece = 1 << 17  # the largest block of Zstandard
    frame = b"\x28\xb5\x2f\xfd" + bytes((0x00, 0x58))  # a window of 2 MiB
    frame += (len(content) << 3).to_bytes(3, "little") + content  # a raw block
    run = (piece << 3 | 1 << 1).to_bytes(3, "little") + b"\0"  # one byte, repeated
    frame += run * (size // piece)
    frame += (1 << 3 | 1 << 1 | 1).to_bytes(3, "little") + b"\0"
    (place / "shot.blend").write_bytes(frame)


def make_broken() -> None:
    """A library that has lost what is linked from it."""
    place = fresh("broken")
    add_box("Lib")
    collect("Lib")
    save(place / "lib.blend")
    fresh("broken")
    add_camera()
    link(str(place / "lib.blend"), "Lib")
    save(place / "shot.blend")
    fresh("broken")
    save(place / "lib.blend")


MAKERS = (
    make_linked,
    make_absolute,
    make_outside,
    make_hostile,
    make_endless,
    make_plain,
    make_huge,
    make_bomb,
    make_broken,
)

if __name__ == "__main__":
    for make in MAKERS:
        make()
    sys.stdout.flush()
    os._exit(0)
