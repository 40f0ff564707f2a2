"""Puts fetched outputs where they were asked for: ``REMOTE`` or ``REMOTE:LOCAL``."""

from pathlib import Path, PurePosixPath

from msgspec import structs

from sublet.adapter.tree_folder import write_tree
from sublet.service.ports import Blobs
from sublet.wire.message import FileEntry, Tree
from sublet.workload.run.wish import Wanted


def lay_out(tree: Tree, wanted: tuple[Wanted, ...], *, blobs: Blobs) -> list[str]:
    """Write each output to its place; give those that were never made.

    Args:
        tree: checked: nothing in it but what was asked for.
        wanted: what was asked for.
        blobs: has all chunks.

    Raises:
        Refused: something is in the way.
        Unavailable: the disk is full or did not answer.
    """
    missing = []
    for one in wanted:
        files = [file for file in tree.files if _is_below(file.path, one.remote)]
        if files:
            folder, placed = _place(one, files)
            write_tree(Tree(files=placed), folder, blobs=blobs)
        else:
            missing.append(one.remote)
    return missing


def _place(one: Wanted, files: list[FileEntry]) -> tuple[Path, tuple[FileEntry, ...]]:
    """Say under which local folder the files go, and by which names."""
    name = PurePosixPath(one.remote).name
    local = Path(one.local or one.remote)
    if one.local.endswith("/") or (one.local and local.is_dir()):
        local = local / name
    if len(files) == 1 and files[0].path == one.remote:
        return local.parent, (structs.replace(files[0], path=local.name),)
    rest = len(one.remote) + 1
    return local, tuple(structs.replace(file, path=file.path[rest:]) for file in files)


def _is_below(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder + "/")
