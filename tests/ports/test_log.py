"""What every log must do: one suite for the fake and the real one."""

import hashlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from sublet.adapter.log_postgres import PostgresLog
from sublet.adapter.log_sqlite import SqliteLog
from sublet.service.ports import Ground, Log, LogForked, Overtaken, Snapshot
from tests.fakes.log_memory import FakeLog

ALICE, BOB, CAROL = ("0x" + digit * 40 for digit in "abc")


@pytest.fixture(params=["fake", "sqlite", "postgres"])
def log(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Log]:
    log: Log
    if request.param == "fake":
        log = FakeLog()
    elif request.param == "sqlite":
        log = SqliteLog(tmp_path / "log.db")
    else:
        log = PostgresLog(request.getfixturevalue("postgres_url"))
    log.append([], ground=Ground(is_resume=True))
    yield log
    log.close()


def row(name: str) -> tuple[str, bytes, bytes]:
    digest = hashlib.sha256(name.encode())
    return "0x" + digest.hexdigest(), b"body of " + name.encode(), digest.digest()


def rows(*names: str) -> list[tuple[str, bytes, bytes]]:
    return [row(name) for name in names]


def snapshot(size: int) -> Snapshot:
    book = b"book %d" % size
    return Snapshot(size, book, hashlib.sha256(book).digest(), b"tree")


def test_counts_indexes_from_zero(log: Log) -> None:
    assert log.size() == 0
    assert log.append(rows("a", "b")).indexes == [0, 1]
    assert log.append(rows("c")).indexes == [2]
    assert log.size() == 3


def test_appends_nothing_for_nothing(log: Log) -> None:
    assert log.append([]).indexes == []
    assert log.size() == 0


def test_gives_old_index_to_duplicates(log: Log) -> None:
    log.append(rows("a", "b"))
    assert log.append(rows("c", "b", "d")).indexes == [2, 1, 3]
    assert log.size() == 4


def test_finds_duplicates_within_one_batch(log: Log) -> None:
    assert log.append(rows("a", "b", "a", "c", "a")).indexes == [0, 1, 0, 2, 0]
    assert log.size() == 3


def test_says_what_it_held_before(log: Log) -> None:
    assert log.append(rows("a", "b")).size == 0
    assert log.append(rows("b", "c")).size == 2
    assert log.append(rows("b")).size == 3


def test_appends_only_as_the_next(log: Log) -> None:
    log.append(rows("a", "b"))
    stale = Ground(size=1, leaf=row("a")[2], is_next=True)
    with pytest.raises(Overtaken):
        log.append(rows("c"), ground=stale)
    assert log.size() == 2
    # What is there already is there, whatever it was decided on.
    assert log.append(rows("b"), ground=stale).indexes == [1]
    current = Ground(size=2, leaf=row("b")[2], is_next=True)
    assert log.append(rows("c"), ground=current).indexes == [2]


def test_notices_a_fork(log: Log) -> None:
    log.append(rows("a", "b"))
    for ground in (
        Ground(size=2, leaf=row("c")[2]),  # another entry stands there
        Ground(size=3, leaf=row("c")[2]),  # the entry is gone
    ):
        with pytest.raises(LogForked):
            log.append(rows("d"), ground=ground)
    assert log.size() == 2


def test_appends_while_alone(log: Log) -> None:
    log.append(rows("a"))
    with log.alone():
        assert log.append(rows("b")).indexes == [1]
    assert log.size() == 2


def test_sees_what_is_more(log: Log) -> None:
    log.append(rows("a", "b"))
    assert log.wait_more(size=1, timeout_s=60)
    assert not log.wait_more(size=2, timeout_s=0.01)


def test_keeps_the_first_body_of_an_id(log: Log) -> None:
    log.append(rows("a"))
    id_, _, leaf = row("a")
    log.append([(id_, b"another body", leaf)])
    assert log.read(first=0, limit=10)[0].body == b"body of a"


def test_appends_more_rows_than_one_statement_takes(log: Log) -> None:
    names = [str(number) for number in range(600)]
    assert log.append(rows(*names, *names)).indexes == [*range(600), *range(600)]
    assert [r.index for r in log.read(first=0, limit=1_000)] == list(range(600))


def test_reads_pages_in_order(log: Log) -> None:
    log.append(rows(*"abcdef"))
    page = log.read(first=2, limit=3)
    assert [(r.index, r.id, r.body, r.leaf) for r in page] == [
        (2, *row("c")),
        (3, *row("d")),
        (4, *row("e")),
    ]
    assert log.read(first=6, limit=3) == []


def test_finds_an_index_by_id(log: Log) -> None:
    log.append(rows("a", "b"))
    assert log.find(row("b")[0]) == 1
    assert log.find(row("c")[0]) is None


def test_gives_the_newest_checkpoint_below(log: Log) -> None:
    assert log.find_checkpoint() is None
    for size in (1, 5, 9):
        log.put_checkpoint(size=size, note=b"note %d" % size)
    assert log.find_checkpoint() == b"note 9"
    assert log.find_checkpoint(size_max=8) == b"note 5"
    assert log.find_checkpoint(size_max=5) == b"note 5"
    assert log.find_checkpoint(size_max=0) is None


def test_reads_checkpoints_in_order(log: Log) -> None:
    for size in (9, 1, 5, 5):
        log.put_checkpoint(size=size, note=b"note %d" % size)
    assert log.read_checkpoints(first=2, limit=10) == [(5, b"note 5"), (9, b"note 9")]
    assert log.read_checkpoints(first=0, limit=2) == [(1, b"note 1"), (5, b"note 5")]


def test_keeps_the_last_two_snapshots(log: Log) -> None:
    assert log.find_snapshot() is None
    for size in (4, 8, 12):
        log.put_snapshot(snapshot(size))
    assert log.find_snapshot() == snapshot(12)
    assert log.find_snapshot(size_max=11) == snapshot(8)
    assert log.find_snapshot(size_max=7) is None


def test_reads_settled_leases_newest_first(log: Log) -> None:
    one, two, three = (row(name)[0] for name in "abc")
    log.put_settled(
        [
            (one, ALICE, BOB, 10, b"one"),
            (two, CAROL, ALICE, 30, b"two"),
            (three, CAROL, BOB, 20, b"three"),
        ]
    )
    assert log.read_settled(party=ALICE, before_s=None, limit=9) == [b"two", b"one"]
    assert log.read_settled(party=BOB, before_s=20, limit=9) == [b"one"]
    assert log.read_settled(party=CAROL, before_s=None, limit=1) == [b"two"]
    assert log.find_settled(three) == b"three"
    assert log.find_settled(row("d")[0]) is None


def test_settling_again_is_harmless(log: Log) -> None:
    settled = (row("a")[0], ALICE, BOB, 10, b"one")
    log.put_settled([settled])
    log.put_settled([settled])
    assert log.read_settled(party=ALICE, before_s=None, limit=9) == [b"one"]
    log.put_settled([(*settled[:-1], b"one, erased")])  # the later word counts
    assert log.read_settled(party=ALICE, before_s=None, limit=9) == [b"one, erased"]


def test_reads_from_several_threads(log: Log) -> None:
    log.append(rows(*"abc"))
    with ThreadPoolExecutor(4) as pool:
        sizes = pool.map(lambda _: len(log.read(first=0, limit=9)), range(50))
        assert set(sizes) == {3}


def test_appends_from_several_threads(log: Log) -> None:
    with ThreadPoolExecutor(4) as pool:
        batches = [rows(f"{number}", f"{number}'") for number in range(40)]
        indexes = [
            i for placing in pool.map(log.append, batches) for i in placing.indexes
        ]
    assert sorted(indexes) == list(range(80))
    assert [r.index for r in log.read(first=0, limit=99)] == list(range(80))


def test_closes_twice(log: Log) -> None:
    log.close()
    log.close()
