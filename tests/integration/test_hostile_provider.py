"""Providers that take a lease and then do nothing, or say nothing.

Whoever lies about what was done is in ``test_tenant_run``. Here nobody lies: they are
silent, and only the market's deadlines end it. The job is done elsewhere; the silent
one gets nothing, and is named.
"""

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from sublet.core.document import LeaseTerms, Start, UsageRecord
from sublet.core.lease.phase import Fault, Phase
from sublet.wire.message import Appended, Signed
from sublet.workload.client import AsyncClient
from tests.fakes.provider import FakeProvider, Temper
from tests.fakes.world import World
from tests.integration.node_house import JumpingClock, running_node
from tests.integration.provider_house import wait_settled

RUN_S = 90
PATIENCE_S = 20  # of the market in the one matter that a case is about


class Silent(FakeProvider):
    """Does its work, and keeps some documents from the market."""

    withheld: type = LeaseTerms

    async def submit(self, *documents: Any) -> tuple[Appended, ...]:
        """Submit what is not withheld."""
        said = [
            each
            for each in documents
            if not isinstance(
                each.document if isinstance(each, Signed) else each, self.withheld
            )
        ]
        return await super().submit(*said) if said else ()


SILENT = [
    # what the market never hears, where it waits for it, how its book ends the lease
    (LeaseTerms, Phase.MATCHED, "accept_s", "not_accepted"),
    (Start, Phase.PREPARING, "prepare_s", "not_started"),
    (UsageRecord, Phase.RUNNING, "report_s", "silent"),
]


@pytest.mark.parametrize(("withheld", "phase", "rule", "reason"), SILENT)
async def test_silent_provider_earns_nothing(
    tmp_path: Path, withheld: type, phase: Phase, rule: str, reason: str
) -> None:
    kind = type("Withholding", (Silent,), {"withheld": withheld})
    clock, over = JumpingClock(), tmp_path / "over"
    settings = {"market": {rule: PATIENCE_S}, "faucet": "10.00"}
    async with AsyncExitStack() as stack:
        guest = await stack.enter_async_context(
            running_node(tmp_path / "node", World(), clock=clock, **settings)
        )
        providers = [
            await stack.enter_async_context(
                each(
                    guest.url,
                    key=guest.world.providers[number],
                    domain=guest.world.domain,
                    folder=tmp_path / f"provider{number}",
                    temper=Temper(first_price=price),
                )
            )
            for number, (each, price) in enumerate(
                ((kind, 10_000), (FakeProvider, 3_600_000))
            )
        ]
        client = await stack.enter_async_context(
            AsyncClient(guest.url, home=tmp_path / "home", environment={})
        )
        await client.faucet()
        script = f"until test -e {over}; do sleep 0.1; done"
        async with asyncio.timeout(RUN_S), asyncio.TaskGroup() as tasks:
            running = tasks.create_task(
                client.run("sh", "-c", script, is_command=True, max_total="5.00")
            )
            await _wait_phase(client, phase)
            # The clock jumps, so that who is merely slow meets no deadline.
            clock.ahead_s = PATIENCE_S + 1
            await _wait_phase(client, Phase.SETTLED)
            await _wait_phase(client, Phase.RUNNING)  # the second's
            over.touch()
        result = running.result()
        assert result.exit_code == 0, result
        first, second = result.attempts
        assert first.provider == providers[0].key.address
        assert second.provider == providers[1].key.address
        assert first.paid == 0
        lease = await client.connection.lease(first.lease_id)
        assert (lease.phase, lease.reason) == (Phase.SETTLED, reason)
        assert (lease.fault, lease.paid) == (Fault.PROVIDER, 0)
        # The result is there before the provider has handed its last voucher in.
        await wait_settled(client)
        account = await client.account()
        assert account.spent == second.paid > 0
        assert account.held == 0


async def _wait_phase(client: AsyncClient, phase: Phase) -> None:
    """Wait until a lease is there; the first that gets anywhere is the silent one's."""
    while all(one.phase is not phase for one in await client.leases(is_all=True)):  # noqa: ASYNC110
        await asyncio.sleep(0.05)
