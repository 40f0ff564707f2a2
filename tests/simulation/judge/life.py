"""How a lease moves and what is paid for it: by whose word, by when, to the cent."""

from sublet.core.document import (
    AnyDocument,
    Channel,
    CheckpointKept,
    Erasure,
    Fact,
    GiveBack,
    ProviderLost,
    Receipt,
    Revocation,
    Start,
    Stop,
    UsageRecord,
)
from sublet.core.lease.phase import Lease
from tests.simulation.judge.notes import Case, Notes
from tests.simulation.judge.wait import displaced, take_back

SLACK_MS = 2_000

# From where, by whose word, to where. Only what is here may ever happen.
BY_WORD = {
    ("matched", "LeaseTerms"): "accepted",
    ("matched", "Stop"): "settled",
    ("accepted", "Delivery"): "preparing",
    ("accepted", "Stop"): "settled",
    ("preparing", "Start"): "running",
    ("preparing", "Receipt"): "settled",
    ("preparing", "Stop"): "settled",
    ("running", "UsageRecord"): "running",
    ("running", "CheckpointKept"): "running",
    ("running", "GiveBack"): "running",
    ("running", "Receipt"): "settling",
    ("running", "Stop"): "closing",
    ("closing", "Receipt"): "settling",
    ("settling", "Erasure"): "settling",
}
OF_THE_TENANT = {"Stop", "CheckpointKept"}


def moves_on(
    notes: Notes, fact: Fact, case: Case, lease: Lease, *, is_void: bool
) -> None:
    """By its deadline, by the loss of its provider, or by somebody's word about it."""
    assert case.phase != "settled", "a settled lease moved"
    was, to = case.phase, lease.phase.value
    due_s = case.due_s(notes.rules)
    said = fact.document
    if lease.displaced_by != case.lease.displaced_by:
        displaced(notes, case, lease)
        return
    is_about_it = not is_void and getattr(said, "lease_id", "") == lease.id
    if due_s <= notes.now_s:
        owed = _expire(notes, case, to, due_s)
    elif lease.reason == "provider_lost" and to == "settled":
        assert isinstance(said, ProviderLost), "lost, and nobody said so"
        assert (said.provider, is_void) == (lease.provider, False)
        owed = case.price(case.secured_ms)
        owed = min(owed, _owed(case)) if was == "settling" else owed
    elif (was, to) == ("settling", "settled"):
        owed = _owed(case)
        assert lease.paid == owed, "settled before it was covered"
    elif isinstance(said, Revocation) and not is_void:
        assert said.delegation_id == lease.delegation
        assert to == BY_WORD[was, "Stop"]
        owed, case.since_s = 0, notes.now_s
    else:
        assert is_about_it, "moved by nobody"
        kind = type(said).__name__
        assert BY_WORD.get((was, kind)) == to, f"{was} to {to} by {kind}"
        owed = _hear_of_lease(notes, fact, case, said)
        case.since_s = notes.now_s if was != to else case.since_s
    case.lease, case.phase = lease, to
    if to == "settled":
        _settled(notes, case, owed)
        take_back(notes, case)


def _owed(case: Case) -> int:
    """What is owed once the program is over, by what was claimed."""
    ran_ms = case.ran_ms
    if case.is_given_back:
        ran_ms = min(ran_ms, case.secured_ms)
    return case.price(ran_ms) if case.started_s else 0


def _expire(notes: Notes, case: Case, to: str, due_s: int) -> int:
    is_timeout = due_s == case.ends_by_s
    if case.phase == "running" and is_timeout:
        case.since_s = due_s
        assert to == "closing", "its time is over and it does not close"
        return 0
    assert to == "settled", "a deadline passed and the lease goes on"
    if case.phase == "settling":
        return _owed(case)
    return case.price(case.secured_ms)


def _hear_of_lease(notes: Notes, fact: Fact, case: Case, said: AnyDocument) -> int:
    kind, lease = type(said).__name__, case.lease
    allowed = {lease.tenant, lease.authorizer}
    if kind not in OF_THE_TENANT:
        allowed = {lease.provider}
    assert fact.signer in allowed, f"{kind} by a stranger"
    match said:
        case Start():
            case.started_s = case.heard_s = notes.now_s
            case.ends_by_s = notes.now_s + lease.duration_s
            case.ends_by_s = min(case.ends_by_s, case.until_s or case.ends_by_s)
        case UsageRecord() | Receipt():
            _check_claim(notes, case, said.ran_ms)
            if isinstance(said, UsageRecord):
                assert said.ran_ms >= case.ran_ms, "the meter went back"
            else:
                case.is_given_back = said.reason == "given_back"
            case.ran_ms, case.heard_s = said.ran_ms, notes.now_s
            return _owed(case)
        case CheckpointKept():
            _check_claim(notes, case, said.ran_ms)
            assert said.ran_ms >= case.secured_ms, "an older checkpoint counts"
            case.secured_ms = said.ran_ms
        case GiveBack():
            by_s = notes.now_s + said.notice_s + notes.rules.report_s
            case.give_back_by_s = min(by_s, case.give_back_by_s or by_s)
        case Stop():
            return 0
        case Erasure():
            assert case.may_hold_data, "erased twice"
            case.may_hold_data = False
        case _:
            case.may_hold_data |= "erasure" in lease.features
    return 0


def _check_claim(notes: Notes, case: Case, ran_ms: int) -> None:
    passed_ms = (notes.now_s - case.started_s) * 1_000 if case.started_s else 0
    slack_ms = SLACK_MS if case.started_s else 0
    assert ran_ms <= passed_ms + slack_ms, "more time is claimed than passed"


def _settled(notes: Notes, case: Case, owed: int) -> None:
    """Exactly what the channel's last voucher leaves for it is paid."""
    lease, names = case.lease, list(notes.cases)
    assert lease.owed == owed, f"owed is {owed}, and {lease.owed} was charged"
    of_channel = [one for one in notes.cases.values() if one.lease.line == lease.line]
    paid = sum(one.paid for one in of_channel)
    older = sum(
        one.lease.owed
        for one in of_channel
        if one.phase != "settled" and names.index(one.lease.id) < names.index(lease.id)
    )
    case.paid = lease.paid
    keys = [key for key, one in notes.channels.items() if _line(one) == lease.line]
    # Whether a voucher came before or after a deadline of the same instant is the
    # book's to say: it pays by what was vouched before, or by what is now.
    allowed = {
        min(owed, max(0, sum(said.get(key, 0) for key in keys) - paid - older))
        for said in (notes.vouched_before, notes.vouched)
    }
    assert lease.paid in allowed, f"{lease.paid} is paid; right is {allowed}"


def erased(notes: Notes, fact: Fact, lease: Lease) -> None:
    """The provider says so, once, of a lease that is settled."""
    case = notes.cases[lease.id]
    assert isinstance(fact.document, Erasure)
    assert fact.signer == lease.provider, "a stranger says that it is erased"
    assert case.phase == "settled"
    assert case.may_hold_data, "erased twice"
    case.lease, case.may_hold_data = lease, False


def _line(channel: Channel) -> tuple[str, str, str]:
    return (channel.payer, channel.receiver, channel.payer_authorizer)
