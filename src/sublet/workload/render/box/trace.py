"""Names all that a scene needs, and what a plan has to know of it: one JSON answer.

A program: ``python -m …box.trace REQUEST ANSWER`` in a sandbox with bpy, without
network, the project read-only at its own place, so that absolute paths mean the same.
The scene is a stranger's: whoever reads the answer checks all of it again.

Blender itself says which paths a file holds, also those behind links; here they become
files: folders of caches, tiles of UDIMs and frames of sequences are listed. What a
glTF or a USD file needs, its own text and its own library say.
"""

import json
import os
import re
import stat
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import Any
from urllib.parse import unquote

from sublet.workload.render.box.facts import clean, describe_scene, find_reachable
from sublet.workload.render.box.opening import BLEND, GLTF, USD, open_scene

NEEDS_MAX = 100_000  # then the rest is cut, and the answer says so
GAPS_MAX = 20  # missing frames of one sequence that are named
GLTF_BYTES_MAX = 1 << 28  # of a glTF's JSON
_DIGITS = re.compile(r"(\d+)(?!.*\d)")
_KINDS = {
    "Image": "texture",
    "Library": "library",
    "MovieClip": "movie",
    "Sound": "sound",
    "VectorFont": "font",
    "Volume": "volume",
    "CacheFile": "cache",
    "Scene": "strip",
    "Object": "cache",
}
_IGNORED = ("Text",)  # a text is in the .blend, wherever it came from

Need = dict[str, Any]


class Collector:
    """Files, once for each file that names them, in the order in which they came."""

    def __init__(self) -> None:
        """Begin with none."""
        self.needs: dict[tuple[str, str, bool], Need] = {}
        self.is_cut = False

    def add(self, path: str, **said: Any) -> None:
        """Note one file and what is known of it."""
        size = measure(path)
        need = {"path": path, "size": size, "is_there": size >= 0, **said}
        key = (path, said["holder"], said["is_absolute"])
        known = self.needs.get(key)
        if known is not None:
            known["is_needed"] = known["is_needed"] or need["is_needed"]
        elif len(self.needs) < NEEDS_MAX:
            self.needs[key] = need
        else:
            self.is_cut = True


def measure(path: str) -> int:
    """Give the bytes of a regular file; -1 where there is none."""
    try:
        status = os.stat(path)
    except (OSError, ValueError):
        return -1
    return status.st_size if stat.S_ISREG(status.st_mode) else -1


# ---- from a path to files ---------------------------------------------------------


def expand_folder(path: str) -> Iterator[str]:
    """Name the files in a folder and below it; no symlink is followed."""
    for folder, names, files in os.walk(path):
        names.sort()
        for name in sorted(files):
            yield os.path.join(folder, name)


def expand_sequence(path: str) -> Iterator[str]:
    """Name the frames beside one frame, and those between them that are not there."""
    folder, name = os.path.split(path)
    stem, ending = os.path.splitext(name)
    found = _DIGITS.search(stem)
    if found is None:
        yield path
        return
    head, tail = stem[: found.start()], stem[found.end() :] + ending
    pattern = re.compile(re.escape(head) + r"(\d+)" + re.escape(tail))
    try:
        names = sorted(os.listdir(folder))
    except OSError:
        names = []
    numbers = {}
    for other in names:
        match = pattern.fullmatch(other)
        if match is not None and len(match[1]) <= 9:
            numbers[int(match[1])] = other
    if not numbers:
        yield path
        return
    for number in sorted(numbers):
        yield os.path.join(folder, numbers[number])
    gaps = 0
    for number in range(min(numbers), max(numbers)):
        if number not in numbers:
            yield os.path.join(folder, f"{head}{number:0{len(found[1])}}{tail}")
            gaps += 1
        if gaps == GAPS_MAX:
            return


def expand_tiles(path: str, numbers: Iterable[int]) -> Iterator[str]:
    """Name the tiles of a UDIM texture."""
    for number in numbers:
        place = number - 1001
        yield path.replace("<UDIM>", str(number)).replace(
            "<UVTILE>", f"u{place % 10 + 1}_v{place // 10 + 1}"
        )


def expand(owner: Any, path: str) -> Iterator[str]:
    """Name the files that one path of Blender's stands for."""
    source = getattr(owner, "source", "")
    is_sequence = source == "SEQUENCE" or getattr(owner, "is_sequence", False)
    if os.path.isdir(path):
        yield from expand_folder(path)
    elif "<UDIM>" in path or "<UVTILE>" in path:
        yield from expand_tiles(path, [tile.number for tile in owner.tiles][:10_000])
    elif is_sequence:
        yield from expand_sequence(path)
    else:
        yield path


# ---- a .blend ---------------------------------------------------------------------


def trace_blend(found: Collector) -> None:
    """Note what the open .blend and all that it links need."""
    import bpy

    reachable = find_reachable()
    skipped = set(find_outputs())

    def visit(owner: Any, path: str, _: Any) -> None:
        kind = type(owner).__name__
        if kind in _IGNORED or path.startswith("<"):
            return
        holder = find_holder(owner)
        place = make_absolute(path, holder)
        if place in skipped:
            return
        said = {
            "kind": _find_kind(owner, path),
            "user": clean(f"{kind} {owner.name}"),
            "holder": name_file(holder),
            "is_absolute": not path.startswith("//"),
            "is_needed": is_needed(owner, reachable),
        }
        for file in expand(owner, place):
            found.add(file, **said)
        if place.lower().endswith(USD):
            trace_usd(place, found, is_scene=False)

    bpy.data.file_path_foreach(visit)
    for owner, path in find_unvisited():
        visit(owner, path, None)
    for broken in find_broken(reachable):
        found.add(**broken)


def find_holder(owner: Any) -> Any:
    """Give the library in whose file a path stands; None for the scene's own."""
    return owner.parent if type(owner).__name__ == "Library" else owner.library


def make_absolute(path: str, holder: Any) -> str:
    """Say where a path of Blender's leads."""
    import bpy

    is_library = holder is not None and path.startswith("//")
    place = bpy.path.abspath(path, library=holder if is_library else None)
    return str(os.path.normpath(place))


def name_file(library: Any) -> str:
    """Give the path of a library's file; of the scene's own for None."""
    import bpy

    if library is None:
        return str(bpy.data.filepath)
    return str(os.path.normpath(bpy.path.abspath(library.filepath)))


def _find_kind(owner: Any, path: str) -> str:
    kind = type(owner).__name__
    if kind.endswith("NodeTree"):
        return "script" if path.endswith((".osl", ".oso")) else "node"
    return _KINDS.get(kind, "other")


def is_needed(owner: Any, reachable: set[Any]) -> bool:
    """Say whether the picture can depend on it."""
    kind = type(owner).__name__
    if kind == "Sound":
        return False  # units are silent
    if kind == "Library":
        return any(each.library == owner for each in reachable)
    # The tree of a material is no data-block of its own: its owner is what is used.
    return owner in reachable or getattr(owner, "is_embedded_data", False)


def find_outputs() -> Iterator[str]:
    """Name paths that nothing is read from."""
    import bpy

    for owner in bpy.data.objects:
        for modifier in owner.modifiers:
            if modifier.type == "OCEAN" and not modifier.is_cached:
                yield make_absolute(modifier.filepath, owner.library)


def find_unvisited() -> Iterator[tuple[Any, str]]:
    """Name the folders of simulations, which Blender's own list leaves out."""
    import bpy

    name = os.path.splitext(os.path.basename(bpy.data.filepath))[0]
    for owner in bpy.data.objects:
        for modifier in owner.modifiers:
            if modifier.type == "NODES":
                yield from _find_bakes(owner, modifier)
        caches = [each.point_cache for each in owner.particle_systems]
        caches += [
            each.point_cache for each in owner.modifiers if hasattr(each, "point_cache")
        ]
        if any(each.use_disk_cache and not each.use_external for each in caches):
            yield owner, f"//blendcache_{name}/"
        for each in caches:
            if each.use_external and each.filepath:
                yield owner, each.filepath


def _find_bakes(owner: Any, modifier: Any) -> Iterator[tuple[Any, str]]:
    for bake in modifier.bakes:
        target = bake.bake_target
        if (modifier.bake_target if target == "INHERIT" else target) != "DISK":
            continue
        path = bake.directory if bake.use_custom_path else modifier.bake_directory
        if path:
            yield owner, path


def find_broken(reachable: set[Any]) -> Iterator[Need]:
    """Name what a library should have and has not."""
    for owner in reachable:
        library = owner.library
        if owner.is_missing and library is not None and not library.is_missing:
            label = f"{type(owner).__name__} {owner.name}"
            yield {
                "path": f"{name_file(library)}/{label}"[:1_000],
                "kind": "datablock",
                "user": clean(label),
                "holder": name_file(library.parent),
                "is_absolute": False,
                "is_needed": True,
            }


# ---- glTF and USD -----------------------------------------------------------------


def trace_gltf(path: str, found: Collector) -> None:
    """Note the buffers and pictures that a glTF file names.

    Raises:
        ValueError: it is none.
    """
    said = read_gltf(path)
    folder = os.path.dirname(path)
    for kind, part in (("texture", "images"), ("buffer", "buffers")):
        for each in said.get(part, ()):
            uri = each.get("uri", "data:")
            if not isinstance(uri, str) or uri.startswith("data:"):
                continue
            place = os.path.normpath(os.path.join(folder, unquote(uri)))
            is_absolute = uri.startswith("/") or "://" in uri
            found.add(
                uri if "://" in uri else place,
                kind=kind,
                user=clean(f"{part} {each.get('name', '')}".strip()),
                holder=path,
                is_absolute=is_absolute,
                is_needed=True,
            )


def read_gltf(path: str) -> dict[str, Any]:
    """Give the JSON of a .gltf or of a .glb.

    Raises:
        ValueError: it has none.
    """
    with open(path, "rb") as file:
        head = file.read(20)
        if head[:4] == b"glTF":
            length = int.from_bytes(head[12:16], "little")
        else:
            file.seek(0)
            length = GLTF_BYTES_MAX
        raw = file.read(min(length, GLTF_BYTES_MAX))
    said = json.loads(raw)
    if not isinstance(said, dict):
        raise ValueError("it is no glTF")
    return said


def trace_usd(path: str, found: Collector, *, is_scene: bool) -> None:
    """Note the layers and assets below a USD file.

    Of what cannot be found, only what Blender would load is needed: a USD file may
    name cards for its own browser.
    """
    from pxr import UsdUtils

    layers, assets, unresolved = UsdUtils.ComputeAllDependencies(path)
    loaded = set(_find_loaded()) if is_scene else set()

    def add(file: str, *, is_wanted: bool) -> None:
        inner = file.split("[")[0]  # what lies inside a .usdz comes with it
        found.add(
            os.path.normpath(inner),
            kind="layer" if inner.lower().endswith(USD) else "texture",
            user=clean(f"layer {os.path.basename(path)}"),
            holder=path,
            is_absolute=False,
            is_needed=is_wanted,
        )

    for layer in layers:
        if layer.realPath and layer.realPath != path:
            add(layer.realPath, is_wanted=True)
    for asset in assets:
        add(asset, is_wanted=True)
    for asset in unresolved:
        add(asset, is_wanted=asset.lower().endswith(USD) or asset in loaded)


def _find_loaded() -> Iterator[str]:
    import bpy

    for image in bpy.data.images:
        if image.filepath:
            yield os.path.normpath(bpy.path.abspath(image.filepath))


# ---- the program ------------------------------------------------------------------


def trace(request: dict[str, Any]) -> dict[str, Any]:
    """Answer one request.

    Raises:
        ValueError: the scene cannot be opened.
    """
    path = request["scene"]
    tracers: dict[tuple[str, ...], Callable[[str, Collector], None]] = {
        BLEND: lambda _, found: trace_blend(found),
        GLTF: trace_gltf,
        USD: lambda path, found: trace_usd(path, found, is_scene=True),
    }
    open_scene(path, has_scripts=request["has_scripts"])
    found = Collector()
    for endings, run in tracers.items():
        if path.lower().endswith(endings):
            run(path, found)
    return {
        "facts": describe_scene(),
        "needs": list(found.needs.values()),
        "is_cut": found.is_cut,
    }


def main() -> None:
    """Read the request, write the answer."""
    with open(sys.argv[1], encoding="utf-8") as file:
        request = json.load(file)
    try:
        answer = {"fault": "", **trace(request)}
    except (ValueError, OSError) as error:
        answer = {"fault": str(error)[:500] or type(error).__name__}
    with open(sys.argv[2], "w", encoding="utf-8", errors="backslashreplace") as file:
        json.dump(answer, file)
    # Taking Blender down in order has nothing left to do, and may crash.
    sys.stdout.flush()
    os._exit(0)


if __name__ == "__main__":
    main()
