"""Exact quantiles of whole numbers: the nearest rank, never a value in between.

Of values that count W together, the P-th percentile is the smallest one up to which
values count at least ceil(P x W / 100). So it is a price that somebody asked or paid,
and everybody computes the same one.
"""

from collections.abc import Iterable, Sequence

PERCENTS = (10, 50, 90)


def find_percentiles(
    weighted: Iterable[tuple[int, int]], *, percents: Sequence[int] = PERCENTS
) -> tuple[int, ...]:
    """Give the percentiles of values that count so much each; -1 where there is none.

    Pure.

    Args:
        weighted: (value, how much it counts), in any order; what counts 0 is no value.
        percents: wanted, each 1..100, rising.

    >>> find_percentiles([(30, 1), (10, 1), (20, 8)])
    (10, 20, 20)
    """
    values = sorted(pair for pair in weighted if pair[1] > 0)
    total = sum(weight for _, weight in values)
    if not total:
        return (-1,) * len(percents)
    found: list[int] = []
    counted, place = 0, -1
    for percent in percents:
        rank = -(-percent * total // 100)
        while counted < rank:
            place += 1
            counted += values[place][1]
        found.append(values[place][0])
    return tuple(found)
