"""The port ``Journal`` in one SQLite file: each write is on the disk when it returns.

One process has it open. Nothing secret is in it, but signed transactions are: 0600.
"""

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from sublet.adapter import private_file
from sublet.adapter.sqlite_file import connect
from sublet.base.errors import Broken, Refused, Unavailable
from sublet.base.ids import Address
from sublet.core.rail.sending import Sending

_SCHEMA = """
CREATE TABLE IF NOT EXISTS sending (
    position INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    sender TEXT NOT NULL,
    nonce INTEGER CHECK (nonce >= 0),
    is_ended INTEGER NOT NULL,
    body BLOB NOT NULL,
    UNIQUE (sender, nonce)
) STRICT;
"""
_BUSY = frozenset({"SQLITE_BUSY", "SQLITE_LOCKED"})


class JournalForked(Broken):
    """Two transactions were about to have one nonce; nothing was sent."""

    code = "journal_forked"


class SqliteJournal:
    """A journal in a file."""

    def __init__(self, path: Path) -> None:
        """Open the file; made where there is none.

        Raises:
            Refused: ``journal_in_use``, another process has it open.
            Unavailable: the disk does not answer.
        """
        self._path = path
        with self._translated():
            private_file.make_folder(path.parent)
            os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
            self._file = connect(path, mode="rw")
        try:
            with self._translated():
                # In a rollback journal, so that a lock on the file itself is held.
                for pragma in ("busy_timeout = 0", "locking_mode = EXCLUSIVE"):
                    self._file.execute(f"PRAGMA {pragma}")
                self._file.execute("PRAGMA synchronous = FULL")
                self._file.execute("BEGIN EXCLUSIVE")
                self._file.execute(_SCHEMA)
                self._file.execute("COMMIT")
        except BaseException:
            self._file.close()
            raise

    def add(self, sending: Sending) -> Sending:
        """As the port says."""
        with self._translated():
            self._file.execute(
                "INSERT INTO sending (id, sender, nonce, is_ended, body)"
                " VALUES (?, ?, ?, ?, ?) ON CONFLICT (id) DO NOTHING",
                (sending.id, *_row(sending)),
            )
        return self.find(sending.id) or sending

    def put(self, sending: Sending) -> None:
        """As the port says."""
        with self._translated():
            self._file.execute(
                "UPDATE sending SET sender = ?, nonce = ?, is_ended = ?, body = ?"
                " WHERE id = ?",
                (*_row(sending), sending.id),
            )

    def find(self, errand: str) -> Sending | None:
        """As the port says."""
        found = self._read("WHERE id = ?", errand)
        return found[0] if found else None

    def list_open(self, sender: Address) -> tuple[Sending, ...]:
        """As the port says."""
        return self._read("WHERE sender = ? AND is_ended = 0 ORDER BY position", sender)

    def list_all(self, sender: Address) -> tuple[Sending, ...]:
        """List what a key has ever sent or wanted to, in the order of the wishes."""
        return self._read("WHERE sender = ? ORDER BY position", sender)

    def next_nonce(self, sender: Address) -> int:
        """As the port says."""
        with self._translated():
            (highest,) = self._file.execute(
                "SELECT max(nonce) FROM sending WHERE sender = ?", (sender,)
            ).fetchone()
        return 0 if highest is None else int(highest) + 1

    def close(self) -> None:
        """As the port says."""
        self._file.close()

    def _read(self, where: str, value: str) -> tuple[Sending, ...]:
        with self._translated():
            rows = self._file.execute(
                f"SELECT body FROM sending {where}",  # noqa: S608  # nosec B608
                (value,),
            ).fetchall()
        try:
            return tuple(msgspec.json.decode(body, type=Sending) for (body,) in rows)
        except msgspec.DecodeError as exc:
            raise Broken(
                f"the journal {self._path} holds what no Sublet wrote; keep it, and "
                "look at the chain before you start with another one",
                code="journal_damaged",
            ) from exc

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.IntegrityError as exc:
            raise JournalForked(str(exc)) from exc
        except sqlite3.Error as exc:
            name = getattr(exc, "sqlite_errorname", "")
            if name in _BUSY:
                raise Refused(
                    f"another process has the journal {self._path} open; stop it "
                    "first: two that send with one key would use each nonce twice",
                    code="journal_in_use",
                ) from exc
            raise Unavailable(
                f"the journal {self._path} did not answer ({exc}); look at its disk "
                "and rights; nothing is sent that is not in it",
                code="journal_unavailable",
            ) from exc
        except OSError as exc:
            raise Unavailable(
                f"the journal {self._path} cannot be opened ({exc.strerror})",
                code="journal_unavailable",
            ) from exc


def _row(sending: Sending) -> tuple[str, int | None, int, bytes]:
    body = msgspec.json.encode(sending)
    return sending.sender, sending.nonce, int(sending.is_ended), body
