"""What readers see."""

from sublet.core.book.snapshot import dump
from sublet.core.book.view import (
    AccountView,
    Counts,
    account,
    channel_total,
    counts,
    find_lease,
    leases_of,
    offers,
    open_leases_of,
    vouched,
)
from sublet.core.document import ProviderLost
from sublet.core.lease.phase import Phase
from tests.unit.core.book.world import (
    GIB,
    OPERATOR,
    OTHER_PROVIDER,
    OTHER_TENANT,
    PROVIDER,
    START_S,
    TENANT,
    World,
    digest,
)


def make_world() -> World:
    world = World()
    world.add_credit()
    world.add_credit(OTHER_TENANT)
    world.add_provider(memory_price_hour=0, cpu_price_hour=1_800_000)  # 1 a ms
    return world


def test_wallet_shows_all_four() -> None:
    world = make_world()
    channel = world.add_channel()
    world.vouch(channel, 4_000)
    settled = world.lease_in(Phase.SETTLED, total_max=3_000_000)
    assert settled.paid == 4_000
    world.order(total_max=2_000_000)
    assert account(world.book, TENANT) == AccountView(
        balance=7_996_000, held=2_000_000, earned=0, spent=4_000
    )
    assert account(world.book, PROVIDER) == AccountView(4_000, 0, 4_000, 0)
    assert account(world.book, OPERATOR) == AccountView(0, 0, 0, 0)


def test_leases_are_of_both_parties() -> None:
    world = make_world()
    settled = world.lease_in(Phase.SETTLED, total_max=1_000_000)
    mine = world.order(total_max=1_000_000)
    others = world.order(total_max=1_000_000, tenant=OTHER_TENANT)
    assert [lease.id for lease in leases_of(world.book, TENANT)] == [
        settled.id,
        mine.id,
    ]
    assert [lease.id for lease in leases_of(world.book, PROVIDER)] == [
        settled.id,
        mine.id,
        others.id,
    ]
    open_ones = open_leases_of(world.book, PROVIDER)
    assert [lease.id for lease in open_ones] == [mine.id, others.id]
    assert leases_of(world.book, OPERATOR) == []


def test_own_lease_shows_once() -> None:
    world = make_world()
    world.add_credit(PROVIDER)
    world.order(tenant=PROVIDER, total_max=1_000_000)
    assert len(leases_of(world.book, PROVIDER)) == 1


def test_lease_is_found_anywhere() -> None:
    world = make_world()
    settled = world.lease_in(Phase.SETTLED, total_max=1_000_000)
    running = world.order(total_max=1_000_000)
    assert find_lease(world.book, settled.id) == settled
    assert find_lease(world.book, running.id) == running
    assert find_lease(world.book, digest(5)) is None


def test_total_is_what_covers_it() -> None:
    world = make_world()
    channel = world.add_channel()
    world.vouch(channel, 4_000)
    settled = world.lease_in(Phase.SETTLED, total_max=1_000_000)
    first = world.lease_in(Phase.RUNNING, total_max=1_000_000)
    second = world.lease_in(Phase.RUNNING, total_max=1_000_000)
    world.now_s += 10
    world.say(PROVIDER, world.usage(first, 7_000))
    world.say(PROVIDER, world.usage(second, 9_000))
    totals = {
        lease.id: channel_total(world.book, lease.id)
        for lease in (settled, first, second)
    }
    assert list(totals.values()) == [4_000, 11_000, 20_000]
    assert channel_total(world.book, digest(5)) == 0
    for lease in leases_of(world.book, TENANT):
        assert lease.channel_total == totals[lease.id]
    assert (vouched(world.book, channel), vouched(world.book, digest(5))) == (4_000, 0)


def test_offers_show_what_is_free() -> None:
    world = World()
    world.add_credit()
    world.add_provider(
        gpu_model="h200", gpu_memory_bytes=141 * GIB, gpu_uuids=("a", "b")
    )
    world.add_provider(OTHER_PROVIDER, machine="brief", expires_at_s=START_S + 5)
    world.order(gpu_count=1)
    world.say(OPERATOR, ProviderLost(OTHER_PROVIDER, 1, 1))
    first, second = offers(world.book)
    assert (first.provider, first.is_up, second.is_up) == (PROVIDER, True, False)
    assert (first.cpus_milli_free, first.cpus_milli) == (6_000, 8_000)
    assert (first.memory_bytes_free, first.memory_bytes) == (28 * GIB, 32 * GIB)
    assert (first.gpus_free, first.gpus) == (1, 2)
    assert first.disk_bytes_free == 99 * GIB
    assert counts(world.book) == Counts(providers_up=1, offers=2, leases_open=1)
    world.wait(5)
    assert len(offers(world.book)) == 1
    assert counts(world.book).offers == 1


def test_looking_changes_nothing() -> None:
    world = make_world()
    lease = world.order()
    before = dump(world.book)
    offers(world.book)
    leases_of(world.book, TENANT)
    find_lease(world.book, lease.id)
    counts(world.book)
    assert dump(world.book) == before
