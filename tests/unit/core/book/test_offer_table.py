"""Rows that grow, are replaced, used, and come free for others."""

from msgspec.structs import replace

from sublet.core.book.block import BLOCK_ROWS
from sublet.core.book.column import Column
from sublet.core.book.offer_table import OfferTable
from sublet.core.book.record import OfferRecord
from tests.unit.core.book.world import (
    PROVIDER,
    START_S,
    address,
    digest,
    make_offer,
)
from tests.unit.core.lease.test_table import LEASE


def make_record(number: int, **offer: object) -> OfferRecord:
    return OfferRecord(digest(number), number, address(number), make_offer(**offer))


def fill(table: OfferTable, numbers: range, **offer: object) -> None:
    for number in numbers:
        table.put(make_record(number, **offer), is_up=True, now_s=START_S)


def row_of(table: OfferTable, number: int) -> int:
    return table.row_of[digest(number)]


def test_grows_when_it_is_full() -> None:
    table = OfferTable()
    capacity = table.cells.shape[1]
    fill(table, range(capacity + 1))
    assert capacity < table.cells.shape[1] <= 2 * capacity
    numbers = [record.number for record in table.standing(START_S)]
    assert numbers == list(range(capacity + 1))


def test_replaced_is_found_no_more() -> None:
    table = OfferTable()
    fill(table, range(3))
    record = replace(make_record(1), id=digest(9), number=9)
    table.put(record, is_up=False, now_s=START_S)
    assert [record.number for record in table.standing(START_S)] == [0, 2, 9]
    assert table.cells[Column.IS_UP, row_of(table, 9)] == 0
    assert table.find(digest(1)) is None
    assert table.find(digest(9)) == record


def test_replaced_moves_to_its_like() -> None:
    table = OfferTable()
    fill(table, range(BLOCK_ROWS), cpu_price_hour=1)
    fill(table, range(BLOCK_ROWS, 2 * BLOCK_ROWS), cpu_price_hour=1_000)
    was = row_of(table, 0)
    record = OfferRecord(digest(999), 999, address(0), make_offer(cpu_price_hour=2_000))
    table.put(record, is_up=True, now_s=START_S)
    now = row_of(table, 999)
    assert now // BLOCK_ROWS != was // BLOCK_ROWS
    assert now // BLOCK_ROWS == row_of(table, 2 * BLOCK_ROWS - 1) // BLOCK_ROWS
    assert table.find_machine(address(0), "m1") == record
    assert was not in dict(table.records())
    assert not table.cells[:, was].any()


def test_dead_rows_are_reclaimed() -> None:
    table = OfferTable()
    capacity = table.cells.shape[1]
    half = capacity // 2
    fill(table, range(half), expires_at_s=START_S)  # dead on arrival
    fill(table, range(half, capacity))
    fill(table, range(1_000, 1_000 + half // 2))
    assert table.cells.shape[1] == capacity  # no need to grow
    assert table.find(digest(0)) is None
    assert table.find_machine(address(0), "m1") is None
    numbers = [record.number for record in table.standing(START_S)]
    assert numbers == [*range(half, capacity), *range(1_000, 1_000 + half // 2)]


def test_sparse_blocks_are_laid_out_anew() -> None:
    table = OfferTable()
    for model in range(40):  # each fills blocks of its own, and leaves one offer there
        gpus = {"gpu_model": f"gpu-{model}", "gpu_uuids": ("a",)}
        numbers = range(model * BLOCK_ROWS, (model + 1) * BLOCK_ROWS)
        fill(table, numbers, **gpus)
        for number in numbers[1:]:
            table.withdraw(digest(number))
    assert len(table.standing(START_S)) == 40
    assert table.cells.shape[1] <= 8 * BLOCK_ROWS


def test_dead_but_used_rows_stay() -> None:
    table = OfferTable()
    lease = replace(LEASE, provider=address(0), machine="m1")
    fill(table, range(1))
    table.bind(lease)
    table.withdraw(digest(0))
    fill(table, range(1, 8 * BLOCK_ROWS))
    record = table.find_machine(address(0), "m1")
    assert record is not None
    assert (record.is_withdrawn, record.is_used()) == (True, True)
    assert record in table.standing(START_S)
    table.release(lease)
    assert table.standing(START_S)[0].number == 1


def test_use_is_taken_and_given_back() -> None:
    table = OfferTable()
    offer = {"gpu_model": "h200", "gpu_uuids": ("a", "b", "c")}
    fill(table, range(1), **offer)
    row = row_of(table, 0)
    lease = replace(LEASE, provider=address(0), gpu_uuids=("a", "c"))
    free = slice(Column.CPUS_MILLI_FREE, Column.LEASES_FREE + 1)
    before = table.cells[free, row].tolist()
    table.bind(lease)
    assert table.cells[free, row].tolist() == [
        before[0] - lease.cpus_milli,
        before[1] - lease.memory_bytes,
        before[2] - lease.disk_bytes,
        1,
        before[4] - 1,
    ]
    assert table.get(row).gpus_free() == ["b"]
    table.release(lease)
    assert table.cells[free, row].tolist() == before


def test_up_and_down_by_provider() -> None:
    table = OfferTable()
    fill(table, range(2))
    table.set_up(address(1), is_up=False)
    table.set_up(PROVIDER, is_up=False)  # offers nothing
    rows = [row_of(table, 0), row_of(table, 1)]
    assert table.column(Column.IS_UP)[rows].tolist() == [1, 0]


def test_ideal_is_as_good_as_the_best() -> None:
    table = OfferTable()
    gpus = {"gpu_model": "h200", "gpu_memory_bytes": 1, "gpu_uuids": ("a",)}
    fill(table, range(1), gpu_price_hour=5, cpu_price_hour=1, cpus_milli=1, **gpus)
    fill(table, range(1, 2), gpu_price_hour=9, cpu_price_hour=2, **gpus)
    (ideal,) = table.ideals[:, table.all_blocks()].T.tolist()
    assert ideal[Column.CPUS_MILLI_FREE] == make_offer().cpus_milli
    assert ideal[Column.CPU_PRICE_HOUR] == 1
    assert ideal[Column.GPU_PRICE_HOUR] == 5
    assert ideal[Column.GPU_MODEL] == table.cells[Column.GPU_MODEL, row_of(table, 0)]
    assert table.blocks_with(["", "a100"]).tolist() == []
    fill(table, range(2, 3))
    assert table.blocks_with([""]).tolist() == [0]
    assert table.blocks_with(["h200"]).tolist() == [0]


def test_what_cannot_match_is_no_ideal() -> None:
    table = OfferTable()
    gpus = {"gpu_model": "h200", "gpu_memory_bytes": 1, "gpu_uuids": ("a",)}
    for number in range(4):
        fill(table, range(number, number + 1), gpu_price_hour=number, **gpus)
    table.bind(replace(LEASE, provider=address(0), gpu_uuids=("a",)))
    table.withdraw(digest(1))
    table.set_up(address(2), is_up=False)
    assert table.ideals[:, table.all_blocks()][Column.GPU_PRICE_HOUR].tolist() == [3]
    table.withdraw(digest(3))
    assert table.ideals[:, table.all_blocks()][Column.GPUS_FREE].tolist() == [0]


def test_counts_live_offers() -> None:
    table = OfferTable()
    fill(table, range(3))
    fill(table, range(3, 4), expires_at_s=START_S + 1)
    table.withdraw(digest(0))
    assert table.count_live(START_S) == 3
    assert table.count_live(START_S + 1) == 2


def test_copy_is_independent() -> None:
    table = OfferTable()
    fill(table, range(2))
    twin = table.copy()
    twin.withdraw(digest(0))
    twin.bind(replace(LEASE, provider=address(1)))
    fill(twin, range(2, 3))
    assert len(table.row_of) == 2
    assert table.count_live(START_S) == 2
    assert not table.get(row_of(table, 1)).is_used()
    fill(twin, range(3, 5 * BLOCK_ROWS))
    assert len(table.row_of) == 2
