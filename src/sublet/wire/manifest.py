"""The private manifest: its commitment, and what is wrong with one.

A provider runs what a stranger wrote down here, and a tenant unpacks what a stranger
sent back: every path, size and name is checked before anything touches a disk.

Not here: folders and chunks themselves (``adapter.tree_folder``).
"""

import re
from collections.abc import Iterable, Sequence
from itertools import pairwise

from blake3 import blake3
from msgspec.structs import replace

from sublet.base import limits
from sublet.base.errors import Faults, Refused, SubletError
from sublet.base.ids import NO_DIGEST, Digest
from sublet.core.egress import EgressTable, check_destinations
from sublet.core.image import ARCHIVES, parse_reference
from sublet.wire.codec import encode
from sublet.wire.message import PROTOCOL_VERSION, FileEntry, Manifest, Own, Tree
from sublet.wire.path import find_path_fault
from sublet.wire.volume import find_volume_faults

KINDS = ("script", "command", "sealed")
SEALED = "sealed"  # the kind of a manifest that only its provider can read
_UNDER_SEAL = ("argv", "env", "secrets", "image", "volumes")
MODES = (0o644, 0o755)
_FAULTS_MAX = 20  # of one input, listed; a hostile one could have 100,000
_ECHO_LENGTH_MAX = 80

_VARIABLE = re.compile(r"\A[A-Za-z_][A-Za-z0-9_]{0,127}\Z")
_SALT = re.compile(r"\A[0-9a-f]{32}\Z")
_DIGEST = re.compile(r"\A0x[0-9a-f]{64}\Z")


def commitment(manifest: Manifest) -> Digest:
    """Hash a manifest for the order: BLAKE3 over its canonical JSON, salt included."""
    return "0x" + blake3(encode(manifest)).hexdigest()


def join_own(manifest: Manifest, own: Own | None) -> Manifest:
    """Give what one member of a gang runs: the manifest of all, and what is its own."""
    if own is None:
        return manifest
    return replace(manifest, env=manifest.env | own.env, resume=own.resume)


def tree_id(tree: Tree) -> Digest:
    """Hash a tree: BLAKE3 over its canonical JSON."""
    return "0x" + blake3(encode(tree)).hexdigest()


def has_checkpoint(manifest: Manifest) -> bool:
    """Say whether something of a job is shipped while it runs."""
    return bool(manifest.checkpoint) or any(v.is_persistent for v in manifest.volumes)


def egress_digest(table: EgressTable | None) -> Digest:
    """Hash whom a job reached, salt included; NO_DIGEST where it had no network."""
    return NO_DIGEST if table is None else "0x" + blake3(encode(table)).hexdigest()


def size_chunks(*trees: Tree) -> dict[Digest, int]:
    """Give each different chunk once, in order, with as much of it as is used.

    That is its size, but where the last file of a shared chunk was left out.
    """
    sizes: dict[Digest, int] = {}
    for tree in trees:
        for file in tree.files:
            for place, key in enumerate(file.chunks):
                end = file.offset + file.size - place * limits.CHUNK_BYTES
                sizes[key] = max(sizes.get(key, 0), min(limits.CHUNK_BYTES, end))
    return sizes


def count_bytes(*trees: Tree) -> int:
    """Count what trees take: laid out, or as chunks, whichever is more."""
    laid_out = sum(file.size for tree in trees for file in tree.files)
    return max(laid_out, sum(size_chunks(*trees).values()))


def check_manifest(manifest: Manifest) -> None:
    """Check everything about a manifest that can be known without a disk.

    Raises:
        Faults: all that is wrong, one fault each.
    """
    _raise_any(_manifest_faults(manifest))


def check_tree(tree: Tree) -> None:
    """Check the paths, modes, sizes and chunk counts of a tree.

    Raises:
        Faults: all that is wrong, one fault each.
    """
    _raise_any(_tree_faults(tree, field="files"))


# ---- faults -----------------------------------------------------------------------


def _raise_any(faults: Iterable[SubletError]) -> None:
    found: list[SubletError] = []
    for fault in faults:
        if len(found) == _FAULTS_MAX:
            found.append(Refused("and more", code="more_faults"))
            break
        found.append(fault)
    if found:
        raise Faults(found)


def _fault(field: str, text: str, *, code: str = "bad_manifest") -> Refused:
    return Refused(f"{field}: {text}", code=code, field=field)


def _show(text: str) -> str:
    # repr escapes what could move somebody's cursor.
    return repr(text[:_ECHO_LENGTH_MAX])


def _tree_faults(tree: Tree, *, field: str) -> Iterable[SubletError]:
    if len(tree.files) > limits.FILES_PER_TREE_MAX:
        yield _fault(
            field,
            f"{len(tree.files)} files; at most {limits.FILES_PER_TREE_MAX}",
            code="too_many_files",
        )
        return
    for file in tree.files:
        yield from _file_faults(file, field)
    if count_bytes(tree) > limits.TREE_BYTES_MAX:
        yield _fault(
            field, f"more than {limits.TREE_BYTES_MAX} bytes", code="too_large"
        )
    yield from _set_faults([file.path for file in tree.files], field)
    for left, right in pairwise(tree.files):
        if left.path > right.path:
            yield _fault(field, f"{_show(right.path)} is out of order", code="unsorted")


def _set_faults(paths: Sequence[str], field: str) -> Iterable[SubletError]:
    """Find paths that stand twice, and files that are another file's folder."""
    # Sorted by parts, whatever lies in a folder follows right behind it.
    for left, right in pairwise(sorted(path.split("/") for path in paths)):
        if left == right:
            name = _show("/".join(left))
            yield _fault(field, f"{name} stands there twice", code="bad_path")
        elif right[: len(left)] == left:
            name = _show("/".join(left))
            yield _fault(field, f"{name} is a file and a folder", code="bad_path")


def _file_faults(file: FileEntry, field: str) -> Iterable[SubletError]:
    if reason := find_path_fault(file.path):
        yield _fault(field, f"{_show(file.path)} {reason}", code="bad_path")
    if file.mode not in MODES:
        yield _fault(
            field,
            f"{_show(file.path)} has mode {file.mode:o}; 644 and 755 are kept",
            code="bad_mode",
        )
    chunks = -(-file.size // limits.CHUNK_BYTES)
    if file.size < 0 or len(file.chunks) != chunks:
        yield _fault(
            field,
            f"{_show(file.path)} has {file.size} bytes and {len(file.chunks)} chunks",
            code="bad_size",
        )
    if file.offset and not (
        0 < file.offset <= limits.CHUNK_BYTES - file.size and chunks == 1
    ):
        yield _fault(
            field,
            f"{_show(file.path)} does not lie within its chunk at {file.offset}",
            code="bad_offset",
        )
    # A chunk's name becomes a file's name, also where no decoder has seen it.
    if not all(_DIGEST.match(chunk) for chunk in file.chunks):
        yield _fault(field, f"{_show(file.path)} names no digest", code="bad_chunk")


def _manifest_faults(manifest: Manifest) -> Iterable[SubletError]:
    if manifest.v != PROTOCOL_VERSION:
        yield _fault("v", f"is {PROTOCOL_VERSION}", code="unsupported_version")
        return
    if len(encode(manifest)) > limits.MANIFEST_BYTES_MAX:
        yield _fault(
            "manifest",
            f"more than {limits.MANIFEST_BYTES_MAX} bytes; put data into files",
            code="too_large",
        )
        return
    if _SALT.match(manifest.salt) is None:
        yield _fault("salt", "is 32 lower-case hex digits")
    if (manifest.kind == SEALED) != (manifest.sealed is not None):
        yield _fault("sealed", "goes with the kind 'sealed', and with no other")
        return
    if manifest.sealed is None:
        yield from _argv_faults(manifest)
        if manifest.image or manifest.lengthens:
            yield from _image_faults(manifest)
    elif any(getattr(manifest, name) for name in _UNDER_SEAL):
        yield _fault("argv", "what a sealed job runs stands under its seal alone")
    yield from _variable_faults(manifest)
    yield from _tree_faults(manifest.inputs, field="inputs")
    yield from _tree_faults(manifest.resume, field="resume")
    yield from _output_faults(manifest)
    yield from _volume_faults(manifest)
    yield from _range_faults(manifest)
    try:
        check_destinations(manifest.egress)
    except Refused as fault:
        yield fault


def _argv_faults(manifest: Manifest) -> Iterable[SubletError]:
    if manifest.kind not in KINDS:
        yield _fault("kind", f"is one of {', '.join(KINDS)}")
    is_missing = not manifest.argv and not manifest.image
    if is_missing or (manifest.argv and not manifest.argv[0]):
        yield _fault("argv", "names no program")
    if any("\0" in argument for argument in manifest.argv):
        yield _fault("argv", "has a NUL character")
    if manifest.kind == "script" and manifest.argv:
        script = manifest.argv[0]
        if all(file.path != script for file in manifest.inputs.files):
            yield _fault("argv", f"the script {_show(script)} is not among the inputs")


def _image_faults(manifest: Manifest) -> Iterable[SubletError]:
    if manifest.lengthens and not manifest.argv:
        yield _fault("lengthens", "goes with arguments for the image's entrypoint")
    if manifest.kind != "command":
        yield _fault("image", "goes with the kind 'command' alone")
    try:
        reference = parse_reference(manifest.image, field="image")
    except Refused as fault:
        yield fault
        return
    if reference.kind in ARCHIVES and all(
        file.path != reference.path for file in manifest.inputs.files
    ):
        yield _fault("image", f"{_show(reference.path)} is not among the inputs")


def _variable_faults(manifest: Manifest) -> Iterable[SubletError]:
    count = len(manifest.env) + len(manifest.secrets)
    if count > limits.ENVIRONMENT_VARIABLES_MAX:
        yield _fault(
            "env", f"{count} variables; at most {limits.ENVIRONMENT_VARIABLES_MAX}"
        )
        return
    # Names only: the value of a secret is never repeated.
    for field, variables in (("env", manifest.env), ("secrets", manifest.secrets)):
        for name, value in variables.items():
            if _VARIABLE.match(name) is None:
                yield _fault(field, f"{_show(name)} is no name of a variable")
            if "\0" in value:
                yield _fault(field, f"{_show(name)} has a NUL character")
    for name in manifest.env.keys() & manifest.secrets.keys():
        yield _fault("secrets", f"{_show(name)} stands in env as well")


def _output_faults(manifest: Manifest) -> Iterable[SubletError]:
    for path in manifest.outputs:
        if reason := find_path_fault(path):
            yield _fault("outputs", f"{_show(path)} {reason}", code="bad_path")
    yield from _set_faults(manifest.outputs, "outputs")
    if manifest.checkpoint and (reason := find_path_fault(manifest.checkpoint)):
        yield _fault(
            "checkpoint", f"{_show(manifest.checkpoint)} {reason}", code="bad_path"
        )
    if manifest.resume.files and not has_checkpoint(manifest):
        yield _fault("resume", "has files, and there is no checkpoint folder for them")


def _volume_faults(manifest: Manifest) -> Iterable[SubletError]:
    for text in find_volume_faults(manifest.volumes):
        yield _fault("volumes", text)
    if manifest.volumes and not manifest.image:
        yield _fault("volumes", "go with an image; without one, use the work folder")
    if manifest.checkpoint and any(one.is_persistent for one in manifest.volumes):
        yield _fault("checkpoint", "is what the persistent volumes are; name one")


def _range_faults(manifest: Manifest) -> Iterable[SubletError]:
    for field, value, least, most in (
        ("cpus_milli", manifest.cpus_milli, 1, limits.CPUS_MILLI_MAX),
        ("memory_bytes", manifest.memory_bytes, 1, limits.MEMORY_BYTES_MAX),
        ("disk_bytes", manifest.disk_bytes, 0, limits.DISK_BYTES_MAX),
        ("timeout_s", manifest.timeout_s, 0, limits.LEASE_S_MAX),
    ):
        if not least <= value <= most:
            yield _fault(field, f"is {least} to {most}, not {value}")
