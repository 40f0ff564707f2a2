"""The file as anybody gets it: a real log's receipt binds the liar, or nothing does."""

import asyncio

import msgspec
import pytest
from blake3 import blake3
from msgspec.structs import replace

from sublet.base.errors import PeerFault
from sublet.cli.dispute import write_dispute
from sublet.core.lease.phase import Lease
from sublet.wire.codec import encode
from sublet.workload.render.evidence import (
    check_evidence,
    read_evidence,
    write_evidence,
)
from tests.fakes.log_memory import FakeLog
from tests.fakes.world import World, move, submit
from tests.integration.dispute_house import collect
from tests.unit.core.render.testimony import (
    ARBITER,
    CHECKER,
    UNIT,
    WORKER,
    give,
    make_evidence,
    paint,
)

TRUE, FALSE = paint(1), paint(2)
BARE = make_evidence(FALSE, TRUE, TRUE)
STDOUT = "0x" + blake3(BARE.worker.stream).hexdigest()


async def play(world: World, log: FakeLog) -> Lease:
    """A lease whose receipt covers what the worker's harness wrote."""
    service = world.make_service(log)
    await service.open()
    await world.set_up(service)
    lease = await move(service, world.order())
    for say in (world.terms, world.delivery, world.start):
        await move(service, say(lease))
    world.clock.at_s += 10
    lease = await move(service, world.receipt(lease, ran_ms=9_000, stdout=STDOUT))
    await submit(service, world.channel(lease))
    lease = await move(service, world.voucher(lease, amount=lease.channel_total))
    await service.close()
    return lease


@pytest.fixture(scope="module")
def of_lease() -> tuple[Lease, str]:
    """A settled lease, and the evidence about it."""
    world, log = World(), FakeLog()
    lease = asyncio.run(play(world, log))
    raw = write_dispute(collect(log, lease.id), key=world.tenant, made_at_s=1)
    return lease, raw.decode()


def test_liar_is_named_by_what_it_signed(of_lease: tuple[Lease, str]) -> None:
    lease, text = of_lease
    evidence = give(BARE, worker=lease.provider, lease=lease.id)
    raw = write_evidence(replace(evidence, leases=(text,)))
    report = check_evidence(raw)
    assert (report.phase, report.liar) == ("convicted", lease.provider)
    assert report.bound == (lease.provider,)
    assert len(report.markets) == 1
    assert report.unit == UNIT
    assert report.findings.endswith(" pixels are not equal")
    unproven = "\n".join(report.not_proven)
    assert CHECKER in unproven and ARBITER in unproven
    assert lease.provider not in unproven
    assert "render blocks" in unproven


def test_without_leases_all_is_the_makers_word() -> None:
    report = check_evidence(write_evidence(BARE))
    assert (report.liar, report.bound) == (WORKER, ())
    assert sum("has signed no receipt" in said for said in report.not_proven) == 3


def test_words_that_the_receipt_does_not_cover_fall(
    of_lease: tuple[Lease, str],
) -> None:
    lease, text = of_lease
    other = give(make_evidence(paint(3), TRUE), worker=lease.provider, lease=lease.id)
    with pytest.raises(PeerFault, match="covers another output"):
        write_evidence(replace(other, leases=(text,)))


def test_somebody_elses_lease_binds_nobody(of_lease: tuple[Lease, str]) -> None:
    lease, text = of_lease
    evidence = give(BARE, worker=WORKER, lease=lease.id)
    with pytest.raises(PeerFault, match="is not 0x"):
        write_evidence(replace(evidence, leases=(text,)))


def test_a_lease_is_there_once(of_lease: tuple[Lease, str]) -> None:
    lease, text = of_lease
    evidence = give(BARE, worker=lease.provider, lease=lease.id)
    with pytest.raises(PeerFault, match="twice"):
        write_evidence(replace(evidence, leases=(text, text)))


def test_a_forged_lease_is_told(of_lease: tuple[Lease, str]) -> None:
    lease, text = of_lease
    forged = text.replace(STDOUT, "0x" + "00" * 32)
    assert forged != text
    evidence = give(BARE, worker=lease.provider, lease=lease.id)
    with pytest.raises(PeerFault):
        write_evidence(replace(evidence, leases=(forged,)))


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"{}",
        b"[" * 100_000,
        encode(BARE)[:-1],
        encode(BARE).replace(b'"salt":"', b'"salt":"AAAA'),
        msgspec.json.encode({**msgspec.to_builtins(BARE), "more": 1}),
    ],
    ids=["nothing", "no fields", "deep", "cut off", "long salt", "unknown field"],
)
def test_what_is_no_file_is_refused(raw: bytes) -> None:
    with pytest.raises(PeerFault):
        read_evidence(raw)
