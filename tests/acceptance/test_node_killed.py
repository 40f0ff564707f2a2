"""The node dies by kill -9 in each phase of a lease; so does an agent, once.

Nobody forgets anything: the job ends on the lease that it had, is paid to the
millisecond, and the log audits.
"""

import signal
from collections.abc import Iterator

import pytest

from sublet.cli.local_market import read_ready
from sublet.core.lease.phase import Lease, Phase
from sublet.provider.lease_state import Stage
from sublet.provider.record import LeaseFolder
from tests.acceptance.market_house import House, Run, open_house, until

pytestmark = pytest.mark.sandbox

# Beyond any restart on any machine: nobody is lost, and no deadline passes.
PATIENT = dict.fromkeys(
    ("accept_s", "deliver_s", "report_s", "close_s", "settle_s"), 300
)


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """Give a market whose deadlines no restart misses."""
    with open_house(
        tmp_path_factory.mktemp("market"),
        rules=PATIENT,
        lost_after_s=300,
        credit_s=300,
        retention_s=60,  # longer than the tenant's way back to a node that was away
    ) as opened:
        yield opened


# A slow machine has not seen a phase yet when a job that sleeps is over.
HELD = "until test -e go; do sleep 0.1; done"


def let_go(house: House, lease: Lease) -> None:
    """Let the job that is HELD end; everybody buys of the cheap one."""
    folder = LeaseFolder(house.folder / "cheap" / "leases" / lease.id)
    (folder.work / "go").touch()


def pause(house: House, name: str, *, is_paused: bool) -> None:
    """Hold a provider's agent where it is, or let it go on."""
    number = signal.SIGSTOP if is_paused else signal.SIGCONT
    house.providers[name].process.send_signal(number)


async def restart(house: House, lease: Lease, phase: Phase) -> None:
    """Kill the node, start it again, and find the lease where it was."""
    house.kill_node()
    house.start_node()
    [same] = [one for one in await house.leases() if one.id == lease.id]
    assert same.phase is phase


async def check_end(house: House, job: Run, lease: Lease) -> None:
    """The job has ended well, on this one lease, and is paid for in full."""
    assert await job.wait() == 0, job
    attempts = job.result().attempts
    assert len(attempts) == 1, (attempts, job)
    [attempt] = attempts
    assert (attempt.lease_id, attempt.outcome) == (lease.id, "exited")
    over = await house.wait_settled(lease.id)
    assert over.paid == over.owed == over.ran_ms * lease.price_hour // 3_600_000
    assert over.paid > 0


async def test_killed_while_matched(house: House) -> None:
    known = await house.leases()
    for name in house.providers:
        pause(house, name, is_paused=True)
    job = house.run("--json", "--", "sleep", "1")
    lease = await house.wait_lease(Phase.MATCHED, known=known)
    await restart(house, lease, Phase.MATCHED)
    for name in house.providers:
        pause(house, name, is_paused=False)
    await check_end(house, job, lease)


async def test_killed_while_running(house: House) -> None:
    known = await house.leases()
    job = house.run("--json", "--", "sh", "-c", f"echo a; {HELD}; echo b")
    lease = await house.wait_lease(Phase.RUNNING, known=known)
    await restart(house, lease, Phase.RUNNING)
    let_go(house, lease)
    await check_end(house, job, lease)
    assert job.written() == (b"a\nb\n", b"")


async def test_away_while_it_ends(house: House) -> None:
    """The program ends while there is no market: the receipt waits for it."""
    known = await house.leases()
    job = house.run("--json", "--", "sh", "-c", HELD)
    lease = await house.wait_lease(Phase.RUNNING, known=known)
    house.kill_node()
    let_go(house, lease)
    await until(lambda: Stage.ENDED in house.stages("cheap"), about=job)
    house.start_node()
    await check_end(house, job, lease)


async def test_killed_while_settling(house: House) -> None:
    """The tenant is held before it can pay: the lease waits in settling."""
    known = await house.leases()
    job = house.run("--json", "--", "sh", "-c", HELD)
    lease = await house.wait_lease(Phase.RUNNING, known=known)
    job.process.send_signal(signal.SIGSTOP)
    let_go(house, lease)
    assert (await house.wait_lease(Phase.SETTLING, known=known)).id == lease.id
    await restart(house, lease, Phase.SETTLING)
    job.process.send_signal(signal.SIGCONT)
    await check_end(house, job, lease)


@pytest.mark.registry
async def test_killed_while_preparing(house: House) -> None:
    """The packages go on being installed; the market is not asked for that."""
    known = await house.leases()
    script = house.folder / "needy.py"
    script.write_text(
        "# /// script\n# dependencies = ['numpy']\n# ///\n"
        "import numpy, time\ntime.sleep(1)\nprint(int(numpy.arange(4).sum()))\n"
    )
    job = house.run("--json", str(script))
    lease = await house.wait_lease(Phase.PREPARING, known=known)
    await restart(house, lease, Phase.PREPARING)
    await check_end(house, job, lease)
    assert job.written() == (b"6\n", b"")


async def test_agent_finds_its_job_again(house: House) -> None:
    """Only the agent is killed; its job goes on, and so does the lease."""
    known = await house.leases()
    job = house.run("--json", "--", "sh", "-c", f"echo a; {HELD}; echo b; echo c >&2")
    lease = await house.wait_lease(Phase.RUNNING, known=known)
    house.providers["cheap"].process.kill()
    house.providers["cheap"].process.wait()
    assert Stage.RUNNING in house.stages("cheap")
    read_ready(house.start_provider("cheap"))
    let_go(house, lease)
    await check_end(house, job, lease)
    assert job.written() == (b"a\nb\n", b"c\n")


async def test_nothing_is_left(house: House) -> None:
    await house.check_nothing_left()
