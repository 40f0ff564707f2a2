"""CDI files, read as data: which driver libraries the vendor says a GPU needs.

The Container Device Interface describes what a container engine should do to show a
device: nodes, mounts, variables, and hooks, which are programs that it would run as
root. Here nothing is carried out. Of a file that root wrote are taken: names of driver
libraries, the driver's own control nodes, and variables of its own. Which GPU's node a
job gets is not for a file to say; where a file's word differs, it is refused.
"""

import json
import os
import re
import stat
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct

from sublet.base import limits
from sublet.base.errors import Refused, Unavailable

CDI_FOLDERS = (Path("/etc/cdi"), Path("/var/run/cdi"))  # the later one wins
KIND = "nvidia.com/gpu"
_KINDS = (".json", ".yaml", ".yml")
_DEPTH_MAX = 16
_VERSION = re.compile(r"\A[01]\.\d{1,3}\.\d{1,3}\Z")
_LIBRARY = re.compile(r"\Alib[A-Za-z0-9_.+-]{1,120}\.so(\.[0-9]{1,9}){0,4}\Z")
_CONTROL = re.compile(r"\A/dev/nvidia(ctl|-uvm|-uvm-tools)\Z")
_NUMBERED = re.compile(r"\A/dev/nvidia([0-9]{1,4})\Z")
_VARIABLE = re.compile(r"\A((?:NVIDIA|CUDA)_[A-Z0-9_]{1,60})=([ -~]{0,200})\Z")
_CURE = "write it anew (nvidia-ctk cdi generate), or remove it"

_Text = Annotated[str, Meta(max_length=4_096)]


class _Node(Struct, frozen=True, rename="camel"):
    path: _Text
    host_path: _Text = ""


class _Mount(Struct, frozen=True, rename="camel"):
    host_path: _Text
    container_path: _Text


class _Edits(Struct, frozen=True, rename="camel"):
    """What is read of them; hooks, groups and the like are passed over."""

    env: Annotated[tuple[_Text, ...], Meta(max_length=256)] = ()
    device_nodes: Annotated[tuple[_Node, ...], Meta(max_length=1_024)] = ()
    mounts: Annotated[tuple[_Mount, ...], Meta(max_length=4_096)] = ()


class _Device(Struct, frozen=True, rename="camel"):
    name: Annotated[str, Meta(min_length=1, max_length=128)]
    container_edits: _Edits


class CdiFile(Struct, frozen=True, rename="camel"):
    """One file, as far as it is read."""

    cdi_version: _Text
    kind: _Text
    devices: Annotated[tuple[_Device, ...], Meta(max_length=1_024)]
    container_edits: _Edits = _Edits()


class GpuEdits(Struct, frozen=True):
    """What all leased GPUs need together."""

    controls: tuple[str, ...]  # device nodes of the driver, of no single GPU
    libraries: tuple[str, ...]  # host paths
    env: dict[str, str]


class GpuName(Struct, frozen=True):
    """One leased GPU: what a file may call it, and the number of its node."""

    names: tuple[str, ...]
    minor: int
    nodes: tuple[str, ...] = ()  # besides, of a MIG instance


def parse_cdi(content: bytes, *, source: str) -> CdiFile:
    """Read one file, JSON or YAML.

    Args:
        content: of the file.
        source: its name, for messages; the ending says what it is.

    Raises:
        Refused: it is too large, not what it should be, or plays tricks.
        Unavailable: YAML cannot be read on this machine.
    """
    if len(content) > limits.CDI_BYTES_MAX:
        raise _refuse(source, f"it has more than {limits.CDI_BYTES_MAX} bytes")
    try:
        plain = json.loads(content) if source.endswith(".json") else _read_yaml(content)
        file = msgspec.convert(plain, type=CdiFile)
    except (ValueError, RecursionError, msgspec.ValidationError) as error:
        raise _refuse(source, " ".join(str(error).split())[:200]) from error
    if not _VERSION.match(file.cdi_version):
        raise _refuse(
            source, f"its cdiVersion is {file.cdi_version[:40]!r}, not 0 or 1"
        )
    return file


def _read_yaml(content: bytes) -> Any:
    """Read YAML that says what it says: no aliases, which can mean gigabytes."""
    try:
        import yaml
    except ImportError as error:
        raise Unavailable(
            "PyYAML is not installed; pip install 'sublet[provider]'"
        ) from error
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    depth = 0
    try:
        for event in yaml.parse(content, Loader=loader):
            if isinstance(event, yaml.AliasEvent):
                raise ValueError("it has aliases; write out what they stand for")
            depth += isinstance(event, yaml.CollectionStartEvent)
            depth -= isinstance(event, yaml.CollectionEndEvent)
            if depth > _DEPTH_MAX:
                raise ValueError(f"it is nested deeper than {_DEPTH_MAX}")
        return loader(content).get_single_data()
    except yaml.YAMLError as error:
        raise ValueError(str(error)) from error


def read_cdi(folders: Sequence[Path] = CDI_FOLDERS) -> dict[str, tuple[_Device, ...]]:
    """Give NVIDIA's devices of all files by their names; a file's common edits first.

    Raises:
        Refused: a file cannot be used, or two of one folder name the same device.
        Unavailable: a file cannot be read.
    """
    devices: dict[str, tuple[_Device, ...]] = {}
    for folder in folders:
        here: dict[str, tuple[_Device, ...]] = {}
        for path in _list(folder):
            file = parse_cdi(_read(path), source=str(path))
            if file.kind != KIND:
                continue
            common = _Device(name="", container_edits=file.container_edits)
            for device in file.devices:
                if device.name in here:
                    raise _refuse(str(path), f"device {device.name!r} is named twice")
                here[device.name] = (common, device)
        devices |= here
    return devices


def find_edits(
    devices: Mapping[str, tuple[_Device, ...]], gpus: Sequence[GpuName]
) -> GpuEdits:
    """Say what these GPUs need, of what the files say.

    Raises:
        Refused: the files do not know a GPU, or would give away another one.
    """
    controls: dict[str, None] = {}
    libraries: dict[str, None] = {}
    env: dict[str, str] = {}
    for gpu in gpus:
        found = next((devices[name] for name in gpu.names if name in devices), None)
        if found is None:
            raise Refused(
                f"the CDI files do not name {gpu.names[0]}; {_CURE}", code="bad_cdi"
            )
        for edits in (device.container_edits for device in found):
            controls |= dict.fromkeys(_find_controls(edits, gpu))
            libraries |= dict.fromkeys(_find_libraries(edits))
            matches = (_VARIABLE.match(line) for line in edits.env)
            env |= {match[1]: match[2] for match in matches if match}
    return GpuEdits(tuple(controls), tuple(libraries), env)


def _find_controls(edits: _Edits, gpu: GpuName) -> Iterable[str]:
    for node in edits.device_nodes:
        numbered = _NUMBERED.match(node.host_path or node.path)
        if numbered and int(numbered[1]) != gpu.minor:
            raise Refused(
                f"the CDI files say that {gpu.names[0]} is {numbered[0]}, and the driver "
                f"says /dev/nvidia{gpu.minor}; {_CURE}",
                code="bad_cdi",
            )
        if _CONTROL.match(node.path) and node.host_path in ("", node.path):
            yield node.path


def _find_libraries(edits: _Edits) -> Iterable[str]:
    for mount in edits.mounts:
        path = mount.host_path
        if _LIBRARY.match(path.rpartition("/")[2]) and os.path.normpath(path) == path:
            check_library(path)
            yield path


def check_library(path: str) -> None:
    """Make sure that a library is there, and root's alone to write.

    Raises:
        Refused: it is not.
    """
    try:
        found = os.stat(path)  # noqa: PTH116  # links are followed, as the loader does
    except OSError as error:
        raise Refused(
            f"the CDI files name {path}: {error.strerror}; {_CURE}", code="bad_cdi"
        ) from error
    if not stat.S_ISREG(found.st_mode) or not _is_trusted(found):
        raise Refused(
            f"the CDI files name {path}, which is no file that root alone may write",
            code="bad_cdi",
        )


def find_aliases(path: str) -> Collection[str]:
    """Give the names that a library has in its own folder, as its links say."""
    folder, real = Path(path).parent, os.path.realpath(path)
    stem = Path(path).name.partition(".so")[0]
    names = {Path(path).name: None}
    for entry in os.scandir(folder):
        is_link = entry.name.startswith(f"{stem}.so") and entry.is_symlink()
        if is_link and os.path.realpath(entry.path) == real:
            names[entry.name] = None
    return tuple(names)


def _list(folder: Path) -> list[Path]:
    try:
        found = sorted(path for path in folder.iterdir() if path.suffix in _KINDS)
    except FileNotFoundError:
        return []
    except OSError as error:
        raise Unavailable(f"{folder} cannot be read: {error.strerror}") from error
    if len(found) > limits.CDI_FILES_MAX:
        raise _refuse(str(folder), f"it has more than {limits.CDI_FILES_MAX} files")
    return found


def _read(path: Path) -> bytes:
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(handle, "rb") as file:
            found = os.fstat(handle)
            if not stat.S_ISREG(found.st_mode) or not _is_trusted(found):
                raise _refuse(str(path), "it is no file that root alone may write")
            return file.read(limits.CDI_BYTES_MAX + 1)
    except OSError as error:
        raise Unavailable(f"{path} cannot be read: {error.strerror}") from error


def _is_trusted(found: os.stat_result) -> bool:
    is_open = found.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
    return found.st_uid in (0, os.geteuid()) and not is_open


def _refuse(source: str, why: str) -> Refused:
    return Refused(f"CDI file {source}: {why}; {_CURE}", code="bad_cdi")
