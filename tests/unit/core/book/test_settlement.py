"""One cumulative voucher over several leases: who is paid what, and when."""

import pytest

from sublet.core.book.due import total_due
from sublet.core.book.view import account
from sublet.core.document import CheckpointKept, ProviderLost, Stop, Voucher
from sublet.core.lease.phase import Fault, Lease, Phase
from tests.unit.core.book.world import (
    OPERATOR,
    PROVIDER,
    RULES,
    START_S,
    TENANT,
    World,
    digest,
)

# 2 CPUs at $1.80 an hour and free memory: 1 micro-USD a millisecond.
DEAR = {"cpu_price_hour": 1_800_000, "memory_price_hour": 0}


def make_world() -> tuple[World, str]:
    world = World()
    world.add_credit()
    world.add_provider(**DEAR)
    return world, world.add_channel()


def running(world: World) -> Lease:
    return world.lease_in(Phase.RUNNING, duration_s_max=500, total_max=3_000_000)


def end(world: World, lease: Lease, ran_ms: int, reason: str = "exited") -> Lease:
    world.say(PROVIDER, world.receipt(lease, ran_ms, reason))
    return world.lease(lease.id)


def test_nothing_owed_settles_at_once() -> None:
    world, _ = make_world()
    lease = running(world)
    done = world.say(PROVIDER, world.receipt(lease, 0))
    phases = [outcome.lease.phase for outcome in done.outcomes]
    assert phases == [Phase.SETTLING, Phase.SETTLED]
    assert account(world.book, TENANT).balance == 10_000_000


def test_covered_before_settles_at_once() -> None:
    world, channel = make_world()
    lease = running(world)
    world.now_s += 10
    world.vouch(channel, 10_000)
    settled = end(world, lease, 10_000)
    assert (settled.phase, settled.paid) == (Phase.SETTLED, 10_000)
    assert settled.fault is Fault.NOBODY


def test_one_short_waits() -> None:
    world, channel = make_world()
    lease = running(world)
    world.now_s += 10
    world.vouch(channel, 9_999)
    assert end(world, lease, 10_000).phase is Phase.SETTLING
    world.vouch(channel, 10_000)
    assert world.lease(lease.id).paid == 10_000


def test_unpaid_lease_takes_what_is_vouched() -> None:
    world, channel = make_world()
    lease = running(world)
    world.now_s += 10
    world.vouch(channel, 4_000)
    end(world, lease, 10_000)
    world.wait(RULES.settle_s)
    settled = world.lease(lease.id)
    assert (settled.owed, settled.paid) == (10_000, 4_000)
    assert (settled.reason, settled.fault) == ("not_paid", Fault.TENANT)
    wallet = account(world.book, TENANT)
    assert (wallet.balance, wallet.held, wallet.spent) == (9_996_000, 0, 4_000)


def test_without_channel_nothing_is_paid() -> None:
    world = World()
    world.add_credit()
    world.add_provider(**DEAR)
    lease = running(world)
    world.now_s += 10
    end(world, lease, 10_000)
    world.wait(RULES.settle_s)
    assert world.lease(lease.id).paid == 0


def test_never_paid_more_than_owed() -> None:
    world, channel = make_world()
    lease = running(world)
    world.vouch(channel, 5_000_000)
    world.now_s += 10
    assert end(world, lease, 10_000).paid == 10_000
    assert account(world.book, PROVIDER).earned == 10_000


def test_voucher_carries_over_leases() -> None:
    world, channel = make_world()
    for number in (1, 2, 3):
        lease = running(world)
        world.now_s += 10
        world.vouch(channel, number * 10_000)
        assert end(world, lease, 10_000).paid == 10_000
    assert account(world.book, PROVIDER).earned == 30_000


def test_older_open_lease_comes_first() -> None:
    world, channel = make_world()
    older, younger = running(world), running(world)
    world.now_s += 10
    world.say(PROVIDER, world.usage(older, 10_000))
    world.vouch(channel, 15_000)
    assert end(world, younger, 10_000).phase is Phase.SETTLING  # 5,000 are left
    assert total_due(world.book, older) == 10_000
    assert total_due(world.book, younger) == 20_000
    world.vouch(channel, 20_000)
    assert world.lease(younger.id).paid == 10_000
    assert end(world, older, 10_000).paid == 10_000


def test_younger_waits_for_no_voucher_of_its_own() -> None:
    world, channel = make_world()
    older, younger = running(world), running(world)
    world.now_s += 10
    world.say(PROVIDER, world.usage(older, 10_000))
    world.vouch(channel, 10_000)
    assert end(world, younger, 10_000).phase is Phase.SETTLING
    # The owner takes the older one back before any checkpoint: it owes nothing,
    # so that what was vouched for it now covers the younger.
    done = world.say(PROVIDER, world.receipt(older, 10_000, "given_back"))
    settled = {o.lease.id for o in done.outcomes if o.lease.phase is Phase.SETTLED}
    assert settled == {older.id, younger.id}
    assert world.lease(older.id).paid == 0
    assert world.lease(younger.id).paid == 10_000


def test_owing_nothing_waits_for_nobody() -> None:
    world, _ = make_world()
    older, younger = running(world), running(world)
    world.now_s += 10
    world.say(PROVIDER, world.usage(older, 10_000))  # and nothing is vouched
    assert end(world, younger, 0).phase is Phase.SETTLED


def test_younger_gets_only_what_is_left() -> None:
    world, channel = make_world()
    older, younger = running(world), running(world)
    world.now_s += 10
    world.say(PROVIDER, world.usage(older, 10_000))
    world.vouch(channel, 13_000)
    end(world, younger, 10_000)
    for _ in range(2):
        world.now_s += RULES.settle_s // 2
        world.fold(world.fact(PROVIDER, world.usage(older, 10_000)))
    settled = world.lease(younger.id)
    assert (settled.reason, settled.paid) == ("not_paid", 3_000)
    assert settled.ended_at_s == START_S + 10  # when it ended, not when it was settled
    assert settled.deadline_s == 0


@pytest.mark.parametrize("is_lost", [False, True])
def test_older_fault_frees_the_younger(is_lost: bool) -> None:
    world, channel = make_world()
    older, younger = running(world), running(world)
    world.now_s += 10
    world.vouch(channel, 10_000)
    world.say(PROVIDER, world.usage(older, 10_000))
    assert end(world, younger, 10_000).phase is Phase.SETTLING
    if is_lost:
        world.say(OPERATOR, ProviderLost(PROVIDER, 1, 1))
    else:
        world.wait(RULES.report_s)
    assert world.lease(older.id).paid == 0
    settled = world.lease(younger.id)
    assert (settled.reason, settled.paid) == ("exited", 10_000)


def test_early_stop_completes_nothing() -> None:
    world, _ = make_world()
    lease = world.lease_in(Phase.PREPARING)
    world.say(TENANT, Stop(lease.id, "x", 1, 1))
    record = world.book.find_provider(PROVIDER)
    assert (record.leases_completed, record.leases_at_fault) == (0, 0)


def test_silence_pays_what_is_secured() -> None:
    world, channel = make_world()
    lease = running(world)
    world.now_s += 20
    world.say(PROVIDER, world.usage(lease, 20_000))
    world.say(TENANT, CheckpointKept(lease.id, 12_000, digest(5), 1, 1))
    world.vouch(channel, 20_000)
    world.wait(RULES.report_s)
    settled = world.lease(lease.id)
    assert (settled.reason, settled.owed, settled.paid) == ("silent", 12_000, 12_000)
    assert world.book.find_provider(PROVIDER).leases_at_fault == 1


@pytest.mark.parametrize("ran_ms", [0, 10_000])
def test_resources_are_free_with_receipt(ran_ms: int) -> None:
    world, _ = make_world()
    leases = [running(world) for _ in range(4)]
    world.now_s += 10
    row = world.book.offers.get(0)
    assert row.cpus_milli_used == 8_000
    end(world, leases[0], ran_ms)  # paid or not
    assert world.book.offers.get(0).cpus_milli_used == 6_000


def test_closing_still_holds_the_machine() -> None:
    world, _ = make_world()
    lease = running(world)
    world.say(TENANT, Stop(lease.id, "enough", 1, 1))
    assert world.book.offers.get(0).cpus_milli_used == 2_000
    world.wait(RULES.close_s)
    assert not world.book.offers.get(0).is_used()


def test_reader_sees_the_channel_total() -> None:
    world, channel = make_world()
    first = running(world)
    world.now_s += 10
    world.vouch(channel, 10_000)
    end(world, first, 10_000)
    second = running(world)
    world.now_s += 5
    (outcome,) = world.say(PROVIDER, world.usage(second, 5_000)).outcomes
    assert outcome.lease.channel_total == 15_000
    assert world.refused(TENANT, Voucher(channel, 10_000)) == "stale_voucher"
    done = world.say(PROVIDER, world.receipt(second, 5_000))
    assert done.outcomes[-1].lease.channel_total == 15_000
    assert world.lease(second.id).channel_total == 0  # computed, never stored


def test_operator_rents_nothing_for_free() -> None:
    world, _ = make_world()
    total = account(world.book, TENANT).balance
    lease = world.lease_in(Phase.SETTLED, total_max=3_000_000)
    assert lease.fault is Fault.TENANT
    parties = (TENANT, PROVIDER, OPERATOR)
    assert sum(account(world.book, party).balance for party in parties) == total
