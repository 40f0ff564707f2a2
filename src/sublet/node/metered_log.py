"""The node's log, with its commits timed and its troubles remembered."""

import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from sublet.adapter.log_sqlite import SqliteLog
from sublet.base.errors import Unavailable
from sublet.base.ids import Digest
from sublet.base.units import format_size
from sublet.node.kept_note import KeptNote
from sublet.node.metrics import NodeMetrics
from sublet.service.ports import ANY_GROUND, Ground, Log, Placing

FREE_BYTES_MIN = 64 << 20  # below this, the next commits are likely to fail
COMMIT_S_MAX = 5.0  # a commit that takes longer is worth telling


class NodeLog(Log, Protocol):
    """A log that knows how it is doing."""

    kept: KeptNote

    def find_trouble(self) -> str:
        """Say what keeps the log from taking entries, or nothing."""
        ...


class Gauge:
    """How appending goes; they come from one thread."""

    def __init__(self, metrics: NodeMetrics) -> None:
        """Take the counters."""
        self._metrics = metrics
        self._trouble = ""
        self._begun_s = 0.0  # of a commit that is under way

    def __enter__(self) -> None:
        self._begun_s = time.perf_counter()

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        duration_s, self._begun_s = time.perf_counter() - self._begun_s, 0.0
        if isinstance(error, Unavailable):
            self._trouble = error.message
        else:
            self._trouble = ""
        if error is None:
            self._metrics.commit_s.observe(duration_s)

    def find_trouble(self) -> str:
        """Say what keeps the log from taking entries, or nothing."""
        begun_s = self._begun_s
        if begun_s and time.perf_counter() - begun_s > COMMIT_S_MAX:
            return (
                f"a commit takes longer than {COMMIT_S_MAX:.0f} s; look at the "
                "database, and whether its synchronous standbys are there"
            )
        return self._trouble


class MeteredLog(SqliteLog):
    """A log in a file that counts; ``append`` is called in one thread."""

    def __init__(self, path: Path, *, metrics: NodeMetrics) -> None:
        """Open the log at ``path`` for writing; raises as ``SqliteLog``."""
        super().__init__(path)
        self.kept = KeptNote(path.parent)
        self._folder = path.parent
        self._metrics = metrics
        self._gauge = Gauge(metrics)

    def append(
        self,
        rows: Sequence[tuple[Digest, bytes, bytes]],
        *,
        ground: Ground = ANY_GROUND,
    ) -> Placing:
        """Append as ``SqliteLog`` does, and count the commit."""
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
        if trouble := self._gauge.find_trouble():
            return trouble
        free_bytes = shutil.disk_usage(self._folder).free
        if free_bytes < FREE_BYTES_MIN:
            return f"only {format_size(free_bytes)} are free for the log; make room"
        return ""
