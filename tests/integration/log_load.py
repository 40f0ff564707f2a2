"""Writers that append to a log in PostgreSQL without a pause, and remember all of it."""

import hashlib
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from sublet.adapter.log_postgres import PostgresLog
from sublet.base.errors import Unavailable
from sublet.service.ports import Ground

WRITERS = 3
WAIT_S = 90
STILL_S = 3  # many commits


def make_row(name: str) -> tuple[str, bytes, bytes]:
    digest = hashlib.sha256(name.encode())
    return ("0x" + digest.hexdigest(), name.encode(), digest.digest())


class Load:
    """Appends from several threads, each with a log of its own, until told to end."""

    def __init__(self, url: str) -> None:
        self._url = url
        self.acknowledged: dict[str, int] = {}
        self._ended = threading.Event()
        self._lock = threading.Lock()
        self._threads = [
            threading.Thread(target=self._write, args=(url, number))
            for number in range(WRITERS)
        ]
        for thread in self._threads:
            thread.start()

    def _write(self, url: str, writer: int) -> None:
        log = PostgresLog(url, away_ms=3_600_000)
        number = 0
        while not self._ended.is_set():
            rows = [make_row(f"{writer} {number + n}") for n in range(5)]
            try:
                placing = log.append(rows)
            except Unavailable:
                continue  # not acknowledged: the same ones again
            with self._lock:
                for row, index in zip(rows, placing.indexes, strict=True):
                    self.acknowledged[row[0]] = index
            number += 5
        log.close()

    def wait_more(self, count: int) -> None:
        deadline, target = time.monotonic() + WAIT_S, len(self.acknowledged) + count
        while len(self.acknowledged) < target:
            assert time.monotonic() < deadline, "no append came through"
            time.sleep(0.01)

    def wait_still(self) -> None:
        """Wait until nothing more is acknowledged, for a while."""
        deadline, before = time.monotonic() + WAIT_S, -1
        while before != len(self.acknowledged):
            assert time.monotonic() < deadline, "it is acknowledged all the same"
            before = len(self.acknowledged)
            time.sleep(STILL_S)

    def check(self) -> None:
        """The log has no gap, and all that was acknowledged, where it was said to."""
        log = PostgresLog(self._url, away_ms=3_600_000)
        rows = log.read(first=0, limit=1_000_000)
        log.close()
        assert [row.index for row in rows] == list(range(len(rows)))
        stored = {row.id: row.index for row in rows}
        assert len(stored) == len(rows)
        assert self.acknowledged.items() <= stored.items()

    def end(self) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join(WAIT_S)


@contextmanager
def loaded(url: str) -> Iterator[Load]:
    """Make a log there, and load it; ended whatever happens."""
    log = PostgresLog(url, away_ms=3_600_000)
    log.append([], ground=Ground(is_resume=True))
    log.close()
    load = Load(url)
    try:
        yield load
    finally:
        load.end()
