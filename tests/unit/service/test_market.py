"""The market over a log in memory: its life, its views, who is told what."""

import asyncio

import pytest
from msgspec.structs import replace

from sublet.base import limits
from sublet.base.errors import Broken, Unavailable
from sublet.core.book import view
from sublet.core.book.why_not import NoMatch
from sublet.core.document import Order
from sublet.core.lease.phase import Lease, Phase
from sublet.core.merkle import root_of
from sublet.service import market as market_module
from sublet.service.market import ClockBehind, MarketService
from sublet.wire.note import read_checkpoint
from tests.fakes.log_memory import FakeLog
from tests.fakes.world import World, hold_store, move, submit


async def test_answers_index_time_and_lease(
    world: World, service: MarketService
) -> None:
    world.clock.at_s += 7
    order = world.order()
    (result,) = await service.submit([order])
    assert (result.id, result.index) == (order.id, service.size - 1)
    assert result.at_s == world.clock.at_s
    assert result.refusal is None
    assert result.lease is not None
    assert (result.lease.id, result.lease.phase) == (order.id, Phase.MATCHED)
    assert result.lease.provider == world.providers[0].address


async def test_plays_a_whole_lease(world: World, service: MarketService) -> None:
    lease = await world.play_lease(service)
    assert lease.phase is Phase.SETTLED
    # 22,000 micro-USD an hour for 25 s, rounded down.
    assert lease.paid == 152
    earned = view.account(service.book, lease.provider).earned
    assert earned == 152


async def test_caller_that_leaves_breaks_nothing(
    world: World, service: MarketService, log: FakeLog
) -> None:
    first = await hold_store(log, service, world)
    order = world.order()
    leaving = asyncio.create_task(service.submit([order]))
    await asyncio.sleep(0)
    leaving.cancel()
    log.gate.set()
    await first
    (result,) = await service.submit([world.credit(world.tenant.address, 1)])
    assert result.refusal is None
    assert order.id in service.book.leases


async def test_too_many_waiting_are_turned_away(
    world: World, service: MarketService, log: FakeLog
) -> None:
    first = await hold_store(log, service, world)
    credit = world.credit(world.tenant.address, 1)
    full = asyncio.create_task(service.submit([credit] * market_module.QUEUED_MAX))
    await asyncio.sleep(0)
    with pytest.raises(Unavailable, match="wait already") as caught:
        await service.submit([credit])
    assert caught.value.code == "market_busy"
    log.gate.set()
    await asyncio.gather(first, full)


async def test_signs_a_checkpoint_after_each_commit(
    world: World, service: MarketService, log: FakeLog
) -> None:
    await submit(service, world.credit(world.tenant.address, 1))
    await service.close()  # the checkpoint follows the answer
    assert service.checkpoint is not None
    size, note = service.checkpoint
    assert size == service.size == log.size()
    signed = read_checkpoint(note, verifier_key=world.note_key.verifier_key)
    assert (signed.size, signed.root) == (size, root_of(service.leaves))
    assert signed.origin == f"sublet/{world.market_id[2:]}"
    assert log.find_checkpoint() == note
    assert [each for each, _ in log.read_checkpoints(first=0, limit=999)] == list(
        range(1, size + 1)
    )


async def test_tick_settles_what_is_late(world: World, service: MarketService) -> None:
    lease = await move(service, world.order())
    size = service.size
    await service.tick()
    assert service.size == size  # nothing is due
    world.clock.at_s = lease.deadline_s
    await service.tick()
    assert service.size == size + 1
    late = view.find_lease(service.book, lease.id)
    assert late is not None
    assert (late.phase, late.reason) == (Phase.SETTLED, "not_accepted")
    await service.tick()
    assert service.size == size + 1


async def test_nobody_is_late_for_a_node_that_was_away(
    world: World, service: MarketService
) -> None:
    """Frozen, or asleep: whatever wakes it, Resume is the first thing that it says."""
    lease = await move(service, world.order())
    await service.tick()
    for is_woken_by_time in (True, False):
        size = service.size
        world.clock.at_s += 1_000
        if is_woken_by_time:
            await service.tick()
        else:
            await submit(service, world.credit(world.tenant.address, 1))
        assert service.size == size + 2
        open_still = view.find_lease(service.book, lease.id)
        assert open_still is not None
        assert open_still.phase is Phase.MATCHED
    world.clock.at_s = open_still.deadline_s
    await service.tick()
    late = view.find_lease(service.book, lease.id)
    assert late is not None
    assert late.reason == "not_accepted", "and then deadlines bind as before"


async def test_nothing_is_said_before_resume(
    world: World, log: FakeLog, service: MarketService
) -> None:
    lease = await move(service, world.order())
    await service.tick()
    world.clock.at_s += 1_000
    for number in (1, 2):
        log.fail_append_number(len(log.batches) + 1)
        with pytest.raises(Unavailable):
            await submit(service, world.credit(world.tenant.address, number))
    await submit(service, world.credit(world.tenant.address, 3))
    now = view.find_lease(service.book, lease.id)
    assert now is not None
    assert now.phase is Phase.MATCHED


async def test_does_not_stamp_all_with_one_second(world: World, log: FakeLog) -> None:
    """The log was written by a clock that was set wrong, and is right now."""
    service = world.make_service(log)
    await service.open()
    await world.set_up(service)
    await service.close()
    world.clock.at_s -= limits.CLOCK_SKEW_S_MAX
    again = world.make_service(log)
    await again.open()  # so little is made up for by waiting
    await again.close()
    world.clock.at_s -= 1
    with pytest.raises(ClockBehind) as error:
        await world.make_service(log).open()
    assert error.value.retry_after_s == limits.CLOCK_SKEW_S_MAX + 1


async def test_listeners_hear_leases_in_order(
    world: World, service: MarketService
) -> None:
    heard: list[Lease] = []
    leave = service.listen(heard.append)
    lease = await world.play_lease(service)
    phases = [each.phase for each in heard if each.id == lease.id]
    assert phases[0] is Phase.MATCHED
    assert phases[-1] is Phase.SETTLED
    assert [p for i, p in enumerate(phases) if i == 0 or phases[i - 1] is not p] == [
        Phase.MATCHED,
        Phase.ACCEPTED,
        Phase.PREPARING,
        Phase.RUNNING,
        Phase.SETTLING,
        Phase.SETTLED,
    ]
    leave()
    count = len(heard)
    await move(service, world.order())
    assert len(heard) == count


async def test_settled_leases_are_kept(
    world: World, service: MarketService, log: FakeLog
) -> None:
    lease = await world.play_lease(service)
    await service.close()
    (kept,) = await service.read_settled(
        party=world.tenant.address, before_s=None, limit=9
    )
    assert (kept.id, kept.paid) == (lease.id, lease.paid)


async def test_quotes_without_appending(
    world: World, service: MarketService, log: FakeLog
) -> None:
    size = log.size()
    order = world.order().document
    assert isinstance(order, Order)
    assert service.quote(order).provider == world.providers[0].address
    with pytest.raises(NoMatch):
        service.quote(replace(order, price_hour_max=1))
    assert log.size() == size


async def test_broken_book_stops_the_market(
    world: World, service: MarketService
) -> None:
    service.book.ledger.debits_total += 1  # money from nowhere
    with pytest.raises(Unavailable, match="has stopped"):
        await service.submit([world.credit(world.tenant.address, 1)])
    with pytest.raises(Broken):
        await service.wait_stopped()
    with pytest.raises(Unavailable, match="not open"):
        await service.submit([world.credit(world.tenant.address, 1)])


async def test_closing_commits_what_waits(
    world: World, service: MarketService, log: FakeLog
) -> None:
    first = await hold_store(log, service, world)
    second = asyncio.create_task(
        service.submit([world.credit(world.tenant.address, 1)])
    )
    await asyncio.sleep(0)
    closing = asyncio.create_task(service.close())
    await asyncio.sleep(0)
    with pytest.raises(Unavailable):
        await service.submit([world.credit(world.tenant.address, 1)])
    log.gate.set()
    await closing
    assert len(await first) == len(await second) == 1
    await service.close()


async def test_takes_nothing_before_it_opens(world: World, log: FakeLog) -> None:
    service = world.make_service(log)
    with pytest.raises(Unavailable) as caught:
        await service.submit([world.found()])
    assert caught.value.code == "market_closed"
    await service.close()


async def test_first_entry_must_found_the_market(world: World, log: FakeLog) -> None:
    service = world.make_service(log)
    await service.open()
    (result,) = await service.submit([world.credit(world.tenant.address, 1)])
    assert result.refusal is not None
    assert log.size() == 0
    await service.close()
    assert log.size() == 0  # and an empty log is not sealed
