"""A machine that freezes with all that runs on it, and comes back when its lease is gone.

As one does that swaps, or whose hypervisor was busy elsewhere. It may neither bring its
result nor be paid for it, and rents out nothing before the old job is off it.
"""

import asyncio
import json
import os
import signal
import subprocess
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from sublet.base.units import compute_owed
from sublet.core.lease.phase import Fault, Phase
from sublet.provider.lease_state import Stage
from tests.acceptance.market_house import (
    House,
    open_house,
    read_processes,
    until,
)
from tests.acceptance.test_machine_lost import counting

pytestmark = pytest.mark.sandbox

LONG_S = 8  # once the lease is gone; what matters is that all deadlines have passed
RULES = {"report_s": 8, "close_s": 4, "settle_s": 4}
GONE = ("provider_lost", "silent")  # whichever the market notices first


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """Give a market that waits for nobody for long."""
    with open_house(tmp_path_factory.mktemp("market"), rules=RULES) as opened:
        yield opened


def find_processes(root: int) -> list[int]:
    """Give a process and all that descend from it, parents first."""
    listing = subprocess.run(
        ["ps", "-eo", "pid=,ppid="], capture_output=True, text=True, check=True
    )
    children: dict[int, list[int]] = {}
    for line in listing.stdout.splitlines():
        pid, parent = map(int, line.split())
        children.setdefault(parent, []).append(pid)
    found = [root]
    for pid in found:
        found += children.get(pid, [])
    return found


@contextmanager
def frozen(house: House, name: str) -> Iterator[None]:
    """Stop agent, wardens and jobs of a provider, and let them go on at the end.

    Jobs go on first: each has its moment before anybody ends it.
    """
    house.note_groups()
    stopped = find_processes(house.providers[name].process.pid)
    try:
        for pid in stopped:
            os.kill(pid, signal.SIGSTOP)
        assert len(stopped) >= 3, "agent, warden, job"
        yield
    finally:
        for pid in reversed(stopped):
            os.kill(pid, signal.SIGCONT)


def read_log(house: House) -> list[dict[str, Any]]:
    """Give all entries' documents."""
    with urllib.request.urlopen(house.url + "/v1/log/entries?limit=1000") as answer:
        return [json.loads(line)["document"] for line in answer.read().splitlines()]


async def wait_gone(house: House, name: str) -> None:
    """Wait until nothing of any lease is left on a machine."""
    folder = house.folder / name / "leases"
    await until(lambda: not list(folder.iterdir()), about=folder)
    for place, group in house.groups.items():
        if place.is_relative_to(house.folder / name):
            await until(lambda of=group: not read_processes(of), about=group)


async def test_late_machine_brings_nothing(house: House) -> None:
    known = await house.leases()
    job = house.run("--json", *counting(last=24, pause=0.4))
    await job.wait_notice(b"stored here")
    assert house.stages("cheap") == [Stage.RUNNING]
    with frozen(house, "cheap"):
        assert await job.wait() == 0, job
        first, second = job.result().attempts
        assert first.outcome in GONE
        assert second.outcome == "exited"
        written = job.written()
        lost = await house.wait_settled(first.lease_id)
        done = await house.wait_settled(second.lease_id)
        await asyncio.sleep(LONG_S)
        assert house.stages("cheap") == [Stage.RUNNING], "it believes in its lease"
        entries = len(read_log(house))
    await wait_gone(house, "cheap")
    house.wait_offers(2)
    later = read_log(house)[entries:]
    assert not [each for each in later if each.get("lease_id") == lost.id], later
    assert [each for each in read_log(house) if each.get("lease_id") == lost.id]
    assert "ProviderSeen" in [each["type"] for each in later]
    assert job.written() == written
    assert [int(x) for x in written[0].split()][-1] == 24
    leases = [each for each in await house.leases() if each not in known]
    assert sorted(each.id for each in leases) == sorted([lost.id, done.id])
    assert lost in leases, "what it said since then changed nothing"
    assert lost.fault is Fault.PROVIDER
    assert lost.reason in GONE
    secured = compute_owed(price_hour=lost.price_hour, ran_ms=lost.secured_ms)
    assert lost.paid == lost.owed == secured > 0
    await house.check_books()


async def test_late_machine_is_let_once_it_is_clean(house: House) -> None:
    """The next job wants all of the machine: it gets it when the last one is erased."""
    last = house.run("--erasure", "--retries", "0", "--", "sleep", "600")
    lease = await house.wait_lease(Phase.RUNNING, known=await house.leases())
    assert lease.provider == house.addresses["cheap"]
    with frozen(house, "cheap"):
        await house.wait_settled(lease.id)
        assert await last.wait() != 0
        price = ("--max-price", "15.00")  # too little for the dear one
        flags = ("--json", "--cpus", "4", "--wait", "2m", *price)
        following = house.run(*flags, "--", "echo", "mine")
        await asyncio.sleep(LONG_S)
        assert following.process.poll() is None, following
    assert await following.wait() == 0, following
    assert following.written() == (b"mine\n", b"")
    kinds = [(each["type"], each.get("lease_id")) for each in read_log(house)]
    erased = kinds.index(("Erasure", lease.id))
    assert kinds.index(("Order", None), kinds.index(("Delivery", lease.id))) > erased
    await wait_gone(house, "cheap")
    await house.check_books()
