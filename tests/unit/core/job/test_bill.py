"""What a tenant may be asked to pay, and what its channels add up to."""

import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from sublet.base.errors import PeerFault
from sublet.core.job.bill import (
    CLOCK_TOLERANCE_MS,
    ChannelRecord,
    Meter,
    authorize,
    check_receipt,
    check_usage,
    close_lease,
    rebase,
)

A, B, C = ("0x" + letter * 64 for letter in "abc")
METER = Meter(price_hour=3_600_000, hold=50_000, duration_s=60, since_ms=0)


def pay(
    record: ChannelRecord, lease_id: str, owed: int, asked: int
) -> tuple[ChannelRecord, int]:
    return authorize(record, lease_id=lease_id, owed=owed, channel_total=asked)


def test_reading_within_time_is_authorised() -> None:
    assert check_usage(METER, ran_ms=10_000, owed=10_000, at_ms=10_000) == 10_000


def test_less_than_owed_is_fine() -> None:
    assert check_usage(METER, ran_ms=10_000, owed=9_000, at_ms=10_000) == 9_000


def test_never_above_the_hold() -> None:
    with pytest.raises(PeerFault) as caught:
        check_usage(METER, ran_ms=59_000, owed=59_000, at_ms=60_000)
    assert caught.value.code == "owed_overstated"
    assert check_usage(METER, ran_ms=59_000, owed=50_000, at_ms=60_000) == 50_000


def test_seconds_beyond_the_duration_are_the_provider_s() -> None:
    meter = structs.replace(METER, hold=1_000_000)
    with pytest.raises(PeerFault):
        check_usage(meter, ran_ms=61_000, owed=61_000, at_ms=61_000)
    assert check_usage(meter, ran_ms=61_000, owed=60_000, at_ms=61_000) == 60_000


CLAIMS: list[tuple[dict[str, int], str]] = [
    ({"ran_ms": CLOCK_TOLERANCE_MS + 1_001, "owed": 0}, "claims_too_much"),
    ({"ran_ms": 1_000, "owed": 1_001}, "owed_overstated"),
]


@pytest.mark.parametrize(("claim", "code"), CLAIMS)
def test_false_claims_are_named(claim: dict[str, int], code: str) -> None:
    with pytest.raises(PeerFault) as caught:
        check_usage(METER, at_ms=1_000, **claim)
    assert caught.value.code == code


@pytest.mark.parametrize(
    ("reason", "due"), [("exited", 9_000), ("given_back", 4_000), ("failed", 4_000)]
)
def test_receipt_bills_what_is_kept(reason: str, due: int) -> None:
    meter = structs.replace(METER, secured_ms=4_000)
    said: dict[str, Any] = {"ran_ms": 9_000, "reason": reason, "at_ms": 9_000}
    assert check_receipt(meter, owed=due, **said) == due
    with pytest.raises(PeerFault):
        check_receipt(meter, owed=due + 1, **said)


# ---- channels -------------------------------------------------------------------------


def test_vouchers_add_up_over_leases() -> None:
    record, amount = pay(ChannelRecord(), A, 100, 100)
    assert amount == 100
    record = close_lease(record, lease_id=A)
    record, amount = pay(record, B, 50, 150)
    assert amount == 150


def test_same_reading_twice_is_harmless() -> None:
    record, first = pay(ChannelRecord(), A, 100, 100)
    assert pay(record, A, 100, 100) == (record, first)


def test_overstated_channel_is_refused() -> None:
    record = close_lease(pay(ChannelRecord(), A, 100, 100)[0], lease_id=A)
    with pytest.raises(PeerFault) as caught:
        pay(record, B, 50, 151)
    assert caught.value.code == "channel_overstated"


def test_reading_under_way_elsewhere_is_cut() -> None:
    record, _ = pay(ChannelRecord(), A, 100, 100)
    _, amount = pay(record, B, 50, 170)  # A has run on meanwhile
    assert amount == 150


def test_understated_channel_never_lowers_a_voucher() -> None:
    record, _ = pay(ChannelRecord(), A, 100, 100)
    record = close_lease(record, lease_id=A)
    _, amount = pay(record, B, 10, 70)  # of A less was settled than was signed
    assert amount == 100


def test_closing_twice_is_harmless() -> None:
    record = close_lease(pay(ChannelRecord(), A, 100, 100)[0], lease_id=A)
    assert close_lease(record, lease_id=A) == record


def test_lost_record_is_rebuilt_from_the_log() -> None:
    record = rebase(ChannelRecord(), paid=1_000, over=frozenset({A}))
    _, amount = pay(record, B, 50, 1_050)
    assert amount == 1_050


def test_rebase_never_forgets_what_was_signed() -> None:
    record, _ = pay(ChannelRecord(), A, 100, 100)
    again = rebase(record, paid=60, over=frozenset({A}))
    assert again.settled == 100
    assert again.open == {}


def test_first_two_that_end_at_once_are_paid_in_either_order() -> None:
    # B's provider counts A, for which this tenant has authorised nothing so far.
    with pytest.raises(PeerFault):
        pay(ChannelRecord(), B, 30, 130)
    record = rebase(ChannelRecord(), paid=0, over=frozenset(), beside=frozenset({A, B}))
    record, amount = pay(record, B, 30, 130)
    assert amount == 30
    record = close_lease(record, lease_id=B)
    _, amount = pay(record, A, 100, 100)
    assert amount == 130


@given(
    st.lists(st.tuples(st.sampled_from([A, B, C]), st.integers(0, 1_000)), max_size=30)
)
def test_never_signs_more_than_was_authorised(
    readings: list[tuple[str, int]],
) -> None:
    record, authorized, last = ChannelRecord(), {A: 0, B: 0, C: 0}, 0
    for lease_id, owed in readings:
        authorized[lease_id] = max(authorized[lease_id], owed)
        try:
            record, amount = pay(record, lease_id, owed, 10**9)
        except PeerFault:
            continue  # asked for more than can be, with no other lease open
        assert last <= amount <= sum(authorized.values())
        last = amount


def test_unasked_voucher_covers_all_debts() -> None:
    record, _ = authorize(ChannelRecord(settled=500), lease_id=A, owed=70)
    record, amount = authorize(record, lease_id=B, owed=30)
    assert amount == 600
    assert record.last == 600


def test_two_leases_that_end_at_once_are_both_covered() -> None:
    """The younger one's claim names both, and may be heard first."""
    record, first = authorize(
        ChannelRecord(open={"0xa": 60}), lease_id="0xb", owed=50, channel_total=150
    )
    assert first == 110  # what is authorised of the older one so far
    record, second = authorize(record, lease_id="0xa", owed=100, channel_total=100)
    assert second == 150
    assert authorize(record, lease_id="0xa", owed=100, channel_total=100)[1] == 150


@given(st.integers())
def test_leases_that_overlap_are_covered_in_whatever_order_they_are_heard(
    seed: int,
) -> None:
    """A provider's figures are of the instant at which it says them; they wait.

    Each says what the older open ones and itself owe; of each lease words come in order.
    """
    owed = {A: 0, B: 0, C: 0}
    waiting: dict[str, list[tuple[int, int, bool]]] = {A: [], B: [], C: []}
    record = ChannelRecord()
    lots = random.Random(seed)
    ended: set[str] = set()
    while len(ended) < len(owed):
        lease_id = lots.choice(sorted(owed.keys() - ended))
        owed[lease_id] += lots.randint(1, 100)
        if lots.random() < 0.4:
            ended.add(lease_id)
        older = [key for key in owed if key <= lease_id]
        total = sum(owed[key] for key in older)
        waiting[lease_id].append((owed[lease_id], total, lease_id in ended))
    # Each lease has been authorised for something, as a first reading does it.
    for lease_id in owed:
        record, _ = authorize(record, lease_id=lease_id, owed=0)
    while any(waiting.values()):
        lease_id = lots.choice([key for key in waiting if waiting[key]])
        due, total, is_end = waiting[lease_id].pop(0)
        is_settled = is_end and lots.random() < 0.5  # heard of from the market first
        asked = None if is_settled else total
        record, _ = authorize(record, lease_id=lease_id, owed=due, channel_total=asked)
        if is_end:
            record = close_lease(record, lease_id=lease_id)
    assert record.last == sum(owed.values())


def test_one_after_the_other_goes_by_what_is_asked() -> None:
    """What was signed for and not owed in the end pays for the next lease."""
    record, _ = pay(ChannelRecord(), A, 100, 100)
    record = close_lease(record, lease_id=A)  # given back: 60 were owed
    record, amount = pay(record, B, 30, 90)
    assert amount == 100
    record, amount = pay(record, B, 50, 110)
    assert amount == 110
