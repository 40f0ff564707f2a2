"""What a plan and a quote have to know of the open scene, read from Blender.

Part of the program ``trace``. Everything said here is a stranger's claim.
"""

from collections.abc import Iterator
from typing import Any

NAMES_MAX = 20  # of each list
NAME_MAX = 100  # characters
_PICTURE = ("Image", "Alpha")  # of a render layer: what one float picture holds


def find_reachable() -> set[Any]:
    """Give all data-blocks that the scene uses, however far behind."""
    import bpy

    uses: dict[Any, list[Any]] = {}
    for used, users in bpy.data.user_map().items():
        for user in users:
            uses.setdefault(user, []).append(used)
    todo, seen = [bpy.context.scene], {bpy.context.scene}
    while todo:
        for used in uses.get(todo.pop(), ()):
            if used not in seen:
                seen.add(used)
                todo.append(used)
    return seen


def describe_scene() -> dict[str, Any]:
    """Say everything."""
    import bpy

    scene = bpy.context.scene
    render, cycles = scene.render, scene.cycles
    reachable = find_reachable()
    is_cycles = render.engine == "CYCLES"
    return {
        "saved_with": list(find_versions()),
        "build": f"blender {bpy.app.version_string} {bpy.app.build_hash.decode()}",
        "frame_start": scene.frame_start,
        "frame_end": scene.frame_end,
        "frame_step": scene.frame_step,
        "fps": render.fps / render.fps_base,
        "width": render.resolution_x * render.resolution_percentage // 100,
        "height": render.resolution_y * render.resolution_percentage // 100,
        "engine": render.engine,
        "samples": cycles.samples if is_cycles else scene.eevee.taa_render_samples,
        "seed": cycles.seed if is_cycles else 0,
        "camera": find_camera(scene),
        "has_volumes": any(map(has_volume, reachable)),
        "has_freestyle": bool(render.use_freestyle),
        "is_adaptive": bool(is_cycles and cycles.use_adaptive_sampling),
        "is_guided": bool(is_cycles and cycles.use_guiding),
        "has_views": bool(render.use_multiview),
        "scripts": cut(find_scripts()),
        "drivers": cut(find_drivers()),
        "unbaked": cut(find_unbaked()),
        "denoiser": find_denoiser(scene),
        "compositor": describe_compositor(scene),
        "strips": describe_strips(scene),
    }


def cut(names: Iterator[str]) -> list[str]:
    """Keep the first few names, each once."""
    kept = dict.fromkeys(clean(name) for name in names)
    return list(kept)[:NAMES_MAX]


def clean(name: str) -> str:
    """Shorten a name and take out what a terminal would obey."""
    return "".join(each if each.isprintable() else "?" for each in name[:NAME_MAX])


def find_versions() -> Iterator[int]:
    """Give major and minor of the newest Blender that saved a file of the scene."""
    import bpy

    versions = [tuple(bpy.data.version)]
    versions += [tuple(each.version) for each in bpy.data.libraries]
    yield from max(versions)[:2]


def find_camera(scene: Any) -> str:
    """Name what the scene is seen through; "" for nothing."""
    markers = [each.camera for each in scene.timeline_markers if each.camera]
    camera = scene.camera or next(iter(markers), None)
    return clean(camera.name) if camera else ""


def has_volume(owner: Any) -> bool:
    """Say whether a data-block lets light scatter inside it."""
    kind = type(owner).__name__
    if kind == "Volume":
        return True
    if kind == "Object":
        return any(
            each.type == "FLUID" and each.fluid_type == "DOMAIN"
            for each in owner.modifiers
        )
    tree = getattr(owner, "node_tree", None)
    if kind not in ("Material", "World") or tree is None:
        return False
    return any(
        link.to_socket.name == "Volume" and link.to_node.type.startswith("OUTPUT")
        for link in tree.links
    )


def find_scripts() -> Iterator[str]:
    """Name the texts that would run when the file is opened, and OSL programs."""
    import bpy

    for text in bpy.data.texts:
        if text.use_module:
            yield text.name
    for material in bpy.data.materials:
        for node in material.node_tree.nodes if material.node_tree else ():
            if node.type == "SCRIPT":
                yield f"{material.name} (OSL)"


def find_drivers() -> Iterator[str]:
    """Name what is driven by Python that does nothing while scripts are off."""
    import bpy

    for owner in bpy.data.user_map():
        for each in (owner, getattr(owner, "node_tree", None)):
            moved = getattr(each, "animation_data", None)
            for curve in moved.drivers if moved else ():
                driver = curve.driver
                if driver.type == "SCRIPTED" and not driver.is_simple_expression:
                    yield f"{owner.name}: {curve.data_path}"


def find_unbaked() -> Iterator[str]:
    """Name the simulations that each machine would have to run for itself."""
    import bpy

    for owner in bpy.data.objects:
        for modifier in owner.modifiers:
            cache = getattr(modifier, "point_cache", None)
            if cache is not None and not cache.is_baked:
                yield f"{owner.name}: {modifier.name}"
        for system in owner.particle_systems:
            is_moving = system.settings.type == "EMITTER"
            if is_moving and not system.point_cache.is_baked:
                yield f"{owner.name}: {system.name}"


def find_denoiser(scene: Any) -> str:
    """Name the scene's own denoiser and what it looks at; "" for none."""
    cycles = scene.cycles
    has_layer = scene.view_layers[0].cycles.use_denoising
    if scene.render.engine != "CYCLES" or not cycles.use_denoising or not has_layer:
        return ""
    return f"{cycles.denoiser} {cycles.denoising_input_passes}"


def find_layer_nodes(tree: Any) -> Iterator[Any]:
    """Give the nodes that take a rendered picture, in groups too."""
    seen, todo = set(), [tree]
    while todo:
        here = todo.pop()
        if here in seen:
            continue
        seen.add(here)
        for node in here.nodes:
            if node.type == "R_LAYERS":
                yield node
            elif node.type == "GROUP" and node.node_tree is not None:
                todo.append(node.node_tree)


def describe_compositor(scene: Any) -> dict[str, Any]:
    """Say whether the scene has one at work, and which passes it takes."""
    tree = scene.compositing_node_group
    if not scene.render.use_compositing or tree is None:
        return {"is_used": False, "passes": []}
    first = scene.view_layers[0].name
    passes = []
    for node in find_layer_nodes(tree):
        is_own = node.scene in (None, scene) and node.layer in ("", first)
        for socket in node.outputs:
            if socket.is_linked and not (is_own and socket.name in _PICTURE):
                passes.append(socket.name if is_own else f"{node.layer}.{socket.name}")
    return {"is_used": True, "passes": cut(iter(passes))}


def describe_strips(scene: Any) -> dict[str, Any]:
    """Say whether the sequencer makes the picture, and from which scenes."""
    editor = scene.sequence_editor
    if not scene.render.use_sequencer or editor is None or not editor.strips_all:
        return {"is_used": False, "scenes": []}
    strips = [each for each in editor.strips_all if each.type == "SCENE"]
    names = (each.scene.name for each in strips if each.scene)
    return {"is_used": True, "scenes": cut(names)}
