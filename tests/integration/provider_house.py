"""A provider for tests: the real agent on a real node, with a sandbox of choice."""

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from msgspec.structs import replace

from sublet.adapter.key_file import load_or_create_key
from sublet.base.ids import NO_DIGEST
from sublet.core.document import Credit, Order, Voucher
from sublet.core.lease.phase import Lease, Phase
from sublet.provider.agent import Agent
from sublet.provider.compose import serve
from sublet.provider.config import Config, write_config
from sublet.provider.host_key import create_host_key
from sublet.provider.journal import Journal
from sublet.sdk.job_channel import ClientKey, JobChannel
from sublet.service.erasure_ports import Scratch, Vram
from sublet.service.ports import Clock, Sandbox
from sublet.wire.channel import channel_of
from sublet.wire.codec import sign
from sublet.wire.manifest import commitment
from sublet.wire.message import Deliver, Manifest, Missing, Paid, Signed, Tree, Uploaded
from sublet.wire.signature import Key
from sublet.wire.typed_data import digest
from sublet.workload.client import AsyncClient
from tests.fakes.blobs_memory import MemoryBlobs
from tests.fakes.sandbox_fake import FakeSandbox
from tests.fakes.world import World
from tests.integration.node_house import Guest, running_node

T = TypeVar("T")

WAIT_S = 60
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
    scratches: Sequence[Scratch] = (),
    vram: Vram | None = None,
    listen: tuple[str, int] | None = None,
    clock: Clock | None = None,
    **changes: object,
) -> AsyncIterator[tuple[Agent, asyncio.Task[None]]]:
    """Run an agent in this process; cancelling it is as good as killing it."""
    make_home(home, url, **changes)
    started: asyncio.Future[Agent] = asyncio.get_running_loop().create_future()
    task = asyncio.create_task(
        serve(
            home,
            sandboxes=(sandbox or FakeSandbox(),),
            scratches=scratches,
            vram=vram,
            journal=Journal(),
            listen=listen,
            clock=clock,
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
    scratches: Sequence[Scratch] = (),
    node: dict[str, object] | None = None,
    **changes: object,
) -> AsyncIterator[House]:
    """Run a node and one agent that offers."""
    async with running_node(tmp_path / "node", World(), **(node or {})) as guest:
        home = tmp_path / "provider"
        async with running_agent(
            home, guest.url, sandbox=sandbox, scratches=scratches, **changes
        ) as (
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
            amount=usd * 1_000_000,
            memo="test",
            **guest.world.stamp(),
        )
        await guest.accept(guest.world.say(credit, guest.world.operator))
        yield client


def make_manifest(*argv: str, **changes: object) -> Manifest:
    """Write a plain command's manifest."""
    manifest = Manifest(
        v=1,
        salt="0" * 32,
        kind="command",
        argv=argv,
        env={},
        secrets={},
        inputs=Tree(files=()),
        outputs=(),
        checkpoint="",
        resume=Tree(files=()),
        cpus_milli=1_000,
        memory_bytes=GIB,
        disk_bytes=GIB,
        timeout_s=600,
    )
    return replace(manifest, **changes)


class RawTenant:
    """A tenant that says what it is told to, word by word."""

    def __init__(self, client: AsyncClient) -> None:
        self.connection = client.connection
        self.key = ClientKey.generate()
        self.blobs = MemoryBlobs()
        self.order: Signed | None = None  # the last one

    async def rent(
        self,
        manifest: Manifest,
        *,
        duration_s: int = 600,
        features: tuple[str, ...] = (),
        gpu_count: int = 0,
    ) -> Lease:
        """Order a machine for a manifest and give the lease."""
        order = Order(
            tenant=self.connection.key.address,
            cpus_milli=manifest.cpus_milli,
            memory_bytes=manifest.memory_bytes,
            disk_bytes=manifest.disk_bytes,
            gpu_models=(),
            gpu_count=gpu_count,
            gpu_memory_bytes=0,
            regions=(),
            sandbox="",
            features=features,
            avoid=(),
            price_hour_max=1_000_000_000,
            total_max=100_000_000,
            duration_s_max=duration_s,
            manifest=commitment(manifest),
            ssh_key=self.key.public_line(),
            delegation=NO_DIGEST,
            signed_at_s=int(time.time()),
            salt=secrets.randbits(60),
        )
        self.order = await self.connection.sign(order)
        (result,) = await self.connection.submit_signed(self.order)
        assert result.lease is not None, result
        return result.lease

    @asynccontextmanager
    async def dial(
        self, lease: Lease, *, key: ClientKey | None = None
    ) -> AsyncIterator[JobChannel]:
        """Open a channel to the lease's provider."""
        tunnel = await self.connection.dial(lease.id)
        try:
            channel = await JobChannel.connect(
                tunnel.socket, lease=lease, key=key or self.key
            )
            try:
                yield channel
            finally:
                await channel.close()
        finally:
            await tunnel.close()

    async def begin(
        self, channel: JobChannel, manifest: Manifest, **secret: str
    ) -> None:
        """Deliver a manifest with its chunks."""
        await channel.open_job()
        await channel.say(Deliver(manifest=manifest, order=self.order, **secret))
        missing = await hear(channel, Missing)
        await channel.put_chunks(missing.chunks, blobs=self.blobs)
        await channel.say(Uploaded())

    async def pay(
        self, channel: JobChannel, lease: Lease, amount: int, *, key: Key | None = None
    ) -> None:
        """Send a voucher of this amount, with the channel."""
        domain = await self.connection.domain()
        market = await self.connection.learn_market()
        pair = channel_of(
            market, domain.market, tenant=lease.tenant, provider=lease.provider
        )
        voucher = Voucher(channel_id=digest(pair, domain), max_claimable_amount=amount)
        key = key or self.connection.key
        await channel.say(
            Paid(
                voucher=sign(voucher, key=key, domain=domain),
                channel=sign(pair, key=key, domain=domain),
            )
        )

    async def wait_phase(self, lease: Lease, phase: Phase) -> Lease:
        """Wait until the market has moved the lease so far."""
        async with asyncio.timeout(WAIT_S):
            async for now in self.connection.watch_lease(lease.id):
                if now.phase is phase:
                    return now
        raise AssertionError(f"the lease never was {phase}")


async def hear(channel: JobChannel, kind: type[T]) -> T:
    """Skip what the provider says up to a message of this kind."""
    async with asyncio.timeout(WAIT_S):
        while True:
            message = await channel.hear()
            if isinstance(message, kind):
                return message


async def wait_true(check: Callable[[], bool]) -> None:
    """Wait until something that happens in this process has happened."""
    async with asyncio.timeout(WAIT_S):
        while not check():  # noqa: ASYNC110 - nobody tells us
            await asyncio.sleep(0.01)


async def wait_settled(client: AsyncClient) -> tuple[Lease, ...]:
    """Give all leases of a tenant once the market has settled them."""
    async with asyncio.timeout(WAIT_S):
        while True:
            leases = await client.leases(is_all=True)
            if all(lease.phase is Phase.SETTLED for lease in leases):
                return leases
            await asyncio.sleep(0.05)
