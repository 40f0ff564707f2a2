"""The auction for several machines at once: the cheapest gang wins, whole or not at all.

Each machine is scored as for an order of one (``score``), and the gang with the least
sum of scores wins. An owner is paid for what its machines save: so much that, had it
asked more, the best gang without it would have won. Where that gang is above the order's
maximum the owner is paid that, and where there is none at all, what it asks.

Close together means: there is one place to which each member has measured at most half of
what the order allows between two of them. No two machines measure one another.

Not here: what becomes of a gang (``gang``), the search (``core.placement.gang``).
"""

from collections import Counter
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from msgspec.structs import replace
from numpy.typing import NDArray

from sublet.base.limits import LATENCY_MS_MAX, PRICE_PER_HOUR_MAX
from sublet.core.book.block import BLOCK_ROWS
from sublet.core.book.book import Book
from sublet.core.book.column import AT_LEAST, PRICES, Cells, Column, Words
from sublet.core.book.fit import (
    compile_tests,
    compute_cost,
    find_promising,
    wanted_of,
)
from sublet.core.book.mode import PAY_AS_BID
from sublet.core.book.score import Scorer
from sublet.core.book.search import Candidate
from sublet.core.document import Order
from sublet.core.placement.gang import (
    Gang,
    Runner,
    count_most,
    find_gang,
    share_out,
)

LOOKED_AT_MAX = 4_096  # machines, the cheapest ones, for one gang
TOGETHER_MS_MAX = 2 * LATENCY_MS_MAX
CENTRES_MAX = 16  # places to be close to; those with most machines

Costs = NDArray[np.int64]


class Field(NamedTuple):
    """Machines that fit an order, in order of their scores."""

    rows: NDArray[np.intp]  # shape (n,)
    cells: Cells  # shape (columns, n)
    scores: Costs  # shape (n,)


class GangAuction:
    """One order for a gang before all offers."""

    def __init__(self, book: Book, order: Order, *, now_s: int) -> None:
        """Look at the offers; changes nothing."""
        self._book, self._order, self._now_s = book, order, now_s
        self.scorer = Scorer(book, order)
        rows, cells, costs = self._look(price_max=order.price_hour_max)
        self._asked = dict(zip(rows.tolist(), costs.tolist(), strict=True))
        scores = self.scorer.scores(cells, np.arange(rows.size), costs)
        self._field = _rank(rows, cells, scores)
        self._centres = self._find_centres(self._field, order)

    def find(self) -> list[tuple[int, int, int]] | None:
        """Give row, asked price and paid price of each member; None without a gang."""
        best = find_gang(self._centres, self._order.machines)
        if best is None:
            return None
        asked = {runner.place: self._asked[runner.place] for runner in best.members}
        paid = dict(asked)
        if self._order.pricing != PAY_AS_BID:
            for owner in {runner.owner: None for runner in best.members}:
                paid |= self._pay(best, owner)
        return [(row, asked[row], max(asked[row], paid[row])) for row in asked]

    def count_most(self) -> int:
        """Say how many machines fit together."""
        return count_most(self._centres)

    def relax(self) -> Mapping[str, Any]:
        """Give a change of the order's fields with which it would have a gang, or none.

        The least that keeps the number of machines; else as many as there are.
        """
        order = self._order
        if order.together_ms and self._has_gang(replace(order, together_ms=0)):
            return {"together_ms": self._find_together_ms()}
        for name in order.apart:
            apart = tuple(one for one in order.apart if one != name)
            if self._has_gang(replace(order, apart=apart)):
                return {"apart": apart}
        most = self.count_most()
        return {"machines": most} if most else {}

    def _find_together_ms(self) -> int:
        """Give the least limit with which there is a gang; 0 where only none helps."""
        low, high = self._order.together_ms, TOGETHER_MS_MAX
        if not self._has_gang(replace(self._order, together_ms=high)):
            return 0
        while high - low > 1:
            middle = (low + high) // 2
            if self._has_gang(replace(self._order, together_ms=middle)):
                high = middle
            else:
                low = middle
        return high

    def _has_gang(self, order: Order) -> bool:
        centres = self._find_centres(self._field, order)
        return find_gang(centres, order.machines) is not None

    # ---- what is paid ---------------------------------------------------------------

    def _pay(self, best: Gang, owner: int) -> dict[int, int]:
        """Say what each of an owner's members is paid."""
        count = self._order.machines
        own = [runner for runner in best.members if runner.owner == owner]
        rival = find_gang(self._centres, count, without=owner)
        if rival is not None:
            saved = max(0, rival.cost - best.cost)
            return self._price_all(own, saved)
        # Is there anybody else, if the price did not matter?
        anyone = _rank(*self._look(price_max=PRICE_PER_HOUR_MAX))
        centres = self._find_centres(anyone, self._order)
        if find_gang(centres, count, without=owner) is None:
            return {}
        return {runner.place: self._order.price_hour_max for runner in own}

    def _price_all(self, own: list[Runner], saved: int) -> dict[int, int]:
        """Share out what an owner's machines save, and write it down as prices.

        What is rounded down goes to the next machine, and each score of the rival gang
        was rounded down, too: else an owner of several could save it by a raised floor.
        """
        costs = [runner.cost for runner in own]
        shares = share_out(costs, saved)
        rest = sum(costs) + saved - sum(shares) + self._order.machines
        prices: dict[int, int] = {}
        for runner, share in zip(own, shares, strict=True):
            price = self._price_of(runner, share + rest)
            is_most = price >= self._order.price_hour_max
            reached = self.scorer.score(self.scorer.cells_of(runner.place), price)
            rest = 0 if is_most else share + rest - reached
            prices[runner.place] = price
        return prices

    def _price_of(self, runner: Runner, score: int) -> int:
        """Give the highest price of this machine with this score."""
        one = Candidate(runner.cost, 0, runner.owner, runner.place)
        return self.scorer.highest_price(one, Candidate(score, 1, -1, -1))

    # ---- who stands together --------------------------------------------------------

    def _look(self, *, price_max: int) -> tuple[NDArray[np.intp], Cells, Costs]:
        """Give the rows that fit and ask at most so much, their cells and their prices."""
        book, order = self._book, self._order
        wanted = wanted_of(order, now_s=self._now_s)
        blocks, _ = find_promising(book, order, wanted, price_max=price_max)
        cells = book.offers.rows_of(blocks)
        fits = np.logical_and.reduce(cells[AT_LEAST] >= wanted)
        for is_met in compile_tests(book, order, now_s=self._now_s).values():
            fits &= is_met(cells)
        costs = compute_cost(cells[PRICES], order)
        fits &= costs <= price_max
        rows = (blocks[:, np.newaxis] * BLOCK_ROWS + np.arange(BLOCK_ROWS)).ravel()
        rows = rows[fits]
        return rows, book.offers.cells.take(rows, axis=1), costs[fits]

    def _find_centres(self, field: Field, order: Order) -> list[list[Runner]]:
        """Give sets of machines that are close to one place, each in order of score."""
        runners = self._make_runners(field, order)
        if not order.together_ms:
            return [[runner for runner in runners if runner is not None]]
        near = self._find_places(field, ms_max=order.together_ms // 2)
        members = Counter(place for places in near for place in places)
        centres = sorted(members, key=lambda place: (-members[place], place))
        return [
            [
                runner
                for runner, places in zip(runners, near, strict=True)
                if runner is not None and centre in places
            ]
            for centre in centres[:CENTRES_MAX]
        ]

    def _make_runners(self, field: Field, order: Order) -> list[Runner | None]:
        """Write machines down; None where one does not say what it is to be apart in."""
        columns, unsaid = _find_apart(self._book.offers.words, order)
        things = [field.cells[column].tolist() for column in columns]
        columns_of_runner = (
            field.rows.tolist(),
            field.scores.tolist(),
            field.cells[Column.PROVIDER].tolist(),
        )
        runners: list[Runner | None] = []
        for at, (row, score, owner) in enumerate(zip(*columns_of_runner, strict=True)):
            groups = frozenset((n, values[at]) for n, values in enumerate(things))
            is_said = unsaid.isdisjoint(groups)
            runners.append(Runner(row, score, owner, groups) if is_said else None)
        return runners

    def _find_places(self, field: Field, *, ms_max: int) -> list[frozenset[str]]:
        """Give the places to which each machine has measured at most so many ms."""
        words, numbers = (
            self._book.offers.words.latencies,
            field.cells[Column.LATENCIES],
        )
        near = {
            number: _places_of(words.value(number), ms_max=ms_max)
            for number in set(numbers.tolist())
        }
        return [near[number] for number in numbers.tolist()]


def _rank(rows: NDArray[np.intp], cells: Cells, scores: Costs) -> Field:
    """Put machines in order, and leave out those far down.

    Of equal ones the fullest comes first, so that others stay whole; then the older.
    """
    rank = np.lexsort((cells[Column.NUMBER], cells[Column.GPUS_FREE], scores))
    rank = rank[:LOOKED_AT_MAX]
    return Field(rows[rank], cells.take(rank, axis=1), scores[rank])


def _find_apart(
    words: Words, order: Order
) -> tuple[list[Column], set[tuple[int, int]]]:
    """Give the columns in which members differ, and the values that say nothing."""
    known = {
        "provider": (Column.PROVIDER, None),
        "region": (Column.REGION, words.regions),
        "network": (Column.NETWORK, words.networks),
    }
    columns: list[Column] = []
    unsaid: set[tuple[int, int]] = set()
    for thing, name in enumerate(dict.fromkeys(order.apart)):
        column, texts = known[name]
        columns.append(column)
        if texts is not None:
            unsaid |= {(thing, number) for number in texts.numbers_of([""])}
    return columns, unsaid


def _places_of(latencies: object, *, ms_max: int) -> frozenset[str]:
    assert isinstance(latencies, tuple)
    pairs = (text.partition("=") for text in latencies)
    return frozenset(place for place, _, ms in pairs if int(ms) <= ms_max)
