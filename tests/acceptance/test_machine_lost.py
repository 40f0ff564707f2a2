"""A machine dies, or its owner wants it back: the job goes on elsewhere."""

import contextlib
import signal

import pytest

from sublet.base.units import compute_owed
from sublet.core.lease.phase import Fault
from sublet.provider.lease_state import Stage
from tests.acceptance.market_house import House, until

pytestmark = pytest.mark.sandbox

# Counts to TEN, a number a line, and keeps the last one; goes on from where it was.
COUNTING = (
    "import pathlib, sys, time\n"
    "place = pathlib.Path('kept/number')\n"
    "first = int(place.read_text()) + 1 if place.exists() else 1\n"
    "for number in range(first, {last} + 1):\n"
    "    print(number, flush=True)\n"
    "    place.parent.mkdir(exist_ok=True)\n"
    "    draft = place.with_suffix('.part')\n"
    "    draft.write_text(str(number)); draft.rename(place)\n"
    "    time.sleep({pause})\n"
)


def counting(*, last: int, pause: float) -> tuple[str, ...]:
    """Give the flags and the command of a job that counts."""
    program = COUNTING.format(last=last, pause=pause)
    return ("--checkpoint", "kept", "--", "python3", "-c", program)


async def test_job_outlives_its_machine(house: House) -> None:
    job = house.run("--json", *counting(last=24, pause=0.5))
    await job.wait_notice(b"stored here")
    assert house.stages("cheap") == [Stage.RUNNING]
    await house.kill_machine("cheap")
    assert await job.wait() == 0, job
    first, second = job.result().attempts
    assert first.provider == house.addresses["cheap"]
    assert second.provider == house.addresses["dear"]
    assert first.outcome == "provider_lost"
    numbers = [int(x) for x in job.written()[0].split()]
    assert numbers[-1] == 24
    assert set(numbers) == set(range(1, 25)), "the output is whole"
    assert len(numbers) < 2 * 24, "it went on from its checkpoint"
    leases = {lease.id: lease for lease in await house.leases()}
    lost = leases[first.lease_id]
    assert lost.fault is Fault.PROVIDER
    assert 0 < lost.secured_ms <= lost.ran_ms
    assert lost.paid <= compute_owed(price_hour=lost.price_hour, ran_ms=lost.secured_ms)
    house.start_provider("cheap")
    house.wait_offers(2)


async def test_drained_machine_hands_over(house: House) -> None:
    """The owner's Ctrl-C: notice, the last checkpoint, the end; the job moves."""
    job = house.run("--json", *counting(last=24, pause=0.5))
    await job.wait_notice(b"stored here")
    house.note_groups()
    cheap = house.providers["cheap"]
    cheap.process.send_signal(signal.SIGINT)
    await job.wait_notice(b"wants the machine back")
    await until(lambda: cheap.process.poll() is not None, about=job)
    assert cheap.process.returncode == 0
    assert await job.wait() == 0, job
    first, second = job.result().attempts
    assert (first.outcome, second.outcome) == ("given_back", "exited")
    numbers = [int(x) for x in job.written()[0].split()]
    assert set(numbers) == set(range(1, 25)), "the output is whole"
    leases = {lease.id: lease for lease in await house.leases()}
    given = leases[first.lease_id]
    assert given.paid == given.owed > 0
    assert given.fault is not Fault.TENANT
    with contextlib.suppress(FileNotFoundError):
        assert not list((cheap.home / "leases").iterdir())
    house.start_provider("cheap")
    house.wait_offers(2)


async def test_nothing_is_left(house: House) -> None:
    await house.check_nothing_left()
