"""What a terminal shows of a token, at the widths that terminals have."""

import pytest

from sublet.cli.chart import draw_chart, sample_columns
from sublet.cli.token_text import Point, Seen, format_e8, format_token
from sublet.core.pricing.oracle import Guard, Watch

SEEN = Seen(
    Watch(token="T", spot_e8=3 * 10**8, average_e8=2 * 10**8, guard=Guard.HALT),
    [Point(60 * n, (n % 5 + 1) * 10**8, 10**8, "ok") for n in range(300)],
    {"pyth": "feed_refused", "other": "unheard_of"},
)


@pytest.mark.parametrize("width", [20, 40, 80, 300])
def test_fits_the_terminal(width: int) -> None:
    chart = [
        line for line in format_token(SEEN, width=width).split("\n") if "│" in line
    ]
    assert len(chart) == 8
    assert max(map(len, chart)) <= max(width, 32)


def test_says_why_a_source_is_silent() -> None:
    text = format_token(SEEN, width=80)
    assert "no answer: it wants another key" in text
    assert "no answer: unheard_of" in text
    assert "(+50.00 %)" in text


def test_one_moment_is_no_chart() -> None:
    assert "│" not in format_token(SEEN._replace(points=SEEN.points[:1]), width=80)


def test_draws_the_same_price_flat() -> None:
    lines = draw_chart([7, 7, 7], height=5, label=str)
    assert [line.count("▁") for line in lines] == [0, 0, 0, 0, 3]
    assert draw_chart([-1, -1], height=2, label=str) == [" │  ", " │  "]


def test_holds_a_value_for_so_long_and_no_longer() -> None:
    columns = sample_columns(
        [(0, 1), (400, 2)], first_s=0, last_s=1_000, columns=10, hold_s=250
    )
    assert columns == [1, 1, 1, -1, 2, 2, 2, -1, -1, -1]


@pytest.mark.parametrize(
    ("price_e8", "text"),
    [(1, "$0.00000001"), (9_999_999, "$0.09999999"), (99_999_999, "$1.0000")],
)
def test_shows_as_many_places_as_it_needs(price_e8: int, text: str) -> None:
    assert format_e8(price_e8) == text
