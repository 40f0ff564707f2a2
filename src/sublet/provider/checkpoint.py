"""When a job's checkpoint folder holds something worth shipping, and what.

What users are told: write a checkpoint under another name and rename it when it is
whole; names that end in ``.tmp`` or ``.part`` are left out. Then whatever is seen is
whole. For those who do not: the folder is read once it has been still for a second,
or, where it is never still for so long, when nothing in it changed while it was read.

Not here: sending (``runner``), keeping (the tenant).
"""

from pathlib import Path

from msgspec import Struct
from msgspec.structs import replace

from sublet.adapter.tree_folder import Seen, Skipped, list_tree, read_tree
from sublet.base.errors import Refused
from sublet.provider.record import LeaseFolder
from sublet.service.ports import Blobs
from sublet.wire.message import FileEntry, Manifest, Tree

STILL_MS = 1_000  # without a change; then the folder counts as at rest
RESTLESS_MS = 5_000  # since the last one; then a folder that never rests is read, too
DRAFT_SUFFIXES = (".tmp", ".part")


class Kept(Struct, frozen=True):
    """What of a job is shipped while it runs."""

    folder: Path
    paths: tuple[str, ...]  # in it
    prefix: str = ""  # which the paths of a checkpoint are without


def find_kept(manifest: Manifest, folder: LeaseFolder) -> Kept | None:
    """Say what of a job is shipped: a folder of its own, or volumes by their names."""
    if manifest.checkpoint:
        return Kept(folder.work, (manifest.checkpoint,), f"{manifest.checkpoint}/")
    names = tuple(one.name for one in manifest.volumes if one.is_persistent)
    return Kept(folder.volumes, names) if names else None


class CheckpointWatch:
    """Looks at what is kept of one job again and again; methods block."""

    def __init__(self, kept: "Kept", *, blobs: Blobs, bytes_max: int) -> None:
        """Take what is kept, and where its chunks go."""
        self._kept = kept
        self._blobs = blobs
        self._bytes_max = bytes_max
        self._seen: tuple[Seen, ...] = ()
        self._since_ms = 0  # since when it has looked like this
        self._shipped: tuple[Seen, ...] = ()
        self._shipped_ms: int | None = None

    def pass_over(self) -> None:
        """Take what is there now as known: it was laid out to go on from."""
        self._shipped = self._list()

    def look(self, *, now_ms: int, is_last: bool = False) -> Tree | None:
        """Give a new checkpoint, its chunks in ``blobs``, or None.

        Args:
            now_ms: a clock that never goes back.
            is_last: the job has ended; what is there is at rest.

        Raises:
            Refused: too many files or bytes for a checkpoint.
            Unavailable: the disk is full or did not answer.
        """
        if self._shipped_ms is None:
            self._shipped_ms = now_ms
        seen = self._list()
        if not seen or seen == self._shipped:
            return None
        if seen != self._seen:
            self._seen, self._since_ms = seen, now_ms
        is_still = now_ms - self._since_ms >= STILL_MS
        is_overdue = now_ms - self._shipped_ms >= RESTLESS_MS
        if not (is_still or is_overdue or is_last):
            return None
        tree = self._read()
        if tree is None or self._list() != seen:
            return None
        self._shipped, self._shipped_ms = seen, now_ms
        return tree

    def _list(self) -> tuple[Seen, ...]:
        kept = self._kept
        return list_tree(kept.folder, include=kept.paths, without=DRAFT_SUFFIXES)

    def _read(self) -> Tree | None:
        skipped: list[Skipped] = []
        try:
            tree = read_tree(
                self._kept.folder,
                blobs=self._blobs,
                include=self._kept.paths,
                without=DRAFT_SUFFIXES,
                skipped=skipped,
                bytes_max=self._bytes_max,
            )
        except Refused as fault:
            if fault.code == "changed_while_read":
                return None
            raise
        return Tree(files=tuple(map(self._below, tree.files)))

    def _below(self, file: FileEntry) -> FileEntry:
        return replace(file, path=file.path.removeprefix(self._kept.prefix))


def place_resume(tree: Tree, path: str) -> Tree:
    """Give a checkpoint's tree as it lies in the job's folder. Pure."""
    return Tree(
        files=tuple(replace(file, path=f"{path}/{file.path}") for file in tree.files)
    )
