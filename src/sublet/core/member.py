"""What members of documents are made of: types with their bounds, and their ABI names.

Not here: the documents (``document``), which texts may be compared (``name``).
"""

from typing import Annotated

from msgspec import Meta, Struct

from sublet.base import limits
from sublet.base.ids import Address

# Trees of values, and many: a garbage collector would find no circle (gc=False).


class Document(
    Struct, frozen=True, forbid_unknown_fields=True, tag_field="type", gc=False
):
    """What all documents have in common: nothing but being one."""


def uint(bits: int, most: int) -> Meta:
    return Meta(ge=0, le=most, extra={"abi": f"uint{bits}"})


def text(most: int) -> Meta:
    # Printable, so that no document carries terminal escapes to a reader's screen.
    return Meta(
        max_length=most, pattern=r"\A[^\x00-\x1f\x7f-\x9f]*\Z", extra={"abi": "string"}
    )


Seconds = Annotated[int, uint(64, limits.TIME_S_MAX)]  # since the epoch, UTC
Span = Annotated[int, uint(32, limits.LEASE_S_MAX)]  # a duration, in seconds
Volume = Annotated[int, uint(64, limits.VOLUME_S_MAX)]  # of all leases, in seconds
Millis = Annotated[int, uint(64, limits.LEASE_S_MAX * 1_000)]  # a duration, in ms
Amount = Annotated[int, uint(128, limits.AMOUNT_MAX)]  # micro-USD
Price = Annotated[int, uint(64, limits.PRICE_PER_HOUR_MAX)]  # micro-USD an hour
CpuMillis = Annotated[int, uint(64, 1 << 53)]  # of all CPUs, in ms
Cpus = Annotated[int, uint(32, limits.CPUS_MILLI_MAX)]  # thousandths of a CPU
Memory = Annotated[int, uint(64, limits.MEMORY_BYTES_MAX)]  # bytes
Disk = Annotated[int, uint(64, limits.DISK_BYTES_MAX)]  # bytes
LeaseCount = Annotated[int, uint(16, limits.LEASES_PER_MACHINE_MAX)]
MachineCount = Annotated[
    int, Meta(ge=1, le=limits.MACHINES_PER_ORDER_MAX, extra={"abi": "uint16"})
]
Latency = Annotated[int, uint(16, 2 * limits.LATENCY_MS_MAX)]  # in ms
GpuCount = Annotated[int, uint(16, limits.GPU_COUNT_MAX)]
GpuMemory = Annotated[int, uint(64, limits.GPU_MEMORY_BYTES_MAX)]  # bytes a GPU
Score = Annotated[int, uint(32, (1 << 32) - 1)]
Level = Annotated[int, uint(40, (1 << 40) - 1)]  # of a version; more is newer
Share = Annotated[int, uint(16, limits.GPU_SHARE_WHOLE)]  # thousandths of a GPU
Rate = Annotated[int, uint(32, limits.RATE_MBIT_S_MAX)]  # 10^6 bits a second
Size = Annotated[int, uint(64, 1 << 48)]  # a count of log entries
ChainId = Annotated[int, uint(64, 1 << 53)]
Salt = Annotated[int, uint(64, (1 << 63) - 1)]  # msgspec reads at most int64
Version = Annotated[int, uint(16, (1 << 16) - 1)]  # of the market's rules
Delay = Annotated[int, uint(40, 30 * 86_400)]  # seconds
ExitCode = Annotated[int, Meta(ge=0, le=255, extra={"abi": "uint16"})]
Text = Annotated[str, text(limits.TEXT_LENGTH_MAX)]
KeyLine = Annotated[str, text(limits.KEY_LENGTH_MAX)]  # "ssh-ed25519 AAAA…"
Texts = Annotated[
    tuple[Text, ...],
    Meta(max_length=limits.LIST_LENGTH_MAX, extra={"abi": "string[]"}),
]
GpuUuids = Annotated[
    tuple[Text, ...],
    Meta(max_length=limits.GPU_COUNT_MAX, extra={"abi": "string[]"}),
]
Addresses = Annotated[
    tuple[Address, ...],
    Meta(max_length=limits.LIST_LENGTH_MAX, extra={"abi": "address[]"}),
]
