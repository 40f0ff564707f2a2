"""The average of half an hour."""

from hypothesis import given
from hypothesis import strategies as st

from sublet.core.pricing.average import (
    HOLD_S_MAX,
    WINDOW_S,
    Sample,
    add_sample,
    compute_average,
)


def sample_every(span_s: int, prices: list[int]) -> list[Sample]:
    return [Sample(n * span_s, price) for n, price in enumerate(prices)]


def test_weighs_by_time() -> None:
    samples = [Sample(0, 100), Sample(100, 400), Sample(400, 400), Sample(700, 400)]
    # 100 s of 100, 900 s of 400: 370
    assert compute_average(samples, at_s=1_000) == 370


def test_unknown_where_less_than_half_was_seen() -> None:
    samples = sample_every(60, [500] * 15)
    assert compute_average(samples, at_s=899) == 0
    assert compute_average(samples, at_s=900) == 500


def test_gaps_are_not_averaged() -> None:
    # Nobody looked between 900 and 1,800: the last sample holds for 300 s of that.
    samples = [*sample_every(60, [100] * 16), Sample(1_800, 400)]
    assert compute_average(samples, at_s=1_800) == 100


def test_silence_is_no_price_of_zero() -> None:
    samples = sample_every(60, [100, 0] * 15)
    assert compute_average(samples, at_s=1_800) == 100


def test_forgets_what_no_average_needs() -> None:
    samples: tuple[Sample, ...] = ()
    for at_s in range(0, 10_000, 10):
        samples = add_sample(samples, Sample(at_s, 7))
    assert len(samples) <= (WINDOW_S + HOLD_S_MAX) // 10 + 1
    assert compute_average(samples, at_s=10_000) == 7


@given(st.lists(st.integers(1, 10**17), min_size=30, max_size=60))
def test_lies_between_lowest_and_highest(prices: list[int]) -> None:
    average = compute_average(sample_every(60, prices), at_s=60 * len(prices))
    assert min(prices) <= average <= max(prices)
