"""A synchronous standby: the primary is killed under load, the standby takes over.

Two real servers. What was acknowledged is there afterwards, in the same places.
"""

import hashlib
import random
import threading
import time

import pytest

from sublet.adapter.log_postgres import PostgresLog
from sublet.base.errors import Unavailable
from sublet.service.ports import Ground
from tests.postgres_server import Server, private_folder

WRITERS = 3
ROUNDS = 3
WAIT_S = 90


class Load:
    """Appends from several threads, each with a log of its own, until told to end."""

    def __init__(self, url: str) -> None:
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
            names = [f"{writer} {number + n}" for n in range(5)]
            rows = []
            for name in names:
                digest = hashlib.sha256(name.encode())
                rows.append(("0x" + digest.hexdigest(), name.encode(), digest.digest()))
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

    def end(self) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join(WAIT_S)


def make_standby(primary: Server, standby: Server) -> None:
    standby.call(
        "pg_basebackup",
        *("-D", standby.data, "-R", "-c", "fast", "-X", "stream"),
        *("-d", primary.url("postgres")),
    )
    standby.configure("synchronous_standby_names = ''")
    standby.start()


@pytest.mark.timeout(600)
@pytest.mark.parametrize("seed", range(ROUNDS))
def test_standby_has_all_that_was_acknowledged(seed: int) -> None:
    chance = random.Random(seed)
    with private_folder() as first, private_folder() as second:
        primary, standby = Server(first), Server(second)
        primary.create("max_wal_senders = 4")
        load = None
        try:
            primary.start()
            make_standby(primary, standby)
            primary.execute("ALTER SYSTEM SET synchronous_standby_names = '*'")
            primary.execute("SELECT pg_reload_conf()")
            primary.execute("CREATE DATABASE sublet")
            url = (
                f"postgresql://postgres@127.0.0.1:{primary.port},"
                f"127.0.0.1:{standby.port}/sublet?target_session_attrs=read-write"
            )
            log = PostgresLog(url, away_ms=3_600_000)
            log.append([], ground=Ground(is_resume=True))
            load = Load(url)
            load.wait_more(50 + chance.randrange(200))
            primary.kill()
            standby.call("pg_ctl", "promote", "-D", standby.data)
            load.wait_more(100)  # the writers go on at the other server
            load.end()
            rows = log.read(first=0, limit=1_000_000)
            assert [row.index for row in rows] == list(range(len(rows)))
            stored = {row.id: row.index for row in rows}
            assert len(stored) == len(rows)
            assert load.acknowledged.items() <= stored.items()
            log.close()
        finally:
            if load is not None:
                load.end()
            for server in (primary, standby):
                server.kill()


def test_killed_server_keeps_what_it_said() -> None:
    """Kill the only server a few times, with its commits on the disk."""
    with private_folder() as folder:
        server = Server(folder)
        server.create()
        load = None
        try:
            server.start()
            url = server.create_database()
            log = PostgresLog(url, away_ms=3_600_000)
            log.append([], ground=Ground(is_resume=True))
            load = Load(url)
            for _ in range(3):
                load.wait_more(60)
                server.kill()
                server.start()
            load.wait_more(30)
            load.end()
            rows = log.read(first=0, limit=1_000_000)
            assert [row.index for row in rows] == list(range(len(rows)))
            assert load.acknowledged.items() <= {r.id: r.index for r in rows}.items()
            log.close()
        finally:
            if load is not None:
                load.end()
            server.kill()
