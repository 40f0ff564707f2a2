"""Two markets' services on one log in PostgreSQL: one order, one book, no gaps."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import pytest

from sublet.adapter.clock_system import SystemClock
from sublet.adapter.log_postgres import PostgresLog
from sublet.core.book.snapshot import book_hash
from sublet.core.document import Seal
from sublet.service.audit import verify
from sublet.service.market import MarketService
from sublet.service.ports import LogForked
from sublet.wire.codec import DocumentCodec
from sublet.wire.note import read_checkpoint
from tests.fakes.world import World, submit
from tests.postgres_server import Server

WAIT_S = 60


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def logs(postgres_url: str) -> Iterator[tuple[PostgresLog, PostgresLog]]:
    """One log, opened twice, as by two nodes."""
    pair = PostgresLog(postgres_url), PostgresLog(postgres_url)
    yield pair
    for log in pair:
        log.close()


@asynccontextmanager
async def open_pair(
    world: World, logs: tuple[PostgresLog, PostgresLog], *, seal_every: int = 4_096
) -> AsyncIterator[tuple[MarketService, MarketService]]:
    first, second = (world.make_service(log, seal_every=seal_every) for log in logs)
    await first.open()
    await submit(first, world.found())
    await second.open(is_attended=True)
    try:
        yield first, second
    finally:
        await second.close()
        await first.close()


async def wait_size(service: MarketService, size: int) -> None:
    async with asyncio.timeout(WAIT_S):
        while service.size < size:  # noqa: ASYNC110 - told by the other node
            await asyncio.sleep(0.01)


def check_log(log: PostgresLog) -> int:
    """Have it audited, signatures and all; give its size."""
    verdict = verify(log, DocumentCodec(), SystemClock(), read_note=read_checkpoint)
    assert verdict.is_good, verdict.finding
    rows = log.read(first=0, limit=100_000)
    assert [row.index for row in rows] == list(range(len(rows)))
    assert len({row.id for row in rows}) == len(rows)
    return len(rows)


async def test_nodes_reach_the_same_book(
    world: World, logs: tuple[PostgresLog, PostgresLog]
) -> None:
    async with open_pair(world, logs, seal_every=100) as pair:
        await submit(pair[0], world.seen(world.providers[0]))
        await submit(pair[1], world.offer(world.providers[0]))
        await submit(pair[1], world.credit(world.tenant.address, 500_000_000))
        wishes = [world.credit(world.tenant.address, 1) for _ in range(300)]
        answers = await asyncio.gather(
            *(pair[n % 2].submit([one]) for n, one in enumerate(wishes))
        )
        results = [result for (result,) in answers]
        assert [each.refusal for each in results] == [None] * 300
        assert len({each.index for each in results}) == 300
        for service in pair:
            await service.hear_others()
        size = max(each.size for each in pair)
        await asyncio.gather(*(wait_size(each, size) for each in pair))
        if pair[0].size == pair[1].size:
            assert book_hash(pair[0].book) == book_hash(pair[1].book)
    assert check_log(logs[0]) >= 304
    seals = [
        row
        for row in logs[0].read(first=0, limit=10_000)
        if isinstance(
            DocumentCodec(world.domain).read_entry(row.body).fact.document, Seal
        )
    ]
    assert len(seals) >= 2  # on the way, and at the end
    assert logs[1].find_snapshot() is not None


async def test_follower_hears_without_asking(
    world: World, logs: tuple[PostgresLog, PostgresLog]
) -> None:
    async with open_pair(world, logs) as (first, second):
        told = []
        second.listen(told.append)
        await submit(first, world.seen(world.providers[0]))
        await submit(first, world.offer(world.providers[0]))
        await submit(first, world.credit(world.tenant.address, 500_000_000))
        (result,) = await submit(first, world.order())
        assert result.lease is not None
        await wait_size(second, first.size)
        assert [lease.id for lease in told] == [result.lease.id]
        assert await second.find_lease(result.lease.id) == result.lease


async def test_nothing_is_refused_for_want_of_news(
    world: World, logs: tuple[PostgresLog, PostgresLog]
) -> None:
    async with open_pair(world, logs) as pair:
        await submit(pair[0], world.seen(world.providers[0]))
        await submit(pair[1], world.offer(world.providers[0]))
        for number in range(4):
            # Each of these needs what the other node was told just before.
            here, there = pair[number % 2], pair[1 - number % 2]
            await submit(there, world.credit(world.tenant.address, 500_000_000))
            (order,) = await submit(here, world.order())
            assert order.lease is not None
            (terms,) = await submit(there, world.terms(order.lease))
            assert terms.refusal is None


async def test_same_document_at_both_stands_once(
    world: World, logs: tuple[PostgresLog, PostgresLog]
) -> None:
    async with open_pair(world, logs) as pair:
        for _ in range(20):
            one = world.credit(world.tenant.address, 1)
            (first,), (second,) = await asyncio.gather(
                pair[0].submit([one]), pair[1].submit([one])
            )
            assert first.index == second.index
            assert (first.refusal, second.refusal) == (None, None)
    check_log(logs[0])


async def test_order_for_one_gpu_is_won_once(
    world: World, logs: tuple[PostgresLog, PostgresLog]
) -> None:
    async with open_pair(world, logs) as pair:
        await submit(pair[0], world.seen(world.providers[0]))
        await submit(pair[0], world.offer(world.providers[0], gpus=1))
        await submit(pair[0], world.credit(world.tenant.address, 500_000_000))
        await pair[1].hear_others()
        orders = [world.order(gpus=1) for _ in range(40)]
        answers = await asyncio.gather(
            *(pair[n % 2].submit([one]) for n, one in enumerate(orders))
        )
        won = [result.id for (result,) in answers if result.refusal is None]
        assert len(won) == 1
        codes = {result.refusal.code for (result,) in answers if result.refusal}
        assert codes == {"no_match"}
    check_log(logs[0])


async def test_dead_server_is_waited_for(
    world: World, logs: tuple[PostgresLog, PostgresLog], postgres_server: Server
) -> None:
    async with open_pair(world, logs) as pair:
        await submit(pair[0], world.credit(world.tenant.address, 1))
        postgres_server.kill()
        asked = [
            asyncio.create_task(each.submit([world.credit(world.tenant.address, 1)]))
            for each in pair
        ]
        await asyncio.to_thread(postgres_server.start)
        for (result,) in await asyncio.gather(*asked):
            assert result.refusal is None
    check_log(logs[0])


async def test_forked_log_stops_a_node(
    world: World, logs: tuple[PostgresLog, PostgresLog], postgres_server: Server
) -> None:
    first = world.make_service(logs[0])
    await first.open()
    await submit(first, world.found())
    await submit(first, world.credit(world.tenant.address, 1))
    with logs[1]._entries.session() as session:  # as a lossy failover would
        session.execute("ALTER TABLE sublet.entry DISABLE TRIGGER USER")
        session.execute("DELETE FROM sublet.entry WHERE number = 1")
    task = asyncio.create_task(first.wait_stopped())
    with pytest.raises(Exception, match=r"stopped|lost or changed"):
        await first.submit([world.credit(world.tenant.address, 1)])
    with pytest.raises(LogForked):
        await task
    assert logs[1].size() == 1
    await first.close()


async def test_resume_comes_first_after_an_outage(
    world: World, postgres_url: str
) -> None:
    log = PostgresLog(postgres_url, away_ms=200)
    service = world.make_service(log)
    await service.open()
    for one in (
        world.found(),
        world.seen(world.providers[0]),
        world.offer(world.providers[0]),
        world.credit(world.tenant.address, 500_000_000),
    ):
        await submit(service, one)
    (order,) = await submit(service, world.order())
    assert order.lease is not None
    await asyncio.sleep(0.3)  # no node was there for longer than away_ms
    world.clock.at_s += 3_600
    (terms,) = await submit(service, world.terms(order.lease))
    assert terms.refusal is None  # an hour after its deadline, which has moved along
    kinds = [
        type(DocumentCodec(world.domain).read_entry(row.body).fact.document).__name__
        for row in log.read(first=5, limit=9)
    ]
    assert kinds == ["Resume", "LeaseTerms"]
    await service.close()
    log.close()
