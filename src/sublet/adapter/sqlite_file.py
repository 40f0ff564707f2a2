"""One SQLite file that holds a log: opened, locked, laid out; its errors translated.

Not here: what is read and written (``log_sqlite``).
"""

import fcntl
import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sublet.base.errors import Broken, Refused, Unavailable

SCHEMA_VERSION = 1  # PRAGMA user_version of files that this code writes
APPLICATION_ID = 0x5375626C  # "Subl", PRAGMA application_id

_STATEMENTS_CACHED = 640  # one INSERT and one SELECT for each number of rows, and more
_BUSY_TIMEOUT_S = 10.0

# After one of these the kernel may take pages for clean that never reached the disk.
_NOT_SYNCED = frozenset({"SQLITE_IOERR_FSYNC", "SQLITE_IOERR_DIR_FSYNC"})

_SCHEMA = """
BEGIN IMMEDIATE;
CREATE TABLE entry (
    number INTEGER PRIMARY KEY CHECK (number >= 0),
    id BLOB NOT NULL UNIQUE CHECK (length(id) = 32),
    body BLOB NOT NULL,
    leaf BLOB NOT NULL CHECK (length(leaf) = 32)
) STRICT;
CREATE TRIGGER entry_keeps_content BEFORE UPDATE ON entry
    BEGIN SELECT RAISE(ABORT, 'the log is append-only'); END;
CREATE TRIGGER entry_stays BEFORE DELETE ON entry
    BEGIN SELECT RAISE(ABORT, 'the log is append-only'); END;
CREATE TABLE checkpoint (
    size INTEGER PRIMARY KEY CHECK (size > 0),
    note BLOB NOT NULL
) STRICT;
CREATE TABLE snapshot (
    size INTEGER PRIMARY KEY CHECK (size > 0),
    book BLOB NOT NULL,
    book_hash BLOB NOT NULL,
    tree BLOB NOT NULL
) STRICT;
CREATE TABLE settled (
    lease_id TEXT PRIMARY KEY,
    tenant TEXT NOT NULL,
    provider TEXT NOT NULL,
    settled_at_s INTEGER NOT NULL,
    lease BLOB NOT NULL
) STRICT;
CREATE INDEX settled_of_tenant ON settled (tenant, settled_at_s);
CREATE INDEX settled_of_provider ON settled (provider, settled_at_s);
PRAGMA application_id = {application_id};
PRAGMA user_version = {version};
COMMIT;
"""


class LogDamaged(Broken):
    """The log file is damaged; restore it from a backup or another node."""

    code = "log_damaged"


class LogNotSynced(Broken):
    """The disk did not keep what the log wrote; look at it, then start the node again.

    Nothing that this process sees of the log can be trusted any more: what is read may
    be in memory only. A start replays what is there, and writes it to the disk anew.
    """

    code = "log_not_synced"


@contextmanager
def translated(path: Path) -> Iterator[None]:
    """Turn what SQLite raises into Sublet's errors; nothing of it gets past here."""
    try:
        yield
    except sqlite3.Error as error:
        name = getattr(error, "sqlite_errorname", "")
        if name == "SQLITE_NOTADB":
            raise Refused(
                f"{path} is not a log of Sublet; name the log.db of a node's home",
                code="not_a_log",
            ) from error
        if name in _NOT_SYNCED:
            raise LogNotSynced(
                f"the disk did not keep what the log {path} wrote ({error}); look at "
                "the disk, then start the node again: it replays what is there"
            ) from error
        if name.startswith("SQLITE_CORRUPT"):
            raise LogDamaged(
                f"the log file {path} is damaged ({error}); "
                "restore it from a backup or another node"
            ) from error
        is_full = name == "SQLITE_FULL"
        cure = "free some disk space" if is_full else "look at its disk and rights"
        raise Unavailable(
            f"the log {path} did not answer ({error}); {cure} and try again",
            code="disk_full" if is_full else "log_unavailable",
        ) from error


def lock(path: Path) -> int:
    """Become the only writer of the log at ``path``; give the lock's descriptor.

    The kernel lets go of the lock however the process ends.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock_file = os.open(f"{path}.lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(lock_file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Made here, so that SQLite's own umask never decides who may read it.
            os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
            path.chmod(0o600)
        except BaseException:
            os.close(lock_file)
            raise
    except BlockingIOError as error:
        raise Refused(
            f"another process already writes the log {path}; stop it first, "
            "or give this node another home",
            code="log_in_use",
        ) from error
    except OSError as error:
        raise Unavailable(
            f"the log {path} cannot be opened ({error.strerror}); "
            "look at its folder's rights and space",
            code="log_unavailable",
        ) from error
    return lock_file


def connect(path: Path, *, mode: str) -> sqlite3.Connection:
    # Autocommit: transactions are begun and ended in words, never behind our back.
    return sqlite3.connect(
        f"{path.absolute().as_uri()}?mode={mode}",
        uri=True,
        timeout=_BUSY_TIMEOUT_S,
        isolation_level=None,
        check_same_thread=False,
        cached_statements=_STATEMENTS_CACHED,
    )


def create_schema(writer: sqlite3.Connection) -> None:
    """Lay out an empty file; leave any other as it is."""
    if writer.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0] == 0:
        writer.executescript(
            _SCHEMA.format(application_id=APPLICATION_ID, version=SCHEMA_VERSION)
        )


def write_anew(writer: sqlite3.Connection, *, path: Path) -> None:
    """Move all that the write-ahead log holds into the file, synced.

    After an fsync that failed, what SQLite recovered may be in memory only, and look
    as if it were on the disk. Nothing is appended behind that: it is written again.
    """
    (is_busy, _, _) = writer.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    if is_busy:
        raise Unavailable(
            f"somebody has been reading the log {path} all the time; try again",
            code="log_unavailable",
        )


def check_schema(connection: sqlite3.Connection, *, path: Path) -> None:
    """Refuse a file that is no log, or one that a newer Sublet wrote."""
    application_id = connection.execute("PRAGMA application_id").fetchone()[0]
    if application_id != APPLICATION_ID:
        raise Refused(
            f"{path} is not a log of Sublet; name the log.db of a node's home",
            code="not_a_log",
        )
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    if version > SCHEMA_VERSION:
        raise Refused(
            f"{path} has schema {version}, and this Sublet reads up to "
            f"{SCHEMA_VERSION}; upgrade Sublet",
            code="log_newer",
            detail={"schema": version, "schema_max": SCHEMA_VERSION},
        )
