"""Sessions with a PostgreSQL database: opened when needed, kept, replaced when broken.

Any thread takes one, uses it and gives it back. Whatever the driver raises becomes one
of Sublet's errors here, and no password is ever part of it: a password comes from the
password file, the service file or ``PGPASSWORD``, as for every other program.

Not here: tables and what is in them (``log_postgres``, ``presence_postgres``).
"""

import errno
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
from psycopg import conninfo

from sublet.base.errors import Broken, Refused, Unavailable

Session = psycopg.Connection[tuple[Any, ...]]

SESSIONS_KEPT_MAX = 8  # idle ones of one process
# What a URL does not say. A dead server is noticed within ten seconds, whatever it
# was doing; a node that stands still within a transaction does not stop the others.
_DEFAULTS = {
    "connect_timeout": "5",
    "target_session_attrs": "read-write",
    "keepalives_idle": "5",
    "keepalives_interval": "2",
    "keepalives_count": "3",
    "tcp_user_timeout": "10000",
    "application_name": "sublet",
}
_SETTINGS = (
    "-c synchronous_commit={commit} -c idle_in_transaction_session_timeout=30s"
    " -c lock_timeout=20s -c search_path=pg_catalog -c client_min_messages=error"
)
_FULL = "53100"  # disk_full
_DAMAGED = frozenset({"XX001", "XX002"})  # data_corrupted, index_corrupted
_PASSING = ("08", "25", "40", "53", "55", "57", "58", "XX")  # classes: try again


class DatabaseDamaged(Broken):
    """The database says that it is damaged; restore it, or promote its standby."""

    code = "database_damaged"


def check_url(url: str, *, field: str) -> None:
    """Look whether this is the address of a database, without a password in it.

    Raises:
        Refused: it is something else, or carries a password.
    """
    try:
        known = conninfo.conninfo_to_dict(url)
    except psycopg.Error:
        # What libpq says may repeat the address, and that may hold a password.
        raise Refused(
            f"{field} is not the address of a PostgreSQL database; write it like "
            "postgresql://host/sublet",
            code="bad_log_url",
            field=field,
        ) from None
    if known.get("password"):
        raise Refused(
            f"{field} carries a password, which others would see; put it into the "
            "password file (~/.pgpass), a service file, or PGPASSWORD",
            code="password_in_url",
            field=field,
        )


class Postgres:
    """The sessions of one process with one database."""

    def __init__(self, url: str, *, is_durable: bool = True) -> None:
        """Take the address; nothing is opened yet.

        Args:
            url: as libpq reads it: several hosts, a service, a socket's folder.
            is_durable: a commit is answered once it is on the disk (and on the
                synchronous standbys); else it is written soon after.
        """
        given = conninfo.conninfo_to_dict(url)
        settings = _SETTINGS.format(commit="on" if is_durable else "off")
        options = f"{given.pop('options', None) or ''} {settings}".strip()
        self._arguments = {**_DEFAULTS, **given, "options": options}
        self._idle: list[Session] = []
        self._lock = threading.Lock()
        self._is_closed = False

    @contextmanager
    def session(self) -> Iterator[Session]:
        """Lend a session; statements commit by themselves, or in ``transaction()``.

        Raises:
            Unavailable: the server does not answer, or broke off; whether what was
                under way counts, nobody knows.
            Refused: it denies the access.
            DatabaseDamaged: it says so.
        """
        with translated():
            session = self._take()
            try:
                yield session
            except BaseException as error:
                if session.broken or session.closed or _is_read_only(error):
                    self.drop_idle()
                    session.close()
                raise
            finally:
                self._give_back(session)

    def connect(self) -> Session:
        """Open a session that the caller keeps and closes; raises as ``session``."""
        with translated():
            arguments: dict[str, Any] = dict(self._arguments)
            return psycopg.connect(**arguments, autocommit=True)

    def drop_idle(self) -> None:
        """Close what lies idle: where one session broke, the others are suspect."""
        with self._lock:
            idle, self._idle = self._idle, []
        for session in idle:
            session.close()

    def close(self) -> None:
        """Close all sessions that are not lent; twice is harmless."""
        self._is_closed = True
        self.drop_idle()

    def _take(self) -> Session:
        with self._lock:
            if self._is_closed:
                raise Unavailable("the database is closed", code="log_closed")
            if self._idle:
                return self._idle.pop()
        return self.connect()

    def _give_back(self, session: Session) -> None:
        with self._lock:
            is_kept = (
                not self._is_closed
                and not session.closed
                and session.info.transaction_status == psycopg.pq.TransactionStatus.IDLE
                and len(self._idle) < SESSIONS_KEPT_MAX
            )
            if is_kept:
                self._idle.append(session)
        if not is_kept:
            session.close()


@contextmanager
def translated() -> Iterator[None]:
    """Turn what the driver raises into Sublet's errors."""
    try:
        yield
    except psycopg.Error as error:
        raise _translate(error) from error


def _translate(error: psycopg.Error) -> Exception:
    state = error.sqlstate or ""
    text = " ".join(str(error).split())[:300]
    if state in _DAMAGED:
        return DatabaseDamaged(f"the database is damaged: {text}")
    # Not all that runs into it has that state: temporary files have none.
    if state == _FULL or os.strerror(errno.ENOSPC) in text:
        return Unavailable(
            f"the database's disk is full ({text}); make room there", code="disk_full"
        )
    if not state or state.startswith(_PASSING):
        return Unavailable(
            f"the database did not answer ({text}); look at the server; it is tried "
            "again",
            code="database_unavailable",
            retry_after_s=2,
        )
    if state.startswith(("28", "3D", "42501")):
        return Refused(
            f"the database denies the access ({text}); look at the user, the password "
            "file and pg_hba.conf",
            code="database_denied",
            field="log.url",
        )
    return Broken(f"the database refused what this program said ({state}: {text})")


def _is_read_only(error: BaseException) -> bool:
    # The server has become a standby: the next session looks for the primary.
    return isinstance(error, psycopg.errors.ReadOnlySqlTransaction)
