"""The hours in which an owner lets others have the machine. Pure.

Written ``mon-fri 18:00-08:00``, ``sat,sun``, ``22:00-06:00``. A window that runs over
midnight belongs to the day on which it begins. Wall clocks decide, so on a day on which
clocks change a window is an hour longer or shorter, as it is for people.
"""

import re
from collections.abc import Sequence
from datetime import datetime, timedelta, tzinfo

from msgspec import Struct

from sublet.base.errors import Refused

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_DAY_MIN = 24 * 60
_AHEAD_DAYS = 8  # what lasts longer than a week lasts for ever
_WINDOW = re.compile(
    r"\A(?P<days>[a-z,-]+)?(?:\s*(?P<start>\d{1,2}:\d\d)\s*-\s*(?P<end>\d{1,2}:\d\d))?\Z"
)


class Window(Struct, frozen=True):
    """Some hours of some days of each week."""

    days: tuple[int, ...]  # 0 for Monday
    start_min: int  # after midnight
    end_min: int  # after that midnight; beyond 1,440 on the next day


class Span(Struct, frozen=True):
    """How things stand, and until when."""

    is_open: bool
    until_s: int  # since the epoch; 0 for ever


def parse_window(text: str, *, field: str) -> Window:
    """Read one window.

    Raises:
        Refused: it is none (``bad_hours``).

    >>> parse_window("fri,sat 22:00-6:00", field="rules.hours")
    Window(days=(4, 5), start_min=1320, end_min=1800)
    """
    match = _WINDOW.match(text.strip().lower())
    days = _find_days(match["days"]) if match else ()
    start, end = 0, _DAY_MIN
    if match and match["start"]:
        start, end = (_minutes(match[name]) for name in ("start", "end"))
    is_wrong = not days or start >= _DAY_MIN or end > _DAY_MIN or start == end
    if not text.strip() or is_wrong:
        raise Refused(
            f"{field}: {text[:80]!r} is no window; write it like mon-fri 18:00-08:00, "
            "sat,sun or 22:00-06:00",
            code="bad_hours",
            field=field,
        )
    return Window(days, start, end if end > start else end + _DAY_MIN)


def _find_days(text: str | None) -> tuple[int, ...]:
    """Give the days in a text, none where there is something else in it."""
    if text is None:
        return tuple(range(7))
    found: set[int] = set()
    for part in text.split(","):
        first, _, last = part.partition("-")
        if first not in DAYS or (last or first) not in DAYS or part.endswith("-"):
            return ()
        begin, count = DAYS.index(first), DAYS.index(last or first)
        found |= {(begin + step) % 7 for step in range((count - begin) % 7 + 1)}
    return tuple(sorted(found))


def _minutes(text: str) -> int:
    hours, _, minutes = text.partition(":")
    return int(hours) * 60 + int(minutes) if int(minutes) < 60 else 2 * _DAY_MIN


def show_window(window: Window) -> str:
    """Write a window so that it is read as the same one."""
    end = window.end_min
    end -= _DAY_MIN if end > _DAY_MIN else 0
    days = ",".join(DAYS[day] for day in window.days)
    start = f"{window.start_min // 60:02}:{window.start_min % 60:02}"
    return f"{days} {start}-{end // 60:02}:{end % 60:02}"


def find_span(windows: Sequence[Window], *, zone: tzinfo, now_s: int) -> Span:
    """Say whether it is one of these hours now, and until when that stays so.

    Args:
        windows: of the week; none for always.
        zone: of the wall clock that they are read by.
        now_s: since the epoch.
    """
    if not windows:
        return Span(is_open=True, until_s=0)
    today = datetime.fromtimestamp(now_s, zone).replace(
        hour=0, minute=0, second=0, microsecond=0, tzinfo=None
    )
    found = []
    for ahead in range(-2, _AHEAD_DAYS + 1):
        day = today + timedelta(days=ahead)
        for window in windows:
            if day.weekday() in window.days:
                edges = (window.start_min, window.end_min)
                found.append(tuple(_stamp(day, minutes, zone) for minutes in edges))
    until_s = now_s
    for start_s, end_s in sorted(found):  # what touches is one
        if start_s <= until_s < end_s:
            until_s = end_s
    if until_s == now_s:
        return Span(is_open=False, until_s=min(s for s, _ in found if s > now_s))
    is_long = until_s > now_s + 7 * 86_400
    return Span(is_open=True, until_s=0 if is_long else until_s)


def _stamp(day: datetime, minutes: int, zone: tzinfo) -> int:
    wall = day + timedelta(minutes=minutes)
    return int(wall.replace(tzinfo=zone).timestamp())
