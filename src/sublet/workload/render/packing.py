"""Which of the files that a scene names go to the workers, and under which paths.

``pack`` looks at every path again, on the real disk, and refuses by name what is
missing, what lies outside of the project, and what is too much; nothing is read for
that. ``relink`` has copies made of .blend files with absolute paths. The files travel
by the map's own way of inputs (``workload.run.survey``): there is no other store.
"""

import os
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from msgspec import Meta, Struct, structs

from sublet.base import limits
from sublet.base.errors import Faults, SubletError
from sublet.service.ports import Sandbox
from sublet.workload.render.chamber import Limits, run_program
from sublet.workload.render.tracing import (
    SYSTEM,
    Name,
    Need,
    Project,
    Trace,
    refuse_many,
)
from sublet.workload.run.wish import Source, refuse

NAMED_MAX = 20  # files that an error names
_SILENT = "sound"  # what no picture depends on
# What is wrong with a file: code, field, and the words around the list of them.
_WRONG = {
    "missing_files": (
        "SCENE",
        "files are missing",
        "Put them there, or take what wants them out of the scene",
    ),
    "outside_project": ("--project", "files lie outside of {folder}", "{cure}"),
    "hidden_files": (
        "SCENE",
        "files are hidden ones, which may hold secrets",
        "Rename what belongs to the scene",
    ),
    "special_file": (
        "SCENE",
        "paths lead to no regular file",
        "Put files there, or take what wants them out of the scene",
    ),
}


class Packing(Struct, frozen=True):
    """What goes to the workers."""

    scene: str  # in the work folder
    sources: tuple[Source, ...]
    bytes: int
    files: int
    warnings: tuple[str, ...]  # for people


class _Verdict(Struct, frozen=True):
    """What is to be said of one file."""

    code: str  # of ``_WRONG``; "" for a file that can go along
    name: str = ""  # within the project
    real: str = ""  # without symlinks
    size: int = 0


class _Relinked(Struct, frozen=True, forbid_unknown_fields=True):
    fault: Name
    changed: Annotated[tuple[int, ...], Meta(max_length=limits.FILES_PER_TREE_MAX)]


def pack(project: Project, trace: Trace, *, bytes_max: int) -> Packing:
    """Say which files go along.

    Args:
        project: the scene and its folder.
        trace: what Blender said.
        bytes_max: most bytes, such as the disk that is rented.

    Raises:
        Faults: what is missing and who wants it, what lies outside of the project,
            what is too large: all of it at once.
    """
    found: dict[str, _Verdict] = {}
    wrong: dict[str, list[str]] = {code: [] for code in _WRONG}
    warnings = []
    own = Need(project.scene, "scene", 0, True, "", "", False, True)
    for need in (own, *trace.needs):
        verdict = _judge(need, project)
        if not verdict.code:
            if need.is_needed or need.kind != _SILENT:
                found[verdict.name] = verdict
        elif need.is_needed:
            wrong[verdict.code].append(_describe(need, verdict, project))
        else:
            warnings.append(f"not taken along: {_describe(need, verdict, project)}")
    faults: list[SubletError] = []
    cure = _find_cure(project, trace)
    for code, (field, what, how) in _WRONG.items():
        if labels := wrong[code]:
            text = f"{len(labels)} {what}: {_join(labels)}. {how}"
            text = text.replace("{folder}", project.folder).replace("{cure}", cure)
            faults.append(refuse(field, text, code=code))
    faults += _find_excess(found, bytes_max=bytes_max)
    if faults:
        raise Faults(faults)
    return Packing(
        scene=project.find_name(project.scene),
        sources=_write_sources(found, project),
        bytes=sum(each.size for each in found.values()),
        files=len(found),
        warnings=tuple(warnings),
    )


def _judge(need: Need, project: Project) -> _Verdict:
    """Look at a file on the real disk, without reading it."""
    name = project.find_name(need.path)
    if not name:
        return _Verdict("outside_project")
    if os.path.normpath(need.path) != need.path:  # the tracer writes none such
        return _Verdict("special_file")
    if need.kind == "datablock":
        return _Verdict("missing_files", name)
    try:
        real = os.path.realpath(need.path)
        status = os.stat(real)
    except (OSError, ValueError):
        return _Verdict("missing_files", name)
    if not real.startswith(project.folder + "/"):
        return _Verdict("outside_project", "", real)
    if _is_hidden(name) or _is_hidden(os.path.relpath(real, project.folder)):
        return _Verdict("hidden_files", name)
    if not stat.S_ISREG(status.st_mode):
        return _Verdict("special_file", name)
    return _Verdict("", name, real, status.st_size)


def _is_hidden(name: str) -> bool:
    return any(part.startswith(".") for part in name.split("/"))


def _describe(need: Need, verdict: _Verdict, project: Project) -> str:
    path = verdict.name or need.path
    if verdict.real:
        path += f", which leads to {verdict.real}"
    holder = project.find_name(need.holder) or need.holder
    place = f" in {holder}" if holder else ""
    return f"{path} ({need.kind}, wanted by {need.user or 'you'}{place})"


def _find_cure(project: Project, trace: Trace) -> str:
    """Say how what lies outside of the project can come along."""
    cure = (
        "Pack it into the .blend (File > External Data > Pack Resources), or copy it "
        "into the folder"
    )
    folders = {os.path.dirname(each.path) for each in trace.needs if each.is_needed}
    common = os.path.commonpath(
        [project.folder, *(each for each in folders if _may_be_project(each))]
    )
    if common == project.folder or not _may_be_project(common):
        return cure
    return f"Add --project {common}. Or: {cure}"


def _may_be_project(folder: str) -> bool:
    parts = Path(folder).parts
    is_own = len(parts) > 2 and parts[0] == "/" and parts[1] not in SYSTEM
    return is_own and folder != str(Path.home())


def _find_excess(found: dict[str, _Verdict], *, bytes_max: int) -> list[SubletError]:
    faults: list[SubletError] = []
    total = sum(each.size for each in found.values())
    if total > bytes_max:
        largest = max(found.values(), key=lambda each: each.size)
        text = (
            f"it needs {total} bytes, and {bytes_max} are allowed; the largest file is "
            f"{largest.name} with {largest.size}. Make it smaller, or ask for more with "
            "--disk"
        )
        faults.append(refuse("SCENE", text, code="inputs_too_large"))
    if len(found) > limits.FILES_PER_TREE_MAX:
        faults.append(refuse_many(len(found)))
    return faults


def _join(labels: Sequence[str]) -> str:
    shown = "; ".join(labels[:NAMED_MAX])
    more = len(labels) - NAMED_MAX
    return f"{shown}; and {more} more" if more > 0 else shown


def _write_sources(found: dict[str, _Verdict], project: Project) -> tuple[Source, ...]:
    """Take plain files at one go; what is behind a symlink gets the symlink's name."""
    plain, linked = [], []
    for name, each in sorted(found.items()):
        if each.real == f"{project.folder}/{name}":
            plain.append(name)
        else:
            linked.append(Source(each.real, name))
    return (Source(project.folder, "", include=tuple(plain)), *linked)


# ---- absolute paths ---------------------------------------------------------------


def find_absolute(project: Project, trace: Trace) -> tuple[str, ...]:
    """Name the .blend files whose absolute paths would lead nowhere on a worker.

    Raises:
        Refused: a glTF or USD file has some: only a .blend can be changed here.
    """
    holders = {
        each.holder
        for each in trace.needs
        if each.is_absolute and project.find_name(each.path)
    }
    fixed = sorted(each for each in holders if not each.lower().endswith(".blend"))
    if fixed:
        raise refuse(
            "SCENE",
            f"{fixed[0]} names files by absolute paths, which no worker has; make them "
            "relative, or import it into a .blend",
            code="absolute_paths",
        )
    return tuple(sorted(each for each in holders if project.find_name(each)))


async def relink(
    project: Project,
    packing: Packing,
    files: tuple[str, ...],
    *,
    folder: Path,
    takes: Limits = Limits(),  # noqa: B008  # frozen
    sandbox: Sandbox | None = None,
) -> Packing:
    """Replace .blend files by copies of them whose paths are relative.

    Args:
        project: the scene and its folder.
        packing: of all files.
        files: of ``find_absolute``.
        folder: for the copies; they are needed until the map has read them.
        takes: of this machine.
        sandbox: bubblewrap by default.

    Raises:
        Refused: Blender cannot write them.
        Unavailable: no Blender or no sandbox here.
    """
    if not files:
        return packing
    request = {"files": files, "root": project.folder, "roots": project.spellings}
    copies: dict[str, Path] = {}
    async with run_program(
        "relink", request, reads=project.binds, limits=takes, sandbox=sandbox
    ) as chamber:
        answer = chamber.read_answer(_Relinked)
        if answer.fault or len(answer.changed) != len(files):
            raise refuse(
                "SCENE",
                f"its absolute paths cannot be made relative: {answer.fault}",
                code="absolute_paths",
            )
        for number, path in enumerate(files):
            name = f"{number}.blend"
            copies[project.find_name(path)] = chamber.take_file(
                name, folder / name, bytes_max=takes.disk_bytes
            )
    plain, *linked = packing.sources
    kept = tuple(name for name in plain.include if name not in copies)
    return structs.replace(
        packing,
        sources=(
            *((structs.replace(plain, include=kept),) if kept else ()),
            *(each for each in linked if each.name not in copies),
            *(Source(str(place), name) for name, place in copies.items()),
        ),
    )
