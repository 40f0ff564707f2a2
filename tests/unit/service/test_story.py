"""The life of a lease in lines: causes, phases, amounts, refusals."""

import pytest

from sublet.base.errors import Refused
from sublet.core.document import Fact, GiveBack, ProviderLost, Stop
from sublet.core.lease.phase import Lease
from sublet.service.market import MarketService
from sublet.service.story import StoryLine, story
from tests.fakes.log_memory import FakeLog
from tests.fakes.world import World, move, submit


def facts_of(log: FakeLog, world: World) -> list[Fact]:
    codec = world.make_codec()
    return [codec.read_entry(row.body).fact for row in log.rows]


def tell(log: FakeLog, world: World, lease: Lease) -> list[StoryLine]:
    return story(facts_of(log, world), lease.id)


def moves(lines: list[StoryLine]) -> list[tuple[str, str, str]]:
    return [(line.who, line.what, line.phase) for line in lines if line.moved]


async def test_tells_a_good_life(
    world: World, log: FakeLog, service: MarketService
) -> None:
    lease = await world.play_lease(service)
    await service.close()
    lines = tell(log, world, lease)
    assert moves(lines) == [
        ("tenant", "Order", "matched"),
        ("provider", "LeaseTerms", "accepted"),
        ("provider", "Delivery", "preparing"),
        ("provider", "Start", "running"),
        ("provider", "Receipt", "settling"),
        ("tenant", "Voucher", "settled"),
    ]
    assert [line.what for line in lines if not line.moved] == [
        "UsageRecord", "UsageRecord", "CheckpointKept", "Channel",
    ]  # fmt: skip
    last = lines[-1]
    assert (last.owed, last.paid) == (152, 152)
    assert "$0.000152 paid of $0.000152 owed" in last.text
    assert "$0.021848 of the hold back to the tenant" in last.text
    assert [line.index for line in lines] == sorted(line.index for line in lines)


async def test_deadline_is_a_cause(
    world: World, log: FakeLog, service: MarketService
) -> None:
    lease = await move(service, world.order())
    world.clock.at_s += 1_000
    await service.tick()
    last = tell(log, world, lease)[-1]
    assert (last.who, last.what, last.phase) == ("clock", "deadline", "settled")
    assert last.at_s == lease.deadline_s  # when it happened, not when it was heard
    assert "not_accepted, the provider's fault" in last.text


async def test_late_document_comes_after_the_deadline(
    world: World, log: FakeLog, service: MarketService
) -> None:
    lease = await move(service, world.order())
    late = world.terms(lease)
    world.clock.at_s = lease.deadline_s
    # The credit is new and lets the deadline pass; both stand in one commit only if
    # the terms were admitted before it counted, which they are not: they are refused.
    _, result = await service.submit([world.credit(lease.tenant, 1), late])
    assert result.refusal is not None
    assert [line.what for line in tell(log, world, lease)] == ["Order", "deadline"]


async def test_void_document_is_told(
    world: World, log: FakeLog, service: MarketService
) -> None:
    lease = await move(service, world.order())
    # Both pass the dry run; by the time of the second the lease has moved on.
    await service.submit([world.terms(lease), world.terms(lease)])
    last = tell(log, world, lease)[-1]
    assert (last.what, last.refused, last.moved) == (
        "LeaseTerms",
        "illegal_step",
        False,
    )
    assert "it changed nothing" in last.text


async def test_void_order_has_one_line(
    world: World, log: FakeLog, service: MarketService
) -> None:
    orders = [world.order(gpus=1) for _ in range(4)]  # for three GPUs
    await service.submit(orders)
    (line,) = story(facts_of(log, world), orders[3].id)
    assert (line.refused, line.phase, line.moved) == ("no_match", "", False)


async def test_stop_and_notice_are_told(
    world: World, log: FakeLog, service: MarketService
) -> None:
    lease = await move(service, world.order())
    for document in (world.terms(lease), world.delivery(lease), world.start(lease)):
        await move(service, document)
    provider = world.key_of(lease.provider)
    notice = GiveBack(lease_id=lease.id, notice_s=60, **world.stamp())
    await move(service, world.say(notice, provider))
    stop = Stop(lease_id=lease.id, reason="cancelled", **world.stamp())
    await move(service, world.say(stop, world.tenant))
    texts = [line.text for line in tell(log, world, lease)]
    assert "within 1m" in texts[-2]
    assert texts[-1] == "the tenant ended it: cancelled"


async def test_lost_provider_is_told(
    world: World, log: FakeLog, service: MarketService
) -> None:
    lease = await move(service, world.order())
    lost = ProviderLost(provider=lease.provider, **world.stamp())
    await submit(service, world.say(lost, world.operator))
    last = tell(log, world, lease)[-1]
    assert (last.who, last.what, last.phase) == ("operator", "ProviderLost", "settled")
    assert "provider_lost" in last.text


async def test_outage_is_forgiven_and_told(
    world: World, log: FakeLog, service: MarketService
) -> None:
    lease = await move(service, world.order())
    await service.close()
    world.clock.at_s += 1_000
    again = world.make_service(log)
    await again.open()
    world.clock.at_s += 1_000
    await again.tick()
    await again.close()
    resumed, late = tell(log, world, lease)[-2:]
    assert (resumed.who, resumed.what, resumed.moved) == ("operator", "Resume", False)
    assert (late.what, late.phase) == ("deadline", "settled")
    assert late.at_s == lease.deadline_s + 1_000


async def test_other_leases_stay_out(
    world: World, log: FakeLog, service: MarketService
) -> None:
    mine = await move(service, world.order())
    other = await move(service, world.order())
    await move(service, world.terms(other))
    assert [line.what for line in tell(log, world, mine)] == ["Order"]


async def test_unknown_lease_is_refused(
    world: World, log: FakeLog, service: MarketService
) -> None:
    with pytest.raises(Refused) as caught:
        story(facts_of(log, world), "0x" + "00" * 32)
    assert caught.value.code == "unknown_lease"
