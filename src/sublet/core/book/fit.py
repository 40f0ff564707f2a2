"""Which offers have what an order asks for, and what its slice costs of each.

Not here: wishes for a kind of machine (``wish``), who wins (``quote``).
"""

import numpy as np
from numpy.typing import NDArray

from sublet.core.book.book import Book
from sublet.core.book.booking import find_full
from sublet.core.book.column import (
    AT_LEAST,
    PRICES,
    USUAL_CPUS,
    USUAL_GIB,
    Cells,
    Column,
)
from sublet.core.book.wish import Wishes, compile_wishes, models_of
from sublet.core.document import Order

# What an offer lacks, for the columns of AT_LEAST behind the first.
ENOUGH = (
    *("provider_up", "cpus", "memory", "disk", "gpu_count", "leases", "gpu_memory"),
)
_GIB_BITS = 30  # memory is priced by 2^30 bytes
_GIB_MASK = (1 << _GIB_BITS) - 1


def find_promising(
    book: Book, order: Order, *, now_s: int, price_max: int
) -> tuple[NDArray[np.intp], Cells, NDArray[np.int64]]:
    """Give the blocks in which an offer may fit, and what it costs there at least.

    Returns:
        Blocks, their ideals (one column each) and costs.
    """
    offers = book.offers
    scope = book.delegations.get(order.delegation)
    within = None
    if models := models_of(order):
        within = offers.blocks_with(models)
    if scope is not None and scope.providers:
        within = offers.blocks_of(scope.providers)
    ideals = offers.ideals_of(within)
    may_fit = has_enough(ideals, order, now_s=now_s).all(axis=0)
    bounds = _least_cost(ideals, order)
    may_fit &= bounds <= price_max
    blocks = may_fit.nonzero()[0]
    found = blocks if within is None else within[blocks]
    return found, ideals.take(blocks, axis=1), bounds[blocks]


def has_enough(cells: Cells, order: Order, *, now_s: int) -> NDArray[np.bool_]:
    """Say which offers stand, are up, and have what the order wants at least.

    Returns:
        One line for each column of AT_LEAST, shape (8, n_rows).
    """
    wanted = (
        now_s + 1,
        1,
        order.cpus_milli,
        order.memory_bytes,
        order.disk_bytes,
        order.gpu_count,
        1,
        order.gpu_memory_bytes,
    )
    has: NDArray[np.bool_] = (
        cells[AT_LEAST] >= np.array(wanted, dtype=np.int64)[:, np.newaxis]
    )
    return has


def compute_cost(cells: Cells, order: Order) -> NDArray[np.int64]:
    """Price the slice in each of the rows, micro-USD an hour; each part rounded up.

    Args:
        cells: of the rows, or ideals, shape (columns, n_rows).
        order: within the limits of its types, so that nothing overflows an int64:
            whole GiB and the rest are priced apart, each below 2^61.

    Returns:
        Shape (n_rows,).
    """
    whole_gib, rest_bytes = divmod(order.memory_bytes, 1 << _GIB_BITS)
    cpu_price, memory_price, gpu_price = cells[PRICES]
    cost: NDArray[np.int64] = (order.cpus_milli * cpu_price + 999) // 1_000
    cost += whole_gib * memory_price
    if rest_bytes:
        cost += (rest_bytes * memory_price + _GIB_MASK) >> _GIB_BITS
    if order.gpu_count:
        cost += order.gpu_count * gpu_price
    return cost


def _least_cost(ideals: Cells, order: Order) -> NDArray[np.int64]:
    """Say what the slice costs at least in the blocks of these ideals.

    No row has all the lowest prices of its block at once. So as much of the slice as can
    be is priced as usual ones, whose price is near the same in a block.
    """
    usual_milli = min(
        order.gpu_count * 1_000,
        order.cpus_milli // USUAL_CPUS,
        order.memory_bytes * 1_000 // (USUAL_GIB << _GIB_BITS),
    )
    if not usual_milli:
        return compute_cost(ideals, order)
    cpus_milli = order.cpus_milli - usual_milli * USUAL_CPUS
    memory_bytes = order.memory_bytes - -(
        -usual_milli * (USUAL_GIB << _GIB_BITS) // 1_000
    )
    cpu_price, memory_price, gpu_price = ideals[PRICES]
    thousandths = usual_milli * ideals[Column.USUAL_PRICE_HOUR]
    thousandths += cpus_milli * cpu_price
    thousandths += (order.gpu_count * 1_000 - usual_milli) * gpu_price
    least: NDArray[np.int64] = thousandths // 1_000
    least += (memory_bytes >> _GIB_BITS) * memory_price
    return least


def compile_tests(book: Book, order: Order, *, now_s: int) -> Wishes:
    """Make the tests of the order's wishes, and that no booking is in its way."""
    wishes = compile_wishes(book, order, now_s=now_s)
    if full := find_full(book, order, now_s=now_s):
        wishes["booked"] = lambda cells: ~np.isin(cells[Column.NUMBER], full)
    return wishes
