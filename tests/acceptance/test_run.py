"""``sublet run`` as people meet it: exit codes, streams, limits that are kept."""

import asyncio

import pytest

from sublet.core.lease.phase import Fault
from tests.acceptance.market_house import House

pytestmark = pytest.mark.sandbox

BINARY = bytes(range(256)) * 300 + b"\xff\xfe\x00 no newline at the end"


@pytest.mark.parametrize(
    ("command", "code"),
    [
        (("true",), 0),
        (("false",), 1),
        (("sh", "-c", "exit 42"), 42),
        (("sh", "-c", "kill -9 $$"), 137),
    ],
)
async def test_exit_code_is_the_jobs(
    house: House, command: tuple[str, ...], code: int
) -> None:
    assert await house.run("--", *command).wait() == code


async def test_streams_stay_apart_byte_by_byte(house: House) -> None:
    (house.folder / "binary").write_bytes(BINARY)
    script = "cat binary; printf 'e\\0%s' $(wc -c < binary) >&2"
    job = house.run(
        *("-q", "--input", str(house.folder / "binary"), "--", "sh", "-c", script)
    )
    assert await job.wait() == 0
    assert job.out.read_bytes() == BINARY
    assert job.err.read_bytes() == b"e\0%d" % len(BINARY)


async def test_json_is_one_object(house: House) -> None:
    job = house.run("--json", "-q", "--", "sh", "-c", "echo out; exit 5")
    assert await job.wait() == 5
    result = job.result()
    assert (result.exit_code, len(result.attempts)) == (5, 1)
    assert job.err.read_bytes() == b"out\n"


LIMITS = [
    # what the job does, what it was given, its reason, its exit code
    (
        "python3 -c 'x = bytearray(400 << 20); x[::4096] = x[1::4096]; print(1)'",
        ("--memory", "128MiB"),
        "out_of_memory",
        137,
    ),
    ("head -c 90000000 /dev/zero > big; sleep 60", ("--disk", "32MiB"), "disk_full", 0),
    ("sleep 60", ("--timeout", "2s"), "timeout", 0),
]


async def test_kept_limits_say_their_name(house: House) -> None:
    """Memory, disk, time: all at once, each ends for its own reason."""
    known = {lease.id for lease in await house.leases()}
    jobs = [
        house.run("--json", *flags, "--", "sh", "-c", script)
        for script, flags, _, _ in LIMITS
    ]
    codes = await asyncio.gather(*(job.wait() for job in jobs))
    leases = {lease.id: lease for lease in await house.leases()}
    for job, code, (_, _, reason, wanted) in zip(jobs, codes, LIMITS, strict=True):
        result = job.result()
        [attempt] = result.attempts
        assert attempt.outcome == reason, job
        assert code == result.exit_code != 0, job
        assert not wanted or code == wanted, job
        lease = leases[attempt.lease_id]
        assert lease.reason == reason
        assert lease.fault is not Fault.PROVIDER
        assert lease.paid == lease.owed
        assert result.message, "a person is told why"
    assert len(leases) == len(known) + len(LIMITS), "nothing was tried again"


async def test_nothing_is_left(house: House) -> None:
    await house.check_nothing_left()
