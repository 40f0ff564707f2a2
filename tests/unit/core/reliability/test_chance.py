"""The predicted chance of finishing: small numbers worked by hand."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sublet.core.reliability.chance import (
    CERTAIN,
    LASTS_S_MAX,
    chance_ppm,
    lasts_s,
)

DAY_S = 86_400


@pytest.mark.parametrize(
    ("ran_s", "faults", "lasts"),
    [
        (0, 0, DAY_S),  # unknown
        (3_599, 0, DAY_S),  # whole hours count
        (3_600, 0, DAY_S + 3_600),
        (DAY_S, 1, DAY_S),  # two days, two faults
        (0, 99, 864),
        (0, 1 << 40, 1),  # never 0
        (1 << 50, 0, LASTS_S_MAX),
    ],
)
def test_lasts_between_faults(ran_s: int, faults: int, lasts: int) -> None:
    assert lasts_s(ran_s=ran_s, faults=faults) == lasts


@given(lasts=st.integers(1, LASTS_S_MAX), asked_s=st.integers(1, 2_592_000))
def test_chance_is_within_bounds_and_falls_with_time(lasts: int, asked_s: int) -> None:
    now, later = (chance_ppm(lasts, asked_s=s) for s in (asked_s, 2 * asked_s))
    assert 1 <= later <= now <= CERTAIN
    assert abs(now - lasts * CERTAIN / (lasts + asked_s)) <= 2


@given(st.integers(1, 1 << 32), st.integers(1, 1 << 32))
def test_says_of_one_what_it_says_of_many(lasts: int, asked_s: int) -> None:
    (many,) = chance_ppm(np.array([lasts]), asked_s=asked_s)
    assert chance_ppm(lasts, asked_s=asked_s) == many
