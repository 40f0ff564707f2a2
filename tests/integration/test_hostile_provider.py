"""Providers that take a lease and then do nothing, or say nothing.

Whoever lies about what was done is in ``test_tenant_run``. Here nobody lies: they are
silent, and only the market's deadlines end it. The job is done elsewhere; the silent
one gets nothing, and is named.
"""

import asyncio
from collections.abc import AsyncIterator
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
from tests.integration.node_house import Guest, running_node
from tests.integration.provider_house import wait_settled

RUN_S = 60
RULES = {"accept_s": 2, "deliver_s": 2, "prepare_s": 2, "report_s": 2}


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
    # what the market never hears, how its book ends the lease
    (LeaseTerms, "not_accepted"),
    (Start, "not_started"),
    (UsageRecord, "silent"),
]


@pytest.fixture
async def guest(tmp_path: Path) -> AsyncIterator[Guest]:
    """Give a market that waits two seconds for anything."""
    settings = {"market": RULES, "faucet": "10.00"}
    async with running_node(tmp_path / "node", World(), **settings) as guest:
        yield guest


@pytest.mark.parametrize(("withheld", "reason"), SILENT)
async def test_silent_provider_earns_nothing(
    tmp_path: Path, guest: Guest, withheld: type, reason: str
) -> None:
    kind = type("Withholding", (Silent,), {"withheld": withheld})
    async with AsyncExitStack() as stack:
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
        async with asyncio.timeout(RUN_S):
            result = await client.run(
                "sh", "-c", "sleep 3; echo done", is_command=True, max_total="5.00"
            )
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
