"""The score of an offer for an order: its expected cost of finished work. Exact integers.

    score = (asked price + penalties) / (measured speed x chance of finishing)

The lowest wins. As integers: floor((price + penalties) x SCALE / weight), where SCALE is
as large as the order's own maximum lets it be. That is a rule, not an approximation: it
never falls as the price rises, so for each offer there is exactly one price up to which
it wins, ties and rounding included, and that is what it is paid. No price of its own
moves it: asking for what the machine costs is the best strategy.

Not here: who fits, and the search (``quote``).
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from sublet.base.limits import LATENCY_MS_MAX
from sublet.core.book.book import Book
from sublet.core.book.column import Column, Columns
from sublet.core.book.score_terms import Standing
from sublet.core.book.search import Candidate
from sublet.core.book.wish import SPEEDS
from sublet.core.document import Order
from sublet.core.reliability.chance import CERTAIN, chance_ppm

_PRICE_MAX = 1 << 46  # micro-USD an hour: no slice of any machine costs more
_NUMERATOR_BITS = 62
NOTHING = np.zeros(0, dtype=np.int64)


class Scorer:
    """Scores offers for one order."""

    def __init__(self, book: Book, order: Order) -> None:
        """Take the order; the terms that it leaves out cost nothing.

        Beside its methods, for the compiled search: ``scale``, ``asked_s``, and by the
        number of latencies and of a provider ``ms_of`` and ``data_price_of``, empty where
        they cost nothing.
        """
        self._offers = book.offers
        self._cells: dict[int, list[int]] = {}  # by row
        self._order = order
        self.asked_s = max(1, order.duration_s_max)
        self._price_max = min(order.price_hour_max, _PRICE_MAX)
        most = order.near_price_hour * LATENCY_MS_MAX + order.data_price_hour
        self.scale = (1 << _NUMERATOR_BITS) // max(1, self._price_max + most)
        self._reads = [Column.LASTS_S]
        if order.work:
            self._reads.append(SPEEDS[order.work])
        self._has_penalties = bool(order.near or order.data_price_hour)
        if self._has_penalties:
            self._reads += [Column.LATENCIES, Column.PROVIDER]
        words = book.offers.words
        self.ms_of = words.ms_to(order.near) if order.near else NOTHING
        self.data_price_of = NOTHING
        if order.data_price_hour:
            has_data = words.providers.table(order.data_at)
            self.data_price_of = ~has_data * np.int64(order.data_price_hour)

    def cells_of(self, row: int) -> list[int]:
        """Give the cells of one row, read once: the table stays as it is meanwhile."""
        cells = self._cells.get(row)
        if cells is None:
            cells = self._cells[row] = self._offers.cells_of(row)
        return cells

    def score(self, cells: list[int], cost: int) -> int:
        """Score one row that costs no more than the order's maximum."""
        if self._has_penalties:
            cost += int(self._penalty(cells))
        return cost * self.scale // int(self._weight(cells))

    def scores(
        self, cells: Columns, places: NDArray[np.intp], costs: NDArray[np.int64]
    ) -> NDArray[np.int64]:
        """Score those rows, in these places, that cost no more than the order's maximum.

        Returns:
            Shape (n_places,), as ``costs``.
        """
        columns = {column: cells[column].take(places) for column in self._reads}
        if self._has_penalties:
            costs = costs + self._penalty(columns)
        scores: NDArray[np.int64] = costs * self.scale // self._weight(columns)
        return scores

    def bounds(
        self, blocks: NDArray[np.intp], costs: NDArray[np.int64]
    ) -> NDArray[np.int64]:
        """Give what no row of these blocks scores below; shape (n_blocks,)."""
        ideals = self._offers.ideals
        weights = self._chance(ideals[Column.LASTS_S].take(blocks))
        if self._order.work:
            speeds = ideals[SPEEDS[self._order.work]].take(blocks)
            weights *= np.maximum(1, speeds)  # 0 where none was measured
        bounds: NDArray[np.int64] = costs * self.scale // weights
        return bounds

    def highest_price(self, winner: Candidate, runner_up: Candidate) -> int:
        """Give the price at which the winner just ties the runner-up.

        The older one of the two wins a tie: so that is the highest price with which an
        older winner still wins, and the lowest with which a younger one does not. Both
        leave nothing to gain. Never above the order's maximum, nor below what is asked.
        """
        is_younger = winner.number > runner_up.number
        score_max = runner_up.score - is_younger
        cells = self.cells_of(winner.row)
        weight = self._weight(cells)
        penalty = int(self._penalty(cells)) if self._has_penalties else 0
        price: int = ((score_max + 1) * weight - 1) // self.scale - penalty
        return min(price + is_younger, self._price_max)

    def stand(self, row: int, *, asked_hour: int) -> Standing:
        """Show each term of the score of one row."""
        cells, order = self.cells_of(row), self._order
        latency_ms = int(self._latency(cells[Column.LATENCIES]))
        latency_penalty = latency_ms * order.near_price_hour
        data_penalty = int(self._data(cells[Column.PROVIDER]))
        chance = self._chance(cells[Column.LASTS_S])
        whole = asked_hour + latency_penalty + data_penalty
        offer_id, provider, _ = self._offers.name_of(row)
        return Standing(
            offer_id=offer_id,
            provider=provider,
            asked_hour=asked_hour,
            latency_ms=latency_ms,
            latency_penalty_hour=latency_penalty,
            data_penalty_hour=data_penalty,
            work=order.work,
            speed=cells[SPEEDS[order.work]] if order.work else 1,
            chance_ppm=chance,
            cost_hour=-(-whole * CERTAIN // chance),
        )

    # ---- terms: of the cells of one row, or of the columns of many -------------------

    def _weight(self, cells: Any) -> Any:
        weight = self._chance(cells[Column.LASTS_S])
        return weight * cells[SPEEDS[self._order.work]] if self._order.work else weight

    def _chance(self, lasts_s: Any) -> Any:
        return chance_ppm(lasts_s, asked_s=self.asked_s)

    def _penalty(self, cells: Any) -> Any:
        latency_ms = self._latency(cells[Column.LATENCIES])
        penalty = latency_ms * self._order.near_price_hour
        return penalty + self._data(cells[Column.PROVIDER])

    def _data(self, providers: Any) -> Any:
        return self.data_price_of[providers] if self._order.data_price_hour else 0

    def _latency(self, numbers: Any) -> Any:
        """Give the milliseconds; what nobody measured is taken to be far."""
        return self.ms_of[numbers] if self._order.near else 0
