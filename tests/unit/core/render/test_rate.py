"""Rates: the first always, nobody never, and what a quote says of it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sublet.core.render.rate import (
    LEAST_PPM,
    START_PPM,
    WHOLE_PPM,
    Standing,
    compute_extra_ppm,
    compute_rate,
    is_probed,
)

STANDINGS = st.builds(
    Standing,
    given=st.integers(0, 10_000),
    agreed=st.integers(0, 10_000),
    is_doubted=st.booleans(),
    leases_completed=st.integers(0, 10_000),
    leases_at_fault=st.integers(0, 100),
)


@pytest.mark.parametrize(
    ("standing", "rate_ppm"),
    [
        (Standing(), WHOLE_PPM),  # a first unit
        (Standing(leases_completed=1_000), WHOLE_PPM),  # of whom so ever
        (Standing(given=5, agreed=5, is_doubted=True), WHOLE_PPM),
        (Standing(given=1), START_PPM),
        (Standing(given=9, agreed=8), START_PPM // 2),
        (Standing(given=9, leases_completed=1_000), START_PPM // 2),  # and no more
        (Standing(given=9, leases_completed=1_000, leases_at_fault=1_000), START_PPM),
        (Standing(given=9_999, agreed=9_999), LEAST_PPM),
    ],
)
def test_rate_follows_the_record(standing: Standing, rate_ppm: int) -> None:
    assert compute_rate(standing) == rate_ppm


@given(standing=STANDINGS)
def test_rate_is_never_zero(standing: Standing) -> None:
    assert LEAST_PPM <= compute_rate(standing) <= WHOLE_PPM


@given(standing=STANDINGS, faults=st.integers(0, 20))
def test_faults_never_lower_the_rate(standing: Standing, faults: int) -> None:
    worse = Standing(
        given=standing.given,
        agreed=standing.agreed,
        is_doubted=standing.is_doubted,
        leases_completed=standing.leases_completed,
        leases_at_fault=standing.leases_at_fault + faults,
    )
    assert compute_rate(worse) >= compute_rate(standing)


def test_a_share_of_seeds_is_probed() -> None:
    seeds = [number.to_bytes(32, "big") for number in range(4_000)]
    hits = sum(is_probed(seed, rate_ppm=100_000) for seed in seeds)
    assert 320 < hits < 480  # 400, four standard deviations
    assert all(is_probed(seed, rate_ppm=WHOLE_PPM) for seed in seeds)
    assert not any(is_probed(seed, rate_ppm=0) for seed in seeds)


def test_who_falsifies_fifty_is_seen() -> None:
    """The figure in the module's docstring."""
    assert 1 - (1 - LEAST_PPM / WHOLE_PPM) ** 50 > 0.92


@pytest.mark.parametrize(
    ("units", "providers", "extra_ppm"),
    [
        (1, 1, 50_000),  # one unit is probed: all that a probe costs
        (2, 2, 50_000),  # each one's first
        (0, 3, 0),
    ],
)
def test_extra_cost_of_small_jobs(units: int, providers: int, extra_ppm: int) -> None:
    found = compute_extra_ppm(units=units, providers=providers, probe_ppm=50_000)
    assert found == extra_ppm


def test_extra_cost_falls_with_the_job() -> None:
    costs = [
        compute_extra_ppm(units=units, providers=4, probe_ppm=100_000)
        for units in (4, 40, 400, 4_000, 100_000)
    ]
    assert costs == sorted(costs, reverse=True)
    assert costs[1] < 35_000
    assert costs[-1] <= 5_400


@given(units=st.integers(1, 300), providers=st.integers(1, 9))
def test_extra_cost_is_within_the_rates(units: int, providers: int) -> None:
    extra = compute_extra_ppm(units=units, providers=providers, probe_ppm=WHOLE_PPM)
    assert LEAST_PPM <= extra <= WHOLE_PPM
