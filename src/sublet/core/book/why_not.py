"""Why an order has no match, and the cheapest single change of it that would have one.

Looks at every offer, once, of a large market at so many as ROWS_MAX has room for, those
with the asked GPU first: how many each requirement excludes, and which offers miss one
requirement alone. Of these the one that costs least is named, with the order's field
that stands in its way and the value that would let it through.

Not here: the auction (``quote``).
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from msgspec import Struct
from msgspec.structs import replace
from numpy.typing import NDArray

from sublet.base.errors import Refused
from sublet.base.limits import PRICE_PER_HOUR_MAX
from sublet.core.book.block import BLOCK_ROWS
from sublet.core.book.book import Book
from sublet.core.book.column import PRICES, Column
from sublet.core.book.fit import ENOUGH, compile_tests, compute_cost, has_enough
from sublet.core.book.gang_auction import GangAuction
from sublet.core.book.record import OfferRecord
from sublet.core.book.tell import field_of, tell_changes, tell_price, tell_wish
from sublet.core.book.wish import Mask, models_of
from sublet.core.document import Order

ROWS_MAX = 1 << 15  # that are looked at: some milliseconds
_SECONDS_PER_HOUR = 3_600


class NoMatch(Refused):
    """No offer fits this order now; ask for less, pay more, or try again later."""

    code = "no_match"


class Relaxation(Struct, frozen=True):
    """One change of an order with which it would have a match."""

    name: str  # of the requirement, as it is counted
    changes: Mapping[str, Any]  # of the order's fields
    offers: int  # that it would then fit; a lone price excludes so many
    cost_hour: int  # micro-USD: what the cheapest of them asks

    def apply(self, order: Order) -> Order:
        """Give the order that would match."""
        return replace(order, **self.changes)


def explain(book: Book, order: Order, *, now_s: int) -> NoMatch:
    """Say how many offers each requirement excludes, and what would have a match."""
    blocks = _choose_blocks(book, order, now_s=now_s)
    standing, misses, costs = _hold_against(book, order, blocks, now_s=now_s)
    total = int(np.count_nonzero(standing))
    if not total:
        return NoMatch(
            "nobody offers anything in this market right now; try again later",
            detail={"offers": 0},
        )
    excluded = {
        name: count
        for name, mask in misses.items()
        if (count := int(np.count_nonzero(standing & mask)))
    }
    reasons = ", ".join(
        f"{tell_wish(name, order)} ({count})" for name, count in excluded.items()
    )
    found = _find_cheapest(book, order, blocks, standing, misses, costs, now_s=now_s)
    detail: dict[str, str | int] = {"offers": total, **excluded}
    cure = "Ask for less, raise the price, or try again later"
    if found is not None:
        detail |= {"relax": found.name, "relax_cost_hour": found.cost_hour}
        detail |= _list_changes(found.changes)
        cure = _tell(found, order)
    is_all = blocks.size * BLOCK_ROWS >= book.offers.count
    looked = "" if is_all else " that were looked at"
    return NoMatch(
        f"none of the {total} offers{looked} fits; excluded by: {reasons}. {cure}",
        detail=detail,
    )


def explain_gang(
    book: Book, order: Order, auction: GangAuction, *, now_s: int
) -> NoMatch:
    """Say how many machines would fit together, and what would make them enough."""
    most = auction.count_most()
    alone = explain(book, order, now_s=now_s)
    if not most and not order.together_ms:
        return alone
    counts = {k: v for k, v in alone.detail.items() if not k.startswith("relax")}
    detail = counts | {"machines": most}
    cure = "Ask for fewer, raise the price, or try again later"
    changes = auction.relax()
    if changes:
        detail |= {"relax": next(iter(changes))} | _list_changes(changes)
        cure = f"Change {tell_changes(order, changes)}, and they would"
    return NoMatch(
        f"the order wants {order.machines} machines together, and {most} would do; "
        f"none is leased without the others. {cure}",
        detail=detail,
    )


def find_relaxation(book: Book, order: Order, *, now_s: int) -> Relaxation | None:
    """Find the cheapest single change with which the order would match, or None."""
    blocks = _choose_blocks(book, order, now_s=now_s)
    held = _hold_against(book, order, blocks, now_s=now_s)
    return _find_cheapest(book, order, blocks, *held, now_s=now_s)


def _choose_blocks(book: Book, order: Order, *, now_s: int) -> NDArray[np.intp]:
    """Give the blocks that are looked at: all, or the first of those that have offers."""
    blocks = book.offers.all_blocks()
    if blocks.size * BLOCK_ROWS <= ROWS_MAX:
        return blocks
    until_s = book.offers.ideals[Column.EXPIRES_AT_S].take(blocks)
    blocks = blocks[until_s > now_s]
    is_asked = np.isin(blocks, book.offers.blocks_with(models_of(order)))
    blocks = np.concatenate([blocks[is_asked], blocks[~is_asked]])
    return blocks[: ROWS_MAX // BLOCK_ROWS]


def _hold_against(
    book: Book, order: Order, blocks: NDArray[np.intp], *, now_s: int
) -> tuple[Mask, Mapping[str, Mask], NDArray[np.int64]]:
    """Say of every row whether it stands, what it misses by name, what it costs."""
    cells = book.offers.rows_of(blocks)
    standing, *enough = has_enough(cells, order, now_s=now_s)
    misses = {name: ~has for name, has in zip(ENOUGH, enough, strict=True)}
    for name, is_met in compile_tests(book, order, now_s=now_s).items():
        misses[name] = ~is_met(cells)
    costs = compute_cost(cells[PRICES], order)
    misses["price"] = costs > order.price_hour_max
    return standing, misses, costs


def _find_cheapest(
    book: Book,
    order: Order,
    blocks: NDArray[np.intp],
    standing: Mask,
    misses: Mapping[str, Mask],
    costs: NDArray[np.int64],
    *,
    now_s: int,
) -> Relaxation | None:
    missed = np.add.reduce([mask.astype(np.int64) for mask in misses.values()])
    alone = standing & (missed == 1) & (costs <= PRICE_PER_HOUR_MAX)
    cheapest: Relaxation | None = None
    for name, mask in misses.items():
        places = np.flatnonzero(alone & mask)
        if not places.size:
            continue
        place = places[costs[places].argmin()]
        row = int(blocks[place // BLOCK_ROWS]) * BLOCK_ROWS + int(place) % BLOCK_ROWS
        changes = _relax(name, order, book.offers.get(row), cost=int(costs[place]))
        if changes is None:
            continue
        # With another count the slice has another price: it is computed anew.
        prices = book.offers.cells_of(row)[PRICES]
        cost = compute_cost(prices, replace(order, **changes))
        if cheapest is None or cost < cheapest.cost_hour:
            cheapest = Relaxation(name, changes, int(places.size), cost)
    if cheapest is None or cheapest.name == "price":
        return cheapest
    count = _count(book, cheapest.apply(order), blocks, now_s=now_s)
    return replace(cheapest, offers=count)


def _count(book: Book, order: Order, blocks: NDArray[np.intp], *, now_s: int) -> int:
    """Count what fits in these blocks: one change does not help all that miss a wish."""
    standing, misses, _ = _hold_against(book, order, blocks, now_s=now_s)
    return int(np.count_nonzero(standing & ~np.logical_or.reduce([*misses.values()])))


def _tell(found: Relaxation, order: Order) -> str:
    one = found.offers == 1
    count = f"{found.offers} offer{'' if one else 's'}"
    price = tell_price(found.cost_hour)
    if found.name == "price":
        return (
            f"{count} at {price} or more; you allow {tell_price(order.price_hour_max)}"
        )
    values = tell_changes(order, found.changes)
    return f"Change {values}, and {count} would do, from {price}"


def _list_changes(changes: Mapping[str, Any]) -> dict[str, str | int]:
    """Give the fields as the order would have them, for programs."""
    return {
        f"relax_{field}": ",".join(value) if isinstance(value, tuple) else value
        for field, value in changes.items()
    }


Changes = dict[str, Any]


def _relax(
    name: str, order: Order, record: OfferRecord, *, cost: int
) -> Changes | None:
    """Give the order's fields as this offer needs them; None where nothing helps."""
    offer = record.offer
    if name == "price":
        total = -(-cost // _SECONDS_PER_HOUR)  # one second, at least
        lifted = {"total_max": total} if total > order.total_max else {}
        return {"price_hour_max": cost, **lifted}
    if name in _FREE:
        left = _FREE[name](record)
        return {field_of(name): left} if left > 0 or name in _MAY_BE_NONE else None
    if name in _NUMBERS:
        return {name: getattr(offer, name)}
    if name in _TEXTS:
        field = field_of(name)
        return {field: type(getattr(order, field))()}  # empty: any will do
    if name == "avoided":
        return {"avoid": tuple(one for one in order.avoid if one != record.provider)}
    return _drop(name, order)


def _drop(name: str, order: Order) -> Changes | None:
    """Leave out one of several: a feature, a place, an attribute."""
    if name in order.features:
        return {"features": _without(order.features, name)}
    kind, _, rest = name.partition(" ")
    if kind == "latency":
        left = tuple(text for text in order.latencies if text.partition("=")[0] != rest)
        return {"latencies": left}
    if name in order.attributes:
        return {"attributes": _without(order.attributes, name)}
    if kind == "audited":
        left = _without(order.attributes, rest)
        return {"attributes": left} if left else {
            "attributes": (), "auditors_any": (), "auditors_all": ()
        }  # fmt: skip
    return None  # provider_up, leases, refused, delegation: others have to move


def _without(texts: tuple[str, ...], text: str) -> tuple[str, ...]:
    return tuple(one for one in texts if one != text)


_FREE: Mapping[str, Callable[[OfferRecord], int]] = {
    "cpus": lambda r: r.offer.cpus_milli - r.cpus_milli_used,
    "memory": lambda r: r.offer.memory_bytes - r.memory_bytes_used,
    "disk": lambda r: r.offer.disk_bytes - r.disk_bytes_used,
    "gpu_count": lambda r: len(r.gpus_free()),
    "gpu_memory": lambda r: r.offer.gpu_memory_bytes,
}
_MAY_BE_NONE = frozenset({"disk", "gpu_count", "gpu_memory"})
_NUMBERS = frozenset(
    {"up_mbit_s", "down_mbit_s", "gpu_compute", "gpu_driver", "cuda"}
    | {"gpu_share_milli"}
)
_TEXTS = frozenset(
    {"region", "jurisdiction", "sandbox", "disk_class", "speed"}
    | {"gpu_model", "gpu_vendor", "gpu_interface", "gpu_sharing"}
)
