"""The instant reverse auction: who would get this order, and for how much.

The lowest cost wins, the older offer where two are equal; where one owner asks the same
for several machines, the one on which least room is broken up. The winner is paid what the
runner-up, the cheapest fitting offer of another provider, would have cost: then the
honest floor is the best one to ask. Where there is no runner-up the winner is paid
what it asks itself: a lone seller must not be handed the order's maximum, or tenants
would have to hide what the work is worth to them.
"""

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from sublet.base.errors import Refused
from sublet.base.ids import Address, Digest
from sublet.base.limits import LEASE_S_MAX
from sublet.base.units import format_money
from sublet.core.book.book import Book
from sublet.core.book.booking import find_full
from sublet.core.book.offer_table import (
    AT_LEAST,
    PRICES,
    USUAL_CPUS,
    USUAL_GIB,
    Cells,
    Column,
    OfferTable,
)
from sublet.core.book.search import Candidate, Judge, find_two
from sublet.core.book.wish import Wishes, compile_wishes, models_of
from sublet.core.document import Order
from sublet.core.placement.tie import Contender, choose
from sublet.core.wording import check_wording

_GIB_BITS = 30  # memory is priced by 2^30 bytes
_GIB_MASK = (1 << _GIB_BITS) - 1
_SECONDS_PER_HOUR = 3_600
# What an offer lacks, for the columns of AT_LEAST behind the first.
_AT_LEAST = (
    *("provider_up", "cpus", "memory", "disk", "gpu_count", "leases", "gpu_memory"),
)
# What a Contender's line is made of.
_ROOM = (
    *(Column.GPUS_FREE, Column.CPUS_MILLI_FREE, Column.MEMORY_BYTES_FREE),
    Column.NUMBER,
)


class Match(Struct, frozen=True):
    """What an order gets."""

    offer_id: Digest
    provider: Address
    machine: str
    region: str
    price_hour: int  # micro-USD for the whole slice: the runner-up's cost
    duration_s: int  # longest that total, order and market allow
    hold: int  # micro-USD that the lease may cost at most


class NoMatch(Refused):
    """No offer fits this order now; ask for less, pay more, or try again later."""

    code = "no_match"


def quote(book: Book, order: Order, *, now_s: int) -> Match:
    """Find the offer that wins this order at ``now_s``. Changes nothing.

    Wallet, signer and the number of leases are not looked at.

    Raises:
        NoMatch: ``detail`` says how many offers each requirement excluded.
        Refused: ``bad_order`` or ``total_too_small``.
    """
    check_order(order)
    offers = book.offers
    wishes = _compile(book, order, now_s=now_s).values()

    def judge(cells: Cells) -> tuple[NDArray[np.intp], NDArray[np.int64]]:
        fits = _has_enough(cells, order, now_s=now_s).all(axis=0)
        for is_met in wishes:
            fits &= is_met(cells)
        places = np.flatnonzero(fits)
        costs = _cost(cells.take(places, axis=1), order)
        is_cheap = costs <= order.price_hour_max
        return places[is_cheap], costs[is_cheap]

    blocks, bounds = _promising(book, order, now_s=now_s)
    winner, runner_up = find_two(offers, blocks, bounds, judge)
    if winner is None:
        raise _no_match(book, order, now_s=now_s)
    price_hour = _second_price(winner, runner_up)
    duration_s = compute_duration(order, price_hour=price_hour)
    record = offers.get(_settle_tie(offers, winner, judge))
    return Match(
        offer_id=record.id,
        provider=record.provider,
        machine=record.offer.machine,
        region=record.offer.region,
        price_hour=price_hour,
        duration_s=duration_s,
        hold=-(-price_hour * duration_s // _SECONDS_PER_HOUR),
    )


def _settle_tie(offers: OfferTable, winner: Candidate, judge: Judge) -> int:
    """Choose among the winner's own machines that cost the same; give the row."""
    machines = offers.machines[offers.get(winner.row).provider]
    if len(machines) == 1:
        return winner.row
    rows = np.array(list(machines.values()))
    places, scores = judge(offers.cells[:, rows])
    tied = rows[places[scores == winner.score]]
    room = offers.cells[np.ix_(_ROOM, tied)].tolist()
    return choose(map(Contender, *room, tied.tolist()))


def count_fitting(book: Book, order: Order, *, now_s: int) -> int:
    """Count all offers that fit the order at ``now_s``; looks at each of them."""
    cells = book.offers.cells
    fits = _has_enough(cells, order, now_s=now_s).all(axis=0)
    for is_met in _compile(book, order, now_s=now_s).values():
        fits &= is_met(cells)
    return int(np.count_nonzero(fits & (_cost(cells, order) <= order.price_hour_max)))


def may_take(book: Book, order: Order, offer_id: Digest, *, now_s: int) -> bool:
    """Say whether one offer would take this order now, whatever it costs."""
    row = book.offers.row_of.get(offer_id)
    if row is None:
        return False
    cells = book.offers.cells[:, [row]]
    wishes = _compile(book, order, now_s=now_s).values()
    return bool(_has_enough(cells, order, now_s=now_s).all()) and all(
        bool(is_met(cells)[0]) for is_met in wishes
    )


def find_kind(
    book: Book, order: Order, cells: Cells, *, now_s: int
) -> NDArray[np.bool_]:
    """Say which rows are of the kind that is wanted, free or not; shape (n_rows,)."""
    fits = np.ones(cells.shape[1], dtype=np.bool_)
    fits &= cells[Column.GPU_MEMORY_BYTES] >= order.gpu_memory_bytes
    for is_met in compile_wishes(book, order, now_s=now_s).values():
        fits &= is_met(cells)
    return fits


def price(order: Order, cells: Cells) -> NDArray[np.int64]:
    """Price the slice in some rows, micro-USD an hour; shape (n_rows,)."""
    return _cost(cells, order)


def _compile(book: Book, order: Order, *, now_s: int) -> Wishes:
    """Make the tests of the order's wishes, and that no booking is in its way."""
    wishes = compile_wishes(book, order, now_s=now_s)
    if full := find_full(book, order, now_s=now_s):
        wishes["booked"] = lambda cells: ~np.isin(cells[Column.NUMBER], full)
    return wishes


def check_order(order: Order) -> None:
    """Refuse an order that asks for nothing, which every offer would fit for free.

    Raises:
        Refused: ``bad_order``, with the field.
    """
    for field in ("cpus_milli", "memory_bytes", "duration_s_max"):
        if getattr(order, field) < 1:
            raise Refused(
                f"order.{field} is 0; ask for at least 1",
                code="bad_order",
                field=f"order.{field}",
            )
    check_wording(order, whose="order")


def _promising(
    book: Book, order: Order, *, now_s: int
) -> tuple[NDArray[np.intp], NDArray[np.int64]]:
    """Give the blocks in which an offer may fit, and what it costs there at least."""
    offers = book.offers
    scope = book.delegations.get(order.delegation)
    within = None
    if models := models_of(order):
        within = offers.blocks_with(models)
    if scope is not None and scope.providers:
        within = offers.blocks_of(scope.providers)
    ideals = offers.ideals_of(within)
    may_fit = _has_enough(ideals, order, now_s=now_s).all(axis=0)
    bounds = _least_cost(ideals, order)
    may_fit &= bounds <= order.price_hour_max
    blocks = may_fit.nonzero()[0]
    return (blocks if within is None else within[blocks]), bounds[blocks]


def _has_enough(cells: Cells, order: Order, *, now_s: int) -> NDArray[np.bool_]:
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


def _cost(cells: Cells, order: Order) -> NDArray[np.int64]:
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
        return _cost(ideals, order)
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


def _second_price(winner: Candidate, runner_up: Candidate | None) -> int:
    return winner.score if runner_up is None else runner_up.score


def compute_duration(order: Order, *, price_hour: int) -> int:
    """Say how long a lease may last at a price: as order, market and total allow.

    Raises:
        Refused: ``total_too_small`` where that is not one second.
    """
    duration_s = min(order.duration_s_max, LEASE_S_MAX)
    if price_hour:
        affordable_s = order.total_max * _SECONDS_PER_HOUR // price_hour
        duration_s = min(duration_s, affordable_s)
    if duration_s < 1:
        raise Refused(
            f"at {format_money(price_hour)} an hour a total of "
            f"{format_money(order.total_max)} does not pay for one second; "
            "allow a higher total",
            code="total_too_small",
            field="order.total_max",
            detail={"price_hour": price_hour, "total_max": order.total_max},
        )
    return duration_s


def _no_match(book: Book, order: Order, *, now_s: int) -> NoMatch:
    offers = book.offers
    standing, *enough = _has_enough(offers.cells, order, now_s=now_s)
    fits = dict(zip(_AT_LEAST, enough, strict=True))
    for name, is_met in _compile(book, order, now_s=now_s).items():
        fits[name] = is_met(offers.cells)
    fits["price"] = _cost(offers.cells, order) <= order.price_hour_max
    excluded = {
        name: count
        for name, mask in fits.items()
        if (count := int(np.count_nonzero(standing & ~mask)))
    }
    total = int(np.count_nonzero(standing))
    if not total:
        return NoMatch(
            "nobody offers anything in this market right now; try again later",
            detail={"offers": 0},
        )
    reasons = ", ".join(f"{name} {count}" for name, count in excluded.items())
    return NoMatch(
        f"none of the {total} offers fits; excluded by: {reasons}. "
        "Ask for less, raise the price, or try again later",
        detail={"offers": total, **excluded},
    )
