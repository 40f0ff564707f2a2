"""A provider for tests: the real agent on a real node, with a sandbox of choice."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from msgspec.structs import replace

from sublet.adapter.key_file import load_or_create_key
from sublet.base.units import MicroUsd
from sublet.core.document import Credit
from sublet.provider.agent import Agent
from sublet.provider.compose import serve
from sublet.provider.config import Config, write_config
from sublet.provider.host_key import create_host_key
from sublet.provider.journal import Journal
from sublet.service.ports import Sandbox
from sublet.wire.signature import Key
from sublet.workload.client import AsyncClient
from tests.fakes.sandbox_fake import FakeSandbox
from tests.integration.node_house import Guest, running_node
from tests.fakes.world import World

WAIT_S = 20
GIB = 1 << 30

CONFIG = Config(
    market="",
    name="box",
    region="DE",
    endpoint="",
    cpu_price_hour=36_000_000,  # dear, so that milliseconds cost something
    memory_price_hour=0,
    gpu_price_hour=0,
    cpus_milli=4_000,
    memory_bytes=8 * GIB,
    disk_bytes=16 * GIB,
    gpu_uuids=(),
    gpu_model="",
    gpu_memory_bytes=0,
    cpu_score=500,
    disk_score=500,
    gpu_score=0,
    credit_s=30,
    notice_s=1,
    retention_s=600,
    voucher_s=1,
)


@dataclass
class House:
    """A node, its guest, and one running agent."""

    guest: Guest
    home: Path
    agent: Agent
    task: asyncio.Task[None]

    @property
    def url(self) -> str:
        return self.guest.url


def make_home(home: Path, url: str, **changes: object) -> Key:
    """Lay out a provider's home, as ``sublet provider init`` does."""
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    config = replace(CONFIG, market=url, **changes)
    write_config(home, config, price_story="for a test")
    create_host_key(home)
    return load_or_create_key(home / "key")


@asynccontextmanager
async def running_agent(
    home: Path,
    url: str,
    *,
    sandbox: Sandbox | None = None,
    listen: tuple[str, int] | None = None,
    **changes: object,
) -> AsyncIterator[tuple[Agent, asyncio.Task[None]]]:
    """Run an agent in this process; cancelling it is as good as killing it."""
    make_home(home, url, **changes)
    started: asyncio.Future[Agent] = asyncio.get_running_loop().create_future()
    task = asyncio.create_task(
        serve(
            home,
            sandbox=sandbox or FakeSandbox(),
            journal=Journal(),
            listen=listen,
            ready=lambda agent, port: started.set_result(agent),
        )
    )
    try:
        await asyncio.wait(
            [task, started], timeout=WAIT_S, return_when=asyncio.FIRST_COMPLETED
        )
        if task.done():
            task.result()
        yield started.result(), task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@asynccontextmanager
async def running_house(
    tmp_path: Path,
    *,
    sandbox: Sandbox | None = None,
    node: dict[str, object] | None = None,
    **changes: object,
) -> AsyncIterator[House]:
    """Run a node and one agent that offers."""
    async with running_node(tmp_path / "node", World(), **(node or {})) as guest:
        home = tmp_path / "provider"
        async with running_agent(home, guest.url, sandbox=sandbox, **changes) as (
            agent,
            task,
        ):
            await wait_offered(guest)
            yield House(guest, home, agent, task)


async def wait_offered(guest: Guest) -> None:
    """Wait until the market lists an offer of a provider that is up."""
    async with asyncio.timeout(WAIT_S):
        while True:
            info = await guest.learn()
            if info.offers and info.providers_up:
                return
            await asyncio.sleep(0.01)


@asynccontextmanager
async def tenant_of(
    tmp_path: Path, guest: Guest, *, usd: int = 1_000, name: str = "tenant"
) -> AsyncIterator[AsyncClient]:
    """Give a tenant with money."""
    async with AsyncClient(guest.url, home=tmp_path / name) as client:
        await client.pin()
        credit = Credit(
            party=client.connection.key.address,
            amount=MicroUsd(usd * 1_000_000),
            memo="test",
            **guest.world.stamp(),
        )
        await guest.accept(guest.world.say(credit, guest.world.operator))
        yield client
