"""The two best of a large table are those of a look at every row, whatever changes."""

from random import Random

import numpy as np
import pytest
from msgspec.structs import replace

from sublet.base import limits
from sublet.core.book.block import BLOCK_ROWS
from sublet.core.book.book import Book
from sublet.core.book.column import AT_LEAST, PRICES, Column
from sublet.core.book.fit import find_promising, wanted_of
from sublet.core.book.offer_table import OfferTable
from sublet.core.book.quote import count_fitting, price, quote
from sublet.core.book.record import OfferRecord
from sublet.core.book.why_not import NoMatch
from sublet.core.document import Order
from sublet.core.lease.phase import Lease
from tests.unit.core.book.world import (
    GIB,
    START_S,
    address,
    digest,
    make_offer,
    make_order,
)
from tests.unit.core.lease.test_table import LEASE

MODELS = ("", "rtx4090", "a100", "h100")
REGIONS = ("DE", "FR", "US", "US-CA", "US-NY", "")


class Changing:
    """A market in which something happens all the time."""

    def __init__(self, seed: int) -> None:
        self.draw = Random(seed)
        self.book = Book()
        self.number = 0
        self.leases: list[Lease] = []
        self.now_s = START_S

    @property
    def table(self) -> OfferTable:
        return self.book.offers

    def offer(self) -> None:
        """Put a new machine on offer, or one that there is at other terms."""
        draw, self.number = self.draw, self.number + 1
        model = draw.choice(MODELS)
        count = draw.choice((1, 2, 8)) if model else 0
        provider, machine = address(draw.randrange(250)), f"m{draw.randrange(3)}"
        offer = make_offer(
            machine=machine,
            cpus_milli=draw.choice((1_000, 8_000, 64_000)),
            memory_bytes=draw.choice((4, 32, 256)) * GIB,
            gpu_model=model,
            gpu_memory_bytes=draw.choice((24, 40, 80)) * GIB if model else 0,
            gpu_uuids=tuple(f"{machine}-{n}" for n in range(count)),
            region=draw.choice(REGIONS),
            sandboxes=draw.choice((("bubblewrap",), ("bubblewrap", "gvisor"))),
            cpu_price_hour=draw.randrange(4),  # many are equal
            memory_price_hour=draw.randrange(2),
            gpu_price_hour=draw.randrange(20) * 10,
            leases_max=draw.choice((0, 1)),
            refuses=draw.choice(((), (), (make_order().tenant,))),
            expires_at_s=self.now_s + draw.choice((1, 100, 10_000)),
        )
        was = self.table.find_machine(provider, machine)
        record = OfferRecord(digest(self.number), self.number, provider, offer)
        if was is not None:
            used = {f: getattr(was, f) for f in was.__struct_fields__ if "_used" in f}
            record = replace(record, **used)
        self.table.put(record, is_up=draw.random() < 0.9, now_s=self.now_s)

    def happen(self) -> None:
        """Let one thing happen."""
        draw, chance = self.draw, self.draw.random()
        if chance < 0.6:
            self.offer()
        elif chance < 0.65:
            self.table.withdraw(draw.choice(list(self.table.row_of)))
        elif chance < 0.75:
            self.table.set_up(address(draw.randrange(250)), is_up=draw.random() < 0.7)
        elif chance < 0.85 and self.leases:
            self.table.release(self.leases.pop(draw.randrange(len(self.leases))))
        elif chance < 0.86:
            self.now_s += 20
        else:
            self.lease()

    def lease(self) -> None:
        """Bind what an order gets."""
        order = self.order()
        try:
            match = quote(self.book, order, now_s=self.now_s)
        except NoMatch:
            return
        record = self.table.find(match.offer_id)
        assert record is not None
        lease = replace(
            LEASE,
            provider=match.provider,
            machine=match.machine,
            cpus_milli=order.cpus_milli,
            memory_bytes=order.memory_bytes,
            disk_bytes=order.disk_bytes,
            gpu_uuids=tuple(record.gpus_free()[: order.gpu_count]),
        )
        self.table.bind(lease)
        self.leases.append(lease)

    def order(self) -> Order:
        """Make any order."""
        draw = self.draw
        gpu_count = draw.choice((0, 1, 1, 4))
        return make_order(
            cpus_milli=draw.choice((1, 1_000, 8_000)),
            memory_bytes=draw.choice((1, GIB, 16 * GIB)),
            gpu_models=draw.choice(((), *((model,) for model in MODELS[1:]))),
            gpu_count=gpu_count,
            gpu_memory_bytes=draw.choice((0, 40 * GIB)) if gpu_count else 0,
            regions=draw.choice(((), (), ("US",), ("DE", "US-CA"), ("XX",))),
            sandbox=draw.choice(("", "gvisor")),
            avoid=draw.choice(((), (address(1), address(2)))),
            price_hour_max=draw.choice((30, 200, 9_000_000)),
        )


def slow_two(book: Book, order: Order, *, now_s: int) -> tuple[str, int] | None:
    """Read every record: the winner's offer, and what it is paid."""

    def cost(record: OfferRecord) -> int:
        offer = record.offer
        return (
            -(-order.cpus_milli * offer.cpu_price_hour // 1_000)
            + -(-order.memory_bytes * offer.memory_price_hour // GIB)
            + order.gpu_count * offer.gpu_price_hour
        )

    def fits(record: OfferRecord) -> bool:
        offer, row = record.offer, book.offers.row_of[record.id]
        return (
            record.is_live(now_s)
            and bool(book.offers.cells[3, row])  # up
            and offer.cpus_milli - record.cpus_milli_used >= order.cpus_milli
            and offer.memory_bytes - record.memory_bytes_used >= order.memory_bytes
            and offer.disk_bytes - record.disk_bytes_used >= order.disk_bytes
            and len(record.gpus_free()) >= order.gpu_count
            and record.leases_free() >= 1
            and offer.gpu_memory_bytes >= order.gpu_memory_bytes
            and (
                not order.gpu_count
                or not order.gpu_models
                or offer.gpu_model in order.gpu_models
            )
            and (
                not order.regions
                or offer.region in order.regions
                or offer.region.partition("-")[0] in order.regions
            )
            and (not order.sandbox or order.sandbox in offer.sandboxes)
            and record.provider not in order.avoid
            and order.tenant not in offer.refuses
        )

    fitting = [
        (cost(record), record.number, record)
        for _, record in book.offers.records()
        if fits(record)
    ]
    within = [one for one in fitting if one[0] <= order.price_hour_max]
    assert len(within) == count_fitting(book, order, now_s=now_s)
    if not within:
        return None
    asked, _, first = min(within)
    tied = [
        (
            len(record.gpus_free()),
            record.offer.cpus_milli - record.cpus_milli_used,
            record.offer.memory_bytes - record.memory_bytes_used,
            number,
            record.id,
        )
        for price, number, record in within
        if price == asked and record.provider == first.provider
    ]
    if all(one.provider == first.provider for _, _, one in fitting):
        return min(tied)[-1], asked
    others = [price for price, _, one in within if one.provider != first.provider]
    return min(tied)[-1], min(others, default=order.price_hour_max)


def found(book: Book, order: Order, *, now_s: int) -> tuple[str, int] | None:
    try:
        match = quote(book, order, now_s=now_s)
    except NoMatch:
        return None
    return match.offer_id, match.price_hour


@pytest.fixture(params=range(4))
def changing(request: pytest.FixtureRequest) -> Changing:
    market = Changing(request.param)
    for _ in range(600):
        market.offer()
    assert market.table.count >= 3 * BLOCK_ROWS  # or nothing would be left out
    return market


def test_agrees_with_every_row_under_change(changing: Changing) -> None:
    matched = 0
    for _ in range(60):
        for _ in range(20):
            changing.happen()
        order, now_s = changing.order(), changing.now_s
        expected = slow_two(changing.book, order, now_s=now_s)
        assert found(changing.book, order, now_s=now_s) == expected
        matched += expected is not None
    assert 10 < matched < 60


def test_ideals_are_right_under_change(changing: Changing) -> None:
    for _ in range(500):
        changing.happen()
    kept = changing.table.ideals.copy()
    with_models = [changing.table.blocks_with([model]).tolist() for model in MODELS]
    changing.table._by_model.clear()
    assert with_models == [
        changing.table.blocks_with([model]).tolist() for model in MODELS
    ]
    for block in range(changing.table.count // BLOCK_ROWS):
        changing.table._refresh(block * BLOCK_ROWS)
    assert np.array_equal(changing.table.ideals, kept)


def test_oldest_of_equals_wins_wherever_it_lies() -> None:
    market = Changing(7)
    numbers = list(range(20 * BLOCK_ROWS))
    market.draw.shuffle(numbers)  # so that no block has all the old ones
    for number in numbers:
        model = ("a100", "h100")[number % 2]
        gpus = {"gpu_model": model, "gpu_uuids": ("a",), "gpu_price_hour": 7}
        offer = make_offer(machine=f"m{number}", **gpus)
        provider = address(number // 3)
        record = OfferRecord(digest(number), number, provider, offer)
        market.table.put(record, is_up=True, now_s=START_S)
    order = make_order(gpu_count=1)
    for number in range(0, 90, 3):
        assert quote(market.book, order, now_s=START_S).offer_id == digest(number)
        for gone in range(number, number + 3):
            market.table.withdraw(digest(gone))


def test_copy_agrees_with_its_original(changing: Changing) -> None:
    twin = changing.book.copy()
    orders = [changing.order() for _ in range(20)]
    before = [found(twin, order, now_s=START_S) for order in orders]
    for _ in range(300):
        changing.happen()
    assert [found(twin, order, now_s=START_S) for order in orders] == before


def test_no_row_costs_less_than_its_block_may(changing: Changing) -> None:
    for _ in range(300):
        changing.happen()
    draw, table = changing.draw, changing.table
    every = table.all_blocks()
    for _ in range(100):
        order = make_order(
            cpus_milli=draw.choice((1, 999, 4_000, 7_777, limits.CPUS_MILLI_MAX)),
            memory_bytes=draw.choice((1, GIB - 1, 33 * GIB, limits.MEMORY_BYTES_MAX)),
            gpu_count=draw.choice((0, 1, 3, limits.GPU_COUNT_MAX)),
            price_hour_max=1 << 60,
        )
        nothing = np.zeros_like(wanted_of(order, now_s=0))
        blocks, bounds = find_promising(
            changing.book, order, nothing, price_max=1 << 62
        )
        assert np.array_equal(blocks, every)
        costs = price(order, table.cells[:, : table.count]).reshape(-1, BLOCK_ROWS)
        cells = table.cells[:, : table.count].reshape(len(Column), -1, BLOCK_ROWS)
        may_match = (
            (cells[Column.EXPIRES_AT_S] > 0)
            & (cells[Column.IS_UP] > 0)
            & (cells[Column.LEASES_FREE] > 0)
            & (cells[Column.GPUS_FREE] >= min(1, order.gpu_count))
        )
        is_below = costs < bounds[:, np.newaxis]
        assert not (may_match & is_below).any()


def test_gathers_what_lies_in_the_table(changing: Changing) -> None:
    table = changing.table
    blocks = table.all_blocks()[::-2]
    rows = (blocks[:, np.newaxis] * BLOCK_ROWS + np.arange(BLOCK_ROWS)).ravel()
    gathered = table.rows_of(blocks)
    for columns in (*Column, AT_LEAST, PRICES):
        assert np.array_equal(gathered[columns], table.cells[columns].take(rows, -1))
