"""PostgreSQL on a disk that loses its power, runs full, or fails to sync.

The disk drops what was not synced. What was acknowledged is there when the server has
recovered, in the same places; what a node is told meanwhile says what to do.
"""

import random
import shutil
import time
from collections.abc import Iterator

import pytest

from sublet.adapter.log_postgres import PostgresLog
from sublet.base.errors import Unavailable
from tests.integration.log_load import loaded, make_row
from tests.postgres_server import USER, Server, private_folder
from tests.rig.disk import Disk, mounted_disk

CUTS = 3
LARGE = 4 << 20  # of a row: more than its files have room for
WAIT_S = 90
AWAY_MS = 3_600_000


@pytest.fixture
def disk() -> Iterator[Disk]:
    with mounted_disk() as mounted:
        yield mounted


@pytest.fixture
def server(disk: Disk) -> Iterator[Server]:
    """Lend a server whose cluster lies on the disk."""
    with private_folder() as folder:
        server = Server(folder)
        server.data = disk.folder / "data"
        server.data.mkdir(mode=0o700)
        shutil.chown(server.data, USER, USER)
        # Small, so that checkpoints and new segments happen within a test.
        server.create(
            "max_wal_size = 32MB", "min_wal_size = 32MB", "wal_init_zero = off"
        )
        disk.sync()
        disk.be_journal()
        try:
            server.start()
            yield server
        finally:
            server.kill()


def test_power_cut_loses_nothing_acknowledged(disk: Disk, server: Server) -> None:
    with loaded(server.create_database()) as load:
        for number in range(CUTS):
            load.wait_more(60)
            # Nothing of the page cache is left; every other time, half of it by chance.
            disk.cut_power(seed=number if number % 2 else None)
            server.kill()
            disk.turn_on()
            server.start()
        load.wait_more(60)
        load.end()
        load.check()


def test_failed_fsync_is_not_trusted(disk: Disk, server: Server) -> None:
    """The server ends what it does and recovers, by itself; then the power fails."""
    with loaded(server.create_database()) as load:
        for at in (1, 4):
            load.wait_more(40)
            disk.plan("fsync", at, "error")
            wait_fired(disk)
            load.wait_more(40)
            disk.cut_power()  # what it might have taken for synced is gone
            server.kill()
            disk.turn_on()
            server.start()
        load.wait_more(40)
        load.end()
        load.check()
    assert "PANIC" in server.read_log(size=1 << 20)


def wait_fired(disk: Disk) -> None:
    deadline = time.monotonic() + WAIT_S
    while not disk.has_fired:
        assert time.monotonic() < deadline, "it never synced"
        time.sleep(0.01)


def test_full_disk_is_named(disk: Disk, server: Server) -> None:
    """Unavailable while it is full; when there is room, the same server goes on."""
    url = server.create_database()
    with loaded(url) as load:
        load.wait_more(40)
        # As a real one: what has its blocks can be written again, no file can grow.
        disk.plan("write", 1, "full", stays=True, growing=True)
        log = PostgresLog(url, away_ms=AWAY_MS)
        name, _, leaf = make_row("large")
        with pytest.raises(Unavailable) as caught:
            log.append([(name, random.Random(1).randbytes(LARGE), leaf)])
        assert caught.value.code == "disk_full"
        assert "make room" in caught.value.message
        disk.heal()
        log.append([(name, random.Random(1).randbytes(LARGE), leaf)])
        log.close()
        load.wait_more(40)
        load.end()
        load.check()
