"""What a channel owes: leases added up, oldest first."""

import pytest

from sublet.core.lease.phase import Phase
from sublet.provider.account import (
    compute_channel_total,
    compute_due,
    compute_unpaid_s,
    find_paid,
)
from tests.unit.provider.lease_maker import make_lease, make_record

SETTLED = Phase.SETTLED


@pytest.mark.parametrize(
    ("ran_ms", "due"),
    [
        (0, 0),
        (1, 1),
        (1_500, 1_500),
        (600_000, 600_000),
        (600_001, 600_000),  # beyond the duration it is the provider's time
    ],
)
def test_prices_what_ran(ran_ms: int, due: int) -> None:
    assert compute_due(make_lease(), ran_ms=ran_ms) == due


def test_prices_never_beyond_hold() -> None:
    assert compute_due(make_lease(hold=100), ran_ms=5_000) == 100


@pytest.mark.parametrize(
    ("leases", "paid"),
    [
        ([], 0),
        ([make_lease(1, channel_total=0)], 0),
        # A settled lease says what the channel has paid.
        ([make_lease(1, phase=SETTLED, channel_total=70)], 70),
        # The oldest open lease has nothing before it but what was paid.
        ([make_lease(1, channel_total=75, owed=5)], 70),
        # A younger one has the older one's debt before it; it tells nothing.
        (
            [
                make_lease(1, channel_total=75, owed=5),
                make_lease(2, channel_total=99, owed=9),
            ],
            70,
        ),
        # Another tenant's channel is another.
        ([make_lease(1, phase=SETTLED, channel_total=70, tenant="0x" + "9" * 40)], 0),
    ],
)
def test_finds_what_was_paid(leases: list, paid: int) -> None:
    assert find_paid(leases, line=make_lease().line) == paid


def test_adds_older_open_leases() -> None:
    records = [
        make_record(1, phase=SETTLED, owed=1_000),  # paid already: counted by ``paid``
        make_record(2, owed=10),
        make_record(3, owed=20),
        make_record(4, owed=40, tenant="0x" + "9" * 40),
        make_record(5, owed=80),
    ]
    totals = [
        compute_channel_total(record, owed=record.owed, records=records, paid=500)
        for record in records[1:4]
    ]
    assert totals == [510, 530, 540]


@pytest.mark.parametrize(
    ("owed", "total", "vouched", "unpaid_s"),
    [
        (0, 500, 0, 0),  # nothing of this lease is owed yet
        (10_000, 10_500, 10_500, 0),
        (10_000, 10_500, 500, 10),  # ten seconds at a micro-dollar a millisecond
        (10_000, 10_500, 0, 10),  # older debts are not this lease's
        (10_000, 10_500, 99_999, 0),
        (10_999, 11_499, 500, 10),  # rounds down
    ],
)
def test_counts_unpaid_seconds(
    owed: int, total: int, vouched: int, unpaid_s: int
) -> None:
    assert (
        compute_unpaid_s(make_lease(), owed=owed, channel_total=total, paid=vouched)
        == unpaid_s
    )


def test_never_counts_a_gift() -> None:
    free = make_lease(price_hour=0)
    assert compute_unpaid_s(free, owed=0, channel_total=0, paid=0) == 0
