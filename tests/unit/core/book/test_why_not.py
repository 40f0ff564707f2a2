"""Why nothing matches, and that the change which is named would."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sublet.core.book import why_not
from sublet.core.book.block import BLOCK_ROWS
from sublet.core.book.quote import quote
from sublet.core.book.why_not import NoMatch, find_relaxation
from tests.unit.core.book.test_quote import GPUS, make_book
from tests.unit.core.book.world import GIB, START_S, address, make_order


def test_names_the_price_that_would_do() -> None:
    book = make_book({"cpu_price_hour": 11_000}, {"cpu_price_hour": 11_000})
    with pytest.raises(NoMatch) as refusal:
        quote(book, make_order(price_hour_max=29_000), now_s=START_S)
    assert "2 offers at $0.03/h or more; you allow $0.029/h" in str(refusal.value)


def test_counts_only_what_the_change_lets_through() -> None:
    # Three have too few CPUs. The cheapest one has 2; of the others one has so many.
    sizes = (2_000, 1_000, 4_000)
    book = make_book(
        *(
            {"cpus_milli": cpus, "cpu_price_hour": 1_000 + number}
            for number, cpus in enumerate(sizes)
        )
    )
    with pytest.raises(NoMatch) as refusal:
        quote(book, make_order(cpus_milli=8_000), now_s=START_S)
    assert "excluded by: cpus 8 (3)" in str(refusal.value)
    found = find_relaxation(book, make_order(cpus_milli=8_000), now_s=START_S)
    assert found is not None
    assert found.offers == sum(size >= found.changes["cpus_milli"] for size in sizes)
    assert f"and {found.offers} offer" in str(refusal.value)


def test_avoided_providers_are_named_in_short() -> None:
    book = make_book({"provider": 1}, {"provider": 2})
    order = make_order(avoid=(address(1), address(2)))
    with pytest.raises(NoMatch) as refusal:
        quote(book, order, now_s=START_S)
    short = f"{address(1)[:10]}… and {address(2)[:10]}…"
    assert f"Change avoided providers from {short} to " in str(refusal.value)
    assert "and 1 offer would do" in str(refusal.value)


offers = st.lists(
    st.fixed_dictionaries(
        {
            "cpus_milli": st.sampled_from([1_000, 8_000]),
            "memory_bytes": st.sampled_from([GIB, 32 * GIB]),
            "disk_bytes": st.sampled_from([0, 100 * GIB]),
            "region": st.sampled_from(["DE", "FR", ""]),
            "cpu_price_hour": st.integers(1_000, 5_000),
            "disk_class": st.sampled_from(["", "nvme"]),
            "down_mbit_s": st.sampled_from([0, 1_000]),
            "latencies": st.sampled_from([(), ("oslo=9",)]),
            "features": st.sampled_from([(), ("egress",)]),
            "attributes": st.sampled_from([(), ("tier=a",)]),
            "cpu_score": st.sampled_from([0, 7]),
        }
    ),
    min_size=1,
    max_size=6,
)
wishes = st.fixed_dictionaries(
    {
        "cpus_milli": st.sampled_from([500, 2_000]),
        "memory_bytes": st.sampled_from([GIB, 2 * GIB]),
        "disk_bytes": st.sampled_from([0, GIB]),
        "price_hour_max": st.integers(3_000, 9_000),
    },
    optional={
        "regions": st.just(("DE",)),
        "disk_classes": st.just(("nvme",)),
        "down_mbit_s": st.just(500),
        "latencies": st.just(("oslo=5",)),
        "features": st.just(("egress",)),
        "attributes": st.just(("tier=a",)),
        "auditors_any": st.just((address(0x3000),)),
        "avoid": st.just((address(0),)),
        "work": st.just("cpu"),
        "gpu_count": st.just(1),
        "gpu_models": st.sampled_from([("h100",), ("h200",)]),
        "gpu_memory_bytes": st.sampled_from([GIB, 200 * GIB]),
    },
)


@settings(max_examples=300, deadline=None)
@given(market=offers, wish=wishes, with_gpus=st.booleans())
def test_the_named_change_has_a_match(
    market: list[dict[str, Any]], wish: dict[str, Any], with_gpus: bool
) -> None:
    gpus = GPUS if with_gpus else {}
    book = make_book(*(dict(offer) | gpus for offer in market))
    order = make_order(**wish)
    try:
        quote(book, order, now_s=START_S)
    except NoMatch:
        found = find_relaxation(book, order, now_s=START_S)
        if found is not None:
            match = quote(book, found.apply(order), now_s=START_S)
            assert match.winner.asked_hour <= found.cost_hour


def test_several_misses_have_no_single_change() -> None:
    order = make_order(regions=("FR",), features=("egress",))
    assert find_relaxation(make_book({}), order, now_s=START_S) is None


def test_looks_at_few_of_many_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(why_not, "ROWS_MAX", 2 * BLOCK_ROWS)
    others: list[dict[str, Any]] = [{} for _ in range(4 * BLOCK_ROWS)]
    asked = [GPUS | {"gpu_price_hour": 7_000 + number} for number in range(3)]
    book = make_book(*others, *asked)
    order = make_order(gpu_count=1, gpu_models=("h200",), price_hour_max=1)
    with pytest.raises(NoMatch) as refusal:
        quote(book, order, now_s=START_S)
    offers = refusal.value.detail["offers"]
    assert len(asked) < int(offers) <= 2 * BLOCK_ROWS
    assert f"none of the {offers} offers that were looked at fits" in str(refusal.value)
    found = find_relaxation(book, order, now_s=START_S)
    assert found is not None
    assert (found.name, found.offers) == ("price", len(asked))
    quote(book, found.apply(order), now_s=START_S)
