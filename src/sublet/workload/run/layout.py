"""Puts fetched outputs where they were asked for: ``REMOTE`` or ``REMOTE:LOCAL``."""

import os.path
from pathlib import Path, PurePosixPath

from msgspec import Struct, structs

from sublet.adapter.tree_writing import write_tree
from sublet.base.errors import Refused, Unavailable
from sublet.service.ports import Blobs
from sublet.wire.manifest import size_chunks
from sublet.wire.message import FileEntry, Tree
from sublet.workload.run.wish import Wanted


class Layout(Struct, frozen=True):
    """What became of outputs that were fetched."""

    missing: tuple[str, ...]  # asked for and never made
    faults: tuple[str, ...]  # what could not be put in its place, and where it is now
    is_lost: bool  # something lies nowhere but in the chunks


def lay_out_or_rescue(
    tree: Tree, wanted: tuple[Wanted, ...], *, blobs: Blobs, rescue: Path
) -> Layout:
    """Write each output to its place, or, where that fails, below another folder.

    Args:
        tree: checked: nothing in it but what was asked for.
        wanted: what was asked for.
        blobs: has the chunks; a file of which some are not here is left out.
        rescue: the other folder; made when it is needed.
    """
    missing, faults, is_lost = [], [], False
    here = {key for key in size_chunks(tree) if blobs.has(key)}
    whole = Tree(files=tuple(f for f in tree.files if here.issuperset(f.chunks)))
    for one in wanted:
        if not any(_is_below(file.path, one.remote) for file in tree.files):
            missing.append(one.remote)
            continue
        try:
            lay_out(whole, (one,), blobs=blobs)
        except (Refused, Unavailable) as fault:
            place = rescue / one.remote
            try:
                lay_out(whole, (Wanted(one.remote, str(place)),), blobs=blobs)
            except (Refused, Unavailable):
                is_lost = True
                faults.append(fault.message)
            else:
                faults.append(f"{fault.message}; the output lies in {place} instead")
    return Layout(tuple(missing), tuple(faults), is_lost)


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
    # Path.is_dir raises where a parent is closed to this user.
    is_folder = os.path.isdir(local)  # noqa: PTH112
    if one.local.endswith("/") or (one.local and is_folder):
        local = local / name
    if len(files) == 1 and files[0].path == one.remote:
        return local.parent, (structs.replace(files[0], path=local.name),)
    rest = len(one.remote) + 1
    return local, tuple(structs.replace(file, path=file.path[rest:]) for file in files)


def _is_below(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder + "/")
