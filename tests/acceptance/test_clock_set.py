"""Somebody sets the clock of a machine while a job runs: hours ahead, and hours back."""

import asyncio
import json
import struct
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from sublet.cli.local_market import point_tenant, read_ready
from sublet.core.lease.phase import Fault
from tests.acceptance.market_house import House, close_house
from tests.rig.preload import Preloaded

pytestmark = pytest.mark.sandbox

HOURS_S = 2 * 3_600
PARTIES = ("node", "provider", "tenant")
JOB = "for n in $(seq 1 {last}); do echo line $n.; sleep 0.5; done"
LAST = 24
SETTINGS = ((6, HOURS_S), (12, -HOURS_S), (18, 0))  # after that line, so far ahead


class WallClock(Preloaded):
    """The wall clock of one machine."""

    def __init__(self, folder: Path) -> None:
        """It is right at first."""
        super().__init__("wall_clock.c", folder, variable="WALL_CLOCK", state=bytes(8))

    def set_ahead(self, ahead_s: int) -> None:
        """Set it so far ahead of the true time, or behind."""
        self.set(struct.pack("=q", ahead_s))


@pytest.fixture(scope="module")
def clocks(tmp_path_factory: pytest.TempPathFactory) -> dict[str, WallClock]:
    """Give each machine a wall clock of its own."""
    folder = tmp_path_factory.mktemp("clocks")
    return {party: WallClock(folder / party) for party in PARTIES}


@pytest.fixture(scope="module")
def house(
    tmp_path_factory: pytest.TempPathFactory, clocks: dict[str, WallClock]
) -> Iterator[House]:
    """Give a market in which every machine reads its own clock."""
    house = House(tmp_path_factory.mktemp("market"))
    try:
        with clocks["node"].machine():
            house.start_node()
        with clocks["provider"].machine():
            program = house.start_provider("cheap")
        point_tenant(house.tenant_home, house.url)
        asyncio.run(house.fund())
        read_ready(program)
        house.wait_offers(1)
        yield house
    finally:
        close_house(house)


def read_stamps(house: House) -> list[int]:
    """Give the time stamps of all entries of the log."""
    with urllib.request.urlopen(house.url + "/v1/log/entries?limit=1000") as answer:
        return [json.loads(line)["at_s"] for line in answer.read().splitlines()]


def read_warnings(house: House) -> list[str]:
    """Give what node and provider complained of."""
    text = house.node.journal.read_text()
    text += house.providers["cheap"].journal.read_text()
    return [line for line in text.splitlines() if '"warn' in line.lower()]


@pytest.mark.parametrize("party", PARTIES)
async def test_clock_is_set_hours_ahead_and_back(
    house: House, clocks: dict[str, WallClock], party: str
) -> None:
    clock, begun_s = clocks[party], int(time.time())
    before = {lease.id for lease in await house.leases()}
    with clocks["tenant"].machine():
        job = house.run("--", "sh", "-c", JOB.format(last=LAST))
    for line, ahead_s in SETTINGS:
        await job.wait_output(b"line %d.\n" % line)
        clock.set_ahead(ahead_s)
    assert await job.wait() == 0, job
    assert b"line %d.\n" % LAST in job.out.read_bytes()
    (lease,) = [each for each in await house.leases() if each.id not in before]
    lease = await house.wait_settled(lease.id)
    assert (lease.fault, lease.reason) == (Fault.NOBODY, "exited"), lease
    assert lease.paid == lease.owed > 0, "every second that ran is paid"
    stamps = read_stamps(house)
    assert stamps == sorted(stamps)
    assert stamps[-1] - begun_s < HOURS_S / 2, "the log's time did not run away"
    assert not read_warnings(house), read_warnings(house)
    await house.check_books()
