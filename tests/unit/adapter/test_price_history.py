"""Rounds in a file."""

from pathlib import Path

import pytest

from sublet.adapter.price_history import PriceHistory, read_rounds
from sublet.base.errors import Refused
from sublet.core.pricing.reading import Fault, Reading, Round


def make_round(at_s: int) -> Round:
    reading = Reading(
        source="pyth", token="T", price_e8=5, published_at_s=at_s, fresh_s=60
    )
    fault = Fault(source="coingecko", token="T", why="feed_busy")
    return Round(at_s=at_s, readings=(reading,), faults=(fault,))


def test_gives_back_what_was_written(tmp_path: Path) -> None:
    history = PriceHistory(tmp_path / "new" / "prices.jsonl")
    assert history.read() == ()
    for at_s in (1, 2, 3):
        history.append(make_round(at_s))
    assert history.read() == tuple(map(make_round, (1, 2, 3)))
    assert history.path.stat().st_mode & 0o777 == 0o600


def test_keeps_two_files_of_bounded_size(tmp_path: Path) -> None:
    history = PriceHistory(tmp_path / "prices.jsonl", bytes_max=2_000)
    for at_s in range(100):
        history.append(make_round(at_s))
    rounds = history.read()
    assert 5 < len(rounds) < 40
    assert [taken.at_s for taken in rounds] == list(range(100 - len(rounds), 100))
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) < 5_000


BROKEN = [
    b"",
    b"half a li",
    b"\xff\xfe",
    b'{"at_s":-1}',
    b'{"at_s":1,"readings":[{"source":"a","token":"b","price_e8":0}]}',
    b"[" * 100_000,
    b"x" * 200_000,
]


@pytest.mark.parametrize("line", BROKEN, ids=range(len(BROKEN)))
def test_passes_over_what_is_no_round(line: bytes, tmp_path: Path) -> None:
    history = PriceHistory(tmp_path / "prices.jsonl")
    history.append(make_round(1))
    with history.path.open("ab") as file:
        file.write(line)  # and no end of line: the write was cut
    history.append(make_round(2))
    assert [taken.at_s for taken in history.read()] == [1, 2]


def test_says_what_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(Refused) as caught:
        read_rounds(tmp_path / "missing")
    assert caught.value.code == "bad_price_history"
