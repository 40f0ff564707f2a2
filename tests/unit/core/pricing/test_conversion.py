"""What a deposit is worth, to the last unit."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sublet.base.errors import Refused, Unavailable
from sublet.core.pricing.conversion import (
    convert_deposit,
    count_units,
    value_units,
)
from sublet.core.pricing.oracle import Guard, Watch
from sublet.core.pricing.reading import PRICE_E8_MAX

UNITS = st.integers(1, 1 << 128)
PRICES = st.integers(1, PRICE_E8_MAX)
PLACES = st.integers(0, 30)
CALM = Watch(
    token="T", spot_e8=2 * 10**8, guard=Guard.OK, reasons=(), judged_at_s=1_000
)
DOLLAR = Watch(token="USDC", is_dollar=True, judged_at_s=1_000)


@given(UNITS, PRICES, PLACES)
def test_value_is_exact_but_for_one_micro_dollar(
    n: int, price: int, places: int
) -> None:
    exact = Fraction(n * price, 10**places * 100)  # 10^-8 USD a token, in 10^-6
    assert 0 <= exact - value_units(n, decimals=places, price_e8=price) < 1


@given(UNITS, PRICES, PLACES)
def test_there_and_back_gains_nothing(n: int, price: int, places: int) -> None:
    value = value_units(n, decimals=places, price_e8=price)
    assert count_units(value, decimals=places, price_e8=price) <= n


@given(st.integers(1, 1 << 63), PRICES, PLACES)
def test_counts_the_fewest_units(value: int, price: int, places: int) -> None:
    n = count_units(value, decimals=places, price_e8=price)
    assert value_units(n, decimals=places, price_e8=price) >= value
    assert value_units(n - 1, decimals=places, price_e8=price) < value


def test_fixes_the_value_of_a_deposit() -> None:
    made = convert_deposit(CALM, units=3 * 10**18, decimals=18, at_s=1_010)
    assert (made.value, made.price_e8, made.at_s) == (6_000_000, 2 * 10**8, 1_010)


def test_takes_a_dollars_token_at_par() -> None:
    # Though its price is not known, and nobody has looked for a day.
    made = convert_deposit(DOLLAR, units=1_234_567, decimals=6, at_s=90_000)
    assert made.value == 1_234_567


REFUSED = [
    # a watch, and when it is asked
    (Watch(token="T", spot_e8=1, guard=Guard.WARN, judged_at_s=1_000), 1_000),
    (Watch(token="T", spot_e8=1, guard=Guard.HALT, judged_at_s=1_000), 1_000),
    (CALM, 1_301),  # nobody has looked for more than five minutes
    (CALM, 900),  # judged in the future
    (Watch(token="USDC", is_dollar=True, guard=Guard.HALT, judged_at_s=1_000), 1_000),
]


@pytest.mark.parametrize(("watch", "at_s"), REFUSED)
def test_converts_nothing_while_the_guard_is_up(watch: Watch, at_s: int) -> None:
    with pytest.raises(Unavailable) as caught:
        convert_deposit(watch, units=1, decimals=6, at_s=at_s)
    assert caught.value.code == "no_conversion"


@pytest.mark.parametrize(
    ("units", "decimals"), [(0, 6), (-1, 6), (1, 37), (1 << 128, 6)]
)
def test_refuses_amounts_that_cannot_be(units: int, decimals: int) -> None:
    with pytest.raises(Refused):
        convert_deposit(CALM, units=units, decimals=decimals, at_s=1_000)
