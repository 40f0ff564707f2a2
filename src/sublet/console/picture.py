"""What the live view shows, as plain values: a market at one moment.

Not here: where the values come from (``watch``), what they look like (``drawing``).
"""

from msgspec import Struct


class ProviderLine(Struct, frozen=True):
    """One machine on offer. Prices in micro-USD an hour; sizes in their own units."""

    machine: str
    provider: str  # its address
    is_up: bool
    region: str
    cpus_milli_free: int
    cpus_milli: int
    memory_bytes_free: int
    memory_bytes: int
    gpu_model: str
    gpus_free: int
    gpus: int
    cpu_price_hour: int
    memory_price_hour: int
    gpu_price_hour: int
    leases_open: int
    earned: int  # micro-USD, all that its owner was ever paid


class LeaseLine(Struct, frozen=True):
    """One lease, open or lately settled."""

    id: str
    machine: str
    phase: str
    ran_ms: int
    secured_ms: int
    price_hour: int  # micro-USD
    owed: int  # micro-USD so far; what was paid once it is settled
    reason: str  # why it ended, or ""
    fault: str  # who made it end: nobody, tenant, provider


class EventLine(Struct, frozen=True):
    """One entry of the log in words."""

    at_s: int  # seconds since the epoch, UTC
    index: int  # of the entry
    text: str


class Picture(Struct, frozen=True):
    """A market at one moment, as its own log tells it."""

    name: str
    url: str
    now_s: int
    size: int  # entries in the log
    providers: tuple[ProviderLine, ...]
    leases: tuple[LeaseLine, ...]  # newest first
    events: tuple[EventLine, ...]  # newest last
