"""The time that a statement is about: from a day on, until another, in UTC."""

import calendar
import re
from datetime import UTC, date, datetime, timedelta

from msgspec import Struct

from sublet.base.errors import Refused
from sublet.base.limits import TIME_S_MAX

_DAY = re.compile(r"\A([0-9]{4})-([0-9]{2})-([0-9]{2})\Z")
_MONTH = re.compile(r"\A([0-9]{4})-([0-9]{2})\Z")
_YEAR_START = re.compile(r"\A([0-9]{2})-([0-9]{2})\Z")


class Period(Struct, frozen=True):
    """Seconds since the epoch; ``until_s`` is the first that does not belong to it."""

    from_s: int
    until_s: int
    label: str  # of file names and numbers: 20261101-20261201, or "all"


ALL = Period(0, TIME_S_MAX, "all")


def parse_period(
    *,
    from_day: str = "",
    to_day: str = "",
    year: int | None = None,
    month: str = "",
    year_start: str = "01-01",
) -> Period:
    """Read a period; nothing said is all time. ``to_day`` belongs to it.

    Raises:
        Refused: ``bad_period``; no such day, or more than one way of saying it.

    >>> parse_period(year=2026, year_start="04-06").label
    '20260406-20270406'
    >>> parse_period(from_day="2026-11-01", to_day="2026-11-30").label
    '20261101-20261201'
    """
    ways = [bool(from_day or to_day), year is not None, bool(month)]
    if sum(ways) > 1:
        raise _bad("--from", "give --from and --to, or --year, or --month")
    if year is not None:
        first = _year_day(year, year_start)
        return _between(first, _year_day(year + 1, year_start))
    if year_start != "01-01":
        raise _bad("--year-start", "it says when a --year begins, which is not given")
    if month:
        return _of_month(month)
    if not from_day and not to_day:
        return ALL
    first = _parse_day(from_day, "--from") if from_day else date(1970, 1, 1)
    if not to_day:
        return Period(_second(first), TIME_S_MAX, f"{first:%Y%m%d}-")
    last = _parse_day(to_day, "--to")
    if last < first:
        raise _bad("--to", f"{to_day} is before {from_day}")
    return _between(first, last + timedelta(days=1))


def _of_month(month: str) -> Period:
    match = _MONTH.match(month)
    if match is None or not 1 <= int(match[2]) <= 12:
        raise _bad("--month", f"{month[:40]!r} is no month; write it like 2026-11")
    first = _make_day(int(match[1]), int(match[2]), 1, "--month")
    days = calendar.monthrange(first.year, first.month)[1]
    return _between(first, first + timedelta(days=days))


def _year_day(year: int, year_start: str) -> date:
    match = _YEAR_START.match(year_start)
    if match is None:
        raise _bad(
            "--year-start", f"{year_start[:40]!r} is no day; write it like 04-06"
        )
    return _make_day(year, int(match[1]), int(match[2]), "--year-start")


def _parse_day(text: str, field: str) -> date:
    match = _DAY.match(text)
    if match is None:
        raise _bad(field, f"{text[:40]!r} is no day; write it like 2026-11-22")
    return _make_day(int(match[1]), int(match[2]), int(match[3]), field)


def _make_day(year: int, month: int, day: int, field: str) -> date:
    try:
        if not 1970 <= year <= 9_998:
            raise ValueError
        return date(year, month, day)
    except ValueError as exc:
        raise _bad(field, f"there is no day {year}-{month:02}-{day:02}") from exc


def _between(first: date, after: date) -> Period:
    label = f"{first:%Y%m%d}-{after:%Y%m%d}"
    return Period(_second(first), _second(after), label)


def _second(day: date) -> int:
    return int(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp())


class BadPeriod(Refused):
    """This is no time for a statement; give a --month, a --year, or --from and --to."""

    code = "bad_period"


def _bad(field: str, why: str) -> Refused:
    return BadPeriod(f"{field}: {why}", field=field)
