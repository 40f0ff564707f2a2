"""An order as plain numbers, in the places where the compiled search reads them.

Not here: the search (``kernel``), and who has it compiled (``compiled``).
"""

from collections.abc import Iterable

import numpy as np
from msgspec import Struct

from sublet.core.book.fit import list_milli, list_parts
from sublet.core.book.score import Scorer
from sublet.core.book.search import Numbers, Tables
from sublet.core.book.wish import SPEEDS, IsMet, Wish
from sublet.core.document import Order

# Where the numbers of a plan begin.
WANTED = 0  # of each column of AT_LEAST
PARTS = 8  # what prices are multiplied by, for one row …
MILLI = 13  # … and for an ideal
MILLI_END = 17
PRICE_MAX = 17
SCALE = 18  # 0 where any two rows will do
ASKED_S = 19
SPEED = 20  # the column, or -1
NEAR_PRICE = 21
WISHES = 22  # of each its column, the least, and where its table begins or -1

_NO_TABLES = np.zeros(0, dtype=np.bool_)


class Plan(Struct, frozen=True):
    """One order, for the compiled search."""

    numbers: list[int]
    tables: Tables  # of all wishes, one after another
    ms_of: Numbers  # as a Scorer has them
    data_price_of: Numbers


def make_plan(
    order: Order, *, wanted: Iterable[int], wishes: Iterable[IsMet], scorer: Scorer
) -> Plan | None:
    """Write an order as numbers; None where a wish is none of one column."""
    numbers = [
        *wanted,
        *list_parts(order),
        *list_milli(order),
        order.price_hour_max,
        scorer.scale,
        scorer.asked_s,
        SPEEDS[order.work] if order.work else -1,
        order.near_price_hour,
    ]
    tables, size = [], 0
    for wish in wishes:
        if not isinstance(wish, Wish):
            return None
        start = -1
        if wish.table is not None:
            tables.append(wish.table)
            start, size = size, size + wish.table.size
        numbers += (wish.column, wish.least, start)
    return Plan(
        numbers,
        np.concatenate(tables) if tables else _NO_TABLES,
        scorer.ms_of,
        scorer.data_price_of,
    )
