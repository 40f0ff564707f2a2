"""The log that several nodes share, with this node's commits timed.

A module of its own: only a node with such a log needs the database's driver.
"""

from collections.abc import Sequence
from pathlib import Path

from sublet.adapter.log_postgres import PostgresLog
from sublet.base.ids import Digest
from sublet.node.kept_note import KeptNote
from sublet.node.metered_log import Gauge
from sublet.node.metrics import NodeMetrics
from sublet.service.ports import ANY_GROUND, Ground, Placing


class MeteredSharedLog(PostgresLog):
    """A log in a database that counts; ``append`` is called in one thread."""

    def __init__(
        self, url: str, *, home: Path, away_ms: int, metrics: NodeMetrics
    ) -> None:
        """Open the log in the database at ``url``; raises as ``PostgresLog``."""
        super().__init__(url, away_ms=away_ms)
        self.kept = KeptNote(home)
        self._metrics = metrics
        self._gauge = Gauge(metrics)

    def append(
        self,
        rows: Sequence[tuple[Digest, bytes, bytes]],
        *,
        ground: Ground = ANY_GROUND,
    ) -> Placing:
        """Append as ``PostgresLog`` does, and count the commit."""
        with self._gauge:
            placing = super().append(rows, ground=ground)
        self._metrics.batch.observe(len(rows))
        return placing

    def put_checkpoint(self, *, size: int, note: bytes) -> None:
        """Keep the note in the log, and the newest one in the home, too."""
        super().put_checkpoint(size=size, note=note)
        self.kept.put(note)

    def close(self) -> None:
        """Release the log; calling it twice is harmless."""
        self.kept.write()
        super().close()

    def find_trouble(self) -> str:
        """Say what keeps the log from taking entries, or nothing."""
        return self._gauge.find_trouble()
