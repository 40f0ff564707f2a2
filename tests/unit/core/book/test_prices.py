"""What is asked for now, per unit, and which offers count."""

import pytest

from sublet.core.book.ask import find_ask
from sublet.core.book.prices import (
    Ask,
    is_within,
    list_prices,
    sort_asks,
    survey,
    take_stock,
)
from sublet.core.lease.phase import Phase
from tests.unit.core.book.world import (
    GIB,
    OTHER_PROVIDER,
    PROVIDER,
    World,
    make_offer,
)

GPUS = {
    "gpu_model": "h200",
    "gpu_memory_bytes": 141 * GIB,
    "gpu_uuids": ("a", "b"),
}


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({}, (18_000, 8_000)),  # 8 x $0.01 + 32 x $0.002, a CPU
        (GPUS, (572_000, 2_000)),  # the same and 2 x $0.50, a GPU
        # Halves of a GPU: what a whole one would cost.
        (GPUS | {"gpu_share_milli": 500, "gpu_sharing": "mig"}, (1_144_000, 1_000)),
        ({"memory_bytes": 1, "cpu_price_hour": 0}, (1, 8_000)),  # rounds up
        ({"cpus_milli": 1, "memory_bytes": GIB}, (2_010_000, 1)),
    ],
)
def test_asks_for_a_share_of_the_machine(changed: dict, expected: tuple) -> None:
    assert find_ask(make_offer(**changed)) == expected


@pytest.mark.parametrize(
    ("region", "wanted", "expected"),
    [
        ("DE", "DE", True),
        ("US-CA", "US", True),  # as orders have it
        ("US-CA", "US-CA", True),
        ("US", "US-CA", False),
        ("*", "*", True),
        ("*", "DE", False),
        ("", "", True),  # undeclared
        ("DEX", "DE", False),
    ],
)
def test_region_takes_its_parts(region: str, wanted: str, expected: bool) -> None:
    assert is_within(region, wanted=wanted) is expected


def count_offered(world: World) -> int:
    """Count the machines that match if they fit, in whatever region."""
    asks = sort_asks(take_stock(world.book))
    return sum(
        ask.machines
        for (_, place), kind in asks.items()
        if place == "*"
        for ask in kind
    )


def test_lists_offers_that_could_match() -> None:
    world = World()
    world.add_provider(machine="m1")
    world.add_provider(machine="m2", expires_at_s=world.now_s + 10)
    world.add_provider(OTHER_PROVIDER)
    assert count_offered(world) == 3
    world.wait(10)
    assert count_offered(world) == 2
    world.book.offers.withdraw(world.book.offers.of_provider(OTHER_PROVIDER)[0].id)
    assert count_offered(world) == 1
    world.book.offers.set_up(PROVIDER, is_up=False)
    assert sort_asks(take_stock(world.book)) == {}


def test_nothing_is_free_of_machine_with_enough_leases() -> None:
    world = World()
    world.add_credit()
    world.add_provider(leases_max=1, **GPUS)
    asks = sort_asks(take_stock(world.book))
    assert asks["h200", "DE"] == asks["h200", "*"] == (Ask(572_000, 1, 2_000, 2_000),)
    world.order(gpu_count=1)
    asks = sort_asks(take_stock(world.book))
    assert asks["h200", "DE"] == (Ask(572_000, 1, 2_000, 0),)


def test_offer_that_shrank_is_not_less_than_nothing() -> None:
    world = World()
    world.add_credit()
    world.add_provider()
    world.order(cpus_milli=8_000)
    world.add_provider(cpus_milli=2_000)
    ((_, (ask,)),) = [
        item for item in sort_asks(take_stock(world.book)).items() if item[0][1] == "*"
    ]
    assert (ask.units_milli, ask.units_milli_free) == (2_000, 0)


def test_kinds_that_trade_come_first() -> None:
    world = World()
    world.add_credit()
    world.add_provider(region="US", cpus_milli=1_000_000, machine="big")
    world.add_provider(OTHER_PROVIDER, region="DE")
    world.lease_in(Phase.RUNNING, regions=("DE",))
    book = world.book
    rows = list_prices(sort_asks(take_stock(book)), book.tape.series, now_s=book.now_s)
    assert [row.region for row in rows] == ["*", "DE", "US"]
    assert [row.deals for row in rows] == [1, 1, 0]
    assert rows[2].last == rows[2].median == -1
    assert rows[1].ask == rows[1].ask_median == 18_000


def test_price_is_that_of_the_slice_per_unit() -> None:
    world = World()
    world.add_credit()
    world.add_provider(PROVIDER, **GPUS)
    lease = world.lease_in(Phase.RUNNING, gpu_count=2)
    series = world.book.tape.series["h200", "DE"]
    assert series.last.price == lease.price_hour // 2 == 514_000
    assert series.last.units_milli == 2_000
    # A slice without GPUs of the same machine is one of CPUs.
    cheap = world.lease_in(Phase.RUNNING)
    assert world.book.tape.series["", "DE"].last.price == cheap.price_hour // 2


def test_lease_that_never_starts_makes_no_price() -> None:
    world = World()
    world.add_credit()
    world.add_provider()
    world.lease_in(Phase.PREPARING)
    world.wait(world.book.rules.prepare_s)
    assert world.book.tape.series == {}


def test_median_speed_is_of_those_that_were_measured() -> None:
    world = World()
    for number, score in enumerate((0, 70, 10, 30, 20)):
        world.add_provider(machine=f"m{number}", cpu_score=score)
    world.add_provider(machine="gpus", gpu_score=5, cpu_score=1, **GPUS)
    assert survey(take_stock(world.book)).scores == {
        ("", "cpu_score"): 20,  # of four the lower
        ("h200", "cpu_score"): 1,
        ("h200", "gpu_score"): 5,
    }
