"""The two best offers of a large table, found in few of its blocks.

Branch and bound: the block with the best ideal is looked at first, and no block whose
ideal is beaten by the second best that was found. Exact: the two best of all rows are
found, whatever the order of the rows.

Not here: who fits and what a score is (``quote``).
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from sublet.core.book.block import BLOCK_ROWS
from sublet.core.book.column import Cells, Column
from sublet.core.book.offer_table import OfferTable

Scores = NDArray[np.int64]
Places = NDArray[np.intp]
# Of these rows, which are in the running (their places among them), and their scores.
Judge = Callable[[Cells], tuple[Places, Scores]]

_MORE_BLOCKS = 4  # times as many in each round, while too few fit


class Candidate(NamedTuple):
    """An offer in the running. The least wins: the older one where scores are equal."""

    score: int
    number: int
    provider: int  # interned
    row: int


def find_two(
    offers: OfferTable, blocks: Places, bounds: Scores, judge: Judge
) -> tuple[Candidate | None, Candidate | None]:
    """Find the best offer, and the best one of any other provider.

    Args:
        offers: the table.
        blocks: in which there may be any; shape (n_blocks,).
        bounds: no row of the block scores below; shape (n_blocks,).
        judge: scores some rows; the lowest is best.

    Returns:
        Winner and runner-up; None for each that there is not.
    """
    numbers = offers.ideals[Column.NUMBER, blocks]
    best: list[Candidate] = []  # at most two, of two providers, in order
    size = 1
    while blocks.size:
        if blocks.size <= size:
            now = np.arange(blocks.size)
        elif size == 1:
            now = bounds.argmin(axis=0, keepdims=True)
        else:
            now = bounds.argpartition(size)[:size]
        best = _merge(best, _two_of(offers, blocks[now], judge))
        is_left = np.ones(blocks.size, dtype=np.bool_)
        if len(best) == 2:
            score, number, *_ = best[1]
            is_left = (bounds < score) | ((bounds == score) & (numbers < number))
        is_left[now] = False
        blocks, bounds, numbers = blocks[is_left], bounds[is_left], numbers[is_left]
        size *= _MORE_BLOCKS
    winner, runner_up, *_ = (*best, None, None)
    return winner, runner_up


def _two_of(offers: OfferTable, blocks: Places, judge: Judge) -> list[Candidate]:
    cells = offers.rows_of(blocks)
    places, scores = judge(cells)
    found: list[Candidate] = []
    while places.size and len(found) < 2:
        least = (scores == scores.min()).nonzero()[0]
        if least.size > 1:
            least = least[
                cells[Column.NUMBER, places[least]].argmin(axis=0, keepdims=True)
            ]
        place, provider = int(places[least[0]]), 0
        number, provider = cells[: Column.PROVIDER + 1, place].tolist()
        row = int(blocks[place // BLOCK_ROWS]) * BLOCK_ROWS + place % BLOCK_ROWS
        found.append(Candidate(int(scores[least[0]]), number, provider, row))
        if len(found) < 2:
            is_other = cells[Column.PROVIDER, places] != provider
            places, scores = places[is_other], scores[is_other]
    return found


def _merge(best: list[Candidate], found: list[Candidate]) -> list[Candidate]:
    """Give the two best, of two providers; each list is in order and of two at most."""
    both = sorted(best + found)
    return both[:1] + [one for one in both if one.provider != both[0].provider][:1]
