"""Each invariant can fall, and is found when it does."""

from collections.abc import Callable

import pytest
from msgspec.structs import replace

from sublet.base.errors import Broken
from sublet.core.book.book import Book
from sublet.core.book.column import Column
from sublet.core.book.invariant import check_invariants
from sublet.core.document import Delegation
from sublet.core.lease.phase import Phase
from tests.unit.core.book.world import GIB, START_S, TENANT, World, address


def make_world() -> World:
    world = World()
    world.add_credit()
    world.add_provider(
        gpu_model="h200", gpu_memory_bytes=141 * GIB, gpu_uuids=("a", "b", "c")
    )
    world.add_channel()
    world.say(TENANT, Delegation(address(9), 5, 1, (), "x", START_S + 900, 1, 1))
    world.lease_in(Phase.SETTLED)
    world.lease_in(Phase.RUNNING, gpu_count=2)
    return world


def change_lease(book: Book, **changed: object) -> None:
    (lease,) = book.leases.values()
    book.leases[lease.id] = replace(lease, **changed)


def change_settled(book: Book, **changed: object) -> None:
    (lease,) = book.settled.values()
    book.settled[lease.id] = replace(lease, **changed)


def change_row(book: Book, **changed: object) -> None:
    book.offers._kept[0] = replace(book.offers._kept[0], **changed)


def change_cell(book: Book, column: Column) -> None:
    book.offers.cells[column, 0] += 1


def change_channel(book: Book) -> None:
    (channel,) = book.channels.values()
    book.channels[channel.id] = replace(channel, paid=1)


def change_delegation(book: Book, **changed: int) -> None:
    (record,) = book.delegations.values()
    book.delegations[record.id] = replace(record, **changed)


def bind_twice(book: Book) -> None:
    (lease,) = book.leases.values()
    book.leases["other"] = replace(lease, id="other")


def forget_hold(book: Book) -> None:
    book.ledger.pending.clear()


BREAKS: list[Callable[[Book], None]] = [
    lambda book: change_lease(book, phase=Phase.SETTLED),
    lambda book: change_lease(book, deadline_s=book.now_s),
    lambda book: change_lease(book, deadline_s=book.now_s + 999),
    lambda book: change_lease(book, owed=10**9),
    lambda book: change_lease(book, hold=1),
    lambda book: change_lease(book, cpus_milli=1),
    lambda book: change_lease(book, cpus_milli=9_000),
    lambda book: change_lease(book, gpu_uuids=("a",)),
    lambda book: change_lease(book, machine="elsewhere"),
    lambda book: change_settled(book, phase=Phase.RUNNING),
    lambda book: change_settled(book, paid=10**9),
    lambda book: change_row(book, memory_bytes_used=0),
    lambda book: change_row(book, gpus_used=frozenset()),
    lambda book: change_row(book, leases_used=0),
    lambda book: change_cell(book, Column.LEASES_FREE),
    lambda book: change_cell(book, Column.DISK_BYTES_FREE),
    lambda book: change_cell(book, Column.GPUS_FREE),
    lambda book: change_cell(book, Column.IS_UP),
    lambda book: change_delegation(book, held=1),
    lambda book: change_delegation(book, leases_open=1),
    lambda book: change_delegation(book, spent=6),
    change_channel,
    bind_twice,
    forget_hold,
]


@pytest.mark.parametrize("number", range(len(BREAKS)))
def test_finds_what_is_broken(number: int) -> None:
    world = make_world()
    check_invariants(world.book)
    BREAKS[number](world.book)
    with pytest.raises(Broken):
        check_invariants(world.book)
