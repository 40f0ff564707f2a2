"""The owner's ledger: each lease once, by day."""

from pathlib import Path

import pytest

from sublet.base.errors import Broken
from sublet.provider.earnings import (
    DAYS_KEPT,
    Earnings,
    add_lease,
    read_earnings,
    write_earnings,
)
from tests.unit.provider.lease_maker import make_lease

DAY_S = 86_400
NOON_S = 20_000 * DAY_S + DAY_S // 2


def test_adds_up_by_day(tmp_path: Path) -> None:
    earnings = Earnings()
    for at_s, paid in ((NOON_S, 5), (NOON_S + 60, 7), (NOON_S + DAY_S, 11)):
        earnings = add_lease(earnings, make_lease(paid=paid), at_s=at_s)
    assert earnings.of_day(NOON_S) == 12
    assert earnings.of_day(NOON_S + DAY_S) == 11
    assert earnings.of_day(NOON_S - DAY_S) == 0
    assert (earnings.total, earnings.leases) == (23, 3)
    write_earnings(tmp_path / "earnings.json", earnings)
    assert read_earnings(tmp_path / "earnings.json") == earnings


def test_forgets_days_of_long_ago() -> None:
    earnings = add_lease(Earnings(), make_lease(paid=5), at_s=NOON_S)
    later_s = NOON_S + (DAYS_KEPT + 1) * DAY_S
    earnings = add_lease(earnings, make_lease(paid=7), at_s=later_s)
    assert len(earnings.days) == 1
    assert earnings.total == 12


def test_begins_with_nothing(tmp_path: Path) -> None:
    assert read_earnings(tmp_path / "missing") == Earnings()
    (tmp_path / "bad").write_text("no")
    with pytest.raises(Broken):
        read_earnings(tmp_path / "bad")
