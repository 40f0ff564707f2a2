"""A detached job in a market with two nodes: whichever looks after it may go."""

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from sublet.core.lease.phase import Lease, Phase
from tests.acceptance.market_house import until
from tests.acceptance.test_detached import CANARIES, bring, find_canaries, sublet
from tests.acceptance.twin_house import TwinHouse, open_twins
from tests.postgres_server import Server, run_server

pytestmark = pytest.mark.sandbox


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with run_server() as server:
        yield server


@pytest.fixture
def house(tmp_path: Path, server: Server) -> Iterator[TwinHouse]:
    with open_twins(tmp_path, server) as opened:
        yield opened


def leave_job(house: TwinHouse) -> str:
    bring(house)
    return sublet(
        house, "run", "--detach", "--max-total", "5.00", "--timeout", "10m",
        "--disk", "64MiB", "--checkpoint", "kept", "--output", "made",
        "--env", f"WORD={CANARIES['env']}", "--input", "data.txt", "job.py",
    ).strip()  # fmt: skip


async def wait_secured(house: TwinHouse) -> Lease:
    first = await house.wait_lease(Phase.RUNNING)
    for _ in range(1_800):
        [lease] = [one for one in await house.leases() if one.id == first.id]
        if lease.secured_ms:
            return lease
    raise AssertionError("no checkpoint was ever kept")


async def check_result(house: TwinHouse, job_id: str, attempts: int) -> None:
    """Attach through whichever node there is; all is there, once, and paid once."""
    result = json.loads(sublet(house, "attach", "--json", job_id))
    assert result["exit_code"] == 0, result
    story = [(one["provider"], one["outcome"]) for one in result["attempts"]]
    assert len(story) == attempts, story
    assert (house.folder / "laptop" / "made").read_text() == CANARIES["data"] + " of 30"
    words = Path(result["stdout"]).read_text().split()
    numbers = [int(word) for word in words if word.isdigit()]
    if attempts == 1:
        assert numbers == list(range(1, 31)), "each line once, in order"
    assert set(numbers) == set(range(1, 31)), "the output is whole"
    leases = await house.leases()
    assert len(leases) == attempts, "one order for each attempt"
    settled = [await house.wait_settled(lease.id) for lease in leases]
    assert 0 < sum(one.paid for one in settled) <= 5_000_000
    assert find_canaries(house.node_home) + find_canaries(house.folder / "twin") == []
    rows = house.server.execute(
        "SELECT (SELECT count(*) FROM sublet.job),"
        " (SELECT count(*) FROM sublet.job_chunk),"
        " (SELECT count(*) FROM sublet.job_stream)",
        database=house.database.rpartition("/")[2],
    )
    assert rows == [(0, 0, 0)], "fetched, so forgotten"


async def test_other_node_goes_on(house: TwinHouse) -> None:
    job_id = leave_job(house)
    await wait_secured(house)
    holder = await house.wait_holder(job_id, 0, 1)
    house.nodes[holder].process.kill()
    await house.wait_holder(job_id, 1 - holder)
    await check_result(house, job_id, attempts=1)


async def test_node_and_provider_go_at_once(house: TwinHouse) -> None:
    job_id = leave_job(house)
    lease = await wait_secured(house)
    assert lease.provider == house.addresses["cheap"]
    holder = await house.wait_holder(job_id, 0, 1)
    house.nodes[holder].process.kill()
    await house.kill_machine("cheap")
    await house.wait_holder(job_id, 1 - holder)
    await check_result(house, job_id, attempts=2)
    assert {lease.provider for lease in await house.leases()} == set(
        house.addresses.values()
    )


async def test_frozen_node_comes_back_to_nothing(house: TwinHouse) -> None:
    job_id = leave_job(house)
    await wait_secured(house)
    holder = await house.wait_holder(job_id, 0, 1)
    frozen = house.nodes[holder]
    os.kill(frozen.process.pid, signal.SIGSTOP)
    await house.wait_holder(job_id, 1 - holder)
    os.kill(frozen.process.pid, signal.SIGCONT)
    await until(lambda: b"claim_lost" in frozen.journal.read_bytes())
    await check_result(house, job_id, attempts=1)
    frozen.check()
