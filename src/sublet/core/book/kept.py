"""An offer's record as it is kept in memory: its document as bytes, a third as large.

A table holds a million of them and looks at few; what matching reads is in columns.
"""

from types import GenericAlias
from typing import Any, get_type_hints

from msgspec import Struct
from msgspec.msgpack import Decoder, Encoder
from msgspec.structs import astuple

from sublet.base.ids import Address, Digest
from sublet.core.book.record import OfferRecord
from sublet.core.document import Offer


class Kept(Struct, frozen=True, gc=False):
    """The fields of an OfferRecord."""

    id: Digest
    number: int
    provider: Address
    machine: str
    offer: bytes
    is_withdrawn: bool
    cpus_milli_used: int
    memory_bytes_used: int
    disk_bytes_used: int
    gpus_used: frozenset[str]
    leases_used: int


# Values without their names, which are half of a document.
_ENCODER = Encoder()
_HINTS = get_type_hints(Offer)
_DECODER = Decoder(
    GenericAlias(tuple, tuple(_HINTS[name] for name in Offer.__struct_fields__))
)
_GPU_UUIDS = Offer.__struct_fields__.index("gpu_uuids")


def keep(record: OfferRecord) -> Kept:
    """Make the small form of a record."""
    return Kept(
        id=record.id,
        number=record.number,
        provider=record.provider,
        machine=record.offer.machine,
        offer=_ENCODER.encode(astuple(record.offer)),
        is_withdrawn=record.is_withdrawn,
        cpus_milli_used=record.cpus_milli_used,
        memory_bytes_used=record.memory_bytes_used,
        disk_bytes_used=record.disk_bytes_used,
        gpus_used=record.gpus_used,
        leases_used=record.leases_used,
    )


def count_gpus_free(kept: Kept) -> int:
    """Count the offer's GPUs that no lease has bound."""
    values: tuple[Any, ...] = _DECODER.decode(kept.offer)
    return len(set(values[_GPU_UUIDS]) - kept.gpus_used)


def restore(kept: Kept) -> OfferRecord:
    """Make the record again, equal to what was kept."""
    values = dict(
        zip(Offer.__struct_fields__, _DECODER.decode(kept.offer), strict=True)
    )
    return OfferRecord(
        id=kept.id,
        number=kept.number,
        provider=kept.provider,
        offer=Offer(**values),
        is_withdrawn=kept.is_withdrawn,
        cpus_milli_used=kept.cpus_milli_used,
        memory_bytes_used=kept.memory_bytes_used,
        disk_bytes_used=kept.disk_bytes_used,
        gpus_used=kept.gpus_used,
        leases_used=kept.leases_used,
    )
