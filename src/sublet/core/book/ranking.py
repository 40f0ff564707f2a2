"""Some offers, each at a price, in the order in which an order would rather have them.

For those modes that have few to compare; the search through all is ``quote``.
"""

from collections.abc import Sequence

import numpy as np

from sublet.core.book.book import Book
from sublet.core.book.column import Column
from sublet.core.book.mode import PAY_AS_BID
from sublet.core.book.score import Scorer
from sublet.core.book.search import Candidate
from sublet.core.document import Order


def rank(
    book: Book, order: Order, *, rows: Sequence[int], costs: Sequence[int]
) -> list[Candidate]:
    """Score offers; the best comes first, the older one where two are equal.

    Args:
        book: with the offers.
        order: whose wishes weigh.
        rows: of the offers.
        costs: for how much each is to be had, micro-USD an hour for the slice, at most
            the order's maximum.
    """
    places = np.array(rows, dtype=np.intp)
    cells = book.offers.cells
    scores = Scorer(book, order).scores(cells, places, np.array(costs, dtype=np.int64))
    found = (
        scores.tolist(),
        cells[Column.NUMBER].take(places).tolist(),
        cells[Column.PROVIDER].take(places).tolist(),
    )
    return sorted(map(Candidate, *found, rows))


def pay(
    book: Book,
    order: Order,
    winner: Candidate,
    runner_up: Candidate | None,
    *,
    cost: int,
) -> int:
    """Say what the winner is paid: the price at which it just ties, or its own."""
    if runner_up is None or order.pricing == PAY_AS_BID:
        return cost
    return Scorer(book, order).highest_price(winner, runner_up)
