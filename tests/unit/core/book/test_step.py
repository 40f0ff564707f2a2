"""The fold as a whole: order, time, voids, the happy way of a lease."""

from typing import get_args

import pytest

from sublet.base.errors import Broken
from sublet.core.book.snapshot import dump, load
from sublet.core.book.step import HANDLERS, check, pass_time, step
from sublet.core.book.view import account
from sublet.core.document import AnyDocument, Delivery, Start, Stop, Tick
from sublet.core.lease.phase import Fault, Phase
from tests.unit.core.book.world import (
    OPERATOR,
    PROVIDER,
    RULES,
    TENANT,
    World,
    digest,
    make_order,
)


def test_lease_goes_its_way() -> None:
    world = World()
    world.add_credit()
    world.add_provider()
    channel = world.add_channel()
    lease = world.order()
    # 2 CPUs at $0.01 and 4 GiB at $0.002 an hour; nobody else offers.
    assert lease.price_hour == lease.hold == 28_000
    assert account(world.book, TENANT).held == 28_000
    world.say(PROVIDER, world.terms(lease))
    world.say(PROVIDER, Delivery(lease.id, lease.manifest, world.now_s, 1))
    world.say(PROVIDER, Start(lease.id, world.now_s, 1))
    for second in (20, 40, 60):
        world.wait(20)
        world.say(PROVIDER, world.usage(lease, second * 1_000))
    world.vouch(channel, 300)
    world.say(PROVIDER, world.receipt(lease, 60_500))
    assert world.lease(lease.id).phase is Phase.SETTLING
    moved = world.vouch(channel, 28_000 * 60_500 // 3_600_000).outcomes
    settled = world.lease(lease.id)
    assert [outcome.lease.phase for outcome in moved] == [Phase.SETTLED]
    assert (settled.owed, settled.paid, settled.fault) == (470, 470, Fault.NOBODY)
    assert account(world.book, TENANT).balance == 10_000_000 - 470
    assert account(world.book, PROVIDER).earned == 470
    assert world.book.find_provider(PROVIDER).leases_completed == 1


def test_replay_gives_same_bytes() -> None:
    world = World()
    world.add_credit()
    world.add_provider()
    world.order()
    twin = World()
    for fact in world.facts[1:]:
        step(twin.book, fact)
    assert dump(twin.book) == dump(world.book) == dump(load(dump(world.book)))


def test_refused_fact_is_void() -> None:
    world = World()
    world.add_credit()
    world.add_provider()
    before = world.book.copy()
    assert world.refused(TENANT, Stop(digest(5), "x", 1, 1)) == "unknown_lease"
    assert (world.book.size, before.size) == (before.size + 1, len(world.facts) - 1)
    before.size += 1  # it counts as an entry, and nothing else has changed
    assert dump(world.book) == dump(before)


def test_every_document_has_a_handler() -> None:
    assert set(HANDLERS) == set(get_args(AnyDocument))


def test_check_sees_what_is_due() -> None:
    world = World()
    world.add_credit(amount=28_000)
    world.add_provider()
    world.order()  # takes all the money, and is never accepted
    order = make_order(salt=-1)
    assert world.refused(TENANT, order) == "insufficient_funds"
    world.now_s += RULES.accept_s
    before = dump(world.book)
    check(world.book, world.fact(TENANT, order))
    passed = pass_time(world.book, world.now_s)
    assert dump(world.book) == before != dump(passed)
    assert pass_time(passed, world.now_s) is passed  # nothing is due any more
    world.say(TENANT, order)


def test_step_stops_on_lost_money() -> None:
    world = World()
    world.add_credit()
    world.book.ledger.credits_total -= 1
    with pytest.raises(Broken):
        step(world.book, world.fact(OPERATOR, Tick(1, 1)))
