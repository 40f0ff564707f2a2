"""A chart of one value over time, in block characters, eight steps to a line.

Drawn here, in thirty lines: a library for plots takes a third of a second to import, longer
than the rest of the command (docs/adr/0040).
"""

from collections.abc import Callable, Sequence

_BARS = " ▁▂▃▄▅▆▇█"
_STEPS = len(_BARS) - 1


def draw_chart(
    values: Sequence[int], *, height: int, label: Callable[[int], str]
) -> list[str]:
    """Draw columns from the lowest value to the highest; -1 is a gap.

    The lines at the top, in the middle and at the bottom are labelled with the value
    that they stand for.

    >>> print(*draw_chart([10, -1, 20, 30], height=2, label=str), sep="\\n")
    30 │   █
    10 │▁ ██
    """
    there = [value for value in values if value >= 0]
    low, high = min(there, default=0), max(there, default=0)
    most = height * _STEPS - 1
    levels = [
        0 if value < 0 else 1 + (value - low) * most // max(1, high - low)
        for value in values
    ]
    named = {height - 1: high, 0: low}
    if height > 4:
        named[height // 2] = low + (high - low) * (height // 2) // (height - 1)
    labels = {row: label(value) for row, value in named.items()} if there else {}
    width = max(map(len, labels.values()), default=0)
    return [
        f"{labels.get(row, ''):>{width}} │"
        + "".join(_BARS[max(0, min(level - row * _STEPS, _STEPS))] for level in levels)
        for row in reversed(range(height))
    ]


def sample_columns(
    points: Sequence[tuple[int, int]],
    *,
    first_s: int,
    last_s: int,
    columns: int,
    hold_s: int = 0,
) -> list[int]:
    """Spread (time, value) over columns of equal time; of several the last, -1 of none.

    A value holds for ``hold_s`` where no other comes.

    >>> sample_columns([(0, 5), (10, 6), (19, 7)], first_s=0, last_s=20, columns=4)
    [5, -1, 6, 7]
    >>> sample_columns([(0, 5), (19, 7)], first_s=0, last_s=20, columns=4, hold_s=9)
    [5, 5, -1, 7]
    >>> sample_columns([(0, 5), (1, 6)], first_s=0, last_s=1, columns=4, hold_s=9)
    [5, 5, 5, 6]
    """
    found = [-1] * columns
    span_s = max(1, last_s - first_s)
    held, held_s = -1, first_s - hold_s - 1
    rest = [point for point in reversed(points) if first_s <= point[0] <= last_s]
    for column in range(columns):
        start_s = first_s + column * span_s // columns
        end_s = max(first_s + (column + 1) * span_s // columns, start_s + 1)
        while rest and (rest[-1][0] < end_s or column == columns - 1):
            held_s, held = rest.pop()
            found[column] = held
        if found[column] < 0 and start_s - held_s <= hold_s:
            found[column] = held
    return found
