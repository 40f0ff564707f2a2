"""The part of a book that an order may get once some leases have ended: a small book.

Where nothing fits now, only machines that hold a lease can fit later. They are picked
while the book stands still, which is quick; ``make`` then builds of them a book that
shares nothing with the large one, so that another thread may change it as it likes.
"""

from collections.abc import Iterable

import numpy as np
from msgspec import Struct

from sublet.base.ids import Address, Digest
from sublet.core.book.book import Book
from sublet.core.book.column import PRICES, Column
from sublet.core.book.fit import compute_cost, find_fitting
from sublet.core.book.kept import Kept, restore
from sublet.core.document import Order
from sublet.core.lease.phase import Lease
from sublet.core.lease.table import holds_slice

BESIDE_MAX = 1_024  # machines that fit now, of which a gang lacks some: the cheapest


class Excerpt(Struct, frozen=True):
    """What is picked."""

    book: Book  # all but the offers
    rows: tuple[tuple[Kept, bool, int], ...]  # whether it is up, how long it lasts
    leases: tuple[Lease, ...]  # that still hold their slices

    def make(self, *, now_s: int) -> Book:
        """Give the small book."""
        for kept, is_up, lasts_s in self.rows:
            record = restore(kept)
            self.book.offers.put(record, is_up=is_up, now_s=now_s, lasts_s=lasts_s)
        return self.book


def pick(book: Book, order: Order, leases: Iterable[Lease], *, now_s: int) -> Excerpt:
    """Pick what these leases hold, and all that decides whether the order fits there."""
    found = [book.leases.get(lease.id) for lease in leases]
    held = tuple(lease for lease in found if lease is not None and holds_slice(lease))
    machines = {(lease.provider, lease.machine) for lease in held}
    rows = {book.offers.machines[provider][name] for provider, name in machines}
    if order.machines > 1:
        rows.update(_find_beside(book, order, now_s=now_s))
    small = Book()
    small.market, small.market_id = book.market, book.market_id
    small.version, small.now_s = book.version, book.now_s
    if (scope := book.delegations.get(order.delegation)) is not None:
        small.delegations[order.delegation] = scope
    for auditor in {*order.auditors_any, *order.auditors_all}:
        small.attestations[auditor] = book.attestations.get(auditor, {}).copy()
    booked = {machine for machine in machines if machine in book.booked}
    for machine in booked:
        small.booked[machine] = book.booked[machine].copy()
        small.orders |= {key: book.orders[key] for key in small.booked[machine]}
    for provider in {provider for provider, _ in booked}:
        _copy_leases(book, small, provider)
    return Excerpt(small, tuple(_pick_row(book, row) for row in rows), held)


def _pick_row(book: Book, row: int) -> tuple[Kept, bool, int]:
    cells = book.offers.cells_of(row)
    kept = book.offers.get_kept(row)
    return kept, bool(cells[Column.IS_UP]), cells[Column.LASTS_S]


def _copy_leases(book: Book, small: Book, provider: Address) -> None:
    """Copy what a booking has to share its machine with."""
    opened: dict[Digest, None] = book.open_of_provider.get(provider, {}).copy()
    unerased: dict[Digest, None] = book.unerased_of_provider.get(provider, {}).copy()
    small.open_of_provider[provider] = opened
    small.unerased_of_provider[provider] = unerased
    small.leases |= {key: book.leases[key] for key in opened}
    small.unerased |= {key: book.unerased[key] for key in unerased}


def _find_beside(book: Book, order: Order, *, now_s: int) -> list[int]:
    fits = find_fitting(book, order, now_s=now_s)
    rows = np.flatnonzero(fits)
    costs = compute_cost(book.offers.cells[PRICES].take(rows, axis=1), order)
    cheapest: list[int] = rows[costs.argsort()[:BESIDE_MAX]].tolist()
    return cheapest
