"""Reference minutes: a slow machine bills no more."""

from hypothesis import given
from hypothesis import strategies as st

from sublet.core.render.money import (
    REFERENCE_MS,
    compare_tiers,
    count_reference_ms,
    find_speed,
    make_quote,
    spread,
)

SPEEDS = st.integers(100, 20_000)


@given(st.integers(1_000, 1_000_000), SPEEDS)
def test_slow_machine_counts_as_much_as_a_fast_one(work_ms: int, speed: int) -> None:
    took_ms = work_ms * 1_000 // speed
    counted = count_reference_ms(took_ms, speed_milli=speed)
    assert abs(counted - work_ms) <= speed // 1_000 + 1  # what the rounding takes


def test_best_of_several_counts() -> None:
    assert find_speed([3 * REFERENCE_MS, REFERENCE_MS, 9 * REFERENCE_MS]) == 1_000


@given(st.integers(0, 10**7), st.integers(0, 10**9), SPEEDS, st.integers(0, 300))
def test_quote_is_a_range_below_its_cap(
    work_ms: int, price_hour: int, speed: int, check: int
) -> None:
    quote = make_quote(
        spread(work_ms),
        units=8,
        price_hour=price_hour,
        speed_milli=speed,
        cap=1_000_000,
        check_milli=check,
        machines=4,
        start_ms=0,
    )
    assert 0 <= quote.low <= quote.likely <= quote.high <= 1_000_000


def test_compares_with_published_tiers() -> None:
    hour_ms = 3_600_000
    priority, economy = compare_tiers("gtx980", gpu_ms=hour_ms)
    assert (priority.credits_milli, economy.credits_milli) == (1_000, 500)
    assert not compare_tiers("h200", gpu_ms=hour_ms)
