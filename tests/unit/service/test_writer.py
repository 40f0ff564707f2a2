"""The writer over a log in memory: group commits, order, repeats, failures, seals."""

import asyncio
import threading

import msgspec
import pytest
from msgspec.structs import replace

from sublet.base import limits
from sublet.base.errors import Unavailable
from sublet.base.ids import Digest
from sublet.core.book import view
from sublet.core.book.snapshot import book_hash, dump
from sublet.core.document import Seal, Tick
from sublet.core.lease.phase import Lease, Phase
from sublet.service.market import MarketService
from tests.fakes.log_memory import FakeLog
from tests.fakes.world import World, hold_store, make_key, move, submit


async def test_one_commit_takes_all_that_waits(
    world: World, service: MarketService, log: FakeLog
) -> None:
    first = await hold_store(log, service, world)
    batches = len(log.batches)
    rest = [
        asyncio.create_task(service.submit([world.credit(world.tenant.address, 1)]))
        for _ in range(100)
    ]
    await asyncio.sleep(0)
    log.gate.set()
    await asyncio.gather(first, *rest)
    assert log.batches[batches:] == [1, 100]


async def test_one_commit_has_its_limit(
    world: World, service: MarketService, log: FakeLog
) -> None:
    first = await hold_store(log, service, world)
    batches = len(log.batches)
    many = [world.credit(world.tenant.address, 1) for _ in range(600)]
    rest = asyncio.create_task(service.submit(many))
    await asyncio.sleep(0)
    log.gate.set()
    results = await rest
    await first
    assert log.batches[batches + 1 :] == [256, 256, 88]
    indexes = [result.index for result in results]
    assert indexes == list(range(indexes[0], indexes[0] + 600))
    assert [row.id for row in log.rows[indexes[0] :]] == [each.id for each in many]


class SlowNotes(FakeLog):
    """Holds a checkpoint back while ``notes`` is clear; ``held_note`` says that it does."""

    def __init__(self) -> None:
        super().__init__()
        self.notes, self.held_note = threading.Event(), threading.Event()
        self.notes.set()

    def put_checkpoint(self, *, size: int, note: bytes) -> None:
        if not self.notes.is_set():
            self.held_note.set()
            self.notes.wait()
        super().put_checkpoint(size=size, note=note)


async def test_next_commit_is_made_ready_meanwhile(world: World) -> None:
    log = SlowNotes()
    service = world.make_service(log)
    await service.open()
    await world.set_up(service)
    size, batch = service.size, limits.BATCH_DOCUMENTS_MAX
    await service._writer.follower.wait_kept()
    log.notes.clear()
    many = [world.credit(world.tenant.address, 1) for _ in range(batch + 44)]
    rest = asyncio.create_task(service.submit(many))
    await asyncio.to_thread(log.held_note.wait)
    async with asyncio.timeout(30):
        while service._writer.queue:  # noqa: ASYNC110 - looked at all the same,
            await asyncio.sleep(0)
    # and is stored once the checkpoint over the first is kept.
    assert log.size() == size + batch
    assert max(log.checkpoints) == size
    log.notes.set()
    assert [result.refusal for result in await rest] == [None] * len(many)
    await service.close()
    assert {size + batch, size + len(many)} < set(log.checkpoints)


async def test_thousand_orders_get_one_gpu(world: World, log: FakeLog) -> None:
    service = world.make_service(log)
    await service.open()
    await submit(service, world.found())
    await submit(service, world.seen(world.providers[0]))
    await submit(service, world.offer(world.providers[0], gpus=1))
    tenants = [make_key(f"tenant {number}") for number in range(20)]
    await submit(service, *(world.credit(key.address, 10_000_000) for key in tenants))
    orders = [world.order(tenants[number % 20], gpus=1) for number in range(1_000)]
    answers = await asyncio.gather(*(service.submit([order]) for order in orders))
    results = [result for (result,) in answers]
    won = [result for result in results if result.refusal is None]
    assert len(won) == 1
    assert won[0].lease is not None
    assert list(service.book.leases) == [won[0].id]
    codes = {result.refusal.code for result in results if result.refusal}
    assert codes == {"no_match"}
    # Only what arrived together with the winner stands in the log, void.
    assert sum(result.index >= 0 for result in results) <= limits.BATCH_DOCUMENTS_MAX
    await service.close()


async def test_document_may_need_one_before_it(
    world: World, service: MarketService
) -> None:
    # A voucher is refused without its channel, which here comes in the same breath.
    lease = await move(service, world.order())
    channel, voucher = world.channel(lease), world.voucher(lease, amount=1)
    results = await service.submit([channel, voucher])
    assert [result.refusal for result in results] == [None, None]
    assert results[1].index == results[0].index + 1


async def test_refusal_does_not_hold_up_others(
    world: World, service: MarketService, log: FakeLog
) -> None:
    size = service.size
    bad = world.seen(world.providers[0])  # it is up already
    results = await service.submit(
        [bad, world.credit(world.tenant.address, 1), world.seen(world.providers[1])]
    )
    codes = [result.refusal.code if result.refusal else "" for result in results]
    assert codes == ["already_up", "", "already_up"]
    assert [result.index for result in results] == [-1, size, -1]
    assert log.size() == size + 1


async def test_refuses_documents_of_another_time(
    world: World, service: MarketService, log: FakeLog
) -> None:
    size = log.size()
    early = world.order()
    world.clock.at_s -= 3_600
    (ahead,) = await service.submit([early])
    world.clock.at_s += 7_201
    (old,) = await service.submit([early])
    assert ahead.refusal is not None
    assert old.refusal is not None
    assert (ahead.refusal.code, old.refusal.code) == ("signed_ahead", "signed_long_ago")
    assert log.size() == size


async def test_repeated_order_gives_old_index(
    world: World, service: MarketService
) -> None:
    order = world.order()
    (first,) = await service.submit([order])
    assert first.lease is not None
    await move(service, world.terms(first.lease))
    world.clock.at_s += 1
    (again,) = await service.submit([order])
    assert (again.index, again.at_s) == (first.index, first.at_s)
    assert again.refusal is None
    assert again.lease is not None
    assert again.lease.phase is Phase.ACCEPTED  # as it is now
    assert service.size == first.index + 2


async def test_repeats_within_one_commit_count_once(
    world: World, service: MarketService
) -> None:
    size = service.size
    balance = view.account(service.book, world.tenant.address).balance
    credit = world.credit(world.tenant.address, 5)
    results = await service.submit([credit, credit, credit])
    assert [result.index for result in results] == [size] * 3
    assert {result.refusal for result in results} == {None}
    assert view.account(service.book, world.tenant.address).balance == balance + 5


async def test_repeated_void_order_says_so(world: World, log: FakeLog) -> None:
    service = world.make_service(log)
    await service.open()
    await world.set_up(service, gpus=1)
    orders = [world.order(gpus=1) for _ in range(4)]  # for three GPUs
    results = await service.submit(orders)
    void = results[3]
    assert void.refusal is not None
    assert void.index >= 0
    (again,) = await service.submit([orders[3]])
    assert again.index == void.index
    assert again.refusal is not None
    assert again.refusal.code == "void_order"
    await service.close()


async def test_repeat_finds_a_forgotten_lease(
    world: World, service: MarketService, log: FakeLog
) -> None:
    order = world.order()
    lease = await move(service, order)
    settled = replace(lease, phase=Phase.SETTLED)
    # As the read model has it, once the book has forgotten.
    service.book.drop_lease(settled, settled_max=0)
    assert await service.find_lease(order.id) is None
    log.put_settled([_settled_row(settled)])
    (again,) = await service.submit([order])
    assert again.lease == settled
    assert await service.find_lease(order.id) == settled


def _settled_row(lease: Lease) -> tuple[Digest, str, str, int, bytes]:
    return lease.id, lease.tenant, lease.provider, 1, msgspec.json.encode(lease)


async def test_failed_commit_changes_nothing(
    world: World, service: MarketService, log: FakeLog
) -> None:
    size, before = service.size, dump(service.book)
    log.fail_append_number(len(log.batches) + 1)
    order = world.order()
    with pytest.raises(Unavailable) as caught:
        await service.submit([order, world.credit(world.tenant.address, 1)])
    assert caught.value.code == "disk_full"
    assert (service.size, log.size()) == (size, size)
    assert dump(service.book) == before
    # And the same documents are taken once the disk has room.
    results = await service.submit([order, world.credit(world.tenant.address, 1)])
    assert [result.index for result in results] == [size, size + 1]


async def test_failure_in_the_middle_keeps_order(
    world: World, service: MarketService, log: FakeLog
) -> None:
    first = await hold_store(log, service, world)
    batches = [
        [world.credit(world.tenant.address, 1) for _ in range(256)] for _ in range(3)
    ]
    tasks = [asyncio.create_task(service.submit(batch)) for batch in batches]
    await asyncio.sleep(0)
    log.fail_append_number(len(log.batches) + 3)  # after the one in flight: the second
    log.gate.set()
    done = await asyncio.gather(first, *tasks, return_exceptions=True)
    assert [isinstance(each, Unavailable) for each in done] == [
        False,
        False,
        True,
        False,
    ]
    stored = [row.id for row in log.rows]
    assert stored[-512:] == [each.id for each in batches[0] + batches[2]]
    assert service.size == log.size()
    assert list(service.leaves) == [row.leaf for row in log.rows]


async def test_time_in_the_log_never_goes_back(
    world: World, service: MarketService
) -> None:
    (first,) = await service.submit([world.credit(world.tenant.address, 1)])
    world.clock.at_s -= 20
    (second,) = await service.submit([world.credit(world.tenant.address, 1)])
    assert second.at_s == first.at_s


async def test_seals_every_so_many_entries(world: World, log: FakeLog) -> None:
    service = world.make_service(log, seal_every=10)
    await service.open()
    await world.set_up(service)
    await world.play_lease(service)
    await service.close()
    codec = world.make_codec()
    seals = [
        (row.index, codec.read_entry(row.body).fact)
        for row in log.rows
        if isinstance(codec.read_entry(row.body).fact.document, Seal)
    ]
    assert [index for index, _ in seals] == [10, log.size() - 1]
    for index, fact in seals:
        assert isinstance(fact.document, Seal)
        snapshot = log.find_snapshot(size_max=index)
        assert snapshot is not None
        assert (snapshot.size, fact.document.size) == (index, index)
        assert fact.document.book == "0x" + snapshot.book_hash.hex()


async def test_seal_lets_due_deadlines_pass_first(world: World, log: FakeLog) -> None:
    service = world.make_service(log)
    await service.open()
    await world.set_up(service)
    lease = await move(service, world.order())
    world.clock.at_s = lease.deadline_s
    await service.close()
    last = [
        world.make_codec().read_entry(row.body).fact.document for row in log.rows[-2:]
    ]
    assert [type(document) for document in last] == [Tick, Seal]
    settled = view.find_lease(service.book, lease.id)
    assert settled is not None
    assert settled.reason == "not_accepted"
    again = world.make_service(log)
    await again.open()  # the seal holds in a replay
    assert book_hash(again.book) == book_hash(service.book)
    await again.close()


async def test_failed_seal_is_made_again(world: World, log: FakeLog) -> None:
    service = world.make_service(log, seal_every=12)
    await service.open()
    await world.set_up(service)
    while service.size < 11:
        await submit(service, world.credit(world.tenant.address, 1))
    log.fail_append_number(len(log.batches) + 2)  # the seal's
    await submit(service, world.credit(world.tenant.address, 1))
    await submit(service, world.credit(world.tenant.address, 1))
    await service.close()
    snapshot = log.find_snapshot()
    assert snapshot is not None
    assert snapshot.size == 13
