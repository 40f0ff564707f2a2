"""Which frames: ``1-250:2,300`` as people write it. Pure."""

import re

from sublet.base.errors import Refused

FRAMES_MAX = 100_000  # of one job
FRAME_MAX = 1_048_574  # Blender's own
_PART = re.compile(r"\A(-?\d{1,8})(?:-(-?\d{1,8})(?::(\d{1,8}))?)?\Z")


def parse_frames(text: str, *, field: str = "--frames") -> tuple[int, ...]:
    """Read ranges with commas between; each frame once, in order.

    Raises:
        Refused: ``bad_frames``.

    >>> parse_frames("1-7:2,3,10")
    (1, 3, 5, 7, 10)
    """
    found: set[int] = set()
    for part in text.split(","):
        match = _PART.match(part.strip())
        if match is None:
            raise _refuse(field, f"{part.strip()[:40]!r} is no frame and no range")
        first = int(match[1])
        last = first if match[2] is None else int(match[2])
        step = 1 if match[3] is None else int(match[3])
        if last < first or step < 1:
            raise _refuse(field, f"{part.strip()} has no frame in it")
        if max(abs(first), abs(last)) > FRAME_MAX:
            raise _refuse(field, f"frames lie between -{FRAME_MAX} and {FRAME_MAX}")
        if (last - first) // step >= FRAMES_MAX:
            raise _refuse(field, f"more than {FRAMES_MAX} frames; render in parts")
        found.update(range(first, last + 1, step))
    if len(found) > FRAMES_MAX:
        raise _refuse(field, f"more than {FRAMES_MAX} frames; render in parts")
    return tuple(sorted(found))


def format_frames(frames: tuple[int, ...]) -> str:
    """Write frames as short as it goes.

    >>> format_frames((1, 2, 3, 7))
    '1-3,7'
    """
    parts: list[str] = []
    start = last = None
    for frame in (*sorted(set(frames)), None):
        if last is not None and frame == last + 1:
            last = frame
            continue
        if start is not None:
            parts.append(str(start) if start == last else f"{start}-{last}")
        start = last = frame
    return ",".join(parts)


def pick_previews(frames: tuple[int, ...], *, every: int) -> tuple[int, ...]:
    """Give every so manieth frame, the first and the last among them.

    >>> pick_previews((1, 2, 3, 4, 5, 6), every=4)
    (1, 5, 6)
    """
    picked = [*frames[::every]]
    if frames and picked[-1] != frames[-1]:
        picked.append(frames[-1])
    return tuple(picked)


def _refuse(field: str, text: str) -> Refused:
    return Refused(f"{field}: {text}; write 1-250, 1-250:2 or 1,5,9", code="bad_frames")
