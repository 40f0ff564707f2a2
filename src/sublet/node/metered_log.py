"""The node's log: SQLite, with its commits timed and its troubles remembered."""

import shutil
import time
from collections.abc import Sequence
from pathlib import Path

from sublet.adapter.log_sqlite import SqliteLog
from sublet.base.errors import Unavailable
from sublet.base.ids import Digest
from sublet.base.units import format_size
from sublet.node.metrics import NodeMetrics

FREE_BYTES_MIN = 64 << 20  # below this, the next commits are likely to fail


class MeteredLog(SqliteLog):
    """A log that counts; ``append`` is called in one thread."""

    def __init__(self, path: Path, *, metrics: NodeMetrics) -> None:
        """Open the log at ``path`` for writing; raises as ``SqliteLog``."""
        super().__init__(path)
        self._folder = path.parent
        self._metrics = metrics
        self._trouble = ""

    def append(self, rows: Sequence[tuple[Digest, bytes, bytes]]) -> list[int]:
        """Append as ``SqliteLog`` does, and count the commit."""
        begun_s = time.perf_counter()
        try:
            indexes = super().append(rows)
        except Unavailable as error:
            self._trouble = error.message
            raise
        self._trouble = ""
        self._metrics.commit_s.observe(time.perf_counter() - begun_s)
        self._metrics.batch.observe(len(rows))
        return indexes

    def find_trouble(self) -> str:
        """Say what keeps the log from taking entries, or nothing."""
        if self._trouble:
            return self._trouble
        free_bytes = shutil.disk_usage(self._folder).free
        if free_bytes < FREE_BYTES_MIN:
            return f"only {format_size(free_bytes)} are free for the log; make room"
        return ""
