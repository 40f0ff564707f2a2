"""Windows of the week: read, refused, and how they fall on days when clocks change."""

from datetime import datetime
from zoneinfo import ZoneInfo

import pytest

from sublet.base.errors import Refused
from sublet.core.owner.hours import Window, find_span, parse_window, show_window

BERLIN = ZoneInfo("Europe/Berlin")
FIELD = "rules.hours"


def at(text: str) -> int:
    """Seconds since the epoch of a wall clock in Berlin."""
    return int(datetime.fromisoformat(text).replace(tzinfo=BERLIN).timestamp())


READ = {
    "mon-fri 18:00-08:00": Window((0, 1, 2, 3, 4), 1_080, 1_920),
    "sat,sun": Window((5, 6), 0, 1_440),
    "22:00-06:00": Window(tuple(range(7)), 1_320, 1_800),
    "FRI-MON 0:00-24:00": Window((0, 4, 5, 6), 0, 1_440),
    "wed 09:30 - 10:45": Window((2,), 570, 645),
}


@pytest.mark.parametrize(("text", "window"), READ.items())
def test_reads_windows(text: str, window: Window) -> None:
    assert parse_window(text, field=FIELD) == window
    assert parse_window(show_window(window), field=FIELD) == window


@pytest.mark.parametrize(
    "text",
    [
        "", " ", "always", "mon-", "mon-xyz", "mon,,tue", "mon 8", "mon 08:00",
        "08:00-08:00", "25:00-26:00", "08:60-09:00", "24:00-08:00", "08:00-24:30",
        "mon 08:00-09:00 x", "mon08:00-09:00-10:00", "00:00-00:00",
    ],
)  # fmt: skip
def test_refuses_what_is_no_window(text: str) -> None:
    with pytest.raises(Refused) as caught:
        parse_window(text, field=FIELD)
    assert (caught.value.code, caught.value.field) == ("bad_hours", FIELD)


# (windows, now, open, until)
SPANS = [
    ("mon-fri 18:00-08:00", "2026-11-23 17:59:59", False, "2026-11-23 18:00"),  # Monday
    ("mon-fri 18:00-08:00", "2026-11-23 18:00", True, "2026-11-24 08:00"),
    ("mon-fri 18:00-08:00", "2026-11-24 07:59:59", True, "2026-11-24 08:00"),
    ("mon-fri 18:00-08:00", "2026-11-24 08:00", False, "2026-11-24 18:00"),
    ("mon-fri 18:00-08:00", "2026-11-28 03:00", True, "2026-11-28 08:00"),  # Friday's
    ("mon-fri 18:00-08:00", "2026-11-29 03:00", False, "2026-11-30 18:00"),  # Sunday
    ("sat,sun", "2026-11-28 00:00", True, "2026-11-30 00:00"),  # two days, one span
    ("fri 22:00-06:00;sat 06:00-08:00", "2026-11-27 23:00", True, "2026-11-28 08:00"),
    # Clocks go forward at 2:00 on 29 March: the night is an hour shorter ...
    ("22:00-06:00", "2026-03-28 23:00", True, "2026-03-29 06:00"),
    ("02:30-04:00", "2026-03-29 03:15", False, "2026-03-29 03:30"),  # 2:30 never was
    # ... and back at 3:00 on 25 October: an hour longer.
    ("22:00-06:00", "2026-10-24 23:00", True, "2026-10-25 06:00"),
]


@pytest.mark.parametrize(("text", "now", "is_open", "until"), SPANS)
def test_knows_when_it_is_open(text: str, now: str, is_open: bool, until: str) -> None:
    windows = [parse_window(one, field=FIELD) for one in text.split(";")]
    span = find_span(windows, zone=BERLIN, now_s=at(now))
    assert (span.is_open, span.until_s) == (is_open, at(until))


def test_nights_of_clock_changes_last_as_long_as_they_last() -> None:
    night = [parse_window("22:00-06:00", field=FIELD)]
    for begin, hours in (("2026-03-28 22:00", 7), ("2026-10-24 22:00", 9)):
        span = find_span(night, zone=BERLIN, now_s=at(begin))
        assert span.until_s - at(begin) == hours * 3_600


def test_no_hours_are_all_hours() -> None:
    assert find_span((), zone=BERLIN, now_s=0).is_open
    whole = [parse_window("mon-sun", field=FIELD)]
    span = find_span(whole, zone=BERLIN, now_s=at("2026-11-23 12:00"))
    assert (span.is_open, span.until_s) == (True, 0)
