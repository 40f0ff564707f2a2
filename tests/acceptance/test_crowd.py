"""A thousand tenants at once, for a few machines; real node, real sockets."""

import asyncio
import secrets
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp

from sublet.base.ids import NO_DIGEST
from sublet.base.limits import BATCH_DOCUMENTS_MAX
from sublet.cli.local_market import run
from sublet.core.document import Order
from sublet.core.lease.phase import Lease, Phase
from sublet.service.submission import Candidate
from sublet.wire.codec import decode
from sublet.wire.message import Appendix
from sublet.wire.signature import Key
from tests.acceptance.market_house import House, close_house
from tests.fakes.world import GIB, World
from tests.integration.node_house import (
    ANSWER_MAX,
    Guest,
    RunningClock,
    fault_code,
    submission,
)

TENANTS = 1_000
ROOM = 24  # jobs that fit: three machines of eight CPUs, one CPU each
CREDIT = 2_000_000
CONNECTIONS = 200


def make_order(world: World, tenant: Key) -> Candidate:
    """One CPU for an hour, whatever it costs up to a dollar."""
    order = Order(
        tenant=tenant.address,
        cpus_milli=1_000,
        memory_bytes=GIB,
        disk_bytes=GIB,
        gpu_models=(),
        gpu_count=0,
        gpu_memory_bytes=0,
        regions=(),
        sandbox="",
        features=(),
        avoid=(),
        price_hour_max=1_000_000,
        total_max=1_000_000,
        duration_s_max=3_600,
        manifest="0x" + secrets.token_hex(32),
        ssh_key="ssh-ed25519 AAAAtenant",
        delegation=NO_DIGEST,
        signed_at_s=int(time.time()),
        salt=secrets.randbits(60),
    )
    return world.say(order, tenant)


async def open_supply(guest: Guest) -> None:
    """Connect three providers, each with a machine of eight CPUs."""
    world = guest.world
    for provider in world.providers:
        await guest.link(provider)
        await guest.accept(world.offer(provider))


async def order_at_once(guest: Guest, orders: list[Candidate]) -> list[Lease | str]:
    """Submit every order in a request of its own; a lease or a code for each."""

    async def submit(order: Candidate) -> Lease | str:
        status, body = await guest.post("/v1/documents", submission(order))
        if status != 200:
            return fault_code(body)
        [result] = decode(body, Appendix, size_max=ANSWER_MAX).results
        if result.fault is not None:
            return result.fault.code
        assert result.lease is not None
        return result.lease

    return await asyncio.gather(*(submit(order) for order in orders))


@asynccontextmanager
async def open_market(folder: Path) -> AsyncIterator[Guest]:
    """Run a node that waits for its providers; give somebody who talks to it."""
    house, world = House(folder, rules={"accept_s": 3_600}, lost_after_s=600), World()
    world.clock = RunningClock()  # type: ignore[assignment] # only at_s is asked for
    house.prepare_node(operator=world.operator)
    house.start_node()
    try:
        connector = aiohttp.TCPConnector(limit=CONNECTIONS)
        async with aiohttp.ClientSession(connector=connector) as http:
            guest = Guest(house.url, http, world)
            await guest.learn()
            yield guest
    finally:
        close_house(house)


async def give_credit(guest: Guest, tenants: list[Key]) -> None:
    """Fill every wallet, as the operator."""
    each = [guest.world.credit(tenant.address, CREDIT) for tenant in tenants]
    for start in range(0, len(each), BATCH_DOCUMENTS_MAX):
        await guest.accept(*each[start : start + BATCH_DOCUMENTS_MAX])


async def check_money(guest: Guest, tenants: list[Key], leases: list[Lease]) -> None:
    """Nothing was created and nothing lost: balance and hold make up the credit."""
    holds = {lease.tenant: lease.hold for lease in leases}
    accounts = await asyncio.gather(*(guest.account(each) for each in tenants))
    for tenant, account in zip(tenants, accounts, strict=True):
        assert account.held == holds.get(tenant.address, 0)
        assert account.balance + account.held == CREDIT
        assert account.spent == account.earned == 0


async def test_as_many_leases_as_fit(tmp_path: Path) -> None:
    async with open_market(tmp_path) as guest:
        await open_supply(guest)
        tenants = [Key.generate(secrets.token_bytes(32)) for _ in range(TENANTS)]
        await give_credit(guest, tenants)
        orders = [make_order(guest.world, tenant) for tenant in tenants]

        answers = await order_at_once(guest, orders)

        leases = [one for one in answers if isinstance(one, Lease)]
        refused = Counter(one for one in answers if isinstance(one, str))
        assert refused == {"no_match": TENANTS - ROOM}
        assert len({lease.id for lease in leases}) == ROOM
        assert len({lease.tenant for lease in leases}) == ROOM
        assert {lease.phase for lease in leases} == {Phase.MATCHED}
        machines = Counter(lease.provider for lease in leases)
        assert set(machines.values()) == {ROOM // 3}, "none is sold twice"
        await check_money(guest, tenants, leases)
        await asyncio.to_thread(run, "audit", "verify", "--market", guest.url)
