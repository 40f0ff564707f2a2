"""The state itself: copies, indexes, the earliest deadline."""

import pytest

from sublet.base.errors import Broken
from sublet.core.book.book import Book
from sublet.core.book.invariant import check_invariants
from sublet.core.book.snapshot import dump
from sublet.core.book.step import next_deadline_s, step
from sublet.core.document import Delegation, Stop
from sublet.core.lease.phase import Phase
from tests.unit.core.book.world import (
    PROVIDER,
    RULES,
    START_S,
    TENANT,
    World,
    address,
    make_offer,
)


def test_empty_book_has_no_rules() -> None:
    with pytest.raises(Broken):
        _ = Book().rules
    assert next_deadline_s(Book()) is None


def test_copy_goes_its_own_way() -> None:
    world = World()
    world.add_credit()
    world.add_provider()
    channel = world.add_channel()
    lease = world.lease_in(Phase.RUNNING)
    world.now_s += 5
    before, twin = dump(world.book), world.book.copy()
    for signer, document in (
        (PROVIDER, make_offer(machine="m2")),
        (TENANT, Delegation(address(9), 5, 1, (), "x", START_S + 900, 1, 1)),
        (PROVIDER, world.usage(lease, 1_000)),
        (TENANT, Stop(lease.id, "x", 1, 1)),
        (PROVIDER, world.receipt(lease, 4_000)),
    ):
        assert step(twin, world.fact(signer, document)).refusal is None
        world.facts.append(world.fact(signer, document))
    twin.add_channel(twin.channels[channel])
    assert dump(world.book) == before
    assert dump(twin) != before
    check_invariants(world.book)
    check_invariants(twin)


def test_earliest_deadline_is_next() -> None:
    world = World()
    world.add_credit()
    world.add_provider()
    running = world.lease_in(Phase.RUNNING)
    assert next_deadline_s(world.book) == START_S + RULES.report_s
    matched = world.order()
    assert next_deadline_s(world.book) == START_S + RULES.accept_s
    world.say(TENANT, Stop(matched.id, "x", 1, 1))
    assert next_deadline_s(world.book) == START_S + RULES.report_s
    world.now_s += 7
    world.say(PROVIDER, world.usage(running, 1))
    assert next_deadline_s(world.book) == START_S + 7 + RULES.report_s
    world.say(PROVIDER, world.receipt(running, 0))
    assert next_deadline_s(world.book) is None


def test_nothing_open_leaves_no_index() -> None:
    world = World()
    world.add_credit()
    world.add_provider()
    world.lease_in(Phase.SETTLED)
    book = world.book
    assert not book.open_of_tenant
    assert not book.open_of_provider
    assert not book.open_of_line
