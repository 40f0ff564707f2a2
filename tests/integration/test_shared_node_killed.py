"""Two node processes on one log: one is killed again and again, under load.

Also together with the servers that keep the log: two of them, one a standby.
"""

import asyncio
import random
from pathlib import Path

import pytest

from tests.integration.replica_house import Pair, running_pair
from tests.integration.two_nodes import TwoNodes, two_nodes

KILLS = 3
BETWEEN = 25  # acknowledgements before each kill
WAIT_S = 240


async def test_killed_node_costs_nothing(tmp_path: Path, postgres_url: str) -> None:
    with two_nodes(tmp_path, postgres_url) as nodes:
        await nodes.begin(0)
        await nodes.begin(1)
        nodes.load()
        async with asyncio.timeout(WAIT_S):
            for kill in range(KILLS):
                await nodes.wait_more(BETWEEN)
                nodes.kill(kill % 2)
                await nodes.wait_more(BETWEEN)  # at the other node
                await nodes.begin(kill % 2)
            await nodes.end()
        nodes.check_log()


async def strike(nodes: TwoNodes, pair: Pair, what: set[str], number: int) -> None:
    """Kill all of these at once; then let each come back as an operator would."""
    if "node" in what:
        nodes.kill(number)
    if "standby" in what:
        pair.standby.kill()
    if "server" in what:
        await asyncio.to_thread(pair.primary.kill)
    if "server" in what and "standby" in what:
        await asyncio.to_thread(pair.primary.start)  # nobody may be promoted
    elif "server" in what:
        await asyncio.to_thread(pair.fail_over)
        await nodes.wait_more(BETWEEN)  # without any standby, for a while
        await asyncio.to_thread(pair.renew)
    if "standby" in what:
        await asyncio.to_thread(pair.standby.start)
    if "node" in what:
        await nodes.begin(number)


@pytest.mark.timeout(600)
async def test_nodes_and_servers_killed_together(tmp_path: Path) -> None:
    chance = random.Random(3)
    kinds = [{"node"}, {"standby"}, {"server"}, {"server", "standby"}]
    with running_pair() as pair, two_nodes(tmp_path, pair.url) as nodes:
        await nodes.begin(0)
        await nodes.begin(1)
        nodes.load()
        async with asyncio.timeout(WAIT_S):
            chance.shuffle(kinds)
            for what in kinds:
                await nodes.wait_more(chance.randint(5, BETWEEN))
                also = {"node"} if chance.random() < 0.7 else set()
                await strike(nodes, pair, what | also, chance.randrange(2))
                nodes.check_alive()
            await nodes.wait_more(BETWEEN)
            await nodes.end()
        nodes.check_log()
