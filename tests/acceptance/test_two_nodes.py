"""A market with two nodes on one PostgreSQL: one is killed under a ``sublet run``."""

import asyncio
from pathlib import Path

import pytest

from sublet.cli.local_market import point_tenant, read_ready
from sublet.core.lease.phase import Phase
from tests.acceptance.market_house import House, close_house
from tests.integration.two_nodes import TwoNodes, two_nodes

pytestmark = pytest.mark.sandbox

SETTINGS = """
faucet = "100.00"
nodes = {nodes}
[market]
prepare_s = 240
[limits]
lost_after_s = 60
gone_after_s = 60
ping_s = 1
"""
PROGRAM = "mkdir out; for i in 1 2 3 4 5 6; do echo line $i; sleep 0.5; done; echo done > out/last"


class SharedHouse(House):
    """A house whose market is served by two nodes; it knows both."""

    def __init__(self, folder: Path, nodes: TwoNodes) -> None:
        super().__init__(folder, credit_s=120)
        self.url = nodes.urls[1]  # where it looks itself
        self.nodes = nodes
        self.market = ",".join(nodes.urls)

    async def open(self) -> None:
        """Start both nodes and a provider, fund the tenant."""
        urls = "[" + ", ".join(f'"{url}"' for url in self.nodes.urls) + "]"
        for number, home in enumerate(self.nodes.homes):
            (home / "config.toml").write_text(SETTINGS.format(nodes=urls))
            await self.nodes.begin(number)
        self.node = self.nodes.programs[1]
        point_tenant(self.tenant_home, self.market)
        async with self.tenant() as client:
            await client.faucet()
        here, self.url = self.url, self.market
        program = self.start_provider("cheap")
        self.url = here
        await asyncio.to_thread(read_ready, program)
        await asyncio.to_thread(self.wait_offers, 1)


async def test_run_survives_the_death_of_its_node(
    tmp_path: Path, postgres_url: str
) -> None:
    with two_nodes(tmp_path, postgres_url) as nodes:
        house = SharedHouse(tmp_path, nodes)
        try:
            await house.open()
            for dead in (0, 1):
                known = await house.leases()
                argv = ("--json", "--output", "out", "--", "sh", "-c", PROGRAM)
                job = house.run(*argv)
                await house.wait_lease(Phase.RUNNING, known=known)
                nodes.kill(dead)
                assert await job.wait() == 0, job
                [attempt] = job.result().attempts
                assert attempt.outcome == "exited"
                assert job.written()[0].split(b"\n")[5] == b"line 6"
                assert (job.folder / "out/last").read_bytes() == b"done\n"
                over = await house.wait_settled(attempt.lease_id)
                assert over.paid == over.owed > 0
                await nodes.begin(dead)
            await house.check_books()
        finally:
            close_house(house)
        nodes.check_log()
