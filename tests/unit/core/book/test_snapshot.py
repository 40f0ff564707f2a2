"""The book as bytes: the same from any path, and a book again that goes on alike."""

from hashlib import sha256

import pytest
from msgspec.structs import replace

from sublet.base.errors import Broken, Outdated
from sublet.core.book.block import BLOCK_ROWS
from sublet.core.book.book import Book
from sublet.core.book.invariant import check_invariants
from sublet.core.book.record import OfferRecord
from sublet.core.book.snapshot import book_hash, dump, load
from sublet.core.book.step import step
from sublet.core.document import Delegation, OfferWithdrawal, ProviderLost
from sublet.core.lease.phase import Phase
from tests.unit.core.book.world import (
    GIB,
    OPERATOR,
    OTHER_PROVIDER,
    PROVIDER,
    START_S,
    TENANT,
    World,
    address,
    digest,
    make_offer,
)
from tests.unit.core.lease.test_table import LEASE


def make_world() -> World:
    """Make a market with a bit of everything in it."""
    world = World()
    world.add_credit()
    world.add_provider(
        gpu_model="h200", gpu_memory_bytes=141 * GIB, gpu_uuids=("a", "b")
    )
    used = world.add_provider(OTHER_PROVIDER)
    world.add_provider(PROVIDER, machine="brief", expires_at_s=START_S + 5)
    channel = world.add_channel()
    world.vouch(channel, 50)
    world.say(TENANT, Delegation(address(9), 5, 1, (), "x", START_S + 900, 1, 1))
    for phase in (Phase.SETTLED, Phase.RUNNING, Phase.SETTLING, Phase.PREPARING):
        world.lease_in(phase, avoid=(OTHER_PROVIDER,))
    world.order(avoid=(PROVIDER,))
    world.order(gpu_count=1)
    world.say(OTHER_PROVIDER, OfferWithdrawal(used, 1, 1))  # and a lease is on it
    return world


def test_empty_book_comes_back() -> None:
    assert dump(load(dump(Book()))) == dump(Book())


def test_full_book_comes_back() -> None:
    world = make_world()
    raw = dump(world.book)
    twin = load(raw)
    assert dump(twin) == raw
    check_invariants(twin)
    assert twin.next_deadline() == world.book.next_deadline()
    assert twin.ledger.__dict__ == world.book.ledger.__dict__
    for name in (
        "leases",
        "settled",
        "channel_of",
        "delegations_of",
        "open_of_tenant",
        "open_of_provider",
        "open_of_delegate",
        "open_of_line",
    ):
        assert getattr(twin, name) == getattr(world.book, name), name


def test_loaded_book_goes_on_alike() -> None:
    world = make_world()
    twin = load(dump(world.book))
    first = len(world.facts)
    world.lease_in(Phase.RUNNING, cpus_milli=500, avoid=(OTHER_PROVIDER,))
    world.order(cpus_milli=500, gpu_count=1)
    world.say(OPERATOR, ProviderLost(PROVIDER, 1, 1))
    world.wait(1_000)
    world.add_provider(PROVIDER)
    world.order()
    for fact in world.facts[first:]:
        step(twin, fact)
    assert dump(twin) == dump(world.book)


def test_gone_offers_leave_no_trace() -> None:
    world = World()
    world.add_provider(expires_at_s=START_S + 5)
    assert b'"machine":"m1"' in dump(world.book)
    world.wait(5)
    assert b'"machine":"m1"' not in dump(world.book)


def test_hash_is_of_the_bytes() -> None:
    book = make_world().book
    assert book_hash(book) == sha256(dump(book)).digest()
    assert book_hash(book) != book_hash(Book())


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"{}",
        b"[]",
        dump(Book()).replace(b'"size":0', b'"size":"0"'),
        dump(Book()).replace(b'"size":0', b'"size":0,"more":1'),
    ],
)
def test_damaged_snapshot_is_refused(raw: bytes) -> None:
    with pytest.raises(Broken, match="replay the log"):
        load(raw)


def test_newer_snapshot_is_not_guessed_at() -> None:
    newer = dump(Book()).replace(b'"format":1', b'"format":2')
    with pytest.raises(Outdated, match="update sublet"):
        load(newer.replace(b'"size":0', b'"length":0'))


def test_dead_offers_in_use_are_loaded_however_many() -> None:
    book = Book()
    count = 3 * BLOCK_ROWS  # more than a table has room for at first
    for number in range(count):
        provider, offer = address(number), make_offer(machine="m1")
        record = OfferRecord(digest(number), number, provider, offer)
        book.offers.put(record, is_up=True, now_s=START_S)
        lease_id = digest(count + number)
        book.add_lease(replace(LEASE, id=lease_id, provider=provider, machine="m1"))
        book.offers.withdraw(digest(number))
    twin = load(dump(book))
    assert dump(twin) == dump(book)
    record_of = twin.offers.find_machine(address(0), "m1")
    assert record_of is not None
    assert record_of.is_used()
