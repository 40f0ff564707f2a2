"""Several machines at once on a real node, with providers that sign and one that does not."""

import asyncio
import time
from pathlib import Path
from typing import Any

from sublet.core.book.open_order import OpenOrder, OrderPhase
from sublet.core.document import Order, Stop
from sublet.core.lease.phase import Phase
from sublet.sdk.exchange import ask_order
from sublet.wire.message import Appended
from tests.fakes.provider_job import Temper
from tests.integration.tenant_house import RUN_S, Market, running_market


def draft(house: Market, machines: int, **wish: Any) -> Order:
    return house.client.draft_order(
        cpus="1", timeout="60s", max_total="2.00", machines=machines, **wish
    )


async def order(house: Market, machines: int, **wish: Any) -> Appended:
    await house.client.pin()
    wanted = draft(house, machines, **wish)
    [result] = await house.client.connection.submit(wanted)
    return result


async def wait_ended(house: Market, order_id: str) -> OpenOrder:
    async with asyncio.timeout(RUN_S):
        while True:
            found = await house.client.connection.ask(ask_order(order_id))
            if found.phase is OrderPhase.ENDED:
                return found
            await asyncio.sleep(0.1)


async def test_gang_of_three_is_whole_and_of_four_is_nothing(tmp_path: Path) -> None:
    async with running_market(tmp_path) as house:
        for _ in range(3):
            await house.provide()
        refused = await order(house, 4)
        assert refused.fault is not None
        assert refused.fault.code == "no_match"
        assert "wants 4 machines together, and 3 would do" in refused.fault.message
        assert refused.fault.detail["relax"] == "machines"
        assert await house.client.leases() == ()
        taken = await order(house, 3, apart=("provider",))
        assert taken.fault is None
        ended = await wait_ended(house, taken.id)
        assert (ended.reason, len(ended.leases)) == ("filled", 3)
        leases = await house.client.leases()
        assert {lease.id for lease in leases} == set(ended.leases)
        assert {lease.provider for lease in leases} == {
            provider.key.address for provider in house.providers
        }
        assert {lease.phase for lease in leases} == {Phase.ACCEPTED}
        for lease in leases:
            stop = Stop(lease.id, "cancelled", int(time.time()), 1)
            await house.client.connection.submit(stop)
        assert await house.client.leases() == ()


async def test_gang_is_placed_again_without_who_does_not_sign(tmp_path: Path) -> None:
    async with running_market(tmp_path, accept_s=3) as house:
        silent = await house.provide(Temper(never_signs=True, first_price=1))
        await house.provide()
        await house.provide()
        taken = await order(house, 2)
        assert taken.order is not None
        assert taken.order.phase is OrderPhase.COMMITTING
        ended = await wait_ended(house, taken.id)
        assert ended.reason == "filled"
        assert len(ended.leases) == 4  # two that were released, two that stand
        standing = await house.client.leases()
        assert {lease.id for lease in standing} == set(ended.leases[2:])
        assert silent.key.address not in {lease.provider for lease in standing}


async def test_quote_names_each_machine(tmp_path: Path) -> None:
    async with running_market(tmp_path) as house:
        for _ in range(3):
            await house.provide()
        await house.client.pin()
        quoted = await house.client.connection.quote(draft(house, 2))
        assert len({member.provider for member in quoted.members}) == 2
        # Both are paid what the third would have had to be paid.
        assert [one.price_hour for one in quoted.members] == [3_600_002] * 2
        assert quoted.price_hour == 2 * 3_600_002
