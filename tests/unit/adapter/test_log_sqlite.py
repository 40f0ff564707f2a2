"""The SQLite log: locks, rights, versions, full disks, and death at any moment."""

import hashlib
import os
import signal
import sqlite3
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from sublet.adapter.log_sqlite import SqliteLog, SqliteLogReader
from sublet.adapter.sqlite_file import LogDamaged
from sublet.base.errors import Refused, Unavailable


def row(name: str, *, body: bytes = b"body") -> tuple[str, bytes, bytes]:
    digest = hashlib.sha256(name.encode())
    return "0x" + digest.hexdigest(), body, digest.digest()


def run_python(program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program), *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_entries_outlive_the_process(tmp_path: Path) -> None:
    log = SqliteLog(tmp_path / "log.db")
    log.append([row("a"), row("b")])
    log.close()
    log = SqliteLog(tmp_path / "log.db")
    assert log.append([row("b"), row("c")]).indexes == [1, 2]
    log.close()


def test_file_is_for_its_owner_alone(tmp_path: Path) -> None:
    previous = os.umask(0)
    try:
        log = SqliteLog(tmp_path / "log.db")
        log.append([row("a")])
    finally:
        os.umask(previous)
    rights = {path.name: path.stat().st_mode & 0o777 for path in tmp_path.iterdir()}
    assert {"log.db", "log.db-wal", "log.db.lock"} <= set(rights)
    assert set(rights.values()) == {0o600}
    log.close()


def test_refuses_a_second_writer(tmp_path: Path) -> None:
    log = SqliteLog(tmp_path / "log.db")
    with pytest.raises(Refused, match="another process already writes") as caught:
        SqliteLog(tmp_path / "log.db")
    assert caught.value.code == "log_in_use"
    log.close()
    SqliteLog(tmp_path / "log.db").close()


def test_refuses_a_second_writer_process(tmp_path: Path) -> None:
    log = SqliteLog(tmp_path / "log.db")
    second = run_python(
        """
        import sys
        from pathlib import Path
        from sublet.adapter.log_sqlite import SqliteLog
        from sublet.base.errors import Refused
        try:
            SqliteLog(Path(sys.argv[1]))
        except Refused as error:
            print(error.code)
        """,
        str(tmp_path / "log.db"),
    )
    assert second.stdout == "log_in_use\n", second.stderr
    log.close()


def test_reader_reads_beside_the_writer(tmp_path: Path) -> None:
    log = SqliteLog(tmp_path / "log.db")
    reader = SqliteLogReader(tmp_path / "log.db")
    log.append([row("a")])
    assert reader.size() == 1
    log.append([row("b")])
    assert [r.index for r in reader.read(first=0, limit=9)] == [0, 1]
    reader.close()
    log.close()


def test_reader_makes_no_file(tmp_path: Path) -> None:
    with pytest.raises(Refused, match="there is no log at") as caught:
        SqliteLogReader(tmp_path / "log.db")
    assert caught.value.code == "no_log"
    assert list(tmp_path.iterdir()) == []


def test_refuses_a_newer_schema_by_name(tmp_path: Path) -> None:
    SqliteLog(tmp_path / "log.db").close()
    connection = sqlite3.connect(tmp_path / "log.db")
    connection.execute("PRAGMA user_version = 2")
    connection.close()
    for opened in (SqliteLog, SqliteLogReader):
        with pytest.raises(Refused, match="upgrade Sublet") as caught:
            opened(tmp_path / "log.db")
        assert caught.value.code == "log_newer"
        assert caught.value.detail == {"schema": 2, "schema_max": 1}


@pytest.mark.parametrize("opened", [SqliteLog, SqliteLogReader])
def test_refuses_a_file_of_something_else(
    tmp_path: Path, opened: type[SqliteLogReader]
) -> None:
    text = tmp_path / "text"
    text.write_bytes(b"This is no database at all, only a long text. " * 100)
    other = tmp_path / "other.db"
    connection = sqlite3.connect(other)
    connection.execute("CREATE TABLE song (name TEXT)")
    connection.close()
    for path in (text, other):
        with pytest.raises(Refused) as caught:
            opened(path)
        assert caught.value.code == "not_a_log"


def test_names_a_damaged_file(tmp_path: Path) -> None:
    path = tmp_path / "log.db"
    log = SqliteLog(path)
    log.append([row(str(number), body=b"x" * 500) for number in range(200)])
    log.close()
    content = bytearray(path.read_bytes())
    content[8_192:] = os.urandom(len(content) - 8_192)
    path.write_bytes(content)
    reader = SqliteLogReader(path)
    with pytest.raises(LogDamaged, match="restore it from a backup"):
        reader.read(first=0, limit=1_000)
    reader.close()


def test_entries_cannot_be_changed_in_place(tmp_path: Path) -> None:
    log = SqliteLog(tmp_path / "log.db")
    log.append([row("a")])
    connection = sqlite3.connect(tmp_path / "log.db")
    for statement in ("UPDATE entry SET body = x'00'", "DELETE FROM entry"):
        with pytest.raises(sqlite3.IntegrityError, match="append-only"):
            connection.execute(statement)
    connection.close()
    log.close()


def test_closed_log_says_so(tmp_path: Path) -> None:
    log = SqliteLog(tmp_path / "log.db")
    log.close()
    for call in (log.size, lambda: log.append([row("a")])):
        with pytest.raises(Unavailable) as caught:
            call()
        assert caught.value.code == "log_closed"


def test_folder_that_is_none_is_unavailable(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(Unavailable, match="cannot be opened"):
        SqliteLog(tmp_path / "file" / "log.db")


def test_failed_commit_appends_nothing(tmp_path: Path) -> None:
    # A process that may write no file beyond 256 KiB stands for a full disk.
    result = run_python(
        """
        import hashlib, resource, sys
        from pathlib import Path
        from sublet.adapter.log_sqlite import SqliteLog
        from sublet.base.errors import Unavailable

        def row(number, size):
            digest = hashlib.sha256(b"%d" % number)
            return "0x" + digest.hexdigest(), b"x" * size, digest.digest()

        log = SqliteLog(Path(sys.argv[1]))
        log.append([row(0, 100)])
        resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 18, resource.RLIM_INFINITY))
        try:
            log.append([row(number, 4_000) for number in range(1, 200)])
        except Unavailable as error:
            print("unavailable", log.size())
        resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 24, resource.RLIM_INFINITY))
        print(log.append([row(1, 4_000), row(0, 4_000), row(2, 4_000)]).indexes)
        log.close()
        """,
        str(tmp_path / "log.db"),
    )
    assert result.stdout == "unavailable 1\n[1, 0, 2]\n", result.stderr


APPENDER = """
import hashlib, sys
from pathlib import Path
from sublet.adapter.log_sqlite import SqliteLog

log = SqliteLog(Path(sys.argv[1]))
number = 0
while True:
    batch = []
    for _ in range(1 + number % 7):
        digest = hashlib.sha256(b"%d" % number)
        batch.append(("0x" + digest.hexdigest(), b"%d" % number, digest.digest()))
        number += 1
    log.append(batch)
    log.put_checkpoint(size=number, note=b"note")
    print(number, flush=True)
"""


@pytest.mark.parametrize("acknowledged_min", [1, 50, 400])
def test_kill_loses_nothing_acknowledged(tmp_path: Path, acknowledged_min: int) -> None:
    path = tmp_path / "log.db"
    with subprocess.Popen(
        [sys.executable, "-c", APPENDER, str(path)], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        acknowledged = 0
        while acknowledged < acknowledged_min:
            acknowledged = int(process.stdout.readline())
        process.send_signal(signal.SIGKILL)
        # What it said between our last look and its death counts as well.
        acknowledged = int((process.stdout.read().split() or [acknowledged])[-1])
    log = SqliteLog(path)
    kept = log.read(first=0, limit=1_000_000)
    assert len(kept) == log.size() >= acknowledged
    assert [(r.index, r.body) for r in kept] == [
        (number, b"%d" % number) for number in range(len(kept))
    ]
    assert log.append([row("next")]).indexes == [len(kept)]
    log.close()
