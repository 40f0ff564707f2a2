"""Renders units with Blender, exactly as one machine would render the whole picture.

Opens ``.blend``, glTF and USD. Compositor, sequencer and denoiser are off: they see the
whole picture, and run once on the merged one. A tile is rendered by border and crop. A
scene's own Python is off unless the recipe allows it. Where the recipe's device is not
there, the unit fails: nothing falls back to the CPU in silence.

Not here: what may be changed in a scene for its owner (nothing), post-production.
"""

import ctypes
import importlib
import math
import os
import platform
import re
import tempfile
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

# Of a pixel: exact fractions come out one pixel short, for Blender's are float32.
MARGIN = 0.25
ENGINES = {
    "cycles": "CYCLES",
    "eevee": "BLENDER_EEVEE",
    "workbench": "BLENDER_WORKBENCH",
}
# What remembers the frames before: such a scene is opened anew for each frame.
STATEFUL = {"CLOTH", "DYNAMIC_PAINT", "FLUID", "PARTICLE_SYSTEM", "SOFT_BODY"}
CAPABILITY = (75, 76)  # major and minor, as attributes of the CUDA driver's interface

_SAMPLE = re.compile(r"(?:Sample|Rendering) (\d+) ?/ ?(\d+)")
_TILES = re.compile(r"Rendered (\d+)/(\d+) Tiles")

Tell = Callable[[float, str], None]


class Fault(Exception):
    """A unit cannot be rendered; ``code`` says why."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class Engine:
    """Renders units; a scene is opened once, as long as that changes no picture."""

    def __init__(self) -> None:
        import bpy

        self.bpy: Any = bpy
        hash_ = bpy.app.build_hash.decode()
        self.build = f"blender {bpy.app.version_string} {hash_}"
        self.opened: dict[str, Any] = {}  # the recipe that the scene was opened for
        self.opens = 0

    def render(
        self, recipe: dict[str, Any], unit: dict[str, Any], tell: Tell
    ) -> tuple[Any, dict[str, Any]]:
        """Render one unit: its pixels, and what was used.

        Raises:
            Fault: wrong_build, wrong_device, no_scene, bad_scene, newer_scene,
                no_camera, not_splittable, render_failed.
        """
        if recipe["build"] != self.build:
            raise Fault("wrong_build", f"this is {self.build}, not {recipe['build']}")
        self._open(recipe)
        kernel = self._set_device(recipe)
        set_recipe(self.bpy, recipe)
        set_unit(self.bpy, recipe, unit)
        scene = self.bpy.context.scene
        scene.frame_set(unit["frame"])  # markers of the timeline may choose a camera
        if scene.camera is None:
            raise Fault(
                "no_camera",
                "the scene has no camera that it is rendered with: set one, or ask for"
                " a default camera",
            )
        pixels, seconds = self._draw(tell)
        used = {"device": recipe["device"], "build": self.build, "seconds": seconds}
        # What draws for EEVEE and Workbench is known when it has drawn.
        return pixels, {**used, "kernel": kernel or "cpu-gl-" + read_renderer()}

    def _open(self, recipe: dict[str, Any]) -> None:
        if recipe == self.opened:
            return
        self.opened = {}
        path = Path(recipe["scene"])
        if path.is_absolute() or ".." in path.parts or not path.is_file():
            raise Fault("no_scene", f"{path} is not a file of the inputs")
        # It lies beside this file. What an importer raises, nobody has written down.
        opening = importlib.import_module("opening")
        try:
            opening.open_scene(str(path.absolute()), has_scripts=recipe["scripts"])
        except (RuntimeError, ValueError, KeyError, TypeError, OSError) as error:
            raise Fault("bad_scene", f"{path} cannot be read: {error}") from None
        self._choose_camera(path)
        self._check_version(path)
        if recipe["default_camera"] and self.bpy.context.scene.camera is None:
            add_camera(self.bpy, recipe["width"], recipe["height"])
        self.opens += 1
        if not is_stateful(self.bpy):
            self.opened = recipe

    def _choose_camera(self, path: Path) -> None:
        """Take the first by name: an importer makes cameras and chooses none."""
        if path.suffix.lower() == ".blend":
            return
        cameras = [x for x in self.bpy.data.objects if x.type == "CAMERA"]
        if cameras:
            self.bpy.context.scene.camera = min(cameras, key=lambda one: one.name)

    def _check_version(self, path: Path) -> None:
        made, ours = self.bpy.data.version[:2], self.bpy.app.version[:2]
        if tuple(made) > tuple(ours):
            raise Fault(
                "newer_scene",
                f"{path} was saved by Blender {made[0]}.{made[1]}, and this is"
                f" {ours[0]}.{ours[1]}: ask for a newer build, or save it for an older",
            )

    def _set_device(self, recipe: dict[str, Any]) -> str:
        """Choose the recipe's device, or fail; gives Cycles' kernel class."""
        kind, scene = recipe["device"], self.bpy.context.scene
        if recipe["engine"] != "cycles":
            if kind != "cpu":
                raise Fault("wrong_device", f"only Cycles is told to use {kind}")
            return ""
        scene.cycles.device = "CPU" if kind == "cpu" else "GPU"
        if kind == "cpu":
            return name_cpu()
        preferences = self.bpy.context.preferences.addons["cycles"].preferences
        try:
            preferences.compute_device_type = kind.upper()
        except TypeError:
            raise Fault("wrong_device", f"{self.build} knows no {kind}") from None
        preferences.refresh_devices()
        for device in preferences.devices:
            device.use = device.type == kind.upper()
        if not any(device.use for device in preferences.devices):
            here = [f"{one.name} ({one.type})" for one in preferences.devices]
            raise Fault(
                "wrong_device",
                f"nothing here renders with {kind}; found: {', '.join(here) or 'nothing'}",
            )
        return f"{kind}-{read_capability() or 'unknown'}"

    def _draw(self, tell: Tell) -> tuple[Any, float]:
        """Render what is set; gives pixels and seconds of the render call."""
        bpy = self.bpy

        def watch(stats: str, *_: Any) -> None:
            tell(read_progress(stats), stats)

        with tempfile.TemporaryDirectory() as folder:
            path = str(Path(folder, "frame.exr"))
            bpy.context.scene.render.filepath = path
            bpy.app.handlers.render_stats.append(watch)
            began_s = time.monotonic()
            try:
                bpy.ops.render.render(write_still=True)
            except RuntimeError as error:
                raise Fault("render_failed", f"Blender says: {error}") from None
            finally:
                bpy.app.handlers.render_stats.remove(watch)
            seconds = time.monotonic() - began_s
            if not Path(path).is_file():
                raise Fault("render_failed", "Blender wrote no picture")
            return read_pixels(bpy, path), seconds


# ---- what is set ------------------------------------------------------------------------


def set_recipe(bpy: Any, recipe: dict[str, Any]) -> None:
    """Set what all units have in common, and turn off what sees the whole picture."""
    scene = bpy.context.scene
    scene.render.engine = ENGINES[recipe["engine"]]
    if recipe["engine"] == "cycles":
        cycles = scene.cycles
        cycles.samples, cycles.seed = recipe["samples"], recipe["seed"]
        cycles.use_denoising = False
        cycles.time_limit = 0  # would end where a machine is slow
        cycles.use_deterministic_guiding = True
        if recipe["volume_biased"]:
            cycles.volume_biased = True
        for layer in scene.view_layers:
            layer.cycles.use_denoising = False
            layer.samples = 0  # none of its own
    elif recipe["engine"] == "eevee":
        scene.eevee.taa_render_samples = recipe["samples"]
    render = scene.render
    render.resolution_x, render.resolution_y = recipe["width"], recipe["height"]
    render.resolution_percentage = 100
    render.use_compositing = render.use_sequencer = False
    render.use_multiview = render.use_stamp = False
    render.use_file_extension = render.use_placeholder = False
    render.use_overwrite = True
    # Ours are the threads that the machine's owner lets us have.
    threads = int(os.environ.get("SUBLET_RENDER_THREADS", "0"))
    render.threads_mode = "FIXED" if threads else "AUTO"
    render.threads = threads or render.threads
    image = render.image_settings
    image.media_type = "IMAGE"  # before the format, which depends on it
    image.file_format, image.color_mode, image.color_depth = "OPEN_EXR", "RGBA", "32"
    image.exr_codec = "NONE"


def set_unit(bpy: Any, recipe: dict[str, Any], unit: dict[str, Any]) -> None:
    """Set tile and samples; a scene's own border does not count."""
    scene, tile, part = bpy.context.scene, unit.get("tile"), unit.get("samples")
    render = scene.render
    render.use_border = render.use_crop_to_border = tile is not None
    if tile is not None:
        borders = compute_border(tile, recipe["width"], recipe["height"])
        render.border_min_x, render.border_max_x = borders[:2]
        render.border_min_y, render.border_max_y = borders[2:]
    if recipe["engine"] != "cycles":
        if part is not None:
            raise Fault("not_splittable", "only Cycles renders a part of the samples")
        return
    cycles = scene.cycles
    cycles.use_sample_subset = part is not None
    cycles.sample_offset = 0
    if part is not None:
        if cycles.use_adaptive_sampling:
            raise Fault(
                "not_splittable",
                "the scene samples adaptively, which needs all samples in one unit",
            )
        cycles.sample_offset = part["first"]
        cycles.sample_subset_length = part["count"]


def compute_border(
    tile: dict[str, int], width: int, height: int
) -> tuple[float, float, float, float]:
    """Say where a tile lies, as Blender has it: shares from the left and the bottom."""

    def share(edge: int, size: int) -> float:
        return min((edge + MARGIN) / size, 1.0)

    return (
        share(tile["left"], width),
        share(tile["right"], width),
        share(height - tile["bottom"], height),
        share(height - tile["top"], height),
    )


def add_camera(bpy: Any, width: int, height: int) -> None:
    """Give a scene without a camera one that sees all of it, and light if it has none."""
    from mathutils import Vector

    scene = bpy.context.scene
    objects = [x for x in scene.objects if x.type in {"MESH", "CURVE", "SURFACE"}]
    corners = [x.matrix_world @ Vector(c) for x in objects for c in x.bound_box]
    if not corners:
        raise Fault("bad_scene", "there is nothing in the scene to look at")
    low = Vector([min(corner[axis] for corner in corners) for axis in range(3)])
    high = Vector([max(corner[axis] for corner in corners) for axis in range(3)])
    middle, radius = (low + high) / 2, max((high - low).length / 2, 1e-6)
    data = bpy.data.cameras.new("Sublet")
    away = Vector((1.0, -1.5, 0.8)).normalized()
    # So far that a ball around all of it fits into the picture's narrow side.
    narrow = min(width, height) / max(width, height) * math.tan(data.angle / 2)
    place = middle + away * (radius / math.sin(math.atan(narrow)))
    data.clip_start, data.clip_end = radius / 100, radius * 1_000
    camera = bpy.data.objects.new("Sublet", data)
    camera.location = place
    camera.rotation_euler = (middle - place).to_track_quat("-Z", "Y").to_euler()
    scene.collection.objects.link(camera)
    scene.camera = camera
    if not any(one.type == "LIGHT" for one in scene.objects):
        sun = bpy.data.objects.new("Sublet light", bpy.data.lights.new("Sublet", "SUN"))
        sun.data.energy = 3.0
        sun.rotation_euler = (0.7, 0.2, 0.5)
        scene.collection.objects.link(sun)
    if scene.world is None:
        scene.world = bpy.data.worlds.new("Sublet")
        scene.world.color = (0.5, 0.5, 0.5)


# ---- what is read -----------------------------------------------------------------------


def is_stateful(bpy: Any) -> bool:
    """Say whether a frame depends on which frames were rendered before it."""
    if any(scene.rigidbody_world for scene in bpy.data.scenes):
        return True
    if any(
        node.bl_idname in {"GeometryNodeSimulationOutput"}
        for group in bpy.data.node_groups
        for node in group.nodes
    ):
        return True
    return any(
        modifier.type in STATEFUL
        for one in bpy.data.objects
        for modifier in one.modifiers
    )


def read_pixels(bpy: Any, path: str) -> Any:
    """Read the float RGBA that Blender wrote: shape (height, width, 4), top row first."""
    import numpy as np

    image = bpy.data.images.load(path)
    try:
        image.colorspace_settings.is_data = True  # the numbers as they are
        width, height = image.size
        flat = np.empty(width * height * 4, np.float32)
        image.pixels.foreach_get(flat)
    finally:
        bpy.data.images.remove(image)
    return np.ascontiguousarray(flat.reshape(height, width, 4)[::-1])


def read_progress(stats: str) -> float:
    """Read a share of the work from a line of Blender's own.

    >>> read_progress("Mem: 13M | Sample 4/16")
    0.25
    >>> read_progress("Mem: 1M | Rendered 1/2 Tiles, Sample 8/16")
    0.75
    >>> read_progress("Rendering 1 / 4 samples")
    0.25
    >>> read_progress("Mem: 0M | Synchronizing object | Plane")
    0.0
    """
    sample, tiles = _SAMPLE.search(stats), _TILES.search(stats)
    share = int(sample[1]) / max(int(sample[2]), 1) if sample else 0.0
    if tiles:
        return (int(tiles[1]) + share) / max(int(tiles[2]), 1)
    return share


def name_cpu() -> str:
    """Name the class of CPUs whose pictures have equal bits.

    Which kernel Cycles takes; whose rough reciprocals Embree refines; which glibc
    computes sines. Only the first was measured to matter; the others may.
    """
    words = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    flags = re.search(r"^flags\s*:(.*)$", words, re.M)
    maker = re.search(r"^vendor_id\s*:\s*(\S+)", words, re.M)
    has = set(flags[1].split()) if flags else set()
    needs = {"avx", "avx2", "f16c", "fma", "bmi1", "bmi2", "abm"}
    is_wide = needs <= has and "CYCLES_CPU_NO_AVX2" not in os.environ
    parts = ["cpu", "avx2" if is_wide else "sse42"]
    parts += [maker[1].lower() if maker else platform.machine()]
    return "-".join([*parts, "".join(platform.libc_ver())])


def read_renderer() -> str:
    """Name what draws for EEVEE and Workbench; like nothing else where it is unknown."""
    import gpu

    try:
        return str(gpu.platform.renderer_get())[:64]
    except SystemError:  # Blender tells nobody while it has no window
        return f"unknown-{uuid.uuid4().hex}"


def read_capability() -> str:
    """Name the compute capability of the first GPU, such as ``sm_90``; "" if unknown."""
    numbers = []
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return ""
    driver.cuInit(0)
    for attribute in CAPABILITY:
        value = ctypes.c_int()
        if driver.cuDeviceGetAttribute(ctypes.byref(value), attribute, 0):
            return ""
        numbers.append(str(value.value))
    return "sm_" + "".join(numbers)
