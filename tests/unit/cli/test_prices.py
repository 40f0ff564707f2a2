"""What a terminal shows of prices, at the widths that terminals have."""

import pytest
from msgspec.structs import replace

from sublet.cli.prices import (
    draw_bar,
    draw_curve,
    drop_doubles,
    format_csv,
    format_depth,
    format_history,
    format_overview,
    format_price,
)
from sublet.wire.prices import (
    DepthOf,
    DepthRow,
    HistoryOf,
    HourRow,
    PriceDepth,
    PriceHistory,
    PriceRow,
    Prices,
)

NOON_S = 1_800_000_000 // 3_600 * 3_600
ROW = PriceRow(
    model="rtx4090",
    region="US-CA",
    machines=3,
    units_milli=24_000,
    units_milli_free=2_500,
    ask=412_345,
    ask_p10=400_000,
    ask_median=412_345,
    ask_p90=12_999_000,
    last=399_999,
    last_at_s=NOON_S,
    deals=1_234,
    p10=380_000,
    median=400_100,
    p90=12_999_999,
)
HISTORY = PriceHistory(
    at_s=NOON_S + 1_800,
    size=9,
    total=1,
    kinds=(
        HistoryOf(
            model="",
            region="*",
            rows=(
                HourRow(NOON_S - 7_200, 4, 9_000, 10_000, 11_500, 12_000, 11_000),
                HourRow(NOON_S, 1, 700, 23_000, 23_000, 23_000, 23_000),
            ),
        ),
    ),
)


def test_overview_fits_eighty_columns() -> None:
    shown = format_overview(Prices(at_s=0, size=1, total=1, rows=(ROW,)), width=80)
    head, line = shown.splitlines()
    assert max(len(head), len(line)) <= 80
    assert line.split() == (
        [
            "rtx4090",
            "US-CA",
            "2.5/24",
            "$0.4123",
            "$0.3800",
            "$0.4001",
            "$13.00",
            "$0.4000",
            "1234",
        ]
    )


def test_overview_tells_what_is_left_out() -> None:
    shown = format_overview(Prices(at_s=0, size=1, total=7, rows=(ROW,)), width=80)
    assert shown.splitlines()[-1].startswith("… and 6 more kinds")


def test_strangers_words_do_not_move_the_cursor() -> None:
    kind = DepthOf(model="h\x1b[2J", region="D\x9bE", levels=0, rows=())
    shown = format_depth(PriceDepth(at_s=0, size=1, total=1, kinds=(kind,)), width=80)
    assert "\x1b" not in shown
    assert "\x9b" not in shown


def test_depth_draws_what_is_free() -> None:
    rows = (DepthRow(500_000, 1, 4_000, 4_000), DepthRow(600_000, 2, 2_000, 1_000))
    kind = DepthOf(model="h200", region="DE", levels=14, rows=rows)
    shown = format_depth(PriceDepth(at_s=0, size=1, total=1, kinds=(kind,)), width=80)
    lines = shown.splitlines()
    assert lines[0] == "h200, region DE"
    assert lines[2].split() == ["$0.5000", "1", "4/4", "█" * 24]
    assert lines[3].split() == ["$0.6000", "2", "1/2", "█" * 6]
    assert lines[4] == "… and 12 higher prices"


@pytest.mark.parametrize("width", [80, 120, 400])
def test_history_is_as_wide_as_the_terminal(width: int) -> None:
    lines = format_history(HISTORY, width=width).splitlines()
    hours = min(width - 8, 168)
    assert lines[0] == f"cpu, region any, the last {hours} hours"
    # The newest hour is at the right end, the one without a deal a gap.
    assert lines[1] == "median  " + " " * (hours - 3) + "▁ █"
    assert lines[2] == "deals   " + " " * (hours - 3) + "█ ▁"
    assert max(map(len, lines)) <= width
    assert lines[-1].split()[2:7] == ["1", "0.7", *["$0.0230"] * 3]


def test_history_without_deals_says_so() -> None:
    nothing = PriceHistory(at_s=0, size=1, total=0, kinds=())
    assert format_history(nothing, width=80).startswith("nothing of that kind was let")


def test_csv_has_a_line_for_each_row() -> None:
    lines = format_csv("history", HISTORY).splitlines()
    assert lines[0] == "model,region,from_s,deals,units_milli,p10,median,p90,last"
    assert lines[1:] == [
        f",*,{NOON_S - 7_200},4,9000,10000,11500,12000,11000",
        f",*,{NOON_S},1,700,23000,23000,23000,23000",
    ]
    head, line = format_csv("prices", Prices(0, 1, 1, (ROW,))).splitlines()
    assert head.split(",")[:3] == ["model", "region", "machines"]
    assert line.split(",")[:3] == ["rtx4090", "US-CA", "3"]
    (alone,) = format_csv("prices", Prices(0, 1, 0, ())).splitlines()
    assert alone == head  # a program that finds nothing still finds the columns


@pytest.mark.parametrize(
    ("price", "text"),
    [
        (-1, "-"),
        (0, "$0.0000"),
        (999_949, "$0.9999"),
        (999_950, "$1.00"),  # and not $1.0000
        (1_234_567_890, "$1,234.57"),
    ],
)
def test_prices_are_short(price: int, text: str) -> None:
    assert format_price(price) == text


@pytest.mark.parametrize(
    ("values", "line"),
    [([], ""), ([-1, -1], ""), ([5, 5], "▁▁"), ([0, 7, 14], "▁▄█")],
)
def test_curve_runs_from_low_to_high(values: list[int], line: str) -> None:
    assert draw_curve(values) == line


def test_little_is_still_seen() -> None:
    assert draw_bar(1, most=1_000_000, length=4) == "▏"
    assert draw_bar(0, most=1_000_000, length=4) == ""


def test_sum_of_one_region_is_left_out() -> None:
    everywhere = replace(ROW, region="*")
    assert drop_doubles([everywhere, ROW]) == [ROW]
    assert drop_doubles([everywhere]) == [everywhere]
    two = [everywhere, ROW, replace(ROW, region="DE")]
    assert drop_doubles(two) == two
