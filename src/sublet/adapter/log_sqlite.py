"""The log in one SQLite file: WAL, fsynced before it answers, one writer process.

Entries are append-only (the file itself refuses updates and deletions) and durable
when ``append`` returns. What can be made again from them (checkpoints, snapshots,
settled leases) is written through a second connection without an fsync of its own:
it costs an order no latency, and a power cut costs at most a signature.

Not here: what entries mean, how they are signed (``wire``), who folds them (``core``).
"""

import os
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from sublet.adapter.sqlite_file import (
    check_schema,
    connect,
    create_schema,
    lock,
    translated,
    write_anew,
)
from sublet.base import limits
from sublet.base.errors import Refused, Unavailable
from sublet.base.ids import Address, Digest
from sublet.service.ports import (
    ANY_GROUND,
    Ground,
    LogForked,
    Overtaken,
    Placing,
    Row,
    Snapshot,
)

_SELECT_KNOWN = "SELECT id, number FROM entry WHERE id IN ({})"  # question marks
_STATEMENT_ROWS_MAX = 256  # rows of one INSERT: one commit, few hand-overs of the GIL
_SNAPSHOTS_KEPT = 2
_SIZE_MAX = 1 << 62  # no log is longer


def _digest(raw: bytes) -> Digest:
    return "0x" + raw.hex()


def _raw(digest: Digest) -> bytes:
    return bytes.fromhex(digest[2:])


class SqliteLogReader:
    """The reading half: any number of threads, also beside a node that writes.

    Each thread gets a connection of its own, so no reader waits for another.
    """

    def __init__(self, path: Path) -> None:
        """Open the log at ``path``.

        Raises:
            Refused: there is no log there, or a newer Sublet wrote it.
            LogDamaged: SQLite cannot make sense of the file.
        """
        self._path = path
        self._local = threading.local()
        self._readers: list[sqlite3.Connection] = []
        self._readers_lock = threading.Lock()
        self._is_closed = False
        if not path.is_file():
            raise Refused(
                f"there is no log at {path}; name the log.db of a node's home",
                code="no_log",
            )
        try:
            with translated(path):
                check_schema(self._reader(), path=path)
        except BaseException:
            self.close()
            raise

    def read(self, *, first: int, limit: int) -> list[Row]:
        """Give up to ``limit`` rows from index ``first`` on, in order."""
        with translated(self._path):
            rows = self._reader().execute(
                "SELECT number, id, body, leaf FROM entry"
                " WHERE number >= ? ORDER BY number LIMIT ?",
                (first, limit),
            )
            return [Row(row[0], _digest(row[1]), row[2], row[3]) for row in rows]

    def find(self, id: Digest) -> int | None:  # noqa: A002
        """Give the index of the document with this id, or None."""
        with translated(self._path):
            row = self._one("SELECT number FROM entry WHERE id = ?", _raw(id))
            return None if row is None else int(row[0])

    def size(self) -> int:
        """Count the entries."""
        with translated(self._path):
            return _count_entries(self._reader())

    def find_checkpoint(self, *, size_max: int | None = None) -> bytes | None:
        """Give the newest signed note (of at most ``size_max`` entries), or None."""
        with translated(self._path):
            row = self._one(
                "SELECT note FROM checkpoint WHERE size <= ?"
                " ORDER BY size DESC LIMIT 1",
                _SIZE_MAX if size_max is None else size_max,
            )
            return None if row is None else bytes(row[0])

    def read_checkpoints(self, *, first: int, limit: int) -> list[tuple[int, bytes]]:
        """Give (size, note) of sizes from ``first`` on, in order."""
        with translated(self._path):
            rows = self._reader().execute(
                "SELECT size, note FROM checkpoint"
                " WHERE size >= ? ORDER BY size LIMIT ?",
                (first, limit),
            )
            return [(size, bytes(note)) for size, note in rows]

    def find_snapshot(self, *, size_max: int | None = None) -> Snapshot | None:
        """Give the newest snapshot (of at most ``size_max`` entries), or None."""
        with translated(self._path):
            row = self._one(
                "SELECT size, book, book_hash, tree FROM snapshot"
                " WHERE size <= ? ORDER BY size DESC LIMIT 1",
                _SIZE_MAX if size_max is None else size_max,
            )
            return None if row is None else Snapshot(*row)

    def read_settled(
        self, *, party: Address, before_s: int | None, limit: int
    ) -> list[bytes]:
        """Give a party's settled leases, newest first."""
        with translated(self._path):
            rows = self._reader().execute(
                "SELECT lease FROM settled WHERE (tenant = ?1 OR provider = ?1)"
                " AND settled_at_s < ?2"
                " ORDER BY settled_at_s DESC, lease_id LIMIT ?3",
                (party, limits.TIME_S_MAX if before_s is None else before_s, limit),
            )
            return [bytes(row[0]) for row in rows]

    def find_settled(self, lease_id: Digest) -> bytes | None:
        """Give one settled lease, or None."""
        with translated(self._path):
            row = self._one("SELECT lease FROM settled WHERE lease_id = ?", lease_id)
            return None if row is None else bytes(row[0])

    def close(self) -> None:
        """Release the file; calling it twice is harmless."""
        with self._readers_lock:
            self._is_closed = True
            readers, self._readers = self._readers, []
        for reader in readers:
            reader.close()

    def _one(
        self, statement: str, argument: bytes | str | int
    ) -> tuple[Any, ...] | None:
        row: tuple[Any, ...] | None
        row = self._reader().execute(statement, (argument,)).fetchone()
        return row

    def _reader(self) -> sqlite3.Connection:
        """Give the calling thread's own connection, opened at its first call."""
        reader: sqlite3.Connection | None = getattr(self._local, "reader", None)
        if reader is not None and not self._is_closed:
            return reader
        with self._readers_lock:
            if self._is_closed:
                raise Unavailable(f"the log {self._path} is closed", code="log_closed")
            reader = connect(self._path, mode="ro")
            self._readers.append(reader)
        self._local.reader = reader
        return reader


class SqliteLog(SqliteLogReader):
    """The whole log; the one process that writes holds a lock on ``<path>.lock``."""

    is_shared = False

    def __init__(self, path: Path) -> None:
        """Open the log at ``path`` for writing; make it where there is none.

        Raises:
            Refused: another process writes it, a newer Sublet wrote it, or it is
                something else.
            Unavailable: the disk did not answer.
            LogDamaged: SQLite cannot make sense of the file.
            LogNotSynced: the disk did not keep what was written.
        """
        self._lock_file = lock(path)
        self._write_lock = threading.Lock()
        self._writers: list[sqlite3.Connection] = []
        try:
            with translated(path):
                # Entries are synced before they are acknowledged, the rest is not.
                self._entries = self._open_writer(path, synchronous="FULL")
                create_schema(self._entries)
                check_schema(self._entries, path=path)
                write_anew(self._entries, path=path)
                self._rest = self._open_writer(path, synchronous="NORMAL")
                # A checkpoint's failed fsync is not told. So it is never this
                # connection's: the other has just synced all, and been told.
                self._rest.execute("PRAGMA wal_autocheckpoint = 0")
            super().__init__(path)
        except BaseException:
            self._release()
            raise

    def append(
        self,
        rows: Sequence[tuple[Digest, bytes, bytes]],
        *,
        ground: Ground = ANY_GROUND,
    ) -> Placing:
        """Append (id, body, leaf) in one fsynced commit; say where each one stands.

        An id that the log already holds is not appended again: its old index comes
        back. All or nothing.

        Raises:
            Unavailable: the store did not accept the commit; nothing was appended.
            Overtaken: the ground says ``is_next``, and the log has grown since.
            LogForked: the last entry that the caller has folded is not in the log.
            LogNotSynced: the fsync failed; whether it was appended nobody knows.
        """
        keyed = [(_raw(digest), body, leaf) for digest, body, leaf in rows]
        with self._transaction(self._entries) as writer:
            known = _find_numbers(writer, [row[0] for row in keyed])
            fresh: list[bytes | int] = []
            size = number = _count_entries(writer)
            if len(known) < len(keyed):
                _check_ground(writer, ground, size=size)
            for key, body, leaf in keyed:
                if key not in known:
                    known[key] = number
                    fresh += (number, key, body, leaf)
                    number += 1
            for start in range(0, len(fresh), 4 * _STATEMENT_ROWS_MAX):
                values = fresh[start : start + 4 * _STATEMENT_ROWS_MAX]
                places = ",".join(["(?,?,?,?)"] * (len(values) // 4))
                # Nothing but question marks is put in.
                insert = f"INSERT INTO entry VALUES {places}"  # noqa: S608  # nosec B608
                writer.execute(insert, values)
        return Placing(size, [known[row[0]] for row in keyed])

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Keep all other writers out, which the lock on the file does anyway."""
        yield

    def wait_more(self, *, size: int, timeout_s: float) -> bool:
        """Say whether there is more; nobody else writes, so there is no waiting."""
        return self.size() > size

    def put_checkpoint(self, *, size: int, note: bytes) -> None:
        """Keep the signed note for a tree of this size; the same again is harmless."""
        with self._transaction(self._rest) as writer:
            writer.execute(
                "INSERT OR REPLACE INTO checkpoint VALUES (?, ?)", (size, note)
            )

    def put_snapshot(self, snapshot: Snapshot) -> None:
        """Keep this snapshot; older ones beyond the last two go."""
        with self._transaction(self._rest) as writer:
            writer.execute(
                "INSERT OR REPLACE INTO snapshot VALUES (?, ?, ?, ?)",
                (snapshot.size, snapshot.book, snapshot.book_hash, snapshot.tree),
            )
            writer.execute(
                "DELETE FROM snapshot WHERE size NOT IN"
                " (SELECT size FROM snapshot ORDER BY size DESC LIMIT ?)",
                (_SNAPSHOTS_KEPT,),
            )

    def put_settled(
        self, rows: Sequence[tuple[Digest, Address, Address, int, bytes]]
    ) -> None:
        """Keep settled leases (id, tenant, provider, settled_at_s, lease as JSON)."""
        with self._transaction(self._rest) as writer:
            writer.executemany(
                "INSERT OR REPLACE INTO settled VALUES (?, ?, ?, ?, ?)", rows
            )

    def close(self) -> None:
        """Release the file and the lock; calling it twice is harmless."""
        super().close()
        self._release()

    @contextmanager
    def _transaction(self, writer: sqlite3.Connection) -> Iterator[sqlite3.Connection]:
        """Run one transaction, alone; what goes wrong in it leaves no trace."""
        with self._write_lock, translated(self._path):
            if not self._writers:
                raise Unavailable(f"the log {self._path} is closed", code="log_closed")
            writer.execute("BEGIN IMMEDIATE")
            try:
                yield writer
                writer.execute("COMMIT")
            except BaseException:
                # Some errors have rolled back already; then this one says so.
                with suppress(sqlite3.OperationalError):
                    writer.execute("ROLLBACK")
                raise

    def _open_writer(self, path: Path, *, synchronous: str) -> sqlite3.Connection:
        writer = connect(path, mode="rwc")
        self._writers.append(writer)
        writer.execute("PRAGMA journal_mode = WAL")
        writer.execute(f"PRAGMA synchronous = {synchronous}")
        return writer

    def _release(self) -> None:
        with self._write_lock:
            writers, self._writers = self._writers, []
            for writer in writers:
                writer.close()
            if self._lock_file >= 0:
                os.close(self._lock_file)
                self._lock_file = -1


def _count_entries(connection: sqlite3.Connection) -> int:
    # Gapless from 0, so the last number says how many there are, without a scan.
    row = connection.execute(
        "SELECT coalesce(max(number) + 1, 0) FROM entry"
    ).fetchone()
    return int(row[0])


def _check_ground(connection: sqlite3.Connection, ground: Ground, *, size: int) -> None:
    """Look whether what an append was decided on still holds."""
    if ground.size:
        tip = connection.execute(
            "SELECT leaf FROM entry WHERE number = ?", (ground.size - 1,)
        ).fetchone()
        if tip is None or tip[0] != ground.leaf:
            raise LogForked
    if ground.is_next and ground.size != size:
        raise Overtaken


def _find_numbers(
    connection: sqlite3.Connection, ids: Sequence[bytes]
) -> dict[bytes, int]:
    """Give the numbers of those ids that the log already holds."""
    known: dict[bytes, int] = {}
    for start in range(0, len(ids), _STATEMENT_ROWS_MAX):
        some = ids[start : start + _STATEMENT_ROWS_MAX]
        select = _SELECT_KNOWN.format(",".join("?" * len(some)))
        known.update(connection.execute(select, some))
    return known
