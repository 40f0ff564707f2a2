"""Percentiles are values that there are, and everybody finds the same ones."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sublet.core.tape.quantile import find_percentiles

TABLE = (
    # values with their weights, and the 10th, 50th and 90th percentile
    ([], (-1, -1, -1)),
    ([(5, 0)], (-1, -1, -1)),  # what counts nothing is no value
    ([(7, 1)], (7, 7, 7)),
    ([(1, 1), (2, 1)], (1, 1, 2)),  # of two the lower is the median
    ([(n, 1) for n in range(1, 11)], (1, 5, 9)),
    ([(n, 1) for n in range(10, 0, -1)], (1, 5, 9)),  # in any order
    ([(30, 8_000), (10, 1_000), (20, 1_000)], (10, 30, 30)),  # eight GPUs count eight
)


@pytest.mark.parametrize(("weighted", "expected"), TABLE)
def test_finds_nearest_rank(weighted: list[tuple[int, int]], expected: object) -> None:
    assert find_percentiles(weighted) == expected


@given(
    st.lists(st.tuples(st.integers(0, 50), st.integers(0, 6)), max_size=30),
    st.integers(1, 100),
)
def test_equals_the_list_written_out(
    weighted: list[tuple[int, int]], percent: int
) -> None:
    out = sorted(value for value, weight in weighted for _ in range(weight))
    (found,) = find_percentiles(weighted, percents=[percent])
    if not out:
        assert found == -1
        return
    assert found in out
    # The smallest value that at least so much of the whole is not above.
    below = sum(value <= found for value in out)
    less = sum(value < found for value in out)
    assert 100 * below >= percent * len(out) > 100 * less
