"""Which offers have what an order asks for, and what its slice costs of each.

Not here: wishes for a kind of machine (``wish``), who wins (``quote``).
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from sublet.core.book.book import Book
from sublet.core.book.booking import find_full
from sublet.core.book.column import (
    AT_LEAST,
    LEAST_PRICES,
    USUAL_CPUS,
    USUAL_GIB,
    Column,
    Columns,
)
from sublet.core.book.wish import Wishes, compile_wishes, models_of
from sublet.core.document import Order

# What an offer lacks, for the columns of AT_LEAST behind the first.
ENOUGH = (
    *("provider_up", "cpus", "memory", "disk", "gpu_count", "leases", "gpu_memory"),
)
UNBOUNDED = 1 << 62  # micro-USD an hour: more than any slice costs
_GIB_BITS = 30  # memory is priced by 2^30 bytes
_GIB_MASK = (1 << _GIB_BITS) - 1


def find_blocks(book: Book, order: Order) -> NDArray[np.intp]:
    """Give the blocks with the order's GPU models, or with those it is allowed."""
    offers = book.offers
    scope = book.delegations.get(order.delegation)
    if scope is not None and scope.providers:
        return offers.blocks_of(scope.providers)
    if models := models_of(order):
        return offers.blocks_with(models)
    return offers.all_blocks()


def find_promising(
    book: Book, order: Order, wanted: NDArray[np.int64], *, price_max: int
) -> tuple[NDArray[np.intp], NDArray[np.int64]]:
    """Give the blocks in which an offer may fit, and what it costs there at least.

    Args:
        book: with the offers.
        order: the wishes, of which only GPU models are looked at.
        wanted: at least, as ``wanted_of`` gives it.
        price_max: micro-USD an hour, for the slice.
    """
    blocks, ideals = find_blocks(book, order), book.offers.ideals
    enough = ideals[AT_LEAST].take(blocks, axis=1) >= wanted
    costs = _least_cost(ideals[LEAST_PRICES].take(blocks, axis=1), order)
    may_fit = np.logical_and.reduce(enough)
    may_fit &= costs <= price_max
    places = may_fit.nonzero()[0]
    return blocks.take(places), costs.take(places)


def wanted_of(order: Order, *, now_s: int) -> NDArray[np.int64]:
    """Say what is wanted of the columns of AT_LEAST; shape (8, 1)."""
    wanted = list_wanted(order, now_s=now_s)
    return np.array(wanted, dtype=np.int64)[:, np.newaxis]


def list_wanted(order: Order, *, now_s: int) -> tuple[int, ...]:
    """Say what is wanted of each column of AT_LEAST."""
    return (
        now_s + 1,
        1,
        order.cpus_milli,
        order.memory_bytes,
        order.disk_bytes,
        order.gpu_count,
        1,
        order.gpu_memory_bytes,
    )


def has_enough(cells: Columns, order: Order, *, now_s: int) -> NDArray[np.bool_]:
    """Say which offers stand, are up, and have what the order wants at least.

    Returns:
        One line for each column of AT_LEAST, shape (8, n_rows).
    """
    has: NDArray[np.bool_] = cells[AT_LEAST] >= wanted_of(order, now_s=now_s)
    return has


def find_fitting(book: Book, order: Order, *, now_s: int) -> NDArray[np.bool_]:
    """Say which rows fit the order at ``now_s``, whatever they cost; looks at each."""
    cells = book.offers.cells
    fits = np.ones(cells.shape[1], dtype=np.bool_)
    fits &= has_enough(cells, order, now_s=now_s).all(axis=0)
    for is_met in compile_tests(book, order, now_s=now_s).values():
        fits &= is_met(cells)
    return fits


def compute_cost(prices: Any, order: Order) -> Any:
    """Price a slice of machines, micro-USD an hour; each part rounded up.

    Args:
        prices: of a CPU, of a GiB, of a GPU, an hour: three numbers, or the columns
            PRICES of some rows, shape (3, n_rows).
        order: within the limits of its types, so that nothing overflows an int64:
            whole GiB and the rest are priced apart, each below 2^61.

    Returns:
        A number, or shape (n_rows,).
    """
    return price_parts(*prices, *list_parts(order))


def list_parts(order: Order) -> tuple[int, ...]:
    """Take the slice apart as ``price_parts`` prices it."""
    return (
        *divmod(order.cpus_milli, 1_000),
        *divmod(order.memory_bytes, 1 << _GIB_BITS),
        order.gpu_count,
    )


def price_parts(
    cpu_price: Any,
    memory_price: Any,
    gpu_price: Any,
    whole_cpus: int,
    rest_milli: int,
    whole_gib: int,
    rest_bytes: int,
    gpus: int,
) -> Any:
    """Price them; of numbers or arrays, and compiled as it stands (``kernel``)."""
    cost = whole_cpus * cpu_price + whole_gib * memory_price
    if rest_milli:
        cost += (rest_milli * cpu_price + 999) // 1_000
    if rest_bytes:
        cost += (rest_bytes * memory_price + _GIB_MASK) >> _GIB_BITS
    if gpus:
        cost += gpus * gpu_price
    return cost


def _least_cost(prices: NDArray[np.int64], order: Order) -> NDArray[np.int64]:
    """Say what the slice costs at least in blocks, by the LEAST_PRICES of their ideals."""
    least: NDArray[np.int64] = np.array(list_milli(order)) @ prices // 1_000
    return least


def list_milli(order: Order) -> tuple[int, ...]:
    """Say in thousandths what to multiply the LEAST_PRICES of a block by.

    No row has all the lowest prices of its block at once. So as much of the slice as can
    be is priced as usual ones, whose price is near the same in a block.
    """
    usual_milli = min(
        order.gpu_count * 1_000,
        order.cpus_milli // USUAL_CPUS,
        order.memory_bytes * 1_000 // (USUAL_GIB << _GIB_BITS),
    )
    usual_bytes = -(-usual_milli * (USUAL_GIB << _GIB_BITS) // 1_000)
    return (  # rounded down; their sum, priced, is below 2^57
        order.cpus_milli - usual_milli * USUAL_CPUS,
        (order.memory_bytes - usual_bytes) * 1_000 >> _GIB_BITS,
        order.gpu_count * 1_000 - usual_milli,
        usual_milli,
    )


def compile_tests(book: Book, order: Order, *, now_s: int) -> Wishes:
    """Make the tests of the order's wishes, and that no booking is in its way."""
    wishes = compile_wishes(book, order, now_s=now_s)
    if full := find_full(book, order, now_s=now_s):
        wishes["booked"] = lambda cells: ~np.isin(cells[Column.NUMBER], full)
    return wishes
