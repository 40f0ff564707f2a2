"""Where a job's volumes may lie in its image, and what is wrong with a list of them.

A volume is mounted by the provider over a path that the tenant names. What every sandbox
has itself stays out of reach; that no link of the image leads elsewhere is looked at
where the image is (``adapter.image_place``).
"""

import re
from collections.abc import Iterator
from itertools import pairwise

from sublet.base import limits
from sublet.wire.message import Volume
from sublet.wire.path import find_path_fault

RESERVED = ("dev", "etc", "proc", "run", "sys", "tmp", "work")
"""Folders of the root that are the sandbox's own, or its image's accounts and names."""
_HOME = re.compile(r"\A(/root|/home/[^/]+)(?:/(.+))?\Z")
_NAME = re.compile(r"\A[A-Za-z0-9_][A-Za-z0-9._-]{0,63}\Z")


def find_mount_fault(path: str) -> str:
    """Say why nothing can be mounted at a path of an image, or "".

    >>> find_mount_fault("/var/lib/data"), find_mount_fault("/proc/1")
    ('', "lies in /proc, which is the sandbox's own")
    >>> find_mount_fault("/"), find_mount_fault("data")
    ('is the whole image', 'is not absolute')
    """
    if not path.startswith("/"):
        return "is not absolute"
    if path == "/":
        return "is the whole image"
    if fault := find_path_fault(path[1:]):
        return fault
    top = path.split("/")[1]
    return f"lies in /{top}, which is the sandbox's own" if top in RESERVED else ""


def split_home(mount: str) -> tuple[str, str]:
    """Give the home folder that a mount is, or lies in, and the path below it.

    >>> split_home("/root/.cache/hub"), split_home("/home/node"), split_home("/data")
    (('/root', '.cache/hub'), ('/home/node', ''), ('', ''))
    """
    match = _HOME.match(mount)
    return (match[1], match[2] or "") if match else ("", "")


def find_volume_faults(volumes: tuple[Volume, ...]) -> Iterator[str]:
    """Say what is wrong with a job's volumes."""
    if len(volumes) > limits.VOLUMES_MAX:
        yield f"{len(volumes)} volumes; at most {limits.VOLUMES_MAX}"
        return
    for one in volumes:
        if _NAME.match(one.name) is None:
            yield f"{one.name[:64]!r} is no name: use letters, digits, '.', '_', '-'"
        if fault := find_mount_fault(one.mount):
            yield f"{one.mount[:80]!r} {fault}; mount it elsewhere, such as at /data"
    if len({one.name for one in volumes}) < len(volumes):
        yield "two volumes have one name"
    # Sorted by parts, whatever lies in a folder follows right behind it.
    for left, right in pairwise(sorted(one.mount.split("/") for one in volumes)):
        if right[: len(left)] == left:
            yield (
                f"{'/'.join(right)[:80]!r} lies in the volume at "
                f"{'/'.join(left)[:80]!r}; mount them side by side"
            )
