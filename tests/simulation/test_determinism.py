"""One log of mixed and hostile facts gives one book, wherever and however it is folded."""

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from benchmarks.determinism import fold, fold_apart, record

FACTS = 1_500

Recorded = tuple[Path, str, int, list[int]]


@pytest.fixture(scope="module")
def recorded() -> Iterator[Recorded]:
    with TemporaryDirectory() as folder:
        expected, void, places = record(Path(folder), FACTS)
        yield Path(folder) / "log", expected, void, places


def test_some_facts_are_void_and_most_are_not(recorded: Recorded) -> None:
    assert FACTS // 20 < recorded[2] < FACTS // 2


def test_snapshot_from_anywhere_leads_there(recorded: Recorded) -> None:
    log, expected, _, places = recorded
    assert [fold(log, first=at) for at in places] == [expected] * len(places)


@pytest.mark.parametrize("hash_seed", ["0", "1"])
def test_other_process_gets_the_same_book(recorded: Recorded, hash_seed: str) -> None:
    log, expected, *_ = recorded
    found, _ = fold_apart(log, first=0, hash_seed=hash_seed)
    assert found == expected


def test_one_fact_less_is_another_book(recorded: Recorded) -> None:
    log, expected, *_ = recorded
    lines = log.read_bytes().splitlines(keepends=True)
    shorter = log.with_name("shorter")
    shorter.write_bytes(b"".join(lines[:-1]))
    assert fold(shorter, first=0) != expected
