"""A node over HTTP: what parties say and what the market makes of it."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from sublet.core.lease.phase import Lease, Phase
from sublet.wire.codec import decode
from tests.fakes.world import World
from tests.integration.node_house import (
    ANSWER_MAX,
    Guest,
    running_node,
    stock,
)


@pytest.fixture
async def guest(tmp_path: Path) -> AsyncIterator[Guest]:
    async with running_node(tmp_path / "node", World(), faucet="2.50") as guest:
        yield guest


async def test_order_becomes_a_lease(guest: Guest) -> None:
    await stock(guest)
    world = guest.world
    order = world.order()
    (result,) = await guest.accept(order)
    lease = result.lease
    assert lease is not None
    assert (lease.phase, lease.tenant) == (Phase.MATCHED, world.tenant.address)
    (result,) = await guest.accept(world.terms(lease))
    assert result.lease is not None
    assert result.lease.phase is Phase.ACCEPTED
    status, body = await guest.get(f"/v1/leases/{order.id}", key=world.tenant)
    assert status == 200
    assert decode(body, Lease, size_max=ANSWER_MAX) == result.lease
