"""The columns of a table of offers, and the numbers that an offer has in them.

Texts are interned, so that each cell is one int64 and columns can be compared.
Not here: where a row lies (``offer_table``), what an order asks of it (``fit``, ``wish``).
"""

from enum import IntEnum
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from sublet.base.limits import LATENCY_MS_MAX
from sublet.core.book.ask import find_ask
from sublet.core.book.record import OfferRecord
from sublet.core.book.vocabulary import Vocabulary

Cells = NDArray[np.int64]  # shape (columns, rows or blocks)


class Columns(Protocol):
    """Cells by column: of many rows, arrays; or of one row, numbers."""

    def __getitem__(self, columns: int | slice, /) -> Any:
        """Give one column, or some that lie together."""


class Column(IntEnum):
    """What matching reads of an offer, and prices; every cell is an int64."""

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
    USUAL_PRICE_HOUR = 16  # of the usual slice, by which rows of a kind are ordered
    LASTS_S = 17  # predicted, of its provider
    FEATURES = 18  # interned
    REFUSES = 19  # interned
    DISK_CLASS = 20  # interned
    GPU_VENDOR = 21  # interned
    GPU_INTERFACE = 22  # interned
    GPU_SHARING = 23  # interned
    GPU_SHARE_MILLI = 24
    GPU_COMPUTE = 25
    GPU_DRIVER = 26
    CUDA = 27
    UP_MBIT_S = 28
    DOWN_MBIT_S = 29
    JURISDICTION = 30  # interned
    ATTRIBUTES = 31  # interned
    LATENCIES = 32  # interned
    CPU_SCORE = 33
    DISK_SCORE = 34
    GPU_SCORE = 35
    NETWORK = 36  # interned
    ASK = 37  # of one unit, with its share of the machine: of these two tell ``prices``
    UNITS_MILLI = 38


# Of these an order wants at least so much: they lie together, compared in one go.
AT_LEAST = slice(Column.EXPIRES_AT_S, Column.GPU_MEMORY_BYTES + 1)
PRICES = slice(Column.CPU_PRICE_HOUR, Column.GPU_PRICE_HOUR + 1)
# Of these, and of the number, an ideal has the least; of all others it has the most.
LEAST_PRICES = slice(Column.CPU_PRICE_HOUR, Column.USUAL_PRICE_HOUR + 1)
GPU_PRICES = slice(Column.GPU_PRICE_HOUR, Column.USUAL_PRICE_HOUR + 1)

USUAL = slice(Column.LASTS_S + 1)  # those that nearly every order reads

# By which rows are put into blocks; no two have the same number.
ORDERED_BY = (Column.GPU_MODEL, Column.USUAL_PRICE_HOUR, Column.NUMBER)

# The usual slice: as much as an order takes with one GPU; without one, where there is none.
USUAL_CPUS = 8
USUAL_GIB = 32

PLACES_MAX = 256  # to which distances are kept
_NO_NUMBERS = np.zeros(0, dtype=np.int64)


class Words:
    """The vocabularies of the interned columns; they only ever grow."""

    def __init__(self) -> None:
        """Start without any word."""
        self.providers = Vocabulary()
        self.gpu_models = Vocabulary()
        self.regions = Vocabulary()
        self.sandboxes = Vocabulary()
        self.features = Vocabulary()
        self.refused = Vocabulary()
        self.kinds = Vocabulary()  # disk classes, vendors, interfaces, ways of sharing
        self.jurisdictions = Vocabulary()
        self.attributes = Vocabulary()
        self.latencies = Vocabulary()
        self.networks = Vocabulary()
        self._ms_to: dict[str, NDArray[np.int64]] = {}  # by place; of each latencies

    def ms_to(self, place: str) -> NDArray[np.int64]:
        """Give the milliseconds to a place, by the numbers of latencies; kept.

        What nobody measured is taken to be far.
        """
        table = self._ms_to.get(place, _NO_NUMBERS)
        if table.size < len(self.latencies):
            fresh = [
                _find_ms(self.latencies.value(number), place)
                for number in range(table.size, len(self.latencies))
            ]
            table = np.concatenate([table, np.array(fresh, dtype=np.int64)])
            if len(self._ms_to) >= PLACES_MAX:
                self._ms_to.clear()
            self._ms_to[place] = table
        return table

    def encode(
        self, record: OfferRecord, *, is_up: bool, lasts_s: int
    ) -> NDArray[np.int64]:
        """Give the cells of a record's row, shape (columns,)."""
        offer = record.offer
        country = offer.region.partition("-")[0]
        values = (
            record.number,
            self.providers.intern(record.provider),
            0 if record.is_withdrawn else offer.expires_at_s,
            int(is_up),
            *free_of(record),
            offer.gpu_memory_bytes,
            self.gpu_models.intern(offer.gpu_model),
            self.regions.intern(offer.region, words=[country]),
            self.sandboxes.intern(offer.sandboxes, words=offer.sandboxes),
            offer.cpu_price_hour,
            offer.memory_price_hour,
            offer.gpu_price_hour,
            USUAL_CPUS * offer.cpu_price_hour
            + USUAL_GIB * offer.memory_price_hour
            + (offer.gpu_price_hour if offer.gpu_uuids else 0),
            lasts_s,
            self.features.intern(offer.features, words=offer.features),
            self.refused.intern(offer.refuses, words=offer.refuses),
            self.kinds.intern(offer.disk_class),
            self.kinds.intern(offer.gpu_vendor),
            self.kinds.intern(offer.gpu_interface),
            self.kinds.intern(offer.gpu_sharing),
            offer.gpu_share_milli,
            offer.gpu_compute,
            offer.gpu_driver,
            offer.cuda,
            offer.up_mbit_s,
            offer.down_mbit_s,
            self.jurisdictions.intern(offer.jurisdiction),
            self.attributes.intern(offer.attributes, words=offer.attributes),
            self.latencies.intern(offer.latencies, words=offer.latencies),
            offer.cpu_score,
            offer.disk_score,
            offer.gpu_score,
            self.networks.intern(offer.network),
            *find_ask(offer),
        )
        return np.array(values, dtype=np.int64)


def _find_ms(latencies: object, place: str) -> int:
    assert isinstance(latencies, tuple)
    for text in latencies:
        name, _, ms = text.partition("=")
        if name == place:
            return int(ms)
    return LATENCY_MS_MAX


def free_of(record: OfferRecord) -> tuple[int, int, int, int, int]:
    """Give what leases leave of it, in the columns from CPUS_MILLI_FREE on."""
    offer = record.offer
    return (
        offer.cpus_milli - record.cpus_milli_used,
        offer.memory_bytes - record.memory_bytes_used,
        offer.disk_bytes - record.disk_bytes_used,
        len(set(offer.gpu_uuids) - record.gpus_used),
        record.leases_free(),
    )
