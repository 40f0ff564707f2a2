"""A market followed by its log alone: what the picture shows, what is told."""

import pytest

from sublet.base.errors import PeerFault
from sublet.console.watch import Watch
from sublet.core.document import Entry, ProviderLost, UsageRecord
from sublet.core.lease.phase import Phase
from sublet.wire.codec import DocumentCodec
from tests.unit.core.book.world import OPERATOR, PROVIDER, TENANT, World


@pytest.fixture
def world() -> World:
    """A market with one machine and one tenant with credits."""
    world = World()
    world.add_credit()
    world.add_provider(machine="rig-1")
    return world


def follow(world: World) -> tuple[Watch, list[str]]:
    """Fold a world's log as the console does; give what it tells."""
    watch, codec = Watch(url="http://here"), DocumentCodec()
    told = [
        event.text
        for fact in world.facts
        for event in watch.take(codec.write_entry(Entry(fact, bytes(65))))
    ]
    return watch, told


def test_running_lease_is_in_the_picture(world: World) -> None:
    lease = world.lease_in(Phase.RUNNING)
    watch, told = follow(world)

    picture = watch.picture(now_s=world.now_s + 7)

    (shown,) = picture.leases
    assert (shown.id, shown.phase, shown.machine) == (lease.id, "running", "rig-1")
    assert shown.ran_ms == 7_000
    (provider,) = picture.providers
    assert (provider.leases_open, provider.cpus_milli_free) == (1, 6_000)
    assert picture.size == len(world.facts)
    assert any("goes to rig-1 at $" in text for text in told)


def test_dead_provider_is_named(world: World) -> None:
    world.lease_in(Phase.RUNNING)
    world.say(OPERATOR, ProviderLost(PROVIDER, world.now_s, 1))
    watch, told = follow(world)

    assert "rig-1 is lost" in told
    assert any("is settled: ran 0.0 s, paid $0.00" in text for text in told)
    picture = watch.picture(now_s=world.now_s)
    assert not picture.providers[0].is_up
    assert picture.leases[0].fault == "provider"


def test_meter_readings_are_not_news(world: World) -> None:
    lease = world.lease_in(Phase.RUNNING)
    _, told_before = follow(world)
    world.now_s += 5
    reading = UsageRecord(lease.id, 1, 5_000, 1, 1, world.now_s, 1)
    world.say(PROVIDER, reading)
    _, told_after = follow(world)
    assert told_after == told_before


def test_void_entry_says_why(world: World) -> None:
    world.refused(TENANT, ProviderLost(PROVIDER, world.now_s, 1))
    _, told = follow(world)
    assert told[-1].startswith("ProviderLost of ")
    assert " is void: " in told[-1]


def test_damaged_entry_is_refused() -> None:
    with pytest.raises(PeerFault):
        Watch(url="http://here").take(b"{}")
