"""What may be claimed: from the log's own start, never falling, never invented."""

import pytest

from sublet.provider import meter
from sublet.service.ports import SandboxState
from tests.unit.provider.lease_maker import make_record


def test_claims_a_second_unheard() -> None:
    record = make_record()
    for ran_ms, claim_ms in ((0, 0), (400, 400), (1_000, 1_000), (90_000, 1_000)):
        record = meter.note_ran(record, ran_ms=ran_ms)
        assert (record.ran_ms, record.owed) == (claim_ms, claim_ms)


@pytest.mark.parametrize(
    ("ran_ms", "passed_ms", "later_ms", "claim_ms"),
    [
        (20, 0, 10_020, 10_020),  # heard at once: everything is billed
        (900, 1_000, 5_000, 5_000),  # the log's clock ticked in between
        (60_000, 0, 70_000, 11_000),  # heard after a minute: that minute is ours
        (60_000, 58_000, 70_000, 69_000),  # heard in time, answered late
    ],
)
def test_bills_from_the_logs_start(
    ran_ms: int, passed_ms: int, later_ms: int, claim_ms: int
) -> None:
    record = meter.note_ran(make_record(), ran_ms=ran_ms)
    record = meter.note_started(record, ran_ms=ran_ms, passed_ms=passed_ms)
    assert meter.note_ran(record, ran_ms=later_ms).ran_ms == claim_ms


def test_hears_the_start_once() -> None:
    record = meter.note_started(make_record(), ran_ms=50, passed_ms=0)
    assert meter.note_started(record, ran_ms=90_000, passed_ms=0) == record


def test_never_claims_less_than_before() -> None:
    record = make_record(unbilled_ms=0, ran_ms=5_000, owed=5_000)
    assert meter.note_ran(record, ran_ms=4_000).ran_ms == 5_000


def test_cuts_what_book_refuses() -> None:
    record = make_record(unbilled_ms=0, ran_ms=5_000, owed=5_000)
    cut = meter.cut_claim(record, passed_ms=3_000)
    assert (cut.ran_ms, cut.owed) == (3_000, 3_000)
    assert meter.cut_claim(record, passed_ms=9_000) == record


@pytest.mark.parametrize(
    ("is_claimed", "ran_ms", "owed"),
    [(True, 5_000, 2_000), (False, 2_000, 2_000)],
)
def test_bills_only_what_is_secured(is_claimed: bool, ran_ms: int, owed: int) -> None:
    record = make_record(unbilled_ms=0, ran_ms=5_000, owed=5_000, secured_ms=2_000)
    billed = meter.bill_secured(record, is_claimed=is_claimed)
    assert (billed.ran_ms, billed.owed) == (ran_ms, owed)


@pytest.mark.parametrize(
    ("report_s", "interval_ms"), [(45, 10_000), (40, 10_000), (8, 2_000), (2, 500)]
)
def test_reports_four_times_in_time(report_s: int, interval_ms: int) -> None:
    assert meter.find_log_interval_ms(report_s) == interval_ms


def test_writes_what_was_read() -> None:
    state = SandboxState("running", 1, 0, 5_000, 1_234, 99, 0, "")
    record = make_record(ran_ms=4_000, sequence=7)
    usage = meter.make_usage(record, state, now_s=11, salt=12)
    assert (usage.ran_ms, usage.sequence, usage.cpu_ms) == (4_000, 7, 1_234)
    assert usage.memory_bytes_max == 99


def test_numbers_records_so_that_none_comes_again() -> None:
    record = make_record(sequence=7)
    assert meter.next_sequence(record, now_s=1_790_000_000) == 1_790_000_000_000
    # A clock that was set back goes on counting where it was.
    ahead = make_record(sequence=1_790_000_000_000)
    assert meter.next_sequence(ahead, now_s=1_789_000_000) == 1_790_000_000_001
    # Where the last one was not kept, the time that passed makes the difference.
    assert meter.next_sequence(record, now_s=1_790_000_002) > 1_790_000_000_000
