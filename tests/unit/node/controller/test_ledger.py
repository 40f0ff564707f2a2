"""What is written of a job, under which claim, and what an old claim cannot do."""

import pytest
from blake3 import blake3

from sublet.adapter.clock_system import SystemClock
from sublet.base.errors import Broken, Unavailable
from sublet.core.job.bill import ChannelRecord
from sublet.core.job.state import Job
from sublet.node.controller.claim import Claim
from sublet.node.controller.ledger import (
    PIECE_BYTES,
    WAITING_BYTES_MAX,
    Ledger,
    read_state,
)
from sublet.service.vault_port import ClaimLost, JobVault
from sublet.workload.run.log_copy import Log
from tests.fakes.vault_memory import MemoryVault

TENANT, JOB = "0x" + "a" * 40, "0123456789ab"
LEASE = "0x" + "1" * 64
CHANNEL = "0x" + "2" * 64


def take_over(job: JobVault) -> Ledger:
    """Claim a job as a node does that finds it unattended."""
    clock = SystemClock()
    epoch = job.claim("node", span_ms=0)  # so that the next can do the same
    assert epoch is not None
    now_ms = clock.monotonic_ms()
    return Ledger(
        job, Claim(epoch, since_ms=now_ms, until_ms=now_ms + 600_000, clock=clock)
    )


def make_job() -> JobVault:
    job = MemoryVault().find(TENANT, JOB)
    job.begin(b"plan")
    return job


def pay(record: ChannelRecord) -> tuple[ChannelRecord, int]:
    return ChannelRecord(last=record.last + 5), record.last + 5


async def test_next_one_finds_what_was_written() -> None:
    job = make_job()
    first = take_over(job)
    await first.change(job=Job(message="so far"))
    assert first.update_channel(CHANNEL, pay) == 5
    second = take_over(job)
    assert second.state.job == Job(message="so far")
    assert second.update_channel(CHANNEL, pay) == 10


async def test_old_claim_changes_nothing() -> None:
    job = make_job()
    frozen = take_over(job)
    await frozen.change(job=Job(message="then"))
    frozen.update_channel(CHANNEL, pay)
    later = take_over(job)
    with pytest.raises(ClaimLost):
        await frozen.change(job=Job(message="frozen"))
    with pytest.raises(ClaimLost):
        frozen.update_channel(CHANNEL, pay)
    with pytest.raises(ClaimLost):
        await frozen.end()
    assert frozen.state.job == Job(message="then")
    assert read_state(job).job == Job(message="then")
    assert later.update_channel(CHANNEL, pay) == 10, "signed once, not twice"


async def test_claim_lost_by_the_clock_writes_nothing() -> None:
    job = make_job()
    ledger = take_over(job)  # and nobody else has claimed it since
    ledger.claim.lose()
    with pytest.raises(ClaimLost):
        await ledger.change(job=Job())
    with pytest.raises(ClaimLost):
        ledger.update_channel(CHANNEL, pay)
    assert read_state(job).job is None


async def test_stream_is_written_before_the_state() -> None:
    job = make_job()
    ledger = take_over(job)
    log = Log("stdout", copy=ledger.open_copy(LEASE, "stdout"))
    whole = b"x" * (2 * PIECE_BYTES + 7)
    log.keep(whole)
    assert job.read_stream(LEASE, "stdout", offset=0, limit=1 << 20) == b""
    await ledger.change(job=Job())
    assert job.read_stream(LEASE, "stdout", offset=0, limit=1 << 20) == whole


async def test_stream_goes_on_where_the_last_one_ended() -> None:
    job = make_job()
    first = take_over(job)
    old = Log("stdout", copy=first.open_copy(LEASE, "stdout"))
    old.keep(b"one ")
    await first.flush()
    old.keep(b"lost with its node ")
    second = take_over(job)
    new = Log("stdout", copy=second.open_copy(LEASE, "stdout"))
    new.go_on()
    assert new.offset == 4
    new.keep(b"two")
    await second.flush()
    with pytest.raises(ClaimLost):
        await first.flush()
    assert job.read_stream(LEASE, "stdout", offset=0, limit=99) == b"one two"
    assert new.digest == "0x" + blake3(b"one two").hexdigest()


def test_stream_waits_for_so_much_alone() -> None:
    copy = take_over(make_job()).open_copy(LEASE, "stdout")
    copy.append(bytes(WAITING_BYTES_MAX))
    with pytest.raises(Unavailable):
        copy.append(b"x")


def test_damaged_record_is_named() -> None:
    job = make_job()
    ledger = take_over(job)
    job.write("state", b"{", epoch=ledger.claim.epoch)
    with pytest.raises(Broken, match=f"state of job {JOB}"):
        read_state(job)
