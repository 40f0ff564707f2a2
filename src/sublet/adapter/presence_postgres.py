"""Who is there, told by the nodes of one market to each other, through their database.

One row a provider: when any node last heard it, by the database's clock. Beats are
not synced: a crash costs less than a second of them, and a Resume follows.
"""

from collections.abc import Collection

from sublet.adapter.postgres import Postgres
from sublet.base.ids import Address


class PostgresPresence:
    """One node's share in it; ``log_postgres`` lays the tables out."""

    def __init__(self, url: str, *, away_ms: int) -> None:
        """Take the address of the log's database, and what counts as nobody there."""
        self._place = Postgres(url, is_durable=False)
        self._away_ms = away_ms

    def beat(self, heard: Collection[Address]) -> bool:
        """Say that this node is at work, and which providers it has just heard.

        False: no node was at work for a while; a Resume has to be appended first.

        Raises:
            Unavailable: the store does not answer.
        """
        with self._place.session() as session:
            row = session.execute(
                "SELECT sublet.beat(%s::text[], %s)", (list(heard), self._away_ms)
            ).fetchone()
        return bool(row and row[0])

    def find_silent(
        self, providers: Collection[Address], *, silent_ms: int
    ) -> frozenset[Address]:
        """Give those that no node has heard for so long, nor since the last Resume.

        Raises:
            Unavailable: the store does not answer.
        """
        with self._place.session() as session:
            rows = session.execute(
                "SELECT u.provider FROM unnest(%s::text[]) AS u(provider)"
                " JOIN sublet.attended a ON a.resumed_at"
                "  <= clock_timestamp() - %s * interval '1 ms'"
                " LEFT JOIN sublet.presence p ON p.provider = u.provider"
                " WHERE p.heard_at IS NULL"
                "  OR p.heard_at <= clock_timestamp() - %s * interval '1 ms'",
                (list(providers), silent_ms, silent_ms),
            ).fetchall()
        return frozenset(row[0] for row in rows)

    def close(self) -> None:
        """Release the sessions; calling it twice is harmless."""
        self._place.close()
