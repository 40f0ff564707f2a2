"""The auction: who fits, who wins, what it costs, and why nobody does."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from sublet.base import limits
from sublet.base.errors import Refused
from sublet.core.book.book import Book
from sublet.core.book.offer_table import OfferTable
from sublet.core.book.quote import Match, count_fitting, quote
from sublet.core.book.record import OfferRecord
from sublet.core.book.why_not import NoMatch
from sublet.core.document import Offer, Order
from tests.unit.core.book.world import (
    GIB,
    START_S,
    TENANT,
    address,
    digest,
    make_offer,
    make_order,
)

GPUS = {"gpu_model": "h200", "gpu_memory_bytes": 141 * GIB, "gpu_uuids": ("a", "b")}


def make_book(*offers: dict[str, Any], down: tuple[int, ...] = ()) -> Book:
    """Offer i is by provider i (or ``provider``), and i-th in the log."""
    book = Book()
    for number, changed in enumerate(offers):
        provider = address(changed.pop("provider", number))
        offer = make_offer(**({"machine": f"m{number}"} | changed))
        record = OfferRecord(digest(number), number, provider, offer)
        book.offers.put(record, is_up=number not in down, now_s=START_S)
    return book


def ask(book: Book, **order: Any) -> Match:
    return quote(book, make_order(**order), now_s=START_S)


@pytest.mark.parametrize(
    ("offer", "order"),
    [
        ({"cpus_milli": 1_999}, {"cpus_milli": 2_000}),
        ({"memory_bytes": GIB - 1}, {"memory_bytes": GIB}),
        ({"disk_bytes": GIB - 1}, {"disk_bytes": GIB}),
        ({}, {"gpu_count": 1}),
        (GPUS, {"gpu_count": 3}),
        (GPUS, {"gpu_models": ("h100",), "gpu_count": 1}),
        (GPUS, {"gpu_memory_bytes": 141 * GIB + 1}),
        ({"region": "FR"}, {"regions": ("DE", "NL")}),
        ({"region": ""}, {"regions": ("DE",)}),
        ({"region": "US"}, {"regions": ("US-CA",)}),
        ({"sandboxes": ()}, {"sandbox": "bubblewrap"}),
        ({"sandboxes": ("podman",)}, {"sandbox": "bubblewrap"}),
        ({}, {"avoid": (address(0),)}),
        ({"refuses": (TENANT,)}, {}),
        ({}, {"price_hour_max": 27_999}),
        ({"expires_at_s": START_S}, {}),
    ],
)
def test_unfit_offer_never_wins(offer: dict[str, Any], order: dict[str, Any]) -> None:
    with pytest.raises(NoMatch):
        ask(make_book(offer), **order)


@pytest.mark.parametrize(
    ("offer", "order"),
    [
        ({"cpus_milli": 2_000}, {"cpus_milli": 2_000}),
        ({"memory_bytes": GIB}, {"memory_bytes": GIB}),
        ({"disk_bytes": GIB}, {"disk_bytes": GIB}),
        (GPUS, {"gpu_count": 2}),
        (GPUS, {"gpu_models": ("h200",), "gpu_count": 1}),
        (GPUS, {"gpu_memory_bytes": 141 * GIB}),
        ({"region": "NL"}, {"regions": ("DE", "NL")}),
        ({"region": "US-CA"}, {"regions": ("US",)}),
        ({"sandboxes": ("podman", "bubblewrap")}, {"sandbox": "bubblewrap"}),
        ({}, {"avoid": (address(1),)}),
        ({"refuses": (address(1),)}, {}),
        ({"leases_max": 1}, {}),
        ({}, {"price_hour_max": 28_000}),
        ({"expires_at_s": START_S + 1}, {}),
    ],
)
def test_just_fit_offer_wins(offer: dict[str, Any], order: dict[str, Any]) -> None:
    book = make_book(offer)
    assert ask(book, **order).offer_id == digest(0)
    assert count_fitting(book, make_order(**order), now_s=START_S) == 1


def test_provider_that_is_down_never_wins() -> None:
    assert ask(make_book({"cpu_price_hour": 1}, {}, down=(0,))).offer_id == digest(1)


def test_lowest_cost_wins_at_second() -> None:
    book = make_book(
        {"cpu_price_hour": 12_000},
        {"cpu_price_hour": 9_000},
        {"cpu_price_hour": 11_000},
    )
    match = ask(book)
    assert (match.offer_id, match.provider) == (digest(1), address(1))
    assert match.price_hour == 2 * 11_000 + 4 * 2_000  # as the runner-up asked
    assert count_fitting(book, make_order(), now_s=START_S) == 3


def test_equal_costs_go_to_the_older() -> None:
    assert ask(make_book({}, {}, {})).offer_id == digest(0)


def gpu_machines(*counts: int, **same: Any) -> list[dict[str, Any]]:
    return [
        {"gpu_model": "A", "gpu_uuids": tuple(f"{n}-{m}" for m in range(count))} | same
        for n, count in enumerate(counts)
    ]


@pytest.mark.parametrize(
    ("wanted", "expected"), [(1, 1), (2, 2), (3, 0), (4, 0), (0, 3)]
)
def test_an_owners_equal_machines_are_filled_without_breaking_up_room(
    wanted: int, expected: int
) -> None:
    book = make_book(*gpu_machines(8, 1, 2, 0, provider=7))
    match = ask(book, gpu_count=wanted, gpu_memory_bytes=0)
    assert match.offer_id == digest(expected)


def test_a_tie_between_owners_is_the_olders_and_a_cheaper_machine_wins() -> None:
    book = make_book(*gpu_machines(8), {"provider": 8} | gpu_machines(1)[0])
    assert ask(book, gpu_count=1, gpu_memory_bytes=0).offer_id == digest(0)
    cheap, dear = gpu_machines(8, 1, provider=7)
    book = make_book(cheap, dear | {"cpu_price_hour": 99_000})
    assert ask(book, gpu_count=1, gpu_memory_bytes=0).offer_id == digest(0)


def test_a_machine_in_use_is_filled_first() -> None:
    one, other = gpu_machines(2, 2, provider=7)
    book = make_book(one, other)
    record = book.offers.find(digest(1))
    assert record is not None
    taken = replace(record, gpus_used=frozenset(["1-0"]), leases_used=1)
    book.offers.put(taken, is_up=True, now_s=START_S)
    assert ask(book, gpu_count=1, gpu_memory_bytes=0).offer_id == digest(1)
    assert ask(book, gpu_count=2, gpu_memory_bytes=0).offer_id == digest(0)


def test_own_machines_are_no_runner_up() -> None:
    book = make_book(
        {"provider": 7, "cpu_price_hour": 9_000}, {"provider": 7}, {"provider": 7}
    )
    assert ask(book).price_hour == 2 * 9_000 + 4 * 2_000


def test_lone_seller_gets_its_own_price() -> None:
    assert ask(make_book({}), price_hour_max=9_000_000).price_hour == 28_000


def test_rivals_above_maximum_leave_it_to_the_winner() -> None:
    book = make_book({"cpu_price_hour": 9_000}, {"cpu_price_hour": 90_000})
    match = ask(book, price_hour_max=30_000)
    assert (match.price_hour, match.runner_up) == (30_000, None)


def test_pays_as_bid_where_that_is_asked() -> None:
    book = make_book({"cpu_price_hour": 9_000}, {"cpu_price_hour": 10_000})
    assert ask(book, pricing="pay_as_bid").price_hour == 26_000


def test_deadline_cuts_the_duration() -> None:
    assert ask(make_book({}), deadline_s=START_S + 100).duration_s == 100
    with pytest.raises(Refused) as refusal:
        ask(make_book({}), deadline_s=START_S)
    assert refusal.value.code == "deadline_passed"


def test_each_part_is_rounded_up() -> None:
    book = make_book({"cpu_price_hour": 1, "memory_price_hour": 1})
    assert ask(book, cpus_milli=1, memory_bytes=1).price_hour == 2
    assert ask(book, cpus_milli=1_001, memory_bytes=GIB + 1).price_hour == 4


def test_largest_numbers_do_not_overflow() -> None:
    book = make_book(
        {
            "cpus_milli": limits.CPUS_MILLI_MAX,
            "memory_bytes": limits.MEMORY_BYTES_MAX,
            "cpu_price_hour": limits.PRICE_PER_HOUR_MAX,
            "memory_price_hour": limits.PRICE_PER_HOUR_MAX,
            "gpu_price_hour": limits.PRICE_PER_HOUR_MAX,
            **GPUS,
        }
    )
    order = {
        "cpus_milli": limits.CPUS_MILLI_MAX,
        "memory_bytes": limits.MEMORY_BYTES_MAX - 1,
        "gpu_count": 2,
        "price_hour_max": 1 << 62,
        "total_max": 1 << 62,
    }
    assert ask(book, **order).price_hour == (1_024 + 65_536 + 2) * 10**9


def test_total_limits_the_duration() -> None:
    match = ask(make_book({}), total_max=14_000)  # half an hour of 28,000
    assert (match.duration_s, match.hold) == (1_800, 14_000)
    match = ask(make_book({}), total_max=14_005)
    assert (match.duration_s, match.hold) == (1_800, 14_000)


def test_hold_is_rounded_up() -> None:
    match = ask(make_book({}), duration_s_max=1)
    assert (match.duration_s, match.hold) == (1, 8)  # 7.8


def test_free_machine_lasts_as_asked() -> None:
    book = make_book({"cpu_price_hour": 0, "memory_price_hour": 0})
    match = ask(book, total_max=0, price_hour_max=0, duration_s_max=100)
    assert (match.price_hour, match.duration_s, match.hold) == (0, 100, 0)


def test_total_must_pay_a_second() -> None:
    ask(make_book({}), total_max=8)
    with pytest.raises(Refused) as refusal:
        ask(make_book({}), total_max=7)
    assert refusal.value.code == "total_too_small"


@pytest.mark.parametrize("field", ["cpus_milli", "memory_bytes", "duration_s_max"])
def test_order_must_ask_for_something(field: str) -> None:
    with pytest.raises(Refused) as refusal:
        ask(make_book({}), **{field: 0})
    assert (refusal.value.code, refusal.value.field) == ("bad_order", f"order.{field}")


def test_no_match_says_why() -> None:
    book = make_book(
        {"cpus_milli": 1_000},
        {"region": "FR", "cpu_price_hour": 10_000_000},
        {},
        {"expires_at_s": START_S},
        down=(2,),
    )
    with pytest.raises(NoMatch) as refusal:
        ask(book, regions=("DE",), gpu_count=1)
    assert refusal.value.code == "no_match"
    assert refusal.value.detail == {
        "offers": 3,
        "provider_up": 1,
        "cpus": 1,
        "gpu_count": 3,
        "region": 1,
        "price": 1,
    }
    assert "region DE (1)" in refusal.value.message


def test_no_match_in_an_empty_market() -> None:
    with pytest.raises(NoMatch) as refusal:
        ask(Book())
    assert refusal.value.detail == {"offers": 0}


# ---- against a slow reading of the rules ------------------------------------------

some_offers = st.lists(
    st.fixed_dictionaries(
        {
            "provider": st.integers(0, 3),
            "cpus_milli": st.sampled_from([1_000, 2_000, 8_000]),
            "memory_bytes": st.sampled_from([GIB, 4 * GIB + 1]),
            "region": st.sampled_from(["DE", "US-CA", "US", ""]),
            "cpu_price_hour": st.integers(0, 5),
            "memory_price_hour": st.integers(0, 3),
        }
    ),
    max_size=12,
)
some_order = st.fixed_dictionaries(
    {
        "cpus_milli": st.sampled_from([1, 1_000, 1_500, 8_000]),
        "memory_bytes": st.sampled_from([1, GIB, GIB + 1]),
        "regions": st.sampled_from([(), ("US",), ("DE", "US-CA")]),
        "avoid": st.sampled_from([(), (address(0), address(2))]),
        "price_hour_max": st.integers(0, 60),
    }
)


def slow_winner(table: OfferTable, order: Order) -> tuple[str, int] | None:
    def cost(offer: Offer) -> int:
        return -(-order.cpus_milli * offer.cpu_price_hour // 1_000) + -(
            -order.memory_bytes * offer.memory_price_hour // GIB
        )

    all_fitting = [
        record
        for record in table.standing(START_S)
        if record.offer.cpus_milli >= order.cpus_milli
        and record.offer.memory_bytes >= order.memory_bytes
        and (
            not order.regions
            or record.offer.region in order.regions
            or record.offer.region.split("-")[0] in order.regions
        )
        and record.provider not in order.avoid
    ]
    fitting = [
        (cost(record.offer), record.number, record)
        for record in all_fitting
        if cost(record.offer) <= order.price_hour_max
    ]
    if not fitting:
        return None
    asked, _, winner = min(fitting)
    tied = [
        (record.offer.cpus_milli, record.offer.memory_bytes, record.number, record)
        for cost, _, record in fitting
        if cost == asked and record.provider == winner.provider
    ]
    *_, winner = min(tied)  # nothing is taken, and there are no GPUs
    others = [r for r in all_fitting if r.provider != winner.provider]
    if not others:
        return winner.id, asked
    # All are unknown, so of one weight: the next asks what the winner may.
    ranks = [(c, n) for c, n, r in fitting if r.provider != winner.provider]
    if not ranks:
        return winner.id, order.price_hour_max
    return winner.id, min(ranks)[0]


@settings(max_examples=150, deadline=None)
@given(offers=some_offers, wish=some_order)
def test_agrees_with_slow_reading(
    offers: list[dict[str, Any]], wish: dict[str, Any]
) -> None:
    book = make_book(*(dict(offer) for offer in offers))
    order = make_order(**wish)
    expected = slow_winner(book.offers, order)
    try:
        match = quote(book, order, now_s=START_S)
    except NoMatch:
        assert expected is None
    else:
        assert (match.offer_id, match.price_hour) == expected
