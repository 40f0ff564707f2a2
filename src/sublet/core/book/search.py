"""The two best offers of a large table, found in few of its blocks.

Branch and bound: the block with the best ideal is looked at first, and no block whose
ideal is beaten by the second best that was found. Exact: the two best of all rows are
found, whatever the order of the rows.

Not here: who fits and what a score is (``quote``).
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from sublet.core.book.block import BLOCK_ROWS
from sublet.core.book.column import Cells, Column, Columns
from sublet.core.book.offer_table import OfferTable

Scores = NDArray[np.int64]
Places = NDArray[np.intp]
# Of these rows, which are in the running (their places among them), and their scores.
Judge = Callable[[Columns], tuple[Places, Scores]]

Numbers = NDArray[np.int64]
Tables = NDArray[np.bool_]
# The same search compiled, of cells, ideals, blocks and a plan's four parts: score and
# row of the winner, then of the runner-up; a row of -1 for each that there is not.
Kernel = Callable[
    [Cells, Cells, Places, Numbers, Tables, Numbers, Numbers],
    tuple[int, int, int, int],
]

_FIRST_BLOCKS = 2  # in half of all searches no more are needed
_MORE_BLOCKS = 4  # times as many in each round, while too few fit
_HEAD = 32  # blocks that are put in order at first, of many


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
    best: list[Candidate] = []  # at most two, of two providers, in order
    size = _FIRST_BLOCKS
    for ordered in _in_order(bounds):
        ahead = bounds[ordered]
        while ordered.size:
            if len(best) == 2:  # what ties the second may be older, and beat it
                size = min(size, int(ahead.searchsorted(best[1].score, "right")))
                if not size:
                    return best[0], best[1]
            found = _two_of(offers, blocks[ordered[:size]], judge)
            best = _merge(best, found) if best else found
            ordered, ahead = ordered[size:], ahead[size:]
            size *= _MORE_BLOCKS
    winner, runner_up, *_ = (*best, None, None)
    return winner, runner_up


def _in_order(bounds: Scores) -> Iterator[Places]:
    """Give the places of the bounds, the least first: the first few, then the rest."""
    if bounds.size <= 2 * _HEAD:
        yield bounds.argsort()
        return
    parted = bounds.argpartition(_HEAD)
    yield (head := parted[:_HEAD])[bounds[head].argsort()]
    yield (rest := parted[_HEAD:])[bounds[rest].argsort()]


def _two_of(offers: OfferTable, blocks: Places, judge: Judge) -> list[Candidate]:
    cells = offers.rows_of(blocks)
    places, scores = judge(cells)
    if not places.size:
        return []
    numbers = cells[Column.NUMBER].take(places).tolist()
    providers = cells[Column.PROVIDER].take(places).tolist()
    ranks = list(zip(scores.tolist(), numbers, providers, places.tolist(), strict=True))
    first = min(ranks)
    others = [rank for rank in ranks if rank[2] != first[2]]
    return [
        Candidate(
            score,
            number,
            provider,
            int(blocks[place // BLOCK_ROWS]) * BLOCK_ROWS + place % BLOCK_ROWS,
        )
        for score, number, provider, place in (
            (first, min(others)) if others else (first,)
        )
    ]


def _merge(best: list[Candidate], found: list[Candidate]) -> list[Candidate]:
    """Give the two best, of two providers; each list is in order and of two at most."""
    both = sorted(best + found)
    return both[:1] + [one for one in both if one.provider != both[0].provider][:1]
