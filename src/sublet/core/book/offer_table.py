"""All offers in columns, so that they are matched by vector operations, and few of them.

One row per (provider, machine). Rows lie in blocks of alike ones, in the order (GPU
model, region, usual price, age), and move where they have to: where a row lies says
nothing to anybody else. A row that is dead (expired or withdrawn) and that no lease
uses is as good as gone: it is reclaimed when the table is full, and never seen.

Of each block the *ideal* is known: an offer that nobody made, as good in each column as
the best row of the block that might match. What an order misses in the ideal it misses
in each of these rows, and what the ideal costs none of them costs less. So whoever
looks for the best asks the ideals first, and then only the rows of a few blocks.

Not here: who may offer (``by_provider``), which offer wins (``quote``).
"""

from collections.abc import Iterable, Iterator
from copy import copy

import numpy as np
from msgspec.structs import replace
from numpy.typing import NDArray

from sublet.base.ids import Address, Digest
from sublet.core.book.block import BLOCK_ROWS, BlockOrder, Key
from sublet.core.book.column import (
    GPU_PRICES,
    LEAST_PRICES,
    ORDERED_BY,
    USUAL,
    Cells,
    Column,
    Columns,
    Words,
)
from sublet.core.book.kept import Kept, count_gpus_free, keep, restore
from sublet.core.book.record import OfferRecord
from sublet.core.lease.phase import Lease
from sublet.core.reliability.chance import PRIOR_S

BLOCKS_AT_FIRST = 2
GROWTH = 4  # a full table grows by a quarter
BLOCK_ROWS_FILLED = BLOCK_ROWS * 3 // 4  # when the table is laid out anew

_NOTHING = np.zeros(len(Column), dtype=np.int64)
_NO_BLOCKS = np.zeros(0, dtype=np.intp)


class OfferTable:
    """The standing offers, by row, by machine and by id."""

    def __init__(self) -> None:
        """Start without any offer."""
        self.cells = _zeros(BLOCKS_AT_FIRST * BLOCK_ROWS)
        self.ideals = _zeros(BLOCKS_AT_FIRST)  # of the models, it has the last …
        self._first_models = np.zeros(BLOCKS_AT_FIRST, dtype=np.int64)  # … and this
        # Made when asked for, until a block has other models.
        self._by_model: dict[int, NDArray[np.intp]] = {}
        self._kept: list[Kept | None] = [None] * self.cells.shape[1]  # by row
        self.machines: dict[Address, dict[str, int]] = {}  # provider, machine: row
        self.row_of: dict[Digest, int] = {}  # by the id of the offer in force
        self._order = BlockOrder()
        self.words = Words()

    def copy(self) -> "OfferTable":
        """Give an independent table; vocabularies only ever grow and are shared."""
        twin = copy(self)
        twin.cells, twin.ideals = self.cells.copy(), self.ideals.copy()
        twin._first_models = self._first_models.copy()
        twin._by_model = self._by_model.copy()
        twin._kept = self._kept.copy()
        twin.machines = {key: rows.copy() for key, rows in self.machines.items()}
        twin.row_of = self.row_of.copy()
        twin._order = self._order.copy()
        return twin

    # ---- reading --------------------------------------------------------------

    @property
    def count(self) -> int:
        """How many rows there are, blank ones included: in blocks that are in use."""
        return len(self._order) * BLOCK_ROWS

    def column(self, name: Column) -> NDArray[np.int64]:
        """Give one column over all rows, shape (count,); a view, not a copy."""
        return self.cells[name, : self.count]

    def all_blocks(self) -> NDArray[np.intp]:
        """Give all blocks that are in use."""
        return np.arange(len(self._order))

    def blocks_with(self, models: Iterable[str]) -> NDArray[np.intp]:
        """Give the blocks in which there may be machines with one of these GPUs."""
        numbers = self.words.gpu_models.numbers_of(models)
        if len(numbers) == 1:
            return self._blocks_with(numbers.pop())
        found = [self._blocks_with(number) for number in numbers]
        return np.unique(np.concatenate(found)) if found else _NO_BLOCKS

    def _blocks_with(self, model: int) -> NDArray[np.intp]:
        blocks = self._by_model.get(model)
        if blocks is None:
            count = len(self._order)
            is_over = self.ideals[Column.GPU_MODEL, :count] >= model
            blocks = (is_over & (self._first_models[:count] <= model)).nonzero()[0]
            self._by_model[model] = blocks
        return blocks

    def rows_of(self, blocks: NDArray[np.intp]) -> Columns:
        """Give the cells of all rows of these blocks, one block after another."""
        if blocks.size == 1:  # by far the most common: a view
            first = int(blocks[0]) * BLOCK_ROWS
            return self.cells[:, first : first + BLOCK_ROWS]
        return _Gathered(self.cells, blocks)

    def blocks_of(self, providers: Iterable[Address]) -> NDArray[np.intp]:
        """Give the blocks in which these providers have machines, ascending."""
        owned = [self.machines.get(provider, {}) for provider in providers]
        blocks = {row // BLOCK_ROWS for rows in owned for row in rows.values()}
        return np.array(sorted(blocks), dtype=np.intp)

    def get(self, row: int) -> OfferRecord:
        """Give the record in a row that is known to hold one."""
        return restore(self.get_kept(row))

    def get_kept(self, row: int) -> Kept:
        """Give the record as it is kept."""
        kept = self._kept[row]
        assert kept is not None
        return kept

    def name_of(self, row: int) -> tuple[Digest, Address, str]:
        """Give the offer in a row that is known to hold one, its owner, its machine."""
        kept = self.get_kept(row)
        return kept.id, kept.provider, kept.machine

    def region_of(self, row: int) -> str:
        """Give the region of a row that is known to hold an offer."""
        return str(self.words.regions.value(int(self.cells[Column.REGION, row])))

    def cells_of(self, row: int) -> list[int]:
        """Give the cells of one row."""
        cells: list[int] = self.cells[:, row].tolist()
        return cells

    def records(self) -> Iterator[tuple[int, OfferRecord]]:
        """Give all records, dead or alive, each after its row; in no order."""
        return ((row, restore(kept)) for row, kept in enumerate(self._kept) if kept)

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
        records = (
            record
            for _, record in self.records()
            if record.is_live(now_s) or record.is_used()
        )
        return sorted(records, key=lambda record: record.number)

    def count_live(self, now_s: int) -> int:
        """Count the offers that stand."""
        return int(np.count_nonzero(self.column(Column.EXPIRES_AT_S) > now_s))

    # ---- writing --------------------------------------------------------------

    def put(
        self,
        record: OfferRecord,
        *,
        is_up: bool,
        now_s: int,
        lasts_s: int = PRIOR_S,
    ) -> None:
        """Set the record of a machine, in its row or in a new one."""
        cells = self.words.encode(record, is_up=is_up, lasts_s=lasts_s)
        key = _key_of(cells)
        row = self.machines.get(record.provider, {}).get(record.offer.machine)
        if row is not None and self._order.home(key) == row // BLOCK_ROWS:
            del self.row_of[self.get_kept(row).id]
        else:
            if row is not None:
                self._clear(row)
                self._refresh(row)
            row = self._take_row(key, now_s)
        self._set(row, keep(record), cells)
        self._refresh(row)

    def withdraw(self, offer_id: Digest) -> None:
        """Let the offer match no more; what leases use of it stays theirs."""
        row = self.row_of[offer_id]
        self._kept[row] = replace(self.get_kept(row), is_withdrawn=True)
        self.cells[Column.EXPIRES_AT_S, row] = 0
        self._refresh(row)

    def set_up(self, provider: Address, *, is_up: bool) -> None:
        """Let the provider's machines match, or not."""
        for row in self.machines.get(provider, {}).values():
            if self.cells[Column.IS_UP, row] != is_up:
                self.cells[Column.IS_UP, row] = is_up
                self._refresh(row)

    def set_lasts(self, provider: Address, *, lasts_s: int) -> None:
        """Note how long the provider is predicted to last between two faults."""
        for row in self.machines.get(provider, {}).values():
            if self.cells[Column.LASTS_S, row] != lasts_s:
                self.cells[Column.LASTS_S, row] = lasts_s
                self._refresh(row)

    def bind(self, lease: Lease) -> None:
        """Take the lease's slice out of what is free."""
        self._use(lease, sign=1)

    def release(self, lease: Lease) -> None:
        """Give the lease's slice back."""
        self._use(lease, sign=-1)

    def _use(self, lease: Lease, *, sign: int) -> None:
        row = self.machines[lease.provider][lease.machine]
        was, gpus = self.get_kept(row), frozenset(lease.gpu_uuids)
        kept = self._kept[row] = replace(
            was,
            cpus_milli_used=was.cpus_milli_used + sign * lease.cpus_milli,
            memory_bytes_used=was.memory_bytes_used + sign * lease.memory_bytes,
            disk_bytes_used=was.disk_bytes_used + sign * lease.disk_bytes,
            gpus_used=was.gpus_used | gpus if sign > 0 else was.gpus_used - gpus,
            leases_used=was.leases_used + sign,
        )
        cells = self.cells[:, row]
        cells[Column.CPUS_MILLI_FREE] -= sign * lease.cpus_milli
        cells[Column.MEMORY_BYTES_FREE] -= sign * lease.memory_bytes
        cells[Column.DISK_BYTES_FREE] -= sign * lease.disk_bytes
        cells[Column.LEASES_FREE] -= sign
        if gpus:  # another offer of the machine may not have them any more
            cells[Column.GPUS_FREE] = count_gpus_free(kept)
        self._refresh(row)

    def _set(self, row: int, kept: Kept, cells: NDArray[np.int64]) -> None:
        self.cells[:, row] = cells
        self._kept[row] = kept
        self.row_of[kept.id] = row
        self.machines.setdefault(kept.provider, {})[kept.machine] = row

    def _clear(self, row: int) -> None:
        kept = self.get_kept(row)
        machines = self.machines[kept.provider]
        del machines[kept.machine]
        if not machines:
            del self.machines[kept.provider]
        del self.row_of[kept.id]
        self._blank(row)

    def _blank(self, row: int) -> None:
        self._kept[row] = None
        self.cells[:, row] = 0
        self._order.give(row)

    def _refresh(self, row: int) -> None:
        """Compute the ideal of the block in which something changed."""
        block = row // BLOCK_ROWS
        rows = slice(block * BLOCK_ROWS, (block + 1) * BLOCK_ROWS)
        cells = _matchable(self.cells[:, rows])
        if cells.shape[1]:
            ideal, first_model = _ideal(cells), cells[Column.GPU_MODEL].min()
        else:
            ideal, first_model = _NOTHING, 0  # has expired
        models = self._first_models[block], self.ideals[Column.GPU_MODEL, block]
        if models != (first_model, ideal[Column.GPU_MODEL]):
            self._by_model.clear()
            self._first_models[block] = first_model
        self.ideals[:, block] = ideal

    # ---- room -----------------------------------------------------------------

    def _take_row(self, key: Key, now_s: int) -> int:
        while (row := self._order.take(self._order.home(key))) is None:
            if self.count < self.cells.shape[1]:
                self._split(self._order.home(key))
            else:
                self._make_room(now_s)
        return row

    def _split(self, block: int) -> None:
        """Move the upper part of a full block to a new one."""
        first = block * BLOCK_ROWS
        rows = first + _sort(self.cells[:, first : first + BLOCK_ROWS])
        cut = _cut(self.cells[Column.GPU_MODEL, rows], 1, BLOCK_ROWS)
        upper = rows[cut:].tolist()
        target = self._order.add(_key_of(self.cells[:, upper[0]]))
        self._by_model.clear()
        for row in upper:
            moved = self._order.take(target)
            assert moved is not None
            self._set(moved, self.get_kept(row), self.cells[:, row])
            self._blank(row)
        self._refresh(first)
        self._refresh(target * BLOCK_ROWS)

    def _make_room(self, now_s: int) -> None:
        """Drop what is dead; then lay out anew what is left, or grow."""
        for row in np.flatnonzero(self.column(Column.EXPIRES_AT_S) <= now_s).tolist():
            kept = self._kept[row]
            if kept is not None and not kept.leases_used:
                self._clear(row)
        if len(self.row_of) <= self.count // 2:
            self._lay_out()
        if self.count < self.cells.shape[1]:
            return
        more = max(1, len(self._order) // GROWTH)
        self.cells = np.concatenate([self.cells, _zeros(more * BLOCK_ROWS)], axis=1)
        self.ideals = np.concatenate([self.ideals, _zeros(more)], axis=1)
        self._first_models = np.concatenate([self._first_models, _zeros(more)[0]])
        self._kept += [None] * (more * BLOCK_ROWS)

    def _lay_out(self) -> None:
        """Put all rows in order, in blocks with some room each; the others are blank."""
        rows = np.array(list(self.row_of.values()), dtype=np.intp)
        rows = rows[_sort(self.cells[:, rows])]
        old_cells, old_kept = self.cells, self._kept
        self.cells, self.ideals = np.zeros_like(self.cells), np.zeros_like(self.ideals)
        self._kept = [None] * self.cells.shape[1]
        parts = _parts(rows, old_cells[Column.GPU_MODEL, rows])
        self._by_model.clear()
        self._order = BlockOrder(
            used=[(_key_of(old_cells[:, part[0]]), part.size) for part in parts]
        )
        for block, part in enumerate(parts):
            for row, old in enumerate(part.tolist(), start=block * BLOCK_ROWS):
                kept = old_kept[old]
                assert kept is not None
                self._set(row, kept, old_cells[:, old])
            self._refresh(block * BLOCK_ROWS)


class _Gathered:
    """The rows of several blocks: the usual columns, others when they are asked for."""

    def __init__(self, cells: Cells, blocks: NDArray[np.intp]) -> None:
        self._cells, self._blocks = cells, blocks
        self._usual = self._gather(USUAL)

    def __getitem__(self, columns: int | slice, /) -> NDArray[np.int64]:
        end = columns.stop if isinstance(columns, slice) else columns + 1
        return self._usual[columns] if end <= USUAL.stop else self._gather(columns)

    def _gather(self, columns: int | slice) -> NDArray[np.int64]:
        part = self._cells[columns]
        shape = part.shape[:-1]
        in_blocks = part.reshape(*shape, -1, BLOCK_ROWS)
        return in_blocks.take(self._blocks, axis=-2).reshape(*shape, -1)


def _zeros(length: int) -> Cells:
    return np.zeros((len(Column), length), dtype=np.int64)


def _key_of(cells: NDArray[np.int64]) -> Key:
    """Say where a row, shape (columns,), belongs."""
    return tuple(cells[list(ORDERED_BY)].tolist())


def _sort(cells: Cells) -> NDArray[np.intp]:
    """Give the places of the rows in the order of their keys."""
    return np.lexsort(cells[list(reversed(ORDERED_BY))])


def _cut(models: NDArray[np.int64], least: int, most: int) -> int:
    """Say where to cut a block in order, so that few blocks have several models.

    Args:
        models: of the rows, in order.
        least, most: between them the cut lies, in the middle where all are the same.
    """
    middle = (least + most) // 2
    changes = np.flatnonzero(np.diff(models)) + 1
    changes = changes[(changes >= least) & (changes <= most)]
    if not changes.size:
        return middle
    return int(changes[np.abs(changes - middle).argmin()])


def _parts(rows: NDArray[np.intp], models: NDArray[np.int64]) -> list[NDArray[np.intp]]:
    """Cut rows in order, of these models, into parts that leave room in a block."""
    parts: list[NDArray[np.intp]] = []
    while rows.size:
        size = min(BLOCK_ROWS_FILLED, rows.size)
        if rows.size > size:
            size = _cut(models[:size], BLOCK_ROWS // 2, size)
        parts.append(rows[:size])
        rows, models = rows[size:], models[size:]
    return parts


def _matchable(cells: Cells) -> Cells:
    """Leave out what cannot match now, whatever an order wants."""
    may_match = (
        (cells[Column.EXPIRES_AT_S] > 0)
        & (cells[Column.IS_UP] > 0)
        & (cells[Column.LEASES_FREE] > 0)
    )
    matchable: Cells = cells.take(may_match.nonzero()[0], axis=1)
    return matchable


def _ideal(cells: Cells) -> NDArray[np.int64]:
    """Make the ideal of these rows, of which there is one."""
    ideal: NDArray[np.int64] = np.maximum.reduce(cells, axis=1)
    ideal[Column.NUMBER] = np.minimum.reduce(cells[Column.NUMBER])
    prices = cells[LEAST_PRICES]
    ideal[LEAST_PRICES] = np.minimum.reduce(prices, axis=1)
    # Who asks for a GPU does not get one where none is free, however cheap it is.
    with_gpus = cells[Column.GPUS_FREE].nonzero()[0]
    if 0 < with_gpus.size < cells.shape[1]:
        gpu_prices = cells[GPU_PRICES].take(with_gpus, axis=1)
        ideal[GPU_PRICES] = np.minimum.reduce(gpu_prices, axis=1)
    return ideal
