"""A log in memory that keeps the port's promises, and can be told to fail."""

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

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
)


class FakeLog:
    """Passes ``tests/ports/test_log.py``, as the real one does.

    ``fail_append_number(n)`` makes the n-th append from the beginning, counted from 1,
    fail as a full disk would. While ``gate`` is clear every append is held back, and
    ``held`` says that one is.
    """

    is_shared = False

    def __init__(self) -> None:
        self.rows: list[Row] = []
        self.batches: list[int] = []  # how many documents each append was given
        self.gate = threading.Event()
        self.gate.set()
        self.held = threading.Event()
        self._to_fail: set[int] = set()
        self._lock = threading.Lock()
        self._numbers: dict[Digest, int] = {}
        self.checkpoints: dict[int, bytes] = {}
        self.snapshots: dict[int, Snapshot] = {}
        self._settled: dict[Digest, tuple[Digest, Address, Address, int, bytes]] = {}

    def fail_append_number(self, number: int) -> None:
        self._to_fail.add(number)

    def append(
        self,
        rows: Sequence[tuple[Digest, bytes, bytes]],
        *,
        ground: Ground = ANY_GROUND,
    ) -> Placing:
        if not self.gate.is_set():
            self.held.set()
            self.gate.wait()
        with self._lock:
            self.batches.append(len(rows))
            if len(self.batches) in self._to_fail:
                raise Unavailable("the disk is full", code="disk_full")
            size, numbers = len(self.rows), []
            if any(row[0] not in self._numbers for row in rows):
                self._check_ground(ground)
            for id_, body, leaf in rows:
                if id_ not in self._numbers:
                    self._numbers[id_] = len(self.rows)
                    self.rows.append(Row(len(self.rows), id_, body, leaf))
                numbers.append(self._numbers[id_])
            return Placing(size, numbers)

    def _check_ground(self, ground: Ground) -> None:
        if ground.size:
            tip = self.rows[ground.size - 1 : ground.size]
            if [row.leaf for row in tip] != [ground.leaf]:
                raise LogForked
        if ground.is_next and ground.size != len(self.rows):
            raise Overtaken

    @contextmanager
    def alone(self) -> Iterator[None]:
        yield

    def wait_more(self, *, size: int, timeout_s: float) -> bool:
        return len(self.rows) > size

    def read(self, *, first: int, limit: int) -> list[Row]:
        return self.rows[first : first + limit]

    def find(self, id: Digest) -> int | None:  # noqa: A002
        return self._numbers.get(id)

    def size(self) -> int:
        return len(self.rows)

    def put_checkpoint(self, *, size: int, note: bytes) -> None:
        self.checkpoints[size] = note

    def find_checkpoint(self, *, size_max: int | None = None) -> bytes | None:
        sizes = [s for s in self.checkpoints if size_max is None or s <= size_max]
        return self.checkpoints[max(sizes)] if sizes else None

    def read_checkpoints(self, *, first: int, limit: int) -> list[tuple[int, bytes]]:
        sizes = sorted(size for size in self.checkpoints if size >= first)
        return [(size, self.checkpoints[size]) for size in sizes[:limit]]

    def put_snapshot(self, snapshot: Snapshot) -> None:
        self.snapshots[snapshot.size] = snapshot
        for size in sorted(self.snapshots)[:-2]:
            del self.snapshots[size]

    def find_snapshot(self, *, size_max: int | None = None) -> Snapshot | None:
        sizes = [s for s in self.snapshots if size_max is None or s <= size_max]
        return self.snapshots[max(sizes)] if sizes else None

    def put_settled(
        self, rows: Sequence[tuple[Digest, Address, Address, int, bytes]]
    ) -> None:
        self._settled.update({row[0]: row for row in rows})

    def read_settled(
        self, *, party: Address, before_s: int | None, limit: int
    ) -> list[bytes]:
        mine = [
            row
            for row in self._settled.values()
            if party in row[1:3] and (before_s is None or row[3] < before_s)
        ]
        mine.sort(key=lambda row: (-row[3], row[0]))
        return [row[4] for row in mine[:limit]]

    def find_settled(self, lease_id: Digest) -> bytes | None:
        row = self._settled.get(lease_id)
        return row and row[4]

    def close(self) -> None:
        pass
