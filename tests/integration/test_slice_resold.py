"""A slice that is sold again in the step in which its last lease ends, on a real agent."""

import asyncio
import secrets
import time
from pathlib import Path

from msgspec.structs import replace

from sublet.core.document import Order, Stop
from sublet.core.lease.phase import Phase
from sublet.sdk.exchange import ask_order
from tests.integration.provider_house import (
    RawTenant,
    make_manifest,
    running_house,
    tenant_of,
)
from tests.integration.tenant_house import RUN_S

WHOLE = 4_000  # thousandths of a CPU: one lease at a time


async def test_owner_signs_for_what_was_left_just_now(tmp_path: Path) -> None:
    """A lease ends before it ran; the order that waits gets its slice, and keeps it."""
    async with (
        running_house(tmp_path) as house,
        tenant_of(tmp_path, house.guest) as client,
    ):
        tenant = RawTenant(client)
        lease = await tenant.rent(make_manifest("true", cpus_milli=WHOLE))
        await tenant.wait_phase(lease, Phase.ACCEPTED)
        assert tenant.order is not None
        template = tenant.order.document
        assert isinstance(template, Order)
        now_s = int(time.time())
        order = replace(
            template,
            mode="standing",
            open_until_s=now_s + 3_600,
            signed_at_s=now_s,
            salt=secrets.randbits(60),
        )
        [waits] = await client.connection.submit(order)
        assert waits.order is not None
        assert waits.order.leases == ()  # the only machine is taken
        await client.connection.submit(Stop(lease.id, "cancelled", now_s, 1))
        async with asyncio.timeout(RUN_S):
            while not waits.order.leases:
                await asyncio.sleep(0.05)
                found = await client.connection.ask(ask_order(waits.id))
                waits = replace(waits, order=found)
        again = await client.connection.lease(waits.order.leases[0])
        await tenant.wait_phase(again, Phase.ACCEPTED)
