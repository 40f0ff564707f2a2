"""Every phase with every document, by every hand; every deadline."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from msgspec.structs import replace

from sublet.base import limits
from sublet.base.errors import Refused
from sublet.base.ids import NO_DIGEST
from sublet.core.document import (
    CheckpointKept,
    Delivery,
    GiveBack,
    Replacement,
    Start,
    Stop,
)
from sublet.core.lease import table
from sublet.core.lease.diagram import diagram
from sublet.core.lease.phase import Fault, Lease, Phase
from tests.unit.core.book.world import (
    PROVIDER,
    RULES,
    START_S,
    TENANT,
    World,
    digest,
)

WORLD = World()
LEASE = Lease(
    id=digest(1),
    offer_id=digest(2),
    tenant=TENANT,
    provider=PROVIDER,
    machine="m1",
    phase=Phase.MATCHED,
    price_hour=3_600_000,  # 1 micro-USD a millisecond
    duration_s=100,
    hold=100_000,
    cpus_milli=1_000,
    memory_bytes=1,
    disk_bytes=1,
    gpu_uuids=(),
    manifest=digest(3),
    sandbox="",
    features=(),
    ssh_key="",
    ssh_host_key="",
    endpoint="",
    matched_at_s=START_S,
    deadline_s=START_S + RULES.accept_s,
)
STARTED_S = START_S + 50
RUNNING = replace(
    LEASE,
    phase=Phase.RUNNING,
    started_at_s=STARTED_S,
    ends_by_s=STARTED_S + LEASE.duration_s,
    deadline_s=STARTED_S + RULES.report_s,
    ran_ms=5_000,
    owed=5_000,
    secured_ms=2_000,
)
LEASES = {
    Phase.MATCHED: LEASE,
    Phase.ACCEPTED: replace(LEASE, phase=Phase.ACCEPTED),
    Phase.PREPARING: replace(LEASE, phase=Phase.PREPARING),
    Phase.RUNNING: replace(RUNNING, replacement=LEASE.manifest),  # asked for again
    Phase.CLOSING: replace(RUNNING, phase=Phase.CLOSING, reason="cancelled"),
    Phase.SETTLING: replace(RUNNING, phase=Phase.SETTLING, reason="exited"),
    Phase.SETTLED: replace(RUNNING, phase=Phase.SETTLED, reason="exited"),
}
DOCUMENTS: dict[str, Callable[[Lease], table.LeaseDocument]] = {
    "LeaseTerms": WORLD.terms,
    "Delivery": WORLD.delivery,
    "Start": lambda lease: Start(lease.id, 1, 1),
    "UsageRecord": lambda lease: WORLD.usage(lease, lease.ran_ms),
    "CheckpointKept": lambda lease: CheckpointKept(
        lease.id, lease.secured_ms, digest(9), 1, 1
    ),
    "Replacement": lambda lease: Replacement(lease.id, digest(9), 1, 1),
    "GiveBack": lambda lease: GiveBack(lease.id, 5, 1, 1),
    "Receipt": lambda lease: WORLD.receipt(lease, lease.ran_ms),
    "Stop": lambda lease: Stop(lease.id, "cancelled", 1, 1),
}
# The law as docs/protocol.md, section 4, tells it: all that is legal, and where it leads.
LEGAL = {
    ("matched", "LeaseTerms"): "accepted",
    ("matched", "Stop"): "settled",
    ("accepted", "Delivery"): "preparing",
    ("accepted", "Stop"): "settled",
    ("preparing", "Start"): "running",
    ("preparing", "Receipt"): "settled",
    ("preparing", "Stop"): "settled",
    ("running", "UsageRecord"): "running",
    ("running", "CheckpointKept"): "running",
    ("running", "Replacement"): "running",
    ("running", "Delivery"): "running",
    ("running", "GiveBack"): "running",
    ("running", "Receipt"): "settling",
    ("running", "Stop"): "closing",
    ("closing", "Receipt"): "settling",
}
NOW_S = STARTED_S + 10


def move(lease: Lease, document: table.LeaseDocument, *, at_s: int = NOW_S) -> Lease:
    role = table.SIGNERS[type(document)]
    signer = TENANT if role == "tenant" else PROVIDER
    return table.step(lease, document, signer=signer, at_s=at_s, market=RULES)


@pytest.mark.parametrize("kind", DOCUMENTS)
@pytest.mark.parametrize("phase", Phase)
def test_moves_only_as_tabled(phase: Phase, kind: str) -> None:
    lease = LEASES[phase]
    document = DOCUMENTS[kind](lease)
    expected = LEGAL.get((phase.value, kind))
    if expected is None:
        with pytest.raises(Refused) as refusal:
            move(lease, document)
        assert refusal.value.code == "illegal_step"
        assert refusal.value.detail == {"phase": phase.value, "document": kind}
    else:
        moved = move(lease, document)
        assert moved.phase.value == expected
        assert table.STEPS[phase, type(document)].to is moved.phase


@pytest.mark.parametrize("kind", DOCUMENTS)
@pytest.mark.parametrize("phase", Phase)
def test_refuses_the_wrong_hand(phase: Phase, kind: str) -> None:
    lease = LEASES[phase]
    document = DOCUMENTS[kind](lease)
    other = PROVIDER if table.SIGNERS[type(document)] == "tenant" else TENANT
    with pytest.raises(Refused) as refusal:
        table.step(lease, document, signer=other, at_s=NOW_S, market=RULES)
    assert refusal.value.code == "wrong_signer"


@pytest.mark.parametrize(
    ("lease", "document", "deadline_s"),
    [
        (LEASE, WORLD.terms(LEASE), RULES.deliver_s),
        (LEASES[Phase.ACCEPTED], WORLD.delivery(LEASE), RULES.prepare_s),
        (LEASES[Phase.PREPARING], Start(LEASE.id, 1, 1), RULES.report_s),
        (RUNNING, WORLD.usage(RUNNING, 6_000), RULES.report_s),
        (RUNNING, Stop(RUNNING.id, "x", 1, 1), RULES.close_s),
        (RUNNING, WORLD.receipt(RUNNING, 6_000), RULES.settle_s),
        (LEASES[Phase.CLOSING], WORLD.receipt(RUNNING, 6_000), RULES.settle_s),
    ],
)
def test_each_phase_gets_its_deadline(
    lease: Lease, document: table.LeaseDocument, deadline_s: int
) -> None:
    assert move(lease, document).deadline_s == NOW_S + deadline_s


@pytest.mark.parametrize(
    ("phase", "reason", "fault", "owed"),
    [
        (Phase.MATCHED, "not_accepted", Fault.PROVIDER, 0),
        (Phase.ACCEPTED, "not_delivered", Fault.TENANT, 0),
        (Phase.PREPARING, "not_started", Fault.PROVIDER, 0),
        (Phase.RUNNING, "silent", Fault.PROVIDER, 2_000),  # only what is secured
        (Phase.CLOSING, "no_receipt", Fault.PROVIDER, 2_000),
        (Phase.SETTLING, "not_paid", Fault.TENANT, 5_000),  # what ran, not secured
    ],
)
def test_passed_deadline_settles(
    phase: Phase, reason: str, fault: Fault, owed: int
) -> None:
    lease = table.expire(LEASES[phase], market=RULES)
    assert (lease.phase, lease.reason, lease.fault) == (Phase.SETTLED, reason, fault)
    assert lease.owed == owed
    assert lease.ended_at_s == LEASES[phase].deadline_s


@pytest.mark.parametrize("phase", [phase for phase in Phase if phase != Phase.SETTLED])
def test_lost_provider_settles(phase: Phase) -> None:
    lease = table.lose(LEASES[phase], at_s=NOW_S)
    assert (lease.phase, lease.reason) == (Phase.SETTLED, "provider_lost")
    assert lease.fault is Fault.PROVIDER
    assert lease.owed == (2_000 if LEASES[phase].started_at_s else 0)


def test_loss_never_raises_what_is_owed() -> None:
    # Given back after less than what the tenant says it keeps.
    receipt = WORLD.receipt(RUNNING, 1_500, reason="given_back")
    assert table.lose(move(RUNNING, receipt), at_s=NOW_S).owed == 1_500


def test_settling_keeps_when_it_ended() -> None:
    settling = move(RUNNING, WORLD.receipt(RUNNING, 9_000))
    assert table.expire(settling, market=RULES).ended_at_s == NOW_S


def test_end_of_duration_closes() -> None:
    late = replace(RUNNING, deadline_s=STARTED_S + RUNNING.duration_s)
    closing = table.expire(late, market=RULES)
    assert (closing.phase, closing.reason) == (Phase.CLOSING, "timeout")
    assert closing.fault is Fault.NOBODY
    assert closing.deadline_s == late.deadline_s + RULES.close_s


def test_reports_never_outlast_duration() -> None:
    at_s = STARTED_S + 90
    lease = move(RUNNING, WORLD.usage(RUNNING, 90_000), at_s=at_s)
    assert lease.deadline_s == STARTED_S + RUNNING.duration_s


# ---- what is claimed --------------------------------------------------------------


@pytest.mark.parametrize("kind", ["UsageRecord", "Receipt", "CheckpointKept"])
def test_refuses_claim_beyond_clock(kind: str) -> None:
    documents = {
        "UsageRecord": WORLD.usage(RUNNING, 12_000),
        "Receipt": WORLD.receipt(RUNNING, 12_000),
        "CheckpointKept": CheckpointKept(RUNNING.id, 12_000, digest(9), 1, 1),
    }
    document = documents[kind]
    move(RUNNING, document)  # 10 s since the start, 2 s of slack
    with pytest.raises(Refused) as refusal:
        move(RUNNING, replace(document, ran_ms=12_001))
    assert refusal.value.code == "claims_too_much"


def test_refuses_claim_before_start() -> None:
    with pytest.raises(Refused) as refusal:
        move(LEASES[Phase.PREPARING], WORLD.receipt(LEASE, 1))
    assert refusal.value.code == "claims_too_much"


def test_meter_only_goes_up() -> None:
    with pytest.raises(Refused) as refusal:
        move(RUNNING, WORLD.usage(RUNNING, 4_999))
    assert refusal.value.code == "stale_record"


def test_checkpoints_only_go_up() -> None:
    kept = CheckpointKept(RUNNING.id, 1_999, digest(9), 1, 1)
    with pytest.raises(Refused) as refusal:
        move(RUNNING, kept)
    assert refusal.value.code == "stale_checkpoint"
    lease = move(RUNNING, replace(kept, ran_ms=3_000))
    assert (lease.secured_ms, lease.checkpoint) == (3_000, digest(9))


def test_owes_what_ran_rounded_down() -> None:
    cheap = replace(RUNNING, price_hour=1_000)
    assert move(cheap, WORLD.usage(cheap, 10_000)).owed == 2  # 2.78
    assert move(cheap, WORLD.receipt(cheap, 7_300)).owed == 2  # 2.03


def test_owes_nothing_beyond_duration() -> None:
    at_s = STARTED_S + 130  # the agreed 100 s and a slow close
    lease = move(LEASES[Phase.CLOSING], WORLD.receipt(RUNNING, 130_000), at_s=at_s)
    assert lease.owed == lease.hold == 100_000
    assert lease.ran_ms == 130_000


# ---- giving back, stopping, failing -----------------------------------------------


def test_notice_shortens_the_deadline() -> None:
    at_s = STARTED_S + 20
    long = replace(
        RUNNING,
        duration_s=1_000,
        ends_by_s=STARTED_S + 1_000,
        deadline_s=STARTED_S + 30,
    )
    lease = move(long, GiveBack(long.id, 25, 1, 1), at_s=at_s)
    assert lease.deadline_s == STARTED_S + 30  # its next report is due before
    assert lease.give_back_by_s == at_s + 25 + RULES.report_s
    later = move(lease, WORLD.usage(lease, 40_000), at_s=STARTED_S + 50)
    assert later.deadline_s == lease.give_back_by_s  # and no report moves that
    again = move(later, GiveBack(long.id, 1_000, 1, 1), at_s=STARTED_S + 51)
    assert again.give_back_by_s == lease.give_back_by_s  # nor does a second notice
    silent = table.expire(again, market=RULES)
    assert (silent.reason, silent.fault) == ("silent", Fault.PROVIDER)


@pytest.mark.parametrize("phase", [Phase.RUNNING, Phase.CLOSING])
def test_given_back_owes_secured_only(phase: Phase) -> None:
    receipt = WORLD.receipt(RUNNING, 9_000, reason="given_back")
    lease = move(LEASES[phase], receipt)
    assert (lease.fault, lease.owed) == (Fault.PROVIDER, 2_000)
    assert lease.reason == "given_back"


def test_given_back_owes_no_more_than_ran() -> None:
    receipt = WORLD.receipt(RUNNING, 1_500, reason="given_back")
    assert move(RUNNING, receipt).owed == 1_500


def test_first_cause_is_kept() -> None:
    lease = move(LEASES[Phase.CLOSING], WORLD.receipt(RUNNING, 9_000, "exited"))
    assert lease.reason == "cancelled"
    assert move(RUNNING, WORLD.receipt(RUNNING, 9_000, "exited")).reason == "exited"


@pytest.mark.parametrize("phase", [Phase.MATCHED, Phase.ACCEPTED, Phase.PREPARING])
def test_early_stop_costs_nothing(phase: Phase) -> None:
    lease = move(LEASES[phase], Stop(LEASE.id, "changed my mind", 1, 1))
    assert (lease.reason, lease.fault) == ("changed my mind", Fault.NOBODY)
    assert (lease.owed, lease.ended_at_s) == (0, NOW_S)


def test_failed_preparation_costs_nothing() -> None:
    receipt = replace(WORLD.receipt(LEASE, 0, "failed"), exit_code=7)
    lease = move(LEASES[Phase.PREPARING], receipt)
    assert (lease.fault, lease.owed) == (Fault.PROVIDER, 0)
    assert (lease.reason, lease.exit_code) == ("failed", 7)


def test_receipt_is_written_down() -> None:
    receipt = replace(WORLD.receipt(RUNNING, 9_000), exit_code=137, outputs=digest(77))
    lease = move(RUNNING, receipt)
    assert (lease.exit_code, lease.outputs) == (137, digest(77))
    assert (lease.ran_ms, lease.ended_at_s) == (9_000, NOW_S)


# ---- terms and delivery -----------------------------------------------------------


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("offer_id", digest(99)),
        ("tenant", PROVIDER),
        ("provider", TENANT),
        ("price_hour", LEASE.price_hour + 1),
        ("duration_s", LEASE.duration_s - 1),
    ],
)
def test_refuses_other_terms(field: str, value: str | int) -> None:
    terms = replace(WORLD.terms(LEASE), **{field: value})
    with pytest.raises(Refused) as refusal:
        move(LEASE, terms)
    assert (refusal.value.code, refusal.value.field) == (
        "terms_differ",
        f"terms.{field}",
    )


def test_refuses_another_manifest() -> None:
    delivery = replace(WORLD.delivery(LEASE), manifest=NO_DIGEST)
    with pytest.raises(Refused) as refusal:
        move(LEASES[Phase.ACCEPTED], delivery)
    assert refusal.value.code == "wrong_manifest"


def test_diagram_draws_every_row() -> None:
    lines = diagram().splitlines()
    assert lines[0] == "stateDiagram-v2"
    for (phase, kind), to in LEGAL.items():
        assert f"    {phase} --> {to}: {kind}" in lines
    for due in table.DEADLINES.values():
        assert any(due.reason in line for line in lines)
    drawn = {name for line in lines for name in re.findall(r"(\w+) -->", line)}
    assert drawn == {phase.value for phase in Phase}


def test_docs_show_this_diagram() -> None:
    protocol = Path(__file__).parents[4] / "docs" / "protocol.md"
    assert f"```mermaid\n{diagram()}```" in protocol.read_text("utf-8")


def test_runs_what_was_asked_for_last() -> None:
    asked = move(RUNNING, Replacement(RUNNING.id, digest(8), 1, 1))
    again = move(asked, Replacement(RUNNING.id, digest(9), 1, 2))
    with pytest.raises(Refused) as refusal:
        move(again, Delivery(RUNNING.id, digest(8), 1, 1))
    assert refusal.value.code == "wrong_manifest"
    ran = move(again, Delivery(RUNNING.id, digest(9), 1, 1))
    assert (ran.manifest, ran.runs, ran.replacements) == (
        RUNNING.manifest,
        digest(9),
        2,
    )
    assert (ran.price_hour, ran.deadline_s) == (RUNNING.price_hour, RUNNING.deadline_s)


def test_refuses_endless_replacements() -> None:
    worn = replace(RUNNING, replacements=limits.REPLACEMENTS_MAX)
    with pytest.raises(Refused) as refusal:
        move(worn, Replacement(RUNNING.id, digest(8), 1, 1))
    assert refusal.value.code == "too_many_replacements"
