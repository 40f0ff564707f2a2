"""Which readings are believed."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sublet.core.pricing.reading import (
    OFF_BPS_MAX,
    Reading,
    find_spot,
    sift,
)

NOW_S = 1_785_143_400


def read(price_e8: int, *, source: str = "one", **changes: int) -> Reading:
    values = {"published_at_s": NOW_S, "fresh_s": 60, **changes}
    return Reading(source=source, token="T", price_e8=price_e8, **values)


ALONE = [
    # what a reading is like: why it is dropped, "" for not at all
    ({"published_at_s": NOW_S - 60}, ""),
    ({"published_at_s": NOW_S - 61}, "stale"),
    ({"published_at_s": NOW_S + 30}, ""),
    ({"published_at_s": NOW_S + 31}, "future"),
    ({"confidence_e8": 150}, ""),  # of 10,000: 150 hundredths of a percent
    ({"confidence_e8": 151}, "unsure"),
]


@pytest.mark.parametrize(("changes", "why"), ALONE)
def test_drops_what_cannot_be_believed(changes: dict[str, int], why: str) -> None:
    kept, faults = sift([read(10_000, **changes)], at_s=NOW_S)
    assert ([fault.why for fault in faults] or [""]) == [why]
    assert len(kept) == (not why)


TOGETHER = [
    # prices of the sources: the price that is found
    ([10_000], 0),  # one source is no price
    ([10_000, 10_001], 10_000),  # rounded down
    ([10_000, 10_300], 10_150),  # each exactly 150 off the median, or less
    ([10_000, 10_400], 0),  # they contradict each other: neither is believed
    ([10_000, 10_010, 99_000], 10_005),
    ([1, 10_000, 10_010], 10_005),
]


@pytest.mark.parametrize(("prices", "spot"), TOGETHER)
def test_takes_the_median_of_those_that_agree(prices: list[int], spot: int) -> None:
    readings = [read(price, source=str(n)) for n, price in enumerate(prices)]
    kept, faults = sift(readings, at_s=NOW_S)
    assert find_spot(kept) == spot
    assert len(kept) + len(faults) == len(prices)


@given(
    st.integers(10_000, 10**15),
    st.lists(st.integers(-50, 50), min_size=1, max_size=4),
    st.integers(1, 10**17),
)
def test_one_liar_moves_nothing_beyond_the_guard(
    price: int, noise_bps: list[int], lie: int
) -> None:
    honest = [price + price * bps // 10_000 for bps in noise_bps]
    readings = [read(p, source=str(n)) for n, p in enumerate([*honest, lie])]
    spot = find_spot(sift(readings, at_s=NOW_S)[0])
    if not spot:
        return
    # Whatever is accepted lies within the guard of what an honest source said: twice
    # the guard's edge for two sources, whose median lies halfway to the lie.
    low, high = min(honest), max(honest)
    assert spot * 10_000 >= low * (10_000 - OFF_BPS_MAX - 5) - 10_000
    assert spot * 10_000 <= high * (10_000 + OFF_BPS_MAX + 5) + 10_000


@given(st.permutations(range(5)), st.lists(st.integers(9_800, 10_200), min_size=5))
def test_order_of_sources_does_not_matter(order: list[int], prices: list[int]) -> None:
    readings = [read(prices[n], source=str(n)) for n in range(5)]
    shuffled = [readings[n] for n in order]
    one, other = sift(readings, at_s=NOW_S), sift(shuffled, at_s=NOW_S)
    assert set(one[0]) == set(other[0])
    assert one[1] == other[1]
