"""A market with two nodes on one PostgreSQL, each a process; otherwise as any house."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sublet.cli.local_market import Program, point_tenant, read_ready, start
from tests.acceptance.market_house import (
    CPU_HOUR,
    House,
    close_house,
    fund_and_wait,
    until,
)
from tests.postgres_server import Server, find_port


class TwinHouse(House):
    """One market, two nodes; use ``open_twins``."""

    def __init__(self, folder: Path, server: Server, **settings: object) -> None:
        super().__init__(folder, **settings)  # type: ignore[arg-type]
        self.server = server
        self.database = server.create_database()
        self.nodes: list[Program] = []
        self.urls = [f"http://127.0.0.1:{find_port()}" for _ in range(2)]
        self.url = self.urls[0]

    def start_nodes(self) -> None:
        """Lay both homes out, and start both nodes."""
        self.prepare_node()
        config = self.node_home / "config.toml"
        nodes = ", ".join(f'"{url}"' for url in self.urls)
        config.write_text(
            f'nodes = [{nodes}]\n{config.read_text()}\n[log]\nurl = "{self.database}"\n'
        )
        shutil.copytree(self.node_home, self.folder / "twin")
        for number in range(2):
            self.begin(number)
        self.node = self.nodes[0]

    def begin(self, number: int) -> None:
        """Start one of the nodes; the second time where it was before."""
        home = (self.node_home, self.folder / "twin")[number]
        listen = self.urls[number].removeprefix("http://")
        node = start("node", home, "--listen", listen)
        read_ready(node)
        self.nodes[number : number + 1] = [node]

    def find_holder(self, job: str) -> int | None:
        """Say which node looks after a job, by its number."""
        [row] = self.server.execute(
            f"SELECT holder, held_until > now() FROM sublet.job WHERE id = '{job}'",
            database=self.database.rpartition("/")[2],
        )
        for number, node in enumerate(self.nodes):
            if row[1] and f"/{node.process.pid}/" in row[0]:  # type: ignore[index]
                return number
        return None

    async def wait_holder(self, job: str, *numbers: int) -> int:
        """Wait until one of these nodes looks after a job."""
        found: list[int] = []

        def look() -> bool:
            holder = self.find_holder(job)
            found[:] = [holder] if holder in numbers else []
            return bool(found)

        await until(look, about=f"node {numbers} never claimed {job}")
        return found[0]


@contextmanager
def open_twins(folder: Path, server: Server) -> Iterator[TwinHouse]:
    """Open a market with two nodes, two providers and a funded tenant."""
    # What a takeover takes may be unpaid, and outputs wait for longer than it takes;
    # a provider's report may first go to a node that stands still.
    rules = {"report_s": 90}
    house = TwinHouse(folder, server, rules=rules, credit_s=90, retention_s=300)
    try:
        house.start_nodes()
        house.start_provider("cheap")
        house.start_provider("dear", price=2 * CPU_HOUR)
        point_tenant(house.tenant_home, house.url)
        fund_and_wait(house)
        yield house
    finally:
        for node in house.nodes[1:]:
            node.process.kill()
            node.process.wait()
            if node.process.stdout is not None:
                node.process.stdout.close()
        close_house(house)
