"""Reads what a plan names from the disk: shapes of paths, trees of chunks, secrets."""

import stat
from pathlib import Path

from msgspec import structs

from sublet.adapter.tree_folder import read_file, read_tree
from sublet.base import limits
from sublet.base.errors import Refused
from sublet.service.ports import Blobs
from sublet.wire.message import FileEntry, Tree
from sublet.workload.run.plan import (
    SCRIPT_BYTES_MAX,
    Program,
    Seen,
    Shape,
    add_dependencies,
)
from sublet.workload.run.wish import Source

SECRET_BYTES_MAX = 65_536
_PROJECT = "pyproject.toml"


def look(path: str) -> Seen:
    """Say what lies at a path. Never raises: what cannot be read is ``OTHER``."""
    try:
        status = Path(path).stat()
        if stat.S_ISREG(status.st_mode):
            return Seen(path, Shape.FILE, size=status.st_size)
        if stat.S_ISDIR(status.st_mode):
            names = tuple(sorted(entry.name for entry in Path(path).iterdir()))
            return Seen(path, Shape.FOLDER, names=names)
    except (FileNotFoundError, NotADirectoryError):
        return Seen(path, Shape.MISSING)
    except (OSError, ValueError):
        return Seen(path, Shape.OTHER)
    return Seen(path, Shape.OTHER)


def read_secret(path: str) -> str:
    """Give the content of a file that holds a secret, without its last newline.

    Raises:
        Refused: it cannot be read as text. Nothing of it is shown.
    """
    try:
        with Path(path).open("rb") as file:
            raw = file.read(SECRET_BYTES_MAX + 1)
        if len(raw) > SECRET_BYTES_MAX:
            raise ValueError
        return raw.decode().removesuffix("\n")
    except (OSError, ValueError):
        raise Refused(
            f"--secret: {path[:200]!r} cannot be read as text of at most "
            f"{SECRET_BYTES_MAX} bytes",
            code="bad_secret",
            field="--secret",
        ) from None


def gather(program: Program, *, blobs: Blobs, bytes_max: int) -> Tree:
    """Put everything that goes along into ``blobs``; give the work folder's tree.

    Raises:
        Refused: something that cannot travel (a symlink, a socket), or more bytes than
            the disk that is rented.
    """
    files: list[FileEntry] = []
    left = bytes_max
    for source in program.sources:
        found = _read_source(source, blobs=blobs, bytes_max=left)
        left -= sum(file.size for file in found)
        files += found
    if program.kind == "script":
        files = _complete_script(files, program.argv[0], blobs=blobs)
    return Tree(files=tuple(sorted(files, key=lambda file: file.path)))


def _read_source(source: Source, *, blobs: Blobs, bytes_max: int) -> list[FileEntry]:
    path = Path(source.path)
    try:
        if path.is_dir():
            tree = read_tree(
                path, blobs=blobs, include=source.include, bytes_max=bytes_max
            )
            return [_below(source.name, file) for file in tree.files]
        # The person named this very file, so a symlink to it is meant.
        real = path.resolve()
        tree = read_tree(
            real.parent, blobs=blobs, include=(real.name,), bytes_max=bytes_max
        )
    except Refused as fault:
        if fault.code == "tree_too_large":
            raise Refused(
                f"{source.path} does not fit into the {bytes_max} bytes of disk that "
                "are left; ask for more with --disk",
                code="inputs_too_large",
                field="--disk",
            ) from fault
        raise Refused(
            f"{source.path}: {fault.message}", code=fault.code, field="--input"
        ) from fault
    if not tree.files:
        raise Refused(f"{source.path} is not there any more", code="no_input")
    return [structs.replace(tree.files[0], path=source.name)]


def _below(name: str, file: FileEntry) -> FileEntry:
    return structs.replace(file, path=f"{name}/{file.path}") if name else file


def _complete_script(
    files: list[FileEntry], entry: str, *, blobs: Blobs
) -> list[FileEntry]:
    """Give a folder's script what its project needs, where it says nothing itself."""
    by_path = {file.path: file for file in files}
    project, script = by_path.get(_PROJECT), by_path.get(entry)
    if project is None or script is None or script.size > SCRIPT_BYTES_MAX:
        return files
    old = read_text(script, blobs)
    new = add_dependencies(old, read_text(project, blobs))
    if new == old:
        return files
    content = new.encode()
    chunks = tuple(
        blobs.put(content[start : start + limits.CHUNK_BYTES])
        for start in range(0, len(content), limits.CHUNK_BYTES)
    )
    changed = structs.replace(script, size=len(content), chunks=chunks, offset=0)
    return [changed if file is script else file for file in files]


def read_text(file: FileEntry, blobs: Blobs) -> str:
    """Give the content of a file of a tree.

    Raises:
        Refused: it is not UTF-8.
    """
    try:
        return read_file(file, blobs=blobs).decode()
    except UnicodeDecodeError as exc:
        raise Refused(f"{file.path} is not UTF-8", code="not_utf8") from exc
