"""Which machines a gang gets, at what price, and why there is none."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sublet.core.book.book import Book
from sublet.core.book.quote import Match, quote
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


def market(*offers: dict[str, Any]) -> Book:
    """Fill a book: one CPU and one GiB of each machine cost its CPU's price."""
    book = Book()
    for number, each in enumerate(offers):
        fields = {"provider": number, "memory_price_hour": 0} | each
        provider = address(fields.pop("provider"))
        offer = make_offer(machine=f"m{number}", **fields)
        record = OfferRecord(digest(number), number + 1, provider, offer)
        book.offers.put(record, is_up=True, now_s=START_S)
    return book


def find(book: Book, machines: int, **wish: Any) -> Match:
    order = make_order(cpus_milli=1_000, memory_bytes=GIB, machines=machines, **wish)
    return quote(book, order, now_s=START_S)


def names(match: Match) -> list[str]:
    return [member.machine for member in match.members]


def costing(*prices: int) -> list[dict[str, Any]]:
    return [{"cpu_price_hour": price} for price in prices]


def test_cheapest_machines_are_paid_the_next_price() -> None:
    match = find(market(*costing(30, 10, 40, 20)), 3)
    assert names(match) == ["m1", "m3", "m0"]
    assert [member.price_hour for member in match.members] == [40, 40, 40]
    assert (match.price_hour, match.duration_s) == (120, 3_600)
    assert match.hold == sum(member.hold for member in match.members) == 120


def test_each_is_paid_what_it_asks_on_request() -> None:
    match = find(market(*costing(30, 10, 40, 20)), 3, pricing="pay_as_bid")
    assert [member.price_hour for member in match.members] == [10, 20, 30]


def test_rivals_above_the_maximum_bring_the_maximum() -> None:
    match = find(market(*costing(30, 10, 90)), 2, price_hour_max=50)
    assert [member.price_hour for member in match.members] == [50, 50]


def test_nobody_else_at_all_brings_what_is_asked() -> None:
    match = find(market(*costing(30, 10)), 2)
    assert [member.price_hour for member in match.members] == [10, 30]


def test_owner_of_several_gains_nothing_by_one_of_them() -> None:
    # Without owner 7 the gang would be m2 and m3, for 50 + 60.
    own = [{"provider": 7, "cpu_price_hour": price} for price in (10, 40)]
    match = find(market(*own, *costing(50, 60)), 2)
    assert [member.price_hour for member in match.members] == [55, 55]


def test_odd_saving_is_shared_out_whole() -> None:
    # Rounded down for each of the two it would be 3 + 3, and a floor of 4 would gain.
    own = [{"provider": 7, "cpu_price_hour": 1}] * 2
    match = find(market(*own, *costing(3, 4)), 2)
    assert sorted(member.price_hour for member in match.members) == [3, 4]


def test_no_two_share_what_they_are_apart_in() -> None:
    book = market(
        {"cpu_price_hour": 1, "region": "DE", "network": "as1"},
        {"cpu_price_hour": 2, "region": "DE", "network": "as2", "provider": 0},
        {"cpu_price_hour": 3, "region": "FR", "network": "as1"},
        {"cpu_price_hour": 4, "region": "PL", "network": "as3"},
        {"cpu_price_hour": 5, "region": "", "network": ""},
    )
    assert names(find(book, 2)) == ["m0", "m1"]
    assert names(find(book, 2, apart=("provider",))) == ["m0", "m2"]
    assert names(find(book, 3, apart=("region",))) == ["m0", "m2", "m3"]
    assert names(find(book, 2, apart=("network",))) == ["m0", "m1"]
    # m0 is the cheapest, and shares with both that would make three with m1.
    assert names(find(book, 3, apart=("network", "region"))) == ["m1", "m2", "m3"]
    with pytest.raises(NoMatch):  # who says nothing of its region may be anywhere
        find(book, 4, apart=("region",))


def test_members_stand_around_one_place() -> None:
    book = market(
        {"cpu_price_hour": 1, "latencies": ("oslo=2", "rome=40")},
        {"cpu_price_hour": 2, "latencies": ("rome=3",)},
        {"cpu_price_hour": 3, "latencies": ("oslo=3", "rome=30")},
        {"cpu_price_hour": 4, "latencies": ("rome=5",)},
        {"cpu_price_hour": 1},
    )
    assert names(find(book, 2, together_ms=6)) == ["m0", "m2"]
    assert names(find(book, 2, together_ms=10)) == ["m0", "m2"]
    assert names(find(book, 3, together_ms=60)) == ["m1", "m2", "m3"]
    assert names(find(book, 2)) == ["m0", "m4"]
    with pytest.raises(NoMatch) as caught:
        find(book, 3, together_ms=59)
    assert caught.value.detail["relax"] == "together_ms"
    assert "together from 59 ms to 60 ms" in str(caught.value)


def test_nobody_has_measured_anything() -> None:
    with pytest.raises(NoMatch) as caught:
        find(market(*costing(1, 2)), 2, together_ms=10)
    assert "Change together from 10 ms to any" in str(caught.value)


def test_says_how_many_would_do_together() -> None:
    with pytest.raises(NoMatch) as caught:
        find(market(*costing(1, 2, 3)), 4)
    assert "wants 4 machines together, and 3 would do" in str(caught.value)
    assert caught.value.detail["machines"] == 3
    assert caught.value.detail["relax"] == "machines"


def test_names_what_keeps_them_from_being_apart() -> None:
    alike = [{"cpu_price_hour": 1, "network": "as1"}] * 3
    with pytest.raises(NoMatch) as caught:
        find(market(*alike), 2, apart=("network",))
    assert caught.value.detail["relax"] == "apart"


def test_nothing_that_fits_is_explained_as_for_one() -> None:
    with pytest.raises(NoMatch) as caught:
        find(market(*costing(90, 91)), 2, price_hour_max=50)
    assert caught.value.detail["price"] == 2
    assert caught.value.detail["relax_cost_hour"] == 90


def test_total_pays_for_all_of_them() -> None:
    match = find(market(*costing(360_000, 360_000, 360_000)), 3, total_max=300_003)
    assert match.duration_s == 1_000
    assert match.hold <= 300_003


def test_fullest_of_equal_machines_comes_first() -> None:
    gpus = {"gpu_model": "a100", "gpu_memory_bytes": GIB, "cpu_price_hour": 1}
    book = market(
        gpus | {"gpu_uuids": ("a", "b", "c")},
        gpus | {"gpu_uuids": ("d",)},
        gpus | {"gpu_uuids": ("e", "f")},
    )
    assert names(find(book, 2, gpu_count=1)) == ["m1", "m2"]


# ---- nobody gains by a false floor ------------------------------------------------

worlds = st.lists(
    st.fixed_dictionaries(
        {
            "provider": st.integers(0, 3),
            "cpu_price_hour": st.integers(0, 12),
            "region": st.sampled_from(["DE", "FR", "PL"]),
            "network": st.sampled_from(["as1", "as2", "as3"]),
            "latencies": st.sampled_from(
                [("oslo=1",), ("rome=1",), ("oslo=1", "rome=1")]
            ),
        }
    ),
    min_size=3,
    max_size=7,
)
wishes = st.fixed_dictionaries(
    {
        "apart": st.sampled_from(
            [(), ("provider",), ("region",), ("provider", "network")]
        ),
        "together_ms": st.sampled_from([0, 2]),
        "price_hour_max": st.sampled_from([8, 15, 1_000_000]),
    }
)


def gain(
    wish: dict[str, Any],
    offers: list[dict[str, Any]],
    costs: dict[int, int],
    machines: int,
) -> int:
    """Give what the owner of these machines is paid beyond what they cost it."""
    try:
        match = find(market(*offers), machines, total_max=1 << 50, **wish)
    except NoMatch:
        return 0
    numbers = {int(each.machine[1:]): each.price_hour for each in match.members}
    return sum(paid - costs[n] for n, paid in numbers.items() if n in costs)


@settings(max_examples=300, deadline=None)
@given(offers=worlds, wish=wishes, machines=st.integers(2, 3), data=st.data())
def test_no_false_floor_gains_in_a_gang(
    offers: list[dict[str, Any]],
    wish: dict[str, Any],
    machines: int,
    data: st.DataObject,
) -> None:
    who = offers[0]["provider"]
    own = {
        n: each["cpu_price_hour"]
        for n, each in enumerate(offers)
        if each["provider"] == who
    }
    others = [each for each in offers if each["provider"] != who]
    try:  # an owner without whom there is no gang is paid what it asks
        find(
            market(*others),
            machines,
            total_max=1 << 50,
            **(wish | {"price_hour_max": 1 << 40}),
        )
    except NoMatch:
        return
    false = [dict(each) for each in offers]
    # An owner of several may gain by letting one for less than it costs, where that
    # is above the order's maximum and there is no gang without it.
    is_alone = len(own) == 1 or "provider" in wish["apart"]
    for number, cost in own.items():
        least = 0 if is_alone else cost
        false[number]["cpu_price_hour"] = data.draw(st.integers(least, 20))
    assert gain(wish, false, own, machines) <= gain(wish, offers, own, machines)
    assert gain(wish, offers, own, machines) >= 0


def test_pay_as_bid_rewards_a_false_floor() -> None:
    # The test above can fail: here a raised floor gains.
    wish = {"pricing": "pay_as_bid"}
    own, false = costing(5, 6, 7), costing(6, 6, 7)
    assert gain(wish, false, {0: 5}, 2) > gain(wish, own, {0: 5}, 2)
