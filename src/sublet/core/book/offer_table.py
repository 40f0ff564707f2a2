"""All offers in columns, so that 100,000 of them are matched by vector operations.

One row per (provider, machine). Rows are reused; where a row lies says nothing. A row
that is dead (expired or withdrawn) and that no lease uses is as good as gone: it is
reclaimed when the table is full, and never seen by anybody.

Not here: who may offer (``by_provider``), which offer wins (``quote``).
"""

from copy import copy
from enum import IntEnum

import numpy as np
from msgspec.structs import replace
from numpy.typing import NDArray

from sublet.base.ids import Address, Digest
from sublet.core.book.record import OfferRecord
from sublet.core.book.vocabulary import Vocabulary
from sublet.core.lease.phase import Lease

CAPACITY_AT_FIRST = 64  # rows


class Column(IntEnum):
    """The columns that matching reads; every cell is an int64."""

    NUMBER = 0
    PROVIDER = 1  # interned
    EXPIRES_AT_S = 2  # 0 where withdrawn or empty: never in the future
    IS_UP = 3
    CPUS_MILLI_FREE = 4
    MEMORY_BYTES_FREE = 5
    DISK_BYTES_FREE = 6
    GPUS_FREE = 7
    LEASES_FREE = 8
    GPU_MEMORY_BYTES = 9
    GPU_MODEL = 10  # interned
    REGION = 11  # interned
    SANDBOXES = 12  # interned
    CPU_PRICE_HOUR = 13
    MEMORY_PRICE_HOUR = 14
    GPU_PRICE_HOUR = 15
    FEATURES = 16  # interned
    REFUSES = 17  # interned


# Of these an order wants at least so much: they lie together, compared in one go.
AT_LEAST = slice(Column.EXPIRES_AT_S, Column.GPU_MEMORY_BYTES + 1)
PRICES = slice(Column.CPU_PRICE_HOUR, Column.GPU_PRICE_HOUR + 1)


class OfferTable:
    """The standing offers, by row, by machine and by id."""

    def __init__(self) -> None:
        """Start without any offer."""
        self.cells: NDArray[np.int64] = np.zeros(
            (len(Column), CAPACITY_AT_FIRST), dtype=np.int64
        )
        self.count = 0  # rows that were ever used; the rest is blank
        self.records: list[OfferRecord | None] = []  # by row
        self.machines: dict[Address, dict[str, int]] = {}  # provider, machine: row
        self.row_of: dict[Digest, int] = {}  # by the id of the offer in force
        self.blank: list[int] = []  # rows below count that hold nothing
        self.providers = Vocabulary()
        self.gpu_models = Vocabulary()
        self.regions = Vocabulary()
        self.sandboxes = Vocabulary()
        self.features = Vocabulary()
        self.refused = Vocabulary()

    def copy(self) -> "OfferTable":
        """Give an independent table; vocabularies only ever grow and are shared."""
        twin = copy(self)
        twin.cells = self.cells.copy()
        twin.records = self.records.copy()
        twin.machines = {key: rows.copy() for key, rows in self.machines.items()}
        twin.row_of = self.row_of.copy()
        twin.blank = self.blank.copy()
        return twin

    # ---- reading --------------------------------------------------------------

    def column(self, name: Column) -> NDArray[np.int64]:
        """Give one column over all rows in use, shape (count,); a view, not a copy."""
        return self.cells[name, : self.count]

    def get(self, row: int) -> OfferRecord:
        """Give the record in a row that is known to hold one."""
        record = self.records[row]
        assert record is not None
        return record

    def find(self, offer_id: Digest) -> OfferRecord | None:
        """Give the offer in force with this id, or None."""
        row = self.row_of.get(offer_id)
        return None if row is None else self.get(row)

    def find_machine(self, provider: Address, machine: str) -> OfferRecord | None:
        """Give the record of this machine, dead or alive, or None."""
        row = self.machines.get(provider, {}).get(machine)
        return None if row is None else self.get(row)

    def of_provider(self, provider: Address) -> list[OfferRecord]:
        """List the provider's records, dead or alive."""
        return [self.get(row) for row in self.machines.get(provider, {}).values()]

    def standing(self, now_s: int) -> list[OfferRecord]:
        """List what is live or still in use, in log order."""
        records = [
            record
            for record in self.records
            if record is not None and (record.is_live(now_s) or record.is_used())
        ]
        return sorted(records, key=lambda record: record.number)

    def count_live(self, now_s: int) -> int:
        """Count the offers that stand."""
        return int(np.count_nonzero(self.column(Column.EXPIRES_AT_S) > now_s))

    # ---- writing --------------------------------------------------------------

    def put(self, record: OfferRecord, *, is_up: bool, now_s: int) -> None:
        """Set the record of a machine, in its row or in a new one."""
        machines = self.machines.setdefault(record.provider, {})
        row = machines.get(record.offer.machine)
        if row is None:
            row = self._take_row(now_s)
            # Making room may have dropped the provider's other, dead machines.
            self.machines.setdefault(record.provider, {})[record.offer.machine] = row
        else:
            self.row_of.pop(self.get(row).id, None)
        self.row_of[record.id] = row
        self._write(row, record, is_up=is_up)

    def withdraw(self, offer_id: Digest) -> None:
        """Let the offer match no more; what leases use of it stays theirs."""
        row = self.row_of[offer_id]
        self.records[row] = replace(self.get(row), is_withdrawn=True)
        self.cells[Column.EXPIRES_AT_S, row] = 0

    def set_up(self, provider: Address, *, is_up: bool) -> None:
        """Let the provider's machines match, or not."""
        for row in self.machines.get(provider, {}).values():
            self.cells[Column.IS_UP, row] = int(is_up)

    def bind(self, lease: Lease) -> None:
        """Take the lease's slice out of what is free."""
        self._use(lease, sign=1)

    def release(self, lease: Lease) -> None:
        """Give the lease's slice back."""
        self._use(lease, sign=-1)

    def _use(self, lease: Lease, *, sign: int) -> None:
        row = self.machines[lease.provider][lease.machine]
        was = self.get(row)
        gpus = frozenset(lease.gpu_uuids)
        record = replace(
            was,
            cpus_milli_used=was.cpus_milli_used + sign * lease.cpus_milli,
            memory_bytes_used=was.memory_bytes_used + sign * lease.memory_bytes,
            disk_bytes_used=was.disk_bytes_used + sign * lease.disk_bytes,
            gpus_used=was.gpus_used | gpus if sign > 0 else was.gpus_used - gpus,
            leases_used=was.leases_used + sign,
        )
        self.records[row] = record
        self.cells[Column.CPUS_MILLI_FREE : Column.LEASES_FREE + 1, row] = _free(record)

    def _write(self, row: int, record: OfferRecord, *, is_up: bool) -> None:
        offer = record.offer
        country = offer.region.partition("-")[0]
        self.records[row] = record
        self.cells[:, row] = (
            record.number,
            self.providers.intern(record.provider, words=[record.provider]),
            0 if record.is_withdrawn else offer.expires_at_s,
            int(is_up),
            *_free(record),
            offer.gpu_memory_bytes,
            self.gpu_models.intern(offer.gpu_model, words=[offer.gpu_model]),
            self.regions.intern(offer.region, words=[offer.region, country]),
            self.sandboxes.intern(offer.sandboxes, words=offer.sandboxes),
            offer.cpu_price_hour,
            offer.memory_price_hour,
            offer.gpu_price_hour,
            self.features.intern(offer.features, words=offer.features),
            self.refused.intern(offer.refuses, words=offer.refuses),
        )

    def _take_row(self, now_s: int) -> int:
        if not self.blank and self.count == self.cells.shape[1]:
            self._reclaim(now_s)
            if len(self.blank) < self.count // 4:
                # Few were dead: double, so that reclaiming stays rare.
                self.cells = np.concatenate(
                    [self.cells, np.zeros_like(self.cells)], axis=1
                )
        if self.blank:
            return self.blank.pop()
        self.records.append(None)
        self.count += 1
        return self.count - 1

    def _reclaim(self, now_s: int) -> None:
        dead = np.flatnonzero(self.column(Column.EXPIRES_AT_S) <= now_s)
        for row in dead.tolist():
            record = self.records[row]
            if record is None or record.is_used():
                continue
            machines = self.machines[record.provider]
            del machines[record.offer.machine]
            if not machines:
                del self.machines[record.provider]
            del self.row_of[record.id]
            self.records[row] = None
            self.cells[:, row] = 0
            self.blank.append(row)


def _free(record: OfferRecord) -> tuple[int, int, int, int, int]:
    offer = record.offer
    return (
        offer.cpus_milli - record.cpus_milli_used,
        offer.memory_bytes - record.memory_bytes_used,
        offer.disk_bytes - record.disk_bytes_used,
        len(set(offer.gpu_uuids) - record.gpus_used),
        record.leases_free(),
    )
