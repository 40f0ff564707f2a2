"""A node that is frozen, and goes on: nobody is late for what it could not hear."""

import asyncio
import json
import signal
import urllib.request
from collections.abc import Iterator

import pytest

from sublet.core.lease.phase import Fault
from sublet.service.writer import AWAY_MS
from tests.acceptance.market_house import House, open_house

pytestmark = pytest.mark.sandbox

REPORT_S = 5
FROZEN_S = AWAY_MS / 1_000 + 2  # longer than a report may be late


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """Give a market that soon calls somebody silent."""
    folder = tmp_path_factory.mktemp("market")
    with open_house(folder, rules={"report_s": REPORT_S}) as opened:
        yield opened


async def test_job_outlives_a_frozen_node(house: House) -> None:
    job = house.run("--", "sh", "-c", "for n in $(seq 40); do echo $n; sleep 0.5; done")
    await job.wait_output(b"3\n")
    house.node.process.send_signal(signal.SIGSTOP)
    await asyncio.sleep(FROZEN_S)
    house.node.process.send_signal(signal.SIGCONT)
    assert await job.wait() == 0, job
    assert job.out.read_bytes().split() == [b"%d" % n for n in range(1, 41)]
    (lease,) = await house.leases()
    lease = await house.wait_settled(lease.id)
    assert (lease.fault, lease.reason) == (Fault.NOBODY, "exited"), lease
    kinds = read_kinds(house)
    assert kinds.count("Order") == 1
    assert "Resume" in kinds
    assert "ProviderLost" not in kinds
    await house.check_books()


def read_kinds(house: House) -> list[str]:
    """Give the kind of every entry of the log."""
    with urllib.request.urlopen(house.url + "/v1/log/entries?limit=1000") as answer:
        lines = answer.read().splitlines()
    return [json.loads(line)["document"]["type"] for line in lines]
