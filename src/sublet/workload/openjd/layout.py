"""Where a job's files lie in the sandbox, and which of them travel. Blocks on the disk.

    job/template/…       what lies below the template's folder, at the same place there
    job/paths/NAME/…     a PATH parameter's file or folder from elsewhere
    session/             the session's working directory, anew for each task

A PATH parameter with ``dataFlow`` IN or INOUT brings what is there; what changes below
one with OUT or INOUT goes back to where the parameter says. One without is a mere text
that follows the path mapping.
"""

import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

from msgspec import Struct

from sublet.base.errors import Faults, Refused, SubletError
from sublet.workload.openjd.template import OpenJob

ROOT = "/sublet-openjd-work-folder"  # stands for the sandbox's work folder
SESSION = f"{ROOT}/session"
JOB = "job"
TEMPLATE = f"{JOB}/template"
PATHS = f"{JOB}/paths"


class Place(Struct, frozen=True):
    """A PATH parameter whose files travel."""

    name: str
    local: Path  # absolute
    box: str  # relative to the work folder
    is_folder: bool
    comes: bool  # its content goes into the sandbox
    returns: bool  # what changes there comes back


class Layout(Struct, frozen=True):
    """All of a job."""

    places: tuple[Place, ...]
    rules: tuple[
        tuple[str, str], ...
    ]  # local path -> path in the box; the first counts

    def map_path(self, path: str) -> str:
        """Give what stands in the sandbox for a local path."""
        for source, target in self.rules:
            if path == source or path.startswith(source.rstrip("/") + "/"):
                return target + path[len(source.rstrip("/")) :]
        return path

    @property
    def path_mapping(self) -> dict[str, Any]:
        """The rules, as an action reads them."""
        return {
            "version": "pathmapping-1.0",
            "path_mapping_rules": [
                {
                    "source_path_format": "POSIX",
                    "source_path": source,
                    "destination_path": target,
                }
                for source, target in self.rules
            ],
        }

    def find_return(self, path: str) -> Path | None:
        """Say where a file of the sandbox goes to, if anywhere: the nearest counts."""
        for place in self.places:
            if place.is_folder and path.startswith(f"{place.box}/"):
                target = place.local / path[len(place.box) + 1 :]
                return target if place.returns else None
            if path == place.box:
                return place.local if place.returns else None
        return None

    @property
    def folders(self) -> tuple[str, ...]:
        """The folders of the sandbox that are there before anything runs."""
        own = (p.box if p.is_folder else p.box.rpartition("/")[0] for p in self.places)
        return tuple(sorted({TEMPLATE, *own}))


def lay_out(job: OpenJob) -> Layout:
    """Say where each of a job's paths lies.

    Raises:
        Faults: an input is not there, or is not what the template says it is; or an
            output would overwrite it.
    """
    places, faults = [], list[SubletError]()
    for name, definition in job.definitions.items():
        flow = getattr(getattr(definition, "dataFlow", None), "value", "NONE")
        value = job.values[name].value
        if flow == "NONE" or not value:
            continue
        kind = definition.objectType
        place = Place(
            name=name,
            local=Path(os.path.normpath(value)),
            box=_find_box(job, name, Path(os.path.normpath(value))),
            is_folder=kind is None or kind.value == "DIRECTORY",
            comes=flow in ("IN", "INOUT"),
            returns=flow in ("OUT", "INOUT"),
        )
        fault = _find_fault(place, must_be=flow == "IN")
        if fault:
            faults.append(
                Refused(
                    f"--param {name}: {place.local} {fault}",
                    code="bad_parameter",
                    field=f"--param {name}",
                )
            )
        places.append(place)
    if faults:
        raise Faults(faults)
    outside = [(str(p.local), p.box) for p in places if p.box.startswith(f"{PATHS}/")]
    outside.sort(key=lambda pair: -len(pair[0]))
    rules = [*outside, (str(job.folder), TEMPLATE)]
    # What is nested deeper counts first.
    rules.sort(key=lambda pair: -len(pair[0]))
    # The longest first, so that the one to come back to is the nearest.
    places.sort(key=lambda place: -len(place.box))
    return Layout(
        tuple(places), tuple((source, f"{ROOT}/{target}") for source, target in rules)
    )


def _find_box(job: OpenJob, name: str, path: Path) -> str:
    if path != job.folder and path.is_relative_to(job.folder):
        return f"{TEMPLATE}/{path.relative_to(job.folder).as_posix()}"
    if path == job.folder:
        return TEMPLATE
    return f"{PATHS}/{name}/{path.name or 'root'}"


def _find_fault(place: Place, *, must_be: bool) -> str:
    if not place.local.exists():
        return "is not there" if must_be else ""
    if place.is_folder and not place.local.is_dir():
        return "is no folder, as the template's objectType wants it"
    if not place.is_folder and not place.local.is_file():
        return "is no file, as the template's objectType wants it"
    return ""


def stage(layout: Layout, target: Path, *, earlier: list[Path]) -> None:
    """Put together what a step's workers are sent as ``job/``.

    Files are linked where the disk allows it, else copied.

    Args:
        layout: of the job.
        target: the folder that becomes the work folder.
        earlier: what the steps before it left, folder by folder, each with ``job/``'s
            own tree below it; later ones count.

    Raises:
        Refused: a folder holds something that cannot travel.
    """
    (target / JOB).mkdir(parents=True)
    for place in sorted(layout.places, key=lambda one: len(one.box)):
        if place.comes and place.local.exists():
            link_tree(place.local, target / place.box)
    for folder in earlier:
        link_tree(folder, target / JOB)


def link_tree(source: Path, target: Path) -> None:
    """Link a file, or all files below a folder, to another place, over what is there.

    Raises:
        Refused: a symlink to a folder, a socket or a device.
    """
    if not source.is_dir():
        _link_file(source, target)
        return
    for path, folders, names in os.walk(source):
        for name in (*folders, *names):
            one = Path(path) / name
            if one.is_dir() and not one.is_symlink():
                continue
            if not one.is_file():
                raise Refused(
                    f"{one} is no regular file, and cannot travel; move it away, or name "
                    "the files themselves",
                    code="bad_input",
                    field=str(one),
                )
            _link_file(one, target / one.relative_to(source))


def _link_file(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    target.unlink(missing_ok=True)
    try:
        os.link(source.resolve(), target)
    except OSError:  # another disk, or one without links
        shutil.copy(source, target)


def copy_file(source: Path, target: Path) -> None:
    """Copy one file, whole or not at all, over what was there."""
    target.parent.mkdir(parents=True, exist_ok=True)
    handle, draft = tempfile.mkstemp(prefix=".sublet-", dir=target.parent)
    os.close(handle)
    try:
        shutil.copyfile(source, draft)
        shutil.copymode(source, draft)
        Path(draft).replace(target)
    except BaseException:
        Path(draft).unlink(missing_ok=True)
        raise
