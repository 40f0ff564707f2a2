"""A market whose running machine is killed, and the time until the job runs elsewhere.

Settings are those that a node and a provider have by default; real processes, a real
sandbox, a real ``sublet run``.
"""

import asyncio
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from msgspec import Struct

from sublet.cli.local_market import point_tenant, read_ready
from sublet.core.lease.phase import Lease, Phase
from tests.acceptance.market_house import CPU_HOUR, House, close_house

WAIT_S = 90
LOOK_S = 0.02
CONFIG = 'listen = "127.0.0.1:0"\nfaucet = "100.00"\n'
PROVIDERS = {"cheap": CPU_HOUR, "dear": 2 * CPU_HOUR}


class Recovery(Struct):
    """Seconds from the signal to each step."""

    lost_s: float = 0.0  # the market says that the machine is lost
    matched_s: float = 0.0  # the job has its next machine
    running_s: float = 0.0  # it runs there


@contextmanager
def open_market(folder: Path) -> Iterator[House]:
    """Open a market with default settings, two providers and a tenant with money."""
    house = House(folder)
    house.prepare_node()
    (house.node_home / "config.toml").write_text(CONFIG)
    try:
        house.start_node()
        for name, price in PROVIDERS.items():
            house.start_provider(name, price=price)
        point_tenant(house.tenant_home, house.url)
        asyncio.run(house.fund())
        for program in house.providers.values():
            read_ready(program)
        house.wait_offers(len(PROVIDERS))
        yield house
    finally:
        close_house(house)


async def lose_machine(house: House) -> Recovery:
    """Run a job, kill its machine, and see it run on the other one; then end it."""
    async with house.tenant() as client:

        async def look() -> dict[str, Lease]:
            found = await client.leases(is_all=True)
            return {lease.id: lease for lease in found if lease.id not in known}

        async def wait(
            phase: Phase, *, but: str = ""
        ) -> tuple[Lease, dict[str, Lease]]:
            deadline = time.monotonic() + WAIT_S
            while time.monotonic() < deadline:
                leases = await look()
                for lease in leases.values():
                    if lease.phase is phase and lease.id != but:
                        return lease, leases
                await asyncio.sleep(LOOK_S)
            raise SystemExit(f"no lease became {phase.value}: {await look()}; {job}")

        known: set[str] = set()
        known = set(await look())
        job = house.run("--json", "--", "sleep", "600")
        first, _ = await wait(Phase.RUNNING)
        (name,) = (k for k, v in house.addresses.items() if v == first.provider)
        house.note_groups()
        house.providers[name].signal_group(signal.SIGKILL)
        begun, found = time.monotonic(), Recovery()
        while not found.running_s:
            leases, passed = await look(), time.monotonic() - begun
            if passed > WAIT_S:
                raise SystemExit(f"the job never ran again: {leases}; {job}")
            others = [lease for lease in leases.values() if lease.id != first.id]
            if leases[first.id].ended_at_s and not found.lost_s:
                found.lost_s = passed
            if others and not found.matched_s:
                found.matched_s = passed
            if any(lease.phase is Phase.RUNNING for lease in others):
                found.running_s = passed
            await asyncio.sleep(LOOK_S)
        job.process.send_signal(signal.SIGINT)
        await job.wait(WAIT_S)
    house.providers[name].process.wait()
    read_ready(house.start_provider(name))
    house.wait_offers(len(PROVIDERS))
    return found
