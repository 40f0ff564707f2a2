"""Where something can be mounted in an image's root: found by following no link.

Nobody can make a folder in an image: jobs share it, and it is read-only. So where a mount
point is missing, the folder that it would lie in is made anew in memory, with all that
the image has there shown in it; the sandboxes do that, each in its way, by an
``Underlay``. A link on the way is refused: the kernel and the runtimes would each follow
it in their own manner, and one of them out of the image.

Not here: which paths a tenant may name at all (``wire.volume``).
"""

import errno
import os
import stat
from collections.abc import Sequence

from msgspec import Struct
from msgspec.structs import replace

from sublet.base.errors import Refused, Unavailable
from sublet.service.ports import SandboxSpec

ENTRIES_MAX = 1_000  # of all folders that are made anew for one sandbox
_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class Underlay(Struct, frozen=True):
    """A folder of an image that is made anew, so that mount points can lie in it."""

    path: str  # absolute, in the image; "" for its root
    names: tuple[str, ...]  # files and folders that it holds
    links: tuple[tuple[str, str], ...]  # links that it holds, and what they say
    points: tuple[str, ...]  # missing mount points below it, relative


def find_underlays(root: str, targets: Sequence[str]) -> tuple[Underlay, ...]:
    """Say which folders of an image have to be made anew for mounts, outer ones first.

    Args:
        root: of the image, on this machine; nobody writes there meanwhile.
        targets: absolute paths in it, plainly written, none inside another.

    Raises:
        Refused: a link or a file is in the way, or a folder holds too much.
        Unavailable: the image cannot be read.
    """
    found: dict[tuple[str, ...], Underlay] = {}
    left = ENTRIES_MAX
    try:
        for target in targets:
            parts = tuple(target.strip("/").split("/"))
            handle, depth = _descend(root, parts)
            try:
                if depth == len(parts):
                    continue
                above, point = parts[:depth], "/".join(parts[depth:])
                if above not in found:
                    found[above] = _read_folder(handle, above, left)
                    left -= len(found[above].names) + len(found[above].links)
                there = found[above]
                found[above] = replace(there, points=(*there.points, point))
            finally:
                os.close(handle)
    except OSError as error:
        raise Unavailable(f"the image cannot be read: {error}") from error
    return tuple(found[above] for above in sorted(found))


def find_spec_underlays(spec: SandboxSpec) -> tuple[Underlay, ...]:
    """Say the same of everything that a spec binds writable; () without an image.

    Raises:
        Refused: as above.
        Unavailable: as above.
    """
    targets = [bind.target for bind in spec.binds if bind.is_writable]
    return find_underlays(spec.root, targets) if spec.root else ()


def _descend(root: str, parts: Sequence[str]) -> tuple[int, int]:
    """Open the last folder of a path that an image has; say how many it has."""
    handle = os.open(root, _FLAGS)
    for depth, name in enumerate(parts):
        try:
            child = os.open(name, _FLAGS, dir_fd=handle)
        except FileNotFoundError:
            return handle, depth
        except OSError as error:
            os.close(handle)
            if error.errno not in (errno.ENOTDIR, errno.ELOOP):
                raise
            path = "/" + "/".join(parts[: depth + 1])
            raise Refused(
                f"the image has a link or a file at {path[:200]!r}, and nothing can be "
                "mounted there; mount the volume at a folder",
                code="bad_mount",
                field="volumes",
            ) from None
        os.close(handle)
        handle = child
    return handle, len(parts)


def _read_folder(handle: int, parts: Sequence[str], most: int) -> Underlay:
    path = "".join(f"/{part}" for part in parts)
    found = sorted(os.listdir(handle))
    if len(found) > most:
        raise Refused(
            f"the image holds {len(found)} names in {path[:200] or '/'!r}, too many to "
            "lay a mount point among them; make the volume's folder in the image",
            code="bad_mount",
            field="volumes",
        )
    names, links = [], []
    for name in found:
        if stat.S_ISLNK(os.lstat(name, dir_fd=handle).st_mode):
            links.append((name, os.readlink(name, dir_fd=handle)))
        else:
            names.append(name)
    return Underlay(path, tuple(names), tuple(links), ())
