"""The search for the two best offers as one function that is compiled.

What ``fit``, ``search`` and ``score`` say of columns it says of one row after another:
the same integers, with the same ties. Slices are priced, and chances predicted, by the
same functions, compiled. Nothing is kept on disk: a compiled function that outlived a
change of the rules would decide otherwise than everybody else.

Not here: what an order's numbers are (``plan``). Needs numba, and seconds to be compiled.
"""

from collections.abc import Callable
from functools import cache
from typing import Any, TypeVar

import numba
import numpy as np
from numba import int64, intp

from sublet.core.book.block import BLOCK_ROWS
from sublet.core.book.column import AT_LEAST, LEAST_PRICES, PRICES, Column
from sublet.core.book.fit import price_parts
from sublet.core.book.plan import (
    ASKED_S,
    MILLI,
    MILLI_END,
    NEAR_PRICE,
    PARTS,
    PRICE_MAX,
    SCALE,
    SPEED,
    WANTED,
    WISHES,
)
from sublet.core.book.search import Kernel
from sublet.core.reliability.chance import chance_ppm

F = TypeVar("F", bound=Callable[..., Any])

# The compiler reads plain numbers.
_NUMBER, _PROVIDER = int(Column.NUMBER), int(Column.PROVIDER)
_LASTS_S, _LATENCIES = int(Column.LASTS_S), int(Column.LATENCIES)
_AT_LEAST, _AT_LEAST_END = int(AT_LEAST.start), int(AT_LEAST.stop)
_PRICE, _LEAST_PRICE = int(PRICES.start), int(LEAST_PRICES.start)
_IN_ORDER = 32  # blocks, the best first; behind them each that may matter

_ROWS = int64[:, ::1]
_NUMBERS = int64[::1]


def _inline(function: F) -> F:
    """Compile into whoever calls it."""
    return numba.njit(function)  # type: ignore[no-any-return]


_chance_ppm = _inline(chance_ppm)
_price_parts = _inline(price_parts)


@_inline
def _bound(ideals: Any, block: int, plan: Any) -> int:
    """Say what no row of a block scores below; -1 where none can fit."""
    for n in range(_AT_LEAST_END - _AT_LEAST):
        if ideals[_AT_LEAST + n, block] < plan[WANTED + n]:
            return -1
    cost = 0
    for n in range(MILLI_END - MILLI):
        cost += ideals[_LEAST_PRICE + n, block] * plan[MILLI + n]
    cost //= 1_000
    if cost > plan[PRICE_MAX]:
        return -1
    weight = _chance_ppm(ideals[_LASTS_S, block], plan[ASKED_S])
    if plan[SPEED] >= 0:
        weight *= max(1, ideals[plan[SPEED], block])
    bound: int = cost * plan[SCALE] // weight
    return bound


@_inline
def _find_fitting(rows: Any, cells: Any, first: int, plan: Any, tables: Any) -> int:
    """Write down which rows of the block from ``first`` on fit; give how many."""
    count = BLOCK_ROWS
    for n in range(BLOCK_ROWS):
        rows[n] = first + n
    for at in range(WISHES, plan.size, 3):
        column, least, start = plan[at], plan[at + 1], plan[at + 2]
        left = 0
        for n in range(count):
            row = rows[n]
            found = cells[column, row]
            rows[left] = row
            left += found >= least if start < 0 else tables[start + found]
        count = left
    for at in range(_AT_LEAST_END - _AT_LEAST):
        column, least = _AT_LEAST + at, plan[WANTED + at]
        left = 0
        for n in range(count):
            row = rows[n]
            rows[left] = row
            left += cells[column, row] >= least
        count = left
    return count


@_inline
def _score(cells: Any, row: int, plan: Any, ms_of: Any, data_price_of: Any) -> int:
    """Score a row that fits; -1 where it costs too much."""
    cost = _price_parts(
        cells[_PRICE, row],
        cells[_PRICE + 1, row],
        cells[_PRICE + 2, row],
        plan[PARTS],
        plan[PARTS + 1],
        plan[PARTS + 2],
        plan[PARTS + 3],
        plan[PARTS + 4],
    )
    if cost > plan[PRICE_MAX]:
        return -1
    if ms_of.size:
        cost += ms_of[cells[_LATENCIES, row]] * plan[NEAR_PRICE]
    if data_price_of.size:
        cost += data_price_of[cells[_PROVIDER, row]]
    weight = _chance_ppm(cells[_LASTS_S, row], plan[ASKED_S])
    if plan[SPEED] >= 0:
        weight *= cells[plan[SPEED], row]
    score: int = cost * plan[SCALE] // weight
    return score


def search(
    cells: Any,
    ideals: Any,
    blocks: Any,
    plan: Any,
    tables: Any,
    ms_of: Any,
    data_price_of: Any,
) -> tuple[int, int, int, int]:
    """Find the best row, and the best one of another provider.

    Args:
        cells, ideals: of the table.
        blocks: to be searched; shape (n_blocks,).
        plan, tables, ms_of, data_price_of: as ``Plan`` has them.

    Returns:
        Their scores and rows: score, row, score, row; -1 for a row that there is not.
    """
    bounds, left = np.empty(blocks.size, np.int64), np.empty(blocks.size, np.int64)
    count = 0
    for block in blocks:
        bound = _bound(ideals, block, plan)
        if bound >= 0:
            bounds[count], left[count] = bound, block
            count += 1
    rows = np.empty(BLOCK_ROWS, np.int64)
    score, row, other_score, other = 0, -1, 0, -1
    opened = 0
    while count:
        at = count - 1
        if opened < _IN_ORDER:
            for n in range(count):
                if bounds[n] < bounds[at]:
                    at = n
        bound, block = bounds[at], left[at]
        count -= 1
        bounds[at], left[at] = bounds[count], left[count]
        if other >= 0 and not plan[SCALE]:
            break  # any two will do
        if other >= 0 and bound > other_score:  # what ties it may be older, and beat it
            if opened < _IN_ORDER:
                break
            continue
        opened += 1
        for n in range(_find_fitting(rows, cells, block * BLOCK_ROWS, plan, tables)):
            mine = rows[n]
            found = _score(cells, mine, plan, ms_of, data_price_of)
            if found < 0:
                continue
            number, owner = cells[_NUMBER, mine], cells[_PROVIDER, mine]
            if (
                row < 0
                or found < score
                or (found == score and number < cells[_NUMBER, row])
            ):
                if row >= 0 and owner != cells[_PROVIDER, row]:
                    other_score, other = score, row
                score, row = found, mine
            elif owner != cells[_PROVIDER, row] and (
                other < 0
                or found < other_score
                or (found == other_score and number < cells[_NUMBER, other])
            ):
                other_score, other = found, mine
    return score, row, other_score, other


@cache
def compile_search() -> Kernel:
    """Compile ``search``, for these types alone: later it never has to be, again."""
    found = numba.types.UniTuple(int64, 4)  # type: ignore[no-untyped-call]
    given = (_ROWS, _ROWS, intp[::1], _NUMBERS, numba.boolean[::1], _NUMBERS, _NUMBERS)
    compiled: Kernel = numba.njit(found(*given))(search)
    return compiled
