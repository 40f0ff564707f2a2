"""From what was asked to what is sent: which files, which program. Pure.

The rule for SCRIPT_OR_COMMAND:

- behind ``--``, or no such file: a command, found on the provider's PATH;
- a ``.py`` file: a script; its PEP 723 metadata says what it needs;
- a folder: all of it becomes the job's work folder and its ``__main__.py``, or else
  ``main.py``, is the script. Where that has no PEP 723 metadata, the dependencies of
  the folder's ``pyproject.toml`` are taken.

With ``--image`` it is always a command, of the image; none for the image's own program.
An image that is a local file goes along.

Each ``--input`` lies in the work folder under its own name.

Not here: reading the disk (``survey``), sizes and prices (``wish``).
"""

import re
import shlex
import tomllib
from enum import StrEnum
from pathlib import PurePath

from msgspec import Struct
from msgspec.structs import replace

from sublet.base.errors import Refused
from sublet.core.image import Reference, parse_reference
from sublet.wire.path import find_path_fault
from sublet.workload.run.wish import Source, Wish

SCRIPT_BYTES_MAX = 16 * 1024 * 1024
COMMAND_LENGTH_MAX = 200  # characters that are shown of it
ENTRIES = ("__main__.py", "main.py")
# Never part of a job: history, caches, environments of this very machine.
LEFT_OUT = frozenset(
    {".git", ".hg", ".venv", "venv", "__pycache__", "node_modules"}
    | {".mypy_cache", ".pytest_cache", ".ruff_cache", ".tox"}
)
_PEP_723 = re.compile(r"(?m)^# /// script$\s(?:^#(?:| .*)$\s)+^# ///$")


class Shape(StrEnum):
    """What lies at a path."""

    MISSING = "missing"
    FILE = "file"
    FOLDER = "folder"
    OTHER = "other"  # a socket, a device, something that may not be read


class Seen(Struct, frozen=True):
    """What the disk says about a path that a wish names."""

    path: str  # as typed
    shape: Shape
    size: int = 0  # bytes, of a file
    names: tuple[str, ...] = ()  # directly in a folder


class Program(Struct, frozen=True):
    """What runs, and which files it brings."""

    kind: str  # "script" or "command", as in the manifest
    argv: tuple[str, ...]
    sources: tuple[Source, ...]
    command: str  # for people
    image: str = ""  # as the manifest has it
    lengthens: bool = False  # argv follows the image's entrypoint


def find_paths(wish: Wish) -> tuple[str, ...]:
    """Name the local paths of a wish that ``parse_program`` wants to have seen."""
    target = () if wish.is_command or not wish.target else wish.target[:1]
    archive = _parse_image(wish).path
    return (*target, *wish.inputs, *((archive,) if archive else ()))


def parse_program(wish: Wish, seen: dict[str, Seen]) -> Program:
    """Say what runs and which files go along.

    Args:
        wish: as typed.
        seen: for each of ``find_paths``.

    Raises:
        Refused: no target, a script that is not there, a folder without an entry, a
            script that is too large, two inputs of one name.
    """
    image = _parse_image(wish)
    is_own = wish.image is not None and not wish.target  # the image's own program
    if not is_own and (not wish.target or not wish.target[0]):
        raise Refused(
            "name what to run: a script, a folder, or a command behind --",
            code="no_target",
            field="SCRIPT_OR_COMMAND",
        )
    kind, argv, sources = (
        _parse_target(wish, seen)
        if wish.image is None
        else _parse_image_target(wish, image, seen)
    )
    named = tuple(_parse_input(path, seen[path]) for path in wish.inputs)
    inputs = (*named, *wish.sources)
    _check_names(sources, inputs, seen)
    shown = shlex.join(wish.target) if wish.target else str(image)
    packed = replace(image, path=PurePath(image.path).name) if image.path else image
    return Program(
        kind=kind,
        argv=argv,
        sources=(*sources, *inputs),
        command=shown[:COMMAND_LENGTH_MAX],
        image="" if wish.image is None else str(packed),
        lengthens=wish.lengthens,
    )


def _parse_image(wish: Wish) -> Reference:
    if wish.image is None:
        return Reference("")
    return parse_reference(wish.image, field="--image")


def _parse_image_target(
    wish: Wish, image: Reference, seen: dict[str, Seen]
) -> tuple[str, tuple[str, ...], tuple[Source, ...]]:
    """A command of the image, and the image itself where it is a file of ours."""
    if wish.target and not wish.is_command:
        first = wish.target[0]
        if seen[first].shape is Shape.FOLDER or first.endswith(".py"):
            raise _refuse(
                f"{first}: a script runs on the provider's own system. In an image, "
                f"bring it with --input {first} and name what runs it behind --",
                code="script_in_image",
            )
    if not image.path:
        return "command", wish.target, ()
    look = seen[image.path]
    if look.shape is Shape.FOLDER:
        raise Refused(
            f"--image: {image.path} is a folder; make it one file with: tar -C "
            f"{shlex.quote(image.path)} -cf root.tar . and name dir:root.tar",
            code="bad_image",
            field="--image",
        )
    if look.shape is not Shape.FILE:
        raise Refused(
            f"--image: {image.path} is not there, or cannot be read",
            code="no_image",
            field="--image",
        )
    return "command", wish.target, (Source(image.path, PurePath(image.path).name),)


def _parse_target(
    wish: Wish, seen: dict[str, Seen]
) -> tuple[str, tuple[str, ...], tuple[Source, ...]]:
    first, *rest = wish.target
    if wish.is_command:
        return "command", wish.target, ()
    look = seen[first]
    if look.shape is Shape.FOLDER:
        entry = next((name for name in ENTRIES if name in look.names), None)
        if entry is None:
            raise _refuse(
                f"the folder {first} has no {' or '.join(ENTRIES)} to start with",
                code="no_entry",
            )
        include = tuple(name for name in look.names if name not in LEFT_OUT)
        return "script", (entry, *rest), (Source(first, "", include),)
    if look.shape is Shape.FILE and first.endswith(".py"):
        if look.size > SCRIPT_BYTES_MAX:
            raise _refuse(
                f"{first} has {look.size} bytes; a script has at most "
                f"{SCRIPT_BYTES_MAX}. Bring data with --input",
                code="script_too_large",
            )
        name = PurePath(first).name
        return "script", (name, *rest), (Source(first, name),)
    if first.endswith(".py"):
        raise _refuse(f"there is no script {first}", code="no_script")
    if "/" in first and look.shape is not Shape.MISSING:
        raise _refuse(
            f"{first} is a local file, but no Python script; bring it with --input "
            f"{first} and run it with -- ./{PurePath(first).name}",
            code="not_a_script",
        )
    if "/" in first and not first.startswith("/"):
        raise _refuse(
            f"there is no {first} here; for a command of the job's machine write it "
            "behind --",
            code="no_script",
        )
    return "command", wish.target, ()


def _parse_input(path: str, look: Seen) -> Source:
    if look.shape not in (Shape.FILE, Shape.FOLDER):
        what = "is not there" if look.shape is Shape.MISSING else "is no file or folder"
        raise Refused(f"--input: {path} {what}", code="no_input", field="--input")
    name = PurePath(path).name
    if find_path_fault(name):
        raise Refused(
            f"--input: {path} has no name of its own; name the file or folder itself",
            code="bad_path",
            field="--input",
        )
    return Source(path, name)


def _check_names(
    sources: tuple[Source, ...], inputs: tuple[Source, ...], seen: dict[str, Seen]
) -> None:
    taken: dict[str, str] = {}
    for source in (*sources, *inputs):
        names = (source.name,) if source.name else source.include
        for name in names:
            if name in taken:
                raise Refused(
                    f"--input: {source.path} and {taken[name]} would both be {name!r} "
                    "in the job's work folder; rename one of them",
                    code="same_name",
                    field="--input",
                )
            taken[name] = source.path


def add_dependencies(script: str, pyproject: str) -> str:
    """Give a folder's script the dependencies of its project, as PEP 723 metadata.

    A script that has metadata of its own stays as it is. The block goes to the end,
    so that line numbers stay true.

    Raises:
        Refused: the project file is not TOML.

    >>> print(add_dependencies("import numpy", '[project]\\ndependencies=["numpy"]'))
    import numpy
    <BLANKLINE>
    # /// script
    # dependencies = ["numpy"]
    # ///
    <BLANKLINE>
    """
    if _PEP_723.search(script):
        return script
    try:
        project = tomllib.loads(pyproject).get("project", {})
    except tomllib.TOMLDecodeError as exc:
        raise _refuse(f"pyproject.toml is not TOML: {exc}", code="bad_project") from exc
    if not isinstance(project, dict):
        return script
    lines = []
    if isinstance(version := project.get("requires-python"), str):
        lines.append(f"requires-python = {_quote(version)}")
    needed = [one for one in project.get("dependencies", []) if isinstance(one, str)]
    if needed:
        lines.append(f"dependencies = [{', '.join(map(_quote, needed))}]")
    if not lines:
        return script
    block = "\n".join(["# /// script", *(f"# {line}" for line in lines), "# ///"])
    return f"{script}\n\n{block}\n"


def find_metadata(script: str) -> str:
    """Give the PEP 723 block of a script, or "" where it has none."""
    found = _PEP_723.search(script)
    return found[0] if found else ""


def _quote(text: str) -> str:
    """A TOML string on one line."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return '"' + "".join(c for c in escaped if c.isprintable()) + '"'


def _refuse(message: str, *, code: str) -> Refused:
    return Refused(message, code=code, field="SCRIPT_OR_COMMAND")
