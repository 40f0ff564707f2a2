"""No owner gains by asking for another price than its machine costs it.

On generated markets of two providers or more that fit: several machines of an owner,
different speeds, chances and penalties, ties, and weights so large that prices share a
score. A lone seller is paid what it asks, and is the exception that ADR 3 names.
"""

from typing import Any

from hypothesis import assume, given, settings
from hypothesis import strategies as st

from sublet.core.book.book import Book
from sublet.core.book.quote import quote
from sublet.core.book.record import OfferRecord
from sublet.core.book.why_not import NoMatch
from tests.unit.core.book.world import (
    GIB,
    START_S,
    address,
    digest,
    make_offer,
    make_order,
)

machines = st.lists(
    st.fixed_dictionaries(
        {
            "provider": st.integers(0, 3),
            "cpu_price_hour": st.integers(0, 12),
            "cpu_score": st.sampled_from([1, 2, 3, 7, 1_000, (1 << 32) - 1]),
            "latencies": st.sampled_from([(), ("oslo=0",), ("oslo=3",)]),
            "lasts_s": st.sampled_from([1, 3_600, 86_400, 1 << 40]),
        }
    ),
    min_size=2,
    max_size=6,
)
wishes = st.fixed_dictionaries(
    {
        "work": st.sampled_from(["", "cpu"]),
        "near": st.just("oslo"),
        "near_price_hour": st.sampled_from([0, 1, 1_000_000_000]),
        "price_hour_max": st.sampled_from([3, 10, 30, 1_000_000_000]),
    }
)


def gain(
    wish: dict[str, Any], market: list[dict[str, Any]], costs: dict[int, int], who: int
) -> int:
    """Give what the owner is paid beyond what the machine costs it; 0 where it loses."""
    book = Book()
    for number, machine in enumerate(market):
        fields = dict(machine)
        provider, lasts_s = address(fields.pop("provider")), fields.pop("lasts_s")
        offer = make_offer(machine=f"m{number}", memory_price_hour=0, **fields)
        record = OfferRecord(digest(number), number + 1, provider, offer)
        book.offers.put(record, is_up=True, now_s=START_S, lasts_s=lasts_s)
    order = make_order(cpus_milli=1_000, memory_bytes=GIB, total_max=1 << 50, **wish)
    try:
        match = quote(book, order, now_s=START_S)
    except NoMatch:
        return 0
    assert match.winner.asked_hour <= match.price_hour <= order.price_hour_max
    if match.provider != address(who):
        return 0
    return match.price_hour - costs[int(match.machine[1:])]


@settings(max_examples=400, deadline=None)
@given(market=machines, wish=wishes, data=st.data())
def test_no_false_floor_gains(
    market: list[dict[str, Any]], wish: dict[str, Any], data: st.DataObject
) -> None:
    who = market[0]["provider"]
    assume(any(machine["provider"] != who for machine in market))
    own = [n for n, machine in enumerate(market) if machine["provider"] == who]
    costs = {n: market[n]["cpu_price_hour"] for n in own}
    false = [dict(machine) for machine in market]
    for number in own:
        false[number]["cpu_price_hour"] = data.draw(st.integers(0, 40))
    assert gain(wish, false, costs, who) <= gain(wish, market, costs, who)


@settings(max_examples=50, deadline=None)
@given(market=machines, wish=wishes)
def test_honest_owner_never_loses(
    market: list[dict[str, Any]], wish: dict[str, Any]
) -> None:
    costs = {n: machine["cpu_price_hour"] for n, machine in enumerate(market)}
    for who in range(4):
        assert gain(wish, market, costs, who) >= 0


def test_pay_as_bid_rewards_a_false_floor() -> None:
    # The test above can fail: here a raised floor gains.
    market = [
        {"provider": n, "cpu_price_hour": 5 + n, "lasts_s": 86_400} for n in range(2)
    ]
    false = [market[0] | {"cpu_price_hour": 6}, market[1]]
    wish = {"pricing": "pay_as_bid"}
    assert gain(wish, false, {0: 5}, 0) > gain(wish, market, {0: 5}, 0)
