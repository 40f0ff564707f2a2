"""The instant reverse auction: who would get this order, and for how much.

The lowest expected cost of finished work wins (``score``), the older offer where two are
equal. The winner is paid the highest price with which it still beats the runner-up, the
best offer of another provider: then the honest floor is the best one to ask. Of
several machines that its owner has in the running, it is the one that leaves the owner
most: the tenant's cost for finished work is that of the runner-up with each of them, and
so nothing is gained by hiding one. Where the rivals are all above the order's maximum the
winner is paid that. A lone seller is paid what it asks: were it handed the
maximum, tenants would have to hide what the work is worth to them.
"""

from operator import lt

import numpy as np
from msgspec import Struct
from msgspec.structs import replace
from numpy.typing import NDArray

from sublet.base.errors import Refused
from sublet.base.ids import Address, Digest
from sublet.base.limits import LEASE_S_MAX
from sublet.base.units import format_money
from sublet.core.book import compiled
from sublet.core.book.book import Book
from sublet.core.book.column import AT_LEAST, PRICES, Cells, Column, Columns
from sublet.core.book.fit import (
    UNBOUNDED,
    compile_tests,
    compute_cost,
    find_blocks,
    find_fitting,
    find_promising,
    has_enough,
    list_parts,
    list_wanted,
    price_parts,
)
from sublet.core.book.gang_auction import GangAuction
from sublet.core.book.mode import PAY_AS_BID
from sublet.core.book.plan import Plan, make_plan
from sublet.core.book.score import Scorer
from sublet.core.book.score_terms import Standing
from sublet.core.book.search import Candidate, find_two
from sublet.core.book.why_not import explain, explain_gang
from sublet.core.book.wish import compile_wishes
from sublet.core.document import Order
from sublet.core.placement.tie import Contender, choose
from sublet.core.wording import check_wording

_SECONDS_PER_HOUR = 3_600
# What a Contender's line is made of.
_ROOM = [
    *(Column.GPUS_FREE, Column.CPUS_MILLI_FREE, Column.MEMORY_BYTES_FREE),
]
FEW = 8  # rows that are judged one by one more quickly than as columns


class Match(Struct, frozen=True):
    """What an order gets."""

    offer_id: Digest
    provider: Address
    machine: str
    region: str
    price_hour: int  # micro-USD for the whole slice; of a gang, for all of them
    duration_s: int  # longest that total, deadline, order and market allow
    hold: int  # micro-USD that the lease may cost at most; of a gang, all of them
    winner: Standing  # each term of its score
    runner_up: Standing | None  # of another provider, within the order's maximum
    members: "tuple[Match, ...]" = ()  # of a gang, each by itself; this is the first


def quote(book: Book, order: Order, *, now_s: int) -> Match:
    """Find the offer that wins this order at ``now_s``. Changes nothing.

    Wallet, signer and the number of leases are not looked at.

    Raises:
        NoMatch: ``detail`` says how many offers each requirement excluded.
        Refused: ``bad_order``, ``bad_wording``, ``deadline_passed`` or
            ``total_too_small``.
    """
    match = find_match(book, order, now_s=now_s)
    if match is None:
        raise explain(book, order, now_s=now_s)
    return match


def find_match(book: Book, order: Order, *, now_s: int) -> Match | None:
    """Find it as ``quote`` does; None where no offer fits, and no word why.

    Raises:
        Refused: as ``quote``, but for NoMatch.
    """
    check_order(order)
    _check_deadline(order, now_s=now_s)
    if order.machines > 1:
        return _quote_gang(book, order, now_s=now_s)
    auction = _Auction(book, order, now_s=now_s)
    winner, runner_up = auction.find_two()
    if winner is None:
        return None
    row, asked, price_hour = auction.award(winner, runner_up)
    return _make_match(
        book,
        row,
        price_hour=price_hour,
        duration_s=_find_span(order, price_hour=price_hour, now_s=now_s),
        winner=auction.scorer.stand(row, asked_hour=asked),
        runner_up=None if runner_up is None else auction.stand(runner_up.row),
    )


def _quote_gang(book: Book, order: Order, *, now_s: int) -> Match:
    """Find the gang that wins. Its total pays for all members, for one and the same time.

    Raises:
        NoMatch: there is no such gang: how many machines would fit together.
        Refused: ``total_too_small``.
    """
    auction = GangAuction(book, order, now_s=now_s)
    found = auction.find()
    if found is None:
        raise explain_gang(book, order, auction, now_s=now_s)
    price_hour = sum(paid for *_, paid in found)
    # Each member's hold is rounded up: so much of the total is not there for seconds.
    spendable = max(0, order.total_max - len(found))
    duration_s = _find_span(
        replace(order, total_max=spendable), price_hour=price_hour, now_s=now_s
    )
    members = tuple(
        _make_match(
            book,
            row,
            price_hour=paid,
            duration_s=duration_s,
            winner=auction.scorer.stand(row, asked_hour=asked),
        )
        for row, asked, paid in found
    )
    hold = sum(member.hold for member in members)
    return replace(members[0], price_hour=price_hour, hold=hold, members=members)


def _find_span(order: Order, *, price_hour: int, now_s: int) -> int:
    duration_s = compute_duration(order, price_hour=price_hour)
    if order.deadline_s:
        duration_s = min(duration_s, order.deadline_s - now_s)
    return duration_s


def _make_match(
    book: Book,
    row: int,
    *,
    price_hour: int,
    duration_s: int,
    winner: Standing,
    runner_up: Standing | None = None,
) -> Match:
    offer_id, provider, machine = book.offers.name_of(row)
    return Match(
        offer_id=offer_id,
        provider=provider,
        machine=machine,
        region=book.offers.region_of(row),
        price_hour=price_hour,
        duration_s=duration_s,
        hold=-(-price_hour * duration_s // _SECONDS_PER_HOUR),
        winner=winner,
        runner_up=runner_up,
    )


class _Auction:
    """One order before all offers."""

    def __init__(self, book: Book, order: Order, *, now_s: int) -> None:
        self._book, self._order = book, order
        self._wanted = list_wanted(order, now_s=now_s)
        self._tests = list(compile_tests(book, order, now_s=now_s).values())
        self._parts = list_parts(order)
        self.scorer = Scorer(book, order)
        self._plan: Plan | None = None
        if book.kernel is not None:
            self._plan = make_plan(
                order, wanted=self._wanted, wishes=self._tests, scorer=self.scorer
            )

    def find_two(self) -> tuple[Candidate | None, Candidate | None]:
        """Give winner and runner-up of those within the order's maximum."""
        book, order = self._book, self._order
        if book.kernel is not None and self._plan is not None:
            blocks = find_blocks(book, order)
            return compiled.find_two(book.kernel, book.offers, blocks, self._plan)
        blocks, costs = self._find_promising(price_max=order.price_hour_max)
        bounds = self.scorer.bounds(blocks, costs)
        return find_two(book.offers, blocks, bounds, self._judge)

    def award(
        self, winner: Candidate, runner_up: Candidate | None
    ) -> tuple[int, int, int]:
        """Give the row that is let, what is asked for it and what is paid."""
        is_contested = self._order.pricing != PAY_AS_BID and (
            runner_up is not None or self._has_rival()
        )
        own = self._own(winner)
        asked = {one.row: self._ask(one.row) for one in own}
        if is_contested:
            paid = {one.row: self._pay(one, runner_up) for one in own}
            best = max(own, key=lambda o: (paid[o.row] - asked[o.row], -o.score))
        else:
            paid = asked
            best = min(own)
        if len(own) == 1:
            return best.row, asked[best.row], paid[best.row]
        terms = (best.score, asked[best.row], paid[best.row])
        row = choose(
            self._contend(one)
            for one in own
            if (one.score, asked[one.row], paid[one.row]) == terms
        )
        return row, asked[row], paid[row]

    def stand(self, row: int) -> Standing:
        """Show each term of a row's score."""
        return self.scorer.stand(row, asked_hour=self._ask(row))

    def _own(self, winner: Candidate) -> list[Candidate]:
        """Give all machines of the winner's owner that are in the running."""
        offers = self._book.offers
        _, provider, _ = offers.name_of(winner.row)
        rows = [row for row in offers.machines[provider].values() if row != winner.row]
        if len(rows) > FEW:
            places, scores = self._judge(offers.cells.take(rows, axis=1))
            scored = zip(places.tolist(), scores.tolist(), strict=True)
            found = [(rows[place], score) for place, score in scored]
        else:
            found = [
                (row, score)
                for row in rows
                if (score := self._judge_one(row)) is not None
            ]
        numbers = offers.cells[Column.NUMBER]
        return [
            winner,
            *(
                Candidate(score, int(numbers[row]), winner.provider, row)
                for row, score in found
            ),
        ]

    def _judge_one(self, row: int) -> int | None:
        """Score one row, as ``_judge`` many; None where it is not in the running."""
        cells = self.scorer.cells_of(row)
        for is_met in self._tests:  # most are of another kind
            if not is_met(cells):
                return None
        if any(map(lt, cells[AT_LEAST], self._wanted)):
            return None
        cost = self._ask(row)
        if cost > self._order.price_hour_max:
            return None
        return self.scorer.score(cells, cost)

    def _contend(self, one: Candidate) -> Contender:
        cells = self.scorer.cells_of(one.row)
        gpus, cpus_milli, memory_bytes = (cells[column] for column in _ROOM)
        return Contender(gpus, cpus_milli, memory_bytes, one.number, one.row)

    def _pay(self, one: Candidate, runner_up: Candidate | None) -> int:
        if runner_up is None:
            return self._order.price_hour_max
        return self.scorer.highest_price(one, runner_up)

    def _has_rival(self) -> bool:
        """Say whether another provider fits, if the price did not matter."""
        book = self._book
        if book.kernel is not None and self._plan is not None:
            blocks = find_blocks(book, self._order)
            return compiled.has_two(book.kernel, book.offers, blocks, self._plan)
        blocks, costs = self._find_promising(price_max=UNBOUNDED)
        _, rival = find_two(book.offers, blocks, costs, self._judge_any)
        return rival is not None

    def _find_promising(
        self, *, price_max: int
    ) -> tuple[NDArray[np.intp], NDArray[np.int64]]:
        wanted = self._wanted_column()
        return find_promising(self._book, self._order, wanted, price_max=price_max)

    def _wanted_column(self) -> NDArray[np.int64]:
        return np.array(self._wanted, dtype=np.int64)[:, np.newaxis]

    def _fitting(self, cells: Columns) -> NDArray[np.intp]:
        fits = np.logical_and.reduce(cells[AT_LEAST] >= self._wanted_column())
        for is_met in self._tests:
            fits &= is_met(cells)
        places: NDArray[np.intp] = fits.nonzero()[0]
        return places

    def _judge(self, cells: Columns) -> tuple[NDArray[np.intp], NDArray[np.int64]]:
        places, costs = self._judge_any(cells)
        is_cheap = costs <= self._order.price_hour_max
        places, costs = places[is_cheap], costs[is_cheap]
        return places, self.scorer.scores(cells, places, costs)

    def _judge_any(self, cells: Columns) -> tuple[NDArray[np.intp], NDArray[np.int64]]:
        places = self._fitting(cells)
        prices = cells[PRICES].take(places, axis=1)
        costs: NDArray[np.int64] = compute_cost(prices, self._order)
        return places, costs

    def _ask(self, row: int) -> int:
        cells = self.scorer.cells_of(row)
        cost: int = price_parts(*cells[PRICES], *self._parts)
        return cost


def count_fitting(book: Book, order: Order, *, now_s: int) -> int:
    """Count all offers that fit the order at ``now_s``; looks at each of them."""
    fits = find_fitting(book, order, now_s=now_s)
    is_cheap = compute_cost(book.offers.cells[PRICES], order) <= order.price_hour_max
    return int(np.count_nonzero(fits & is_cheap))


def may_take(book: Book, order: Order, offer_id: Digest, *, now_s: int) -> bool:
    """Say whether one offer would take this order now, whatever it costs."""
    row = book.offers.row_of.get(offer_id)
    if row is None:
        return False
    cells = book.offers.cells[:, [row]]
    tests = compile_tests(book, order, now_s=now_s).values()
    return bool(has_enough(cells, order, now_s=now_s).all()) and all(
        bool(is_met(cells)[0]) for is_met in tests
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
    costs: NDArray[np.int64] = compute_cost(cells[PRICES], order)
    return costs


def check_order(order: Order) -> None:
    """Refuse an order that asks for nothing, which every offer would fit for free.

    Raises:
        Refused: ``bad_order`` or ``bad_wording``, with the field.
    """
    for field in ("cpus_milli", "memory_bytes", "duration_s_max"):
        if getattr(order, field) < 1:
            raise Refused(
                f"order.{field} is 0; ask for at least 1",
                code="bad_order",
                field=f"order.{field}",
            )
    check_wording(order, whose="order")
    if order.near_price_hour and not order.near:
        raise Refused(
            "order.near_price_hour weighs the distance to no place; name it in order.near",
            code="bad_order",
            field="order.near",
        )


def _check_deadline(order: Order, *, now_s: int) -> None:
    if 0 < order.deadline_s <= now_s:
        raise Refused(
            f"the deadline was {order.deadline_s} and it is {now_s}; set a later one",
            code="deadline_passed",
            field="order.deadline_s",
        )


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
