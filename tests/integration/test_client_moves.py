"""Clients and providers of a market with two nodes: one goes, they go on."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from sublet.adapter.clock_system import SystemClock
from sublet.core.lease.phase import Lease
from sublet.provider.journal import Journal
from sublet.provider.link import MarketLink
from sublet.provider.nodes import NodeLinks
from sublet.sdk.connection import Connection, MarketChanged
from sublet.wire.message import Dial
from sublet.wire.signature import Key
from tests.fakes.world import World
from tests.integration.node_house import Guest, running_node
from tests.postgres_server import find_port

QUICK = {"lost_after_s": 6, "ping_s": 1}
WAIT_S = 60


class Pair:
    """Two nodes on one log; either can be stopped before the end."""

    def __init__(self, first: Guest, second: Guest, stops: list[AsyncExitStack]):
        self.guests = first, second
        self.urls = first.url, second.url
        self.world = first.world
        self._stops = stops

    async def stop(self, number: int) -> None:
        await self._stops[number].aclose()

    def connect(self, key: Key, *urls: str) -> Connection:
        first, *others = urls or self.urls
        return Connection(
            first, *others, key=key, clock=SystemClock(), market=self.world.market
        )


@asynccontextmanager
async def open_pair(folder: Path, url: str) -> AsyncIterator[Pair]:
    world, stops, guests = World(), [AsyncExitStack(), AsyncExitStack()], []
    ports = find_port(), find_port()
    urls = [f"http://127.0.0.1:{port}" for port in ports]
    try:
        for stop, port in zip(stops, ports, strict=True):
            settings: dict[str, Any] = {
                "log": {"url": url},
                "limits": QUICK,
                "listen": f"127.0.0.1:{port}",
                "nodes": urls,
            }
            node = running_node(folder / str(port), world, **settings)
            guests.append(await stop.enter_async_context(node))
        yield Pair(guests[0], guests[1], stops)
    finally:
        for stop in stops:
            await stop.aclose()


@asynccontextmanager
async def linked(pair: Pair, *urls: str) -> AsyncIterator[NodeLinks]:
    """A provider's links, with an agent that answers each dial."""
    key, tasks = pair.world.providers[0], set()
    links = NodeLinks(
        urls or pair.urls,
        make=lambda url: MarketLink(
            url,
            key=key,
            domain=pair.world.domain,
            clock=SystemClock(),
            instance="a1" * 16,
        ),
        journal=Journal(),
    )

    async def serve(link: MarketLink, session: str) -> None:
        tunnel = await link.join(session)
        loop = asyncio.get_running_loop()
        with suppress(OSError):
            await loop.sock_sendall(tunnel.socket, b"hello")
        await tunnel.close()

    async def listen() -> None:
        async for link, message in links.listen():
            if isinstance(message, Dial):
                tasks.add(asyncio.create_task(serve(link, message.session)))

    task = asyncio.create_task(listen())
    try:
        yield links
    finally:
        task.cancel()
        await asyncio.gather(task, *tasks, return_exceptions=True)


async def order_lease(pair: Pair) -> Lease:
    world, guest = pair.world, pair.guests[1]
    async with asyncio.timeout(WAIT_S):
        while not (await guest.learn()).providers_up:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    await guest.accept(world.credit(world.tenant.address, 50_000_000))
    await guest.accept(world.offer(world.providers[0]))
    (result,) = await guest.accept(world.order())
    assert result.lease is not None
    return result.lease


async def test_client_turns_to_the_other_node(
    tmp_path: Path, postgres_url: str
) -> None:
    async with open_pair(tmp_path, postgres_url) as pair:
        tenant = pair.world.tenant
        # It knows one node; that there is another, it is told.
        async with pair.connect(tenant, pair.urls[0]) as connection:
            assert (await connection.market()).nodes == pair.urls
            await pair.guests[1].accept(pair.world.credit(tenant.address, 7))
            assert (await connection.account()).balance == 7
            await pair.stop(0)
            assert (await connection.account()).balance == 7
            stop = pair.world.credit(tenant.address, 1).document
            (answer,) = await connection.submit(stop)
            assert answer.fault is not None  # not the operator; but it was answered


async def test_node_of_another_market_is_named(
    tmp_path: Path, postgres_url: str
) -> None:
    other = World()
    other.operator = other.providers[2]
    async with (
        running_node(tmp_path / "other", other) as stranger,
        open_pair(tmp_path, postgres_url) as pair,
        pair.connect(pair.world.tenant, pair.urls[0], stranger.url) as connection,
    ):
        await connection.account()
        await pair.stop(0)
        with pytest.raises(MarketChanged, match=stranger.url):
            await connection.account()


async def test_tenant_dials_through_either_node(
    tmp_path: Path, postgres_url: str
) -> None:
    async with open_pair(tmp_path, postgres_url) as pair, linked(pair) as links:
        lease = await order_lease(pair)
        loop = asyncio.get_running_loop()
        async with pair.connect(pair.world.tenant) as connection:
            for number in range(3):
                if number == 2:  # once more when one of them is gone
                    await pair.stop(0)
                async with asyncio.timeout(WAIT_S):
                    tunnel = await connection.dial(lease.id)
                    assert await loop.sock_recv(tunnel.socket, 5) == b"hello"
                tunnel.socket.close()
                await tunnel.close()
                connection.nodes.move(away_from=connection.nodes.current)
        assert links.is_linked


async def test_events_go_on_at_the_other_node(
    tmp_path: Path, postgres_url: str
) -> None:
    async with open_pair(tmp_path, postgres_url) as pair, linked(pair):
        lease = await order_lease(pair)
        async with pair.connect(pair.world.tenant) as connection:
            await pair.stop(0)
            async with asyncio.timeout(WAIT_S):
                async for told in connection.watch_lease(lease.id):
                    assert told.id == lease.id
                    break


async def test_two_names_of_one_node_give_one_link(
    tmp_path: Path, postgres_url: str
) -> None:
    async with open_pair(tmp_path, postgres_url) as pair:
        url = pair.urls[0]
        alias = url.replace("127.0.0.1", "localhost")
        async with linked(pair, url, alias) as links, asyncio.timeout(WAIT_S):
            while sum(not each.done() for each in links._tasks.values()) != 1:  # noqa: ASYNC110
                await asyncio.sleep(0.05)
            while not links.is_linked:  # noqa: ASYNC110
                await asyncio.sleep(0.05)
