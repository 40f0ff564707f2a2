"""The log in a PostgreSQL database: several nodes append to it, and read it.

One total order without gaps: whoever appends holds the pen until the commit is on the
disk (``postgres_schema``). What can be made again from the entries is written through
other sessions, whose commits do not wait for the disk. A commit whose answer was lost
is made again, for as long as an answer to it makes sense: what was taken is recognised
by its id.

Not here: who is there (``presence_postgres``), sessions (``postgres``).
"""

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NoReturn

import psycopg

from sublet.adapter.postgres import Postgres, Session, check_url, translated
from sublet.adapter.postgres_schema import (
    FORKED,
    OVERTAKEN,
    UNATTENDED,
    check_schema,
    create_schema,
)
from sublet.base import limits
from sublet.base.errors import Unavailable
from sublet.base.ids import Address, Digest
from sublet.service.ports import (
    ANY_GROUND,
    Ground,
    LogForked,
    Overtaken,
    Placing,
    Row,
    Snapshot,
    Unattended,
)

AWAY_MS = 5_000  # without a node for so long, a Resume has to come first
RETRY_S = 8.0  # an append is tried again for so long: a restart, a quick failover
PAUSE_S = 0.2  # between two tries
_SNAPSHOTS_KEPT = 2
_SIZE_MAX = 1 << 62  # no log is longer
_APPEND = (
    "SELECT size, numbers FROM sublet.append(%b::bytea[], %b::bytea[], %b::bytea[],"
    " %s, %b, %s, %s, %s, %s, %s, %s)"
)


class PostgresLogReader:
    """The reading half: any number of threads, also beside nodes that write."""

    def __init__(self, url: str) -> None:
        """Open the log in the database at ``url``.

        Raises:
            Refused: not an address, or one with a password; no log there, or a
                newer one; the server denies the access.
            Unavailable: the server does not answer.
        """
        check_url(url, field="log.url")
        self._rest = Postgres(url, is_durable=False)
        with self._rest.session() as session:
            check_schema(session)

    def read(self, *, first: int, limit: int) -> list[Row]:
        """Give up to ``limit`` rows from index ``first`` on, in order."""
        rows = self._ask(
            "SELECT number, id, body, leaf FROM sublet.entry"
            " WHERE number >= %s ORDER BY number LIMIT %s",
            first,
            limit,
        )
        return [Row(row[0], _digest(row[1]), row[2], row[3]) for row in rows]

    def find(self, id: Digest) -> int | None:  # noqa: A002
        """Give the index of the document with this id, or None."""
        query = "SELECT number FROM sublet.entry WHERE id = %b"
        for row in self._ask(query, _raw(id)):
            return int(row[0])
        return None

    def size(self) -> int:
        """Count the entries."""
        # Gapless from 0, so the last number says how many there are, without a scan.
        (row,) = self._ask("SELECT coalesce(max(number) + 1, 0) FROM sublet.entry")
        return int(row[0])

    def find_checkpoint(self, *, size_max: int | None = None) -> bytes | None:
        """Give the newest signed note (of at most ``size_max`` entries), or None."""
        for row in self._ask(
            "SELECT note FROM sublet.checkpoint WHERE size <= %s"
            " ORDER BY size DESC LIMIT 1",
            _SIZE_MAX if size_max is None else size_max,
        ):
            return bytes(row[0])
        return None

    def read_checkpoints(self, *, first: int, limit: int) -> list[tuple[int, bytes]]:
        """Give (size, note) of sizes from ``first`` on, in order."""
        rows = self._ask(
            "SELECT size, note FROM sublet.checkpoint"
            " WHERE size >= %s ORDER BY size LIMIT %s",
            first,
            limit,
        )
        return [(size, bytes(note)) for size, note in rows]

    def find_snapshot(self, *, size_max: int | None = None) -> Snapshot | None:
        """Give the newest snapshot (of at most ``size_max`` entries), or None."""
        for row in self._ask(
            "SELECT size, book, book_hash, tree FROM sublet.snapshot"
            " WHERE size <= %s ORDER BY size DESC LIMIT 1",
            _SIZE_MAX if size_max is None else size_max,
        ):
            return Snapshot(*row)
        return None

    def read_settled(
        self, *, party: Address, before_s: int | None, limit: int
    ) -> list[bytes]:
        """Give a party's settled leases, newest first."""
        rows = self._ask(
            "SELECT lease FROM sublet.settled WHERE (tenant = %s OR provider = %s)"
            " AND settled_at_s < %s"
            ' ORDER BY settled_at_s DESC, lease_id COLLATE "C" LIMIT %s',
            party,
            party,
            limits.TIME_S_MAX if before_s is None else before_s,
            limit,
        )
        return [bytes(row[0]) for row in rows]

    def find_settled(self, lease_id: Digest) -> bytes | None:
        """Give one settled lease, or None."""
        query = "SELECT lease FROM sublet.settled WHERE lease_id = %s"
        for row in self._ask(query, lease_id):
            return bytes(row[0])
        return None

    def close(self) -> None:
        """Release the sessions; calling it twice is harmless."""
        self._rest.close()

    def _ask(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        """Ask; a session that broke while it lay idle is worth a second try."""
        try:
            return self._ask_once(query, values)
        except Unavailable as error:
            if error.code != "database_unavailable":
                raise
        return self._ask_once(query, values)

    def _ask_once(
        self, query: str, values: tuple[object, ...]
    ) -> list[tuple[Any, ...]]:
        with self._rest.session() as session:
            return session.execute(query.encode(), values, binary=True).fetchall()


class PostgresLog(PostgresLogReader):
    """The whole log; any number of processes write it."""

    is_shared = True

    def __init__(self, url: str, *, away_ms: int = AWAY_MS) -> None:
        """Open the log in the database at ``url``; lay it out where there is none.

        Args:
            url: as libpq reads it, without a password.
            away_ms: where no node was at work for so long, a Resume comes first.

        Raises:
            Refused: as ``PostgresLogReader``.
            Unavailable: the server does not answer.
        """
        check_url(url, field="log.url")
        self._entries = Postgres(url)
        self._away_ms = away_ms
        self._pen = threading.local()  # the session of a thread that is ``alone``
        self._listening: Session | None = None
        self._is_closed = False
        with self._entries.session() as session:
            create_schema(session)
        super().__init__(url)

    def append(
        self,
        rows: Sequence[tuple[Digest, bytes, bytes]],
        *,
        ground: Ground = ANY_GROUND,
    ) -> Placing:
        """Append (id, body, leaf) in one fsynced commit; say where each one stands.

        An id that the log already holds is not appended again: its old index comes
        back, whatever the ground. All or nothing. Without rows it is a look at the
        size.

        Raises:
            Unavailable: the store did not say that it took the commit. Append again:
                what was taken all the same is recognised.
            Overtaken: the ground does not hold; nothing was appended.
            Unattended: no node was at work; a Resume has to come first.
            LogForked: the log does not go on from what the caller has folded.
        """
        if not rows and not ground.is_resume:
            return Placing(self._look(), [])
        fresh: dict[bytes, tuple[bytes, bytes]] = {}
        for digest, body, leaf in rows:
            fresh.setdefault(_raw(digest), (body, leaf))
        values = (
            list(fresh),
            [body for body, _ in fresh.values()],
            [leaf for _, leaf in fresh.values()],
            ground.size,
            ground.leaf,
            ground.at_s,
            ground.is_next,
            ground.is_resume,
            ground.silent,
            ground.silent_ms,
            self._away_ms,
        )
        held: Session | None = getattr(self._pen, "session", None)
        if held is not None:
            with translated():
                size, numbers = _append(held, values)
        else:
            size, numbers = self._append_stubbornly(values)
        number_of = dict(zip(fresh, numbers, strict=True))
        return Placing(size, [number_of[_raw(row[0])] for row in rows])

    def _look(self) -> int:
        """Give the size, unless a Resume has to come first; nothing is written."""
        ((size, is_unattended),) = self._ask(
            "SELECT (SELECT coalesce(max(number) + 1, 0) FROM sublet.entry),"
            " at < clock_timestamp() - %s * interval '1 ms' FROM sublet.attended",
            self._away_ms,
        )
        if is_unattended:
            raise Unattended
        return int(size)

    def _append_stubbornly(self, values: tuple[object, ...]) -> tuple[int, list[int]]:
        give_up_at = time.monotonic() + RETRY_S
        while True:
            try:
                with self._entries.session() as session:
                    return _append(session, values)
            except Unavailable as error:
                is_lasting = error.code != "database_unavailable"
                if is_lasting or self._is_closed or time.monotonic() > give_up_at:
                    raise
            time.sleep(PAUSE_S)

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Keep all other writers out while the context lasts.

        What the same thread appends within it is durable once the context has ended.

        Raises:
            Unavailable: the store did not answer, or did not say that it took what
                was appended.
        """
        with self._entries.session() as session, session.transaction():
            session.execute("SELECT at_s FROM sublet.head FOR UPDATE")
            self._pen.session = session
            try:
                yield
            finally:
                self._pen.session = None

    def wait_more(self, *, size: int, timeout_s: float) -> bool:
        """Wait until the log has more than ``size`` entries, at most so long.

        Called by one thread at a time.

        Raises:
            Unavailable: the store does not answer.
        """
        try:
            with translated():
                return self._listen(size, timeout_s)
        except Unavailable:
            self._stop_listening()
            raise

    def _listen(self, size: int, timeout_s: float) -> bool:
        if self._listening is None:
            self._listening = self._rest.connect()
            self._listening.execute("LISTEN sublet")
        # What was told before is old; what is there is asked for.
        row = self._listening.execute(
            "SELECT coalesce(max(number) + 1, 0) FROM sublet.entry"
        ).fetchone()
        if row is not None and row[0] > size:
            return True
        notices = self._listening.notifies(timeout=timeout_s)
        is_more = any(int(notice.payload) > size for notice in notices)
        notices.close()
        return is_more

    def _stop_listening(self) -> None:
        session, self._listening = self._listening, None
        if session is not None:
            session.close()

    def put_checkpoint(self, *, size: int, note: bytes) -> None:
        """Keep the signed note for a tree of this size; the same again is harmless."""
        self._tell(
            "INSERT INTO sublet.checkpoint VALUES (%s, %b)"
            " ON CONFLICT (size) DO UPDATE SET note = excluded.note"
            " WHERE sublet.checkpoint.note <> excluded.note",
            (size, note),
        )

    def put_snapshot(self, snapshot: Snapshot) -> None:
        """Keep this snapshot; older ones beyond the last two go."""
        with self._rest.session() as session, session.transaction():
            session.execute(
                "INSERT INTO sublet.snapshot VALUES (%s, %b, %b, %b)"
                " ON CONFLICT (size) DO NOTHING",
                (snapshot.size, snapshot.book, snapshot.book_hash, snapshot.tree),
            )
            session.execute(
                "DELETE FROM sublet.snapshot WHERE size NOT IN"
                " (SELECT size FROM sublet.snapshot ORDER BY size DESC LIMIT %s)",
                (_SNAPSHOTS_KEPT,),
            )

    def put_settled(
        self, rows: Sequence[tuple[Digest, Address, Address, int, bytes]]
    ) -> None:
        """Keep settled leases (id, tenant, provider, settled_at_s, lease as JSON)."""
        columns = [list(column) for column in zip(*rows, strict=True)] or [[]] * 5
        self._tell(
            "INSERT INTO sublet.settled"
            " SELECT * FROM unnest(%s::text[], %s::text[], %s::text[], %s::bigint[],"
            " %b::bytea[]) AS u(lease_id) ORDER BY lease_id"
            " ON CONFLICT (lease_id) DO UPDATE SET lease = excluded.lease,"
            " settled_at_s = excluded.settled_at_s"
            " WHERE sublet.settled.lease <> excluded.lease",
            tuple(columns),
        )

    def close(self) -> None:
        """Release the sessions; calling it twice is harmless."""
        self._is_closed = True
        super().close()
        self._entries.close()
        self._stop_listening()

    def _tell(self, statement: str, values: tuple[object, ...]) -> None:
        with self._rest.session() as session:
            session.execute(statement.encode(), values)


def _append(session: Session, values: tuple[object, ...]) -> tuple[int, list[int]]:
    try:
        row = session.execute(_APPEND.encode(), values).fetchone()
    except psycopg.Error as error:
        if error.sqlstate in (OVERTAKEN, UNATTENDED, FORKED):
            _refuse(error)
        raise
    if row is None:
        raise AssertionError("a function gives one row")
    return int(row[0]), list(row[1] or ())


def _refuse(error: psycopg.Error) -> NoReturn:
    if error.sqlstate == FORKED:
        raise LogForked from error
    raise (Unattended if error.sqlstate == UNATTENDED else Overtaken)() from error


def _digest(raw: bytes) -> Digest:
    return "0x" + raw.hex()


def _raw(digest: Digest) -> bytes:
    return bytes.fromhex(digest[2:])
