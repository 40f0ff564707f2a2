"""One standing order with a volume, on a real node and agent: one lease after the other."""

import asyncio
import secrets
import time
from pathlib import Path

from msgspec.structs import replace

from sublet.core.document import Order, Stop
from sublet.core.lease.phase import Lease, Phase
from sublet.sdk.exchange import ask_order
from tests.integration.provider_house import (
    RawTenant,
    make_manifest,
    running_house,
    tenant_of,
    wait_settled,
)
from tests.integration.tenant_house import RUN_S

WHOLE = 4_000  # thousandths of a CPU: one piece at a time
PIECE_S = 300


async def test_order_is_filled_as_the_machine_comes_free(tmp_path: Path) -> None:
    """Two pieces on one machine that has room for one: the second when the first ended."""
    async with (
        running_house(tmp_path) as house,
        tenant_of(tmp_path, house.guest) as client,
    ):
        tenant = RawTenant(client)
        manifest = make_manifest("sleep", "600", cpus_milli=WHOLE)
        lease = await tenant.rent(manifest, duration_s=PIECE_S)
        assert tenant.order is not None
        template = tenant.order.document
        assert isinstance(template, Order)
        now_s = int(time.time())
        order = replace(
            template,
            mode="standing",
            volume_s=2 * PIECE_S,
            open_until_s=now_s + 3_600,
            signed_at_s=now_s,
            salt=secrets.randbits(60),
        )
        tenant.order = await client.connection.sign(order)
        (waits,) = await client.connection.submit_signed(tenant.order)
        assert waits.order is not None
        assert waits.order.leases == ()
        await _stop(tenant, lease)
        pieces: list[Lease] = []
        for count in (1, 2):
            pieces.append(await _wait_piece(tenant, waits.id, count))
            async with tenant.dial(pieces[-1]) as channel:
                await tenant.begin(channel, manifest)
                await tenant.wait_phase(pieces[-1], Phase.RUNNING)
            await _stop(tenant, pieces[-1])
        assert len({piece.id for piece in pieces}) == 2
        ended = await client.connection.ask(ask_order(waits.id))
        assert (ended.reason, ended.hold) == ("filled", 0)
        await wait_settled(client)
        assert (await client.account()).held == 0


async def _stop(tenant: RawTenant, lease: Lease) -> None:
    stop = Stop(lease.id, "cancelled", int(time.time()), secrets.randbits(60))
    await tenant.connection.submit(stop)


async def _wait_piece(tenant: RawTenant, order_id: str, count: int) -> Lease:
    async with asyncio.timeout(RUN_S):
        while True:
            now = await tenant.connection.ask(ask_order(order_id))
            if len(now.leases) == count:
                return await tenant.connection.lease(now.leases[-1])
            await asyncio.sleep(0.05)
