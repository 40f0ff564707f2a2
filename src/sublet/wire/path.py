"""Relative paths of strangers: what is wrong with one, before it touches a disk."""

import re

from sublet.base import limits

_PART_BYTES_MAX = 255  # of one name, as every file system here has it
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")


def find_path_fault(path: str) -> str:
    """Say what is wrong with a relative path, or "".

    >>> find_path_fault("model/weights.npz"), find_path_fault("../etc/passwd")
    ('', 'leaves its folder or is not written plainly')
    """
    if not path:
        return "is empty"
    if _CONTROL.search(path):
        return "has control characters"
    if path.startswith("/"):
        return "is absolute"
    try:
        raw = path.encode()
    except UnicodeEncodeError:
        return "is not Unicode"
    parts = raw.split(b"/")
    if any(part in (b"", b".", b"..") for part in parts):
        return "leaves its folder or is not written plainly"
    if len(raw) > limits.PATH_LENGTH_MAX:
        return f"is longer than {limits.PATH_LENGTH_MAX} bytes"
    if max(map(len, parts)) > _PART_BYTES_MAX:
        return f"has a name longer than {_PART_BYTES_MAX} bytes"
    return ""
