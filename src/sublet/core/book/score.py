"""The score of an offer for an order: its expected cost of finished work. Exact integers.

    score = (asked price + penalties) / (measured speed x chance of finishing)

The lowest wins. As integers: floor((price + penalties) x SCALE / weight), where SCALE is
as large as the order's own maximum lets it be. That is a rule, not an approximation: it
never falls as the price rises, so for each offer there is exactly one price up to which
it wins, ties and rounding included, and that is what it is paid. No price of its own
moves it: asking for what the machine costs is the best strategy.

Not here: who fits, and the search (``quote``).
"""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from sublet.base.limits import LATENCY_MS_MAX
from sublet.core.book.book import Book
from sublet.core.book.column import Cells, Column
from sublet.core.book.score_terms import Standing
from sublet.core.book.search import Candidate
from sublet.core.book.wish import SPEEDS
from sublet.core.document import Order
from sublet.core.reliability.chance import CERTAIN, chances_ppm

_PRICE_MAX = 1 << 46  # micro-USD an hour: no slice of any machine costs more
_NUMERATOR_BITS = 62


class Scorer:
    """Scores offers for one order."""

    def __init__(self, book: Book, order: Order) -> None:
        """Take the order; the terms that it leaves out cost nothing."""
        self._offers = book.offers
        self._order = order
        self._price_max = min(order.price_hour_max, _PRICE_MAX)
        most = order.near_price_hour * LATENCY_MS_MAX + order.data_price_hour
        self._scale = (1 << _NUMERATOR_BITS) // max(1, self._price_max + most)
        self._ms_of = self._find_latencies()

    def scores(self, cells: Cells, costs: NDArray[np.int64]) -> NDArray[np.int64]:
        """Score rows that cost no more than the order's maximum; shape (n_rows,)."""
        penalties = self._latency(cells) * self._order.near_price_hour
        penalties += self._data(cells)
        scores: NDArray[np.int64] = (
            (costs + penalties) * self._scale // self._weights(cells)
        )
        return scores

    def bounds(self, ideals: Cells, costs: NDArray[np.int64]) -> NDArray[np.int64]:
        """Give what no row of these blocks scores below; shape (n_blocks,)."""
        bounds: NDArray[np.int64] = (
            np.minimum(costs, self._price_max) * self._scale
        ) // np.maximum(1, self._weights(ideals))
        return bounds

    def highest_price(self, winner: Candidate, runner_up: Candidate) -> int:
        """Give the price at which the winner just ties the runner-up.

        The older one of the two wins a tie: so that is the highest price with which an
        older winner still wins, and the lowest with which a younger one does not. Both
        leave nothing to gain. Never above the order's maximum, nor below what is asked.
        """
        is_younger = winner.number > runner_up.number
        score_max = runner_up.score - is_younger
        cells = self._offers.cells[:, winner.row, np.newaxis]
        weight = int(self._weights(cells)[0])
        penalty = int(self._latency(cells)[0]) * self._order.near_price_hour
        penalty += int(self._data(cells)[0])
        price = ((score_max + 1) * weight - 1) // self._scale - penalty
        return min(price + is_younger, self._price_max)

    def stand(self, row: int, *, asked_hour: int) -> Standing:
        """Show each term of the score of one row."""
        cells = self._offers.cells[:, row, np.newaxis]
        record, order = self._offers.get(row), self._order
        latency_ms = int(self._latency(cells)[0])
        latency_penalty = latency_ms * order.near_price_hour
        data_penalty = int(self._data(cells)[0])
        chance = int(self._chances(cells)[0])
        whole = asked_hour + latency_penalty + data_penalty
        return Standing(
            offer_id=record.id,
            provider=record.provider,
            asked_hour=asked_hour,
            latency_ms=latency_ms,
            latency_penalty_hour=latency_penalty,
            data_penalty_hour=data_penalty,
            work=order.work,
            speed=int(self._speeds(cells)[0]),
            chance_ppm=chance,
            cost_hour=-(-whole * CERTAIN // chance),
        )

    # ---- terms ----------------------------------------------------------------

    def _weights(self, cells: Cells) -> NDArray[np.int64]:
        return self._speeds(cells) * self._chances(cells)

    def _speeds(self, cells: Cells) -> NDArray[np.int64]:
        if not self._order.work:
            return np.ones(cells.shape[1], dtype=np.int64)
        speeds: NDArray[np.int64] = cells[SPEEDS[self._order.work]]
        return speeds

    def _chances(self, cells: Cells) -> NDArray[np.int64]:
        asked_s = max(1, self._order.duration_s_max)
        return chances_ppm(cells[Column.LASTS_S], asked_s=asked_s)

    def _data(self, cells: Cells) -> NDArray[np.int64]:
        if not self._order.data_price_hour:
            return np.zeros(cells.shape[1], dtype=np.int64)
        has_data = self._offers.words.providers.match(
            cells[Column.PROVIDER], words=self._order.data_at
        )
        return ~has_data * np.int64(self._order.data_price_hour)

    def _latency(self, cells: Cells) -> NDArray[np.int64]:
        """Give the milliseconds; what nobody measured is taken to be far."""
        if not self._order.near:
            return np.zeros(cells.shape[1], dtype=np.int64)
        numbers = cells[Column.LATENCIES].tolist()
        ms = [self._ms_of.get(number, LATENCY_MS_MAX) for number in numbers]
        return np.array(ms, dtype=np.int64)

    def _find_latencies(self) -> Mapping[int, int]:
        place = self._order.near
        if not place:
            return {}
        latencies = self._offers.words.latencies
        return {
            number: ms
            for ms in range(LATENCY_MS_MAX + 1)
            for number in latencies.numbers_of([f"{place}={ms}"])
        }
