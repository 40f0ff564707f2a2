"""The search through a large table by compiled code.

What is found is what ``search`` finds by arrays, in a tenth of the time. It takes
numba, which is in an extra, and seconds to be compiled: whoever owns a book loads it at a
time that suits, and a book without it decides the same.

Not here: the code that is compiled (``kernel``), and what it reads (``plan``).
"""

import numpy as np
from msgspec.structs import replace
from numpy.typing import NDArray

from sublet.core.book.block import BLOCK_ROWS
from sublet.core.book.column import Column
from sublet.core.book.fit import UNBOUNDED
from sublet.core.book.offer_table import OfferTable
from sublet.core.book.plan import PRICE_MAX, SCALE, Plan
from sublet.core.book.search import Candidate, Kernel

LARGE_BLOCKS = 64  # from which on it pays to compile: some 6,000 offers


def is_large(offers: OfferTable) -> bool:
    """Say whether the table is so large that a compiled search is worth loading."""
    return offers.count >= LARGE_BLOCKS * BLOCK_ROWS


def load_kernel() -> Kernel | None:
    """Compile the search, which takes seconds; None where numba is not there."""
    try:
        from sublet.core.book.kernel import compile_search
    except (ImportError, OSError):  # not there, or without the libraries that it needs
        return None
    return compile_search()


def find_two(
    kernel: Kernel, offers: OfferTable, blocks: NDArray[np.intp], plan: Plan
) -> tuple[Candidate | None, Candidate | None]:
    """Find the best offer, and the best one of any other provider, as ``search`` does."""
    score, row, other_score, other = kernel(
        offers.cells,
        offers.ideals,
        blocks,
        np.array(plan.numbers, dtype=np.int64),
        plan.tables,
        plan.ms_of,
        plan.data_price_of,
    )
    winner = _read(offers, score, row)
    return winner, _read(offers, other_score, other)


def has_two(
    kernel: Kernel, offers: OfferTable, blocks: NDArray[np.intp], plan: Plan
) -> bool:
    """Say whether two providers fit, if the price did not matter."""
    numbers = plan.numbers.copy()
    numbers[PRICE_MAX], numbers[SCALE] = UNBOUNDED, 0
    _, runner_up = find_two(kernel, offers, blocks, replace(plan, numbers=numbers))
    return runner_up is not None


def _read(offers: OfferTable, score: int, row: int) -> Candidate | None:
    if row < 0:
        return None
    number, provider = offers.cells[: Column.PROVIDER + 1, row].tolist()
    return Candidate(score, number, provider, row)
