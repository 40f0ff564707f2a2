"""The tenant changes its mind in each phase, in each way; or vanishes without a word.

However it goes: the lease is settled, nothing stays on hold, nothing runs on.
"""

import signal
from collections.abc import Iterator

import pytest

from sublet.core.lease.phase import Fault, Lease, Phase
from sublet.provider.lease_state import Stage
from tests.acceptance.market_house import House, Run, open_house, until

pytestmark = pytest.mark.sandbox

STOPPED = 130  # as a shell says of Ctrl-C


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """Give a market whose owners give little credit, and wait little for a payment."""
    with open_house(
        tmp_path_factory.mktemp("market"),
        rules={"accept_s": 300, "settle_s": 3},
        lost_after_s=300,
        credit_s=2,
        retention_s=3,
    ) as opened:
        yield opened


async def interrupt(house: House, job: Run) -> None:
    """Press Ctrl-C where the job was started; it says 130 and ends."""
    house.note_groups()
    job.process.send_signal(signal.SIGINT)
    assert await job.wait() == STOPPED, job


async def check_settled(house: House, lease: Lease) -> Lease:
    """The lease is over, paid for in full, and nobody is blamed but its tenant."""
    over = await house.wait_settled(lease.id)
    assert over.fault is not Fault.PROVIDER
    assert over.paid == over.owed
    return over


async def test_ctrl_c_while_waiting(house: House) -> None:
    known = await house.leases()
    job = house.run("--json", "--gpu", "h200:8", "--wait", "60s", "--", "true")
    await job.wait_notice(b"waiting: ")
    await interrupt(house, job)
    assert job.result().attempts == ()
    assert await house.leases() == known


async def test_ctrl_c_while_matched(house: House) -> None:
    known = await house.leases()
    for program in house.providers.values():
        program.process.send_signal(signal.SIGSTOP)
    try:
        job = house.run("--", "true")
        lease = await house.wait_lease(Phase.MATCHED, known=known)
        await interrupt(house, job)
        over = await check_settled(house, lease)
    finally:
        for program in house.providers.values():
            program.process.send_signal(signal.SIGCONT)
    assert (over.owed, over.started_at_s) == (0, 0)


@pytest.mark.registry
async def test_ctrl_c_while_preparing(house: House) -> None:
    known = await house.leases()
    script = house.folder / "heavy.py"
    script.write_text(
        "# /// script\n# dependencies = ['scipy', 'pyarrow', 'polars']\n# ///\n"
    )
    job = house.run(str(script))
    lease = await house.wait_lease(Phase.PREPARING, known=known)
    await interrupt(house, job)
    over = await check_settled(house, lease)
    assert (over.owed, over.started_at_s) == (0, 0)


async def test_ctrl_c_while_running(house: House) -> None:
    known = await house.leases()
    job = house.run("--json", "--", "sleep", "600")
    lease = await house.wait_lease(Phase.RUNNING, known=known)
    await interrupt(house, job)
    over = await check_settled(house, lease)
    assert 0 < over.ran_ms < 60_000
    [attempt] = job.result().attempts
    assert attempt.paid == over.paid


async def test_stopped_by_another_process(house: House) -> None:
    known = await house.leases()
    job = house.run("--name", "long", "--", "sleep", "600")
    lease = await house.wait_lease(Phase.RUNNING, known=known)
    house.note_groups()
    house.sublet("stop", "long")
    assert await job.wait() == STOPPED, job
    await check_settled(house, lease)
    assert "is over already" in house.sublet("stop", "long", code=2)


async def test_vanished_tenant_gets_credit_only(house: House) -> None:
    """kill -9: no voucher comes any more, and soon the job is stopped."""
    known = await house.leases()
    job = house.run("--", "sleep", "600")
    lease = await house.wait_lease(Phase.RUNNING, known=known)
    house.note_groups()
    job.process.kill()
    job.process.wait()
    over = await house.wait_settled(lease.id)
    assert (over.reason, over.fault) == ("not_paid", Fault.TENANT)
    assert over.ran_ms < 60_000
    assert over.paid < over.owed, "what was not vouched for is not taken"
    assert "orphaned" in house.sublet("ps")


async def test_nothing_is_left(house: House) -> None:
    await until(lambda: house.stages("cheap") == [], about=house.stages)
    assert Stage.RUNNING not in house.stages("dear")
    await house.check_nothing_left()
