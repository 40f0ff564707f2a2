"""What ``sublet prices token`` says of a token: for people in a table and a chart, or not."""

import csv
import io
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from sublet.base.units import format_duration

if TYPE_CHECKING:
    from sublet.core.pricing.oracle import Watch

CHART_LINES = 8
CHART_COLUMNS_MAX = 120
HOLD_S = 300  # that a price holds in a chart, as it does in the average
_MARGIN = 16  # columns beside a chart
_LETTERS = {"ok": "·", "warn": "w", "halt": "H"}
_E8 = 100_000_000


class Point(NamedTuple):
    """A token's price at one time; in 10^-8 dollars, 0 where there was none."""

    at_s: int
    spot_e8: int
    average_e8: int
    guard: str


class Seen(NamedTuple):
    """What the command knows of one token."""

    watch: "Watch"
    points: list[Point]
    unheard: Mapping[str, str]  # sources without an answer in the last round: why


# ---- for people -------------------------------------------------------------------


def format_token(seen: Seen, *, width: int) -> str:
    """Lay out the price, the sources and a chart."""
    from sublet.cli.chart import draw_chart, sample_columns
    from sublet.cli.output import format_table

    lines = [format_line(seen)]
    rows = [
        (
            row["source"],
            format_e8(row["price_e8"]),
            _age(row["age_s"]),
            _tell(row),
        )
        for row in list_sources(seen)
    ]
    if rows:
        lines.append(format_table(("SOURCE", "PRICE", "AGE", ""), rows))
    spots = [(p.at_s, p.spot_e8) for p in seen.points if p.spot_e8]
    if len(spots) > 1:
        first_s, last_s = seen.points[0].at_s, seen.points[-1].at_s
        span = format_duration(last_s - first_s)
        columns = max(_MARGIN, min(width - _MARGIN, CHART_COLUMNS_MAX))
        spread = {
            "first_s": first_s,
            "last_s": last_s,
            "columns": columns,
            "hold_s": HOLD_S,
        }
        chart = draw_chart(
            sample_columns(spots, **spread), height=CHART_LINES, label=format_e8
        )
        margin = chart[0].index("│")
        letters = list(_LETTERS)
        states = [(p.at_s, letters.index(p.guard)) for p in seen.points]
        guards = "".join(
            " " if one < 0 else _LETTERS[letters[one]]
            for one in sample_columns(states, **spread)
        ).rstrip()
        key = f"{span}; · ok, w warn, H halt"
        lines += [*chart, f"{'':{margin}}└{guards}", f"{'':{margin + 1}}{key}"]
    return "\n".join(lines)


def format_line(seen: Seen) -> str:
    """Say in one line what a token costs and what may be done."""
    watch = seen.watch
    at = time.strftime("%H:%M:%S", time.gmtime(max(watch.judged_at_s, 0)))
    average = ""
    if watch.spot_e8 and watch.average_e8:
        off_bps = (watch.spot_e8 - watch.average_e8) * 10_000 // watch.average_e8
        average = f", average {format_e8(watch.average_e8)} ({off_bps / 100:+.2f} %)"
    held = format_duration(max(0, watch.judged_at_s - watch.since_s))
    why = "; ".join(_REASONS[reason.value] for reason in watch.reasons)
    return (
        f"{watch.token}  spot {format_e8(watch.spot_e8)}{average}  {watch.guard.value} "
        f"for {held}{': ' if why else ''}{why}  ({at} UTC)"
    )


def format_e8(price_e8: int) -> str:
    """Write 10^-8 dollars with as many places as a price of that size needs.

    >>> format_e8(183_487_211), format_e8(6_321_000_000_000), format_e8(1_234), format_e8(0)
    ('$1.8349', '$63,210.00', '$0.00001234', '-')
    """
    if not price_e8:
        return "-"
    places = 2 if price_e8 >= 100 * _E8 else 4 if price_e8 >= _E8 // 10 else 8
    step = 10 ** (8 - places)
    whole, fraction = divmod((price_e8 + step // 2) // step, 10**places)
    return f"${whole:,}.{fraction:0{places}d}"


def _tell(row: Mapping[str, Any]) -> str:
    why = _WHY[row["why"]]
    return f"still counts; {why}" if why and row["is_believed"] else why


def _age(age_s: int) -> str:
    return "-" if age_s < 0 else format_duration(age_s)


_REASONS = {
    "few_sources": "fewer than two sources are believed",
    "no_average": "watched for too short a time; see --watch",
    "moving": "more than 5 % off its average",
    "jumped": "more than 15 % off its average",
    "silent": "no source is believed for ten minutes",
    "below_peg": "below $0.995 for ten minutes",
    "off_peg": "below $0.97",
    "settling": "a halt ends after half an hour within 2 %",
}


class _Whys(dict[str, str]):
    def __missing__(self, why: str) -> str:
        return f"no answer: {why}"


_WHY = _Whys(
    {
        "": "",
        "stale": "dropped: too old",
        "future": "dropped: its time is ahead of ours",
        "unsure": "dropped: unsure by more than 1.5 %",
        "off_median": "dropped: more than 1.5 % off the median",
        "feed_busy": "no answer: asked too often",
        "feed_refused": "no answer: it wants another key",
        "bad_price": "no answer: what it said is no price",
    }
)


# ---- for machines -----------------------------------------------------------------


def list_sources(seen: Seen) -> list[dict[str, Any]]:
    """List the sources: what each said last, how old that is, and why it is dropped."""
    watch = seen.watch
    whys = {**seen.unheard, **{fault.source: fault.why for fault in watch.faults}}
    kept = {reading.source for reading in watch.kept}
    silent = set(seen.unheard) - {reading.source for reading in watch.latest}
    rows = [
        {
            "source": reading.source,
            "price_e8": reading.price_e8,
            "confidence_e8": reading.confidence_e8,
            "published_at_s": reading.published_at_s,
            "age_s": watch.judged_at_s - reading.published_at_s,
            "is_believed": reading.source in kept,
            "why": whys.get(reading.source, ""),
        }
        for reading in watch.latest
    ]
    rows += [
        {"source": x, "price_e8": 0, "age_s": -1, "is_believed": False, "why": whys[x]}
        for x in silent
    ]
    return sorted(rows, key=lambda row: str(row["source"]))


def format_json(seen: Sequence[Seen]) -> str:
    """Write one object a token, in one list."""
    import msgspec

    rows = [
        {
            "token": one.watch.token,
            "guard": one.watch.guard.value,
            "reasons": [reason.value for reason in one.watch.reasons],
            "since_s": one.watch.since_s,
            "judged_at_s": one.watch.judged_at_s,
            "spot_e8": one.watch.spot_e8,
            "average_e8": one.watch.average_e8,
            "sources": list_sources(one),
            "history": [point._asdict() for point in one.points],
        }
        for one in seen
    ]
    return msgspec.json.encode(rows).decode()


def format_csv(seen: Sequence[Seen]) -> str:
    """Write a line for each moment of each token."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("token", *Point._fields))
    for one in seen:
        writer.writerows((one.watch.token, *point) for point in one.points)
    return text.getvalue()
