"""What was bid is remembered, also by the agent after this one."""

from pathlib import Path

import pytest

from sublet.provider.bid_record import KEPT_MAX, BidMade, BidsMade
from sublet.provider.journal import Journal
from tests.unit.core.book.world import digest, make_order

MADE = BidMade.of(make_order(), machine="m1", price_hour=7)


def test_next_agent_knows_the_bid(tmp_path: Path) -> None:
    path = tmp_path / "bids.json"
    BidsMade(path, journal=Journal()).keep(digest(2), MADE)
    again = BidsMade(path, journal=Journal())
    assert again.find(digest(2)) == MADE
    assert again.find(digest(3)) is None


def test_oldest_bids_are_forgotten(tmp_path: Path) -> None:
    made = BidsMade(tmp_path / "bids.json", journal=Journal())
    for number in range(KEPT_MAX + 1):
        made.keep(digest(number), MADE)
    assert made.find(digest(0)) is None
    assert made.find(digest(1)) == MADE


def test_damaged_file_is_told_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "bids.json").write_text("{")
    with caplog.at_level("WARNING"):
        made = BidsMade(tmp_path / "bids.json", journal=Journal())
    assert "bids_forgotten" in caplog.messages
    assert made.find(digest(0)) is None
