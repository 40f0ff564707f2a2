"""What a maker gives for tokens, and what their owner takes."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from sublet.base.errors import Refused, SubletError, Unavailable
from sublet.base.units import MicroUsd
from sublet.core.pricing.conversion import Conversion, convert_deposit
from sublet.core.pricing.exchange import (
    MakerTerms,
    check_offer,
    check_peg,
    offer_dollars,
)
from sublet.core.pricing.oracle import Guard, Reason, Watch
from sublet.core.pricing.reading import E8

NOW_S = 1_790_000_000
WHOLE = 10**18
CALM = Watch(
    token="RENDER",
    spot_e8=2 * E8,
    average_e8=2 * E8,
    guard=Guard.OK,
    reasons=(),
    judged_at_s=NOW_S,
)
DOLLAR = Watch(token="USDC", is_dollar=True, spot_e8=E8, judged_at_s=NOW_S)
TERMS = MakerTerms(spread_bps=50, most=MicroUsd(1_000_000_000))


def offer(watch: Watch = CALM, dollar: Watch | None = DOLLAR, **changes: Any) -> int:
    """What the maker gives, in micro-USD: for ten tokens, but for what is said."""
    said: dict[str, Any] = {
        "units": 10 * WHOLE,
        "decimals": 18,
        "at_s": NOW_S,
        "terms": TERMS,
        "free": MicroUsd(1_000_000_000),
    }
    return offer_dollars(watch, dollar, **{**said, **changes}).value


def test_keeps_its_spread() -> None:
    assert offer() == 19_900_000
    assert offer(terms=replace(TERMS, spread_bps=0)) == 20_000_000


@pytest.mark.parametrize(
    ("spot", "average", "value"), [(208, 200, 199), (200, 208, 199), (192, 200, 191.04)]
)
def test_gives_the_lower_of_spot_and_average(
    spot: int, average: int, value: float
) -> None:
    """The other one chooses the moment."""
    watch = replace(CALM, spot_e8=spot * E8 // 100, average_e8=average * E8 // 100)
    assert offer(watch) == int(value * 100_000)


def test_takes_another_dollar_at_most_at_par() -> None:
    other = replace(CALM, token="DAI", is_dollar=True)
    dear = replace(other, spot_e8=101 * E8 // 100, average_e8=E8)
    assert offer(dear) == 9_950_000
    cheap = replace(other, spot_e8=99 * E8 // 100, average_e8=E8)
    assert offer(cheap) == 9_850_500


REFUSED = {
    # what is otherwise: by which word
    "warn": (replace(CALM, guard=Guard.WARN), {}, "no_conversion"),
    "halt": (replace(CALM, guard=Guard.HALT), {}, "no_conversion"),
    "stale": (CALM, {"at_s": NOW_S + 301}, "no_conversion"),
    "judged_later": (CALM, {"at_s": NOW_S - 100}, "no_conversion"),
    "other_dollar_unwatched": (DOLLAR, {}, "no_conversion"),
    "nothing": (CALM, {"units": 0}, "bad_deposit"),
    "dust": (CALM, {"units": 1}, "bad_deposit"),
    "whole_spread": (
        CALM,
        {"terms": replace(TERMS, spread_bps=10_000)},
        "bad_deposit",
    ),
    "over_limit": (
        CALM,
        {"terms": replace(TERMS, most=MicroUsd(19_899_999))},
        "over_limit",
    ),
    "no_dollars": (CALM, {"free": MicroUsd(19_899_999)}, "no_inventory"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refuses_by_name(name: str) -> None:
    watch, changes, code = REFUSED[name]
    with pytest.raises(SubletError) as caught:
        offer(watch, **changes)
    assert caught.value.code == code


def test_gives_up_to_its_limits() -> None:
    exactly = MicroUsd(19_900_000)
    assert offer(terms=replace(TERMS, most=exactly), free=exactly) == exactly


def test_gives_nothing_while_its_dollar_is_doubted() -> None:
    doubted = replace(DOLLAR, guard=Guard.HALT, reasons=(Reason.OFF_PEG,))
    with pytest.raises(Unavailable) as caught:
        offer(dollar=doubted)
    assert caught.value.code == "off_peg"
    assert offer(dollar=replace(DOLLAR, guard=Guard.WARN)) == 19_900_000
    assert offer(dollar=None) == 19_900_000


def test_peg_stops_at_halt_alone() -> None:
    for guard in (Guard.OK, Guard.WARN):
        check_peg(replace(DOLLAR, guard=guard))
    with pytest.raises(Unavailable, match="off_peg") as caught:
        check_peg(replace(DOLLAR, guard=Guard.HALT, reasons=(Reason.OFF_PEG,)))
    assert caught.value.code == "off_peg"


@given(st.integers(1, 10**26), st.integers(1, 10**6), st.integers(0, 2_000))
def test_never_gives_more_than_a_deposit_is_worth(
    units: int, price_e6: int, spread_bps: int
) -> None:
    price_e8 = price_e6 * 100
    watch = replace(CALM, spot_e8=price_e8, average_e8=price_e8)
    worth = convert_deposit(watch, units=units, decimals=18, at_s=NOW_S)
    limits = MakerTerms(spread_bps=spread_bps, most=MicroUsd(1 << 120))
    try:
        given_ = offer(watch, units=units, terms=limits, free=MicroUsd(1 << 120))
    except Refused as refused:
        assert refused.code == "bad_deposit"
        assert worth.value * (10_000 - spread_bps) // 10_000 <= 1
        return
    assert given_ * 10_000 <= worth.value * 10_000
    assert given_ <= units * price_e8 * (10_000 - spread_bps) // 10_000 // 10**20


def own(value: int) -> Conversion:
    return Conversion(
        token="T", units=1, value=MicroUsd(value), price_e8=E8, at_s=NOW_S
    )


@pytest.mark.parametrize(
    ("dollars", "slip_bps", "is_fine"),
    [
        (100, 0, True),
        (99, 0, False),
        (99, 100, True),
        (98, 100, False),
        (250, 0, True),  # more is welcome
    ],
)
def test_owner_takes_what_is_near_its_own_price(
    dollars: int, slip_bps: int, is_fine: bool
) -> None:
    if is_fine:
        check_offer(own(100), MicroUsd(dollars), slip_bps=slip_bps)
        return
    with pytest.raises(Refused, match=r"\$0.0001\b") as caught:
        check_offer(own(100), MicroUsd(dollars), slip_bps=slip_bps)
    assert caught.value.code == "offer_too_low"
    assert caught.value.detail == {"offered": dollars, "own": 100}
