"""Rows that grow, are replaced, used, and come free for others."""

from msgspec.structs import replace

from sublet.core.book.offer_table import CAPACITY_AT_FIRST, Column, OfferTable
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


def test_grows_by_doubling() -> None:
    table = OfferTable()
    fill(table, range(CAPACITY_AT_FIRST + 1))
    assert table.cells.shape[1] == 2 * CAPACITY_AT_FIRST
    assert table.column(Column.NUMBER).tolist() == list(range(CAPACITY_AT_FIRST + 1))


def test_replacing_keeps_the_row() -> None:
    table = OfferTable()
    fill(table, range(3))
    record = replace(make_record(1), id=digest(9), number=9)
    table.put(record, is_up=False, now_s=START_S)
    assert table.column(Column.NUMBER).tolist() == [0, 9, 2]
    assert table.column(Column.IS_UP).tolist() == [1, 0, 1]
    assert table.find(digest(1)) is None
    assert table.find(digest(9)) == record


def test_dead_rows_are_reclaimed() -> None:
    table = OfferTable()
    half = CAPACITY_AT_FIRST // 2
    fill(table, range(half), expires_at_s=START_S)  # dead on arrival
    fill(table, range(half, CAPACITY_AT_FIRST))
    fill(table, range(100, 100 + half))
    assert table.cells.shape[1] == CAPACITY_AT_FIRST  # no need to grow
    assert table.find(digest(0)) is None
    assert table.find_machine(address(0), "m1") is None
    numbers = [record.number for record in table.standing(START_S)]
    assert numbers == [*range(half, CAPACITY_AT_FIRST), *range(100, 100 + half)]


def test_dead_but_used_rows_stay() -> None:
    table = OfferTable()
    lease = replace(LEASE, provider=address(0), machine="m1")
    fill(table, range(1))
    table.bind(lease)
    table.withdraw(digest(0))
    fill(table, range(1, 3 * CAPACITY_AT_FIRST))
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
    lease = replace(LEASE, provider=address(0), gpu_uuids=("a", "c"))
    free = slice(Column.CPUS_MILLI_FREE, Column.LEASES_FREE + 1)
    before = table.cells[free, 0].tolist()
    table.bind(lease)
    assert table.cells[free, 0].tolist() == [
        before[0] - lease.cpus_milli,
        before[1] - lease.memory_bytes,
        before[2] - lease.disk_bytes,
        1,
        before[4] - 1,
    ]
    assert table.get(0).gpus_free() == ["b"]
    table.release(lease)
    assert table.cells[free, 0].tolist() == before


def test_up_and_down_by_provider() -> None:
    table = OfferTable()
    fill(table, range(2))
    table.set_up(address(1), is_up=False)
    table.set_up(PROVIDER, is_up=False)  # offers nothing
    assert table.column(Column.IS_UP).tolist() == [1, 0]


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
    assert table.count == 2
    assert table.count_live(START_S) == 2
    assert not table.get(1).is_used()
