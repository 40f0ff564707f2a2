"""A node, a tenant with money, and providers on demand: a market in this process."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

from sublet.service.ports import Clock
from sublet.workload.client import AsyncClient
from sublet.workload.run.result import JobResult
from tests.fakes.provider import FakeProvider, Temper
from tests.fakes.world import World
from tests.integration.node_house import Guest, running_node

RUN_S = 90


class Market:
    """A node, a tenant with money, and providers on demand."""

    def __init__(self, guest: Guest, world: World, folder: Path) -> None:
        self.guest = guest
        self.world = world
        self.folder = folder
        self.providers: list[FakeProvider] = []
        self.stack = AsyncExitStack()
        self.client: AsyncClient

    async def provide(self, temper: Temper | None = None) -> FakeProvider:
        number = len(self.providers)
        provider = FakeProvider(
            self.guest.url,
            key=self.world.providers[number],
            domain=self.world.domain,
            folder=self.folder / f"provider{number}",
            temper=temper or Temper(first_price=3_600_000 + number),
        )
        await self.stack.enter_async_context(provider)
        self.providers.append(provider)
        return provider

    async def run(self, *target: str, **options: Any) -> JobResult:
        """Run a job; fails where it does not end."""
        options.setdefault("max_total", "5.00")
        options.setdefault("wait", "30s")
        async with asyncio.timeout(RUN_S):
            return await self.client.run(*target, **options)


@asynccontextmanager
async def running_market(
    folder: Path, *, clock: Clock | None = None, **rules: int
) -> AsyncIterator[Market]:
    """Run a node with a tenant; its lost providers are noticed after four seconds."""
    world = World()
    limits = {"lost_after_s": 4, "ping_s": 1}
    settings = {"limits": limits, "faucet": "10.00", "market": rules}
    async with running_node(folder / "node", world, clock=clock, **settings) as guest:
        house = Market(guest, world, folder)
        async with house.stack:
            client = AsyncClient(guest.url, home=folder / "home", environment={})
            house.client = await house.stack.enter_async_context(client)
            await client.faucet()
            yield house
