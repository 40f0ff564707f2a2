"""The cheapest gang is found, apart as asked; what an owner saves is shared evenly."""

from itertools import combinations

from hypothesis import given, settings
from hypothesis import strategies as st

from sublet.core.placement.gang import (
    Runner,
    count_most,
    find_gang,
    share_out,
)

machines = st.lists(
    st.tuples(
        st.integers(0, 9),  # cost
        st.integers(0, 3),  # owner
        st.integers(0, 3),  # region
        st.integers(0, 3),  # network
    ),
    max_size=8,
)


def make_centre(
    market: list[tuple[int, int, int, int]], things: tuple[int, ...]
) -> list[Runner]:
    return sorted(
        (
            Runner(place, each[0], each[1], frozenset((n, each[n]) for n in things))
            for place, each in enumerate(market)
        ),
        key=lambda runner: runner.cost,
    )


def least_cost(centre: list[Runner], count: int) -> int | None:
    """Try every set of machines."""
    costs = [
        sum(one.cost for one in chosen)
        for chosen in combinations(centre, count)
        if all(a.groups.isdisjoint(b.groups) for a, b in combinations(chosen, 2))
    ]
    return min(costs, default=None)


@settings(max_examples=300, deadline=None)
@given(
    markets=st.lists(machines, max_size=3),
    things=st.sampled_from([(), (1,), (2,), (1, 2), (1, 2, 3)]),
    count=st.integers(1, 4),
)
def test_finds_what_trying_all_finds(
    markets: list[list[tuple[int, int, int, int]]],
    things: tuple[int, ...],
    count: int,
) -> None:
    centres = [make_centre(market, things) for market in markets]
    every = [least_cost(centre, count) for centre in centres]
    least = min((cost for cost in every if cost is not None), default=None)
    found = find_gang(centres, count)
    assert (None if found is None else found.cost) == least
    if found is not None:
        assert len({runner.place for runner in found.members}) == count
        assert sum(runner.cost for runner in found.members) == found.cost
    if least is not None and len(things) <= 1:
        assert count_most(centres) >= count


@settings(max_examples=100, deadline=None)
@given(market=machines, count=st.integers(1, 3), owner=st.integers(0, 3))
def test_owner_that_is_left_out_has_no_member(
    market: list[tuple[int, int, int, int]], count: int, owner: int
) -> None:
    others = [each for each in market if each[1] != owner]
    found = find_gang([make_centre(market, (2,))], count, without=owner)
    least = least_cost(make_centre(others, (2,)), count)
    assert (None if found is None else found.cost) == least


def test_search_without_end_is_given_up() -> None:
    # Thousands of machines in three networks, of which four are wanted.
    crowd = [(1, n, n, n % 3) for n in range(4_000)]
    assert find_gang([make_centre(crowd, (1, 3))], 4) is None
    assert count_most([make_centre(crowd, (1, 3))]) == 3


@settings(max_examples=200)
@given(
    costs=st.lists(st.integers(0, 50), min_size=1, max_size=5),
    extra=st.integers(0, 200),
)
def test_shares_add_up_and_take_nothing(costs: list[int], extra: int) -> None:
    shares = share_out(costs, extra)
    assert all(share >= cost for share, cost in zip(shares, costs, strict=True))
    assert 0 <= sum(costs) + extra - sum(shares) < len(costs)
    raised = [s for s, c in zip(shares, costs, strict=True) if s > c]
    assert len(set(raised)) <= 1  # all that were raised stand level
