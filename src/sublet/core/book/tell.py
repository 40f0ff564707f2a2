"""What an order asks, told to people: "vram 24 GiB", "driver 550.54.14", "price $0.40/h".

Wishes are named as the options of ``sublet run`` are. Documents and ``detail`` keep the
numbers. Not here: what to tell (``why_not``).
"""

from collections.abc import Callable, Mapping
from typing import Any

from sublet.base.limits import GPU_SHARE_WHOLE
from sublet.base.units import format_money, spell_size
from sublet.core.document import Order
from sublet.core.gpu_level import format_compute, format_cuda, format_driver

_SPELT_MAX = 8  # characters: what is longer is rounded
_GIB, _MIB = 1 << 30, 1 << 20


def field_of(name: str) -> str:
    """Give the field of an order behind a wish of this name."""
    return _FIELDS.get(name, name)


def tell_wish(name: str, order: Order) -> str:
    """Name what an order asks, and how much of it.

    Args:
        name: of the wish, as ``why_not`` counts it.
        order: that has it.
    """
    if name in _OTHERS:
        return _OTHERS[name]
    field = field_of(name)
    if field in _LABELS:
        return f"{_LABELS[field]} {_tell(field, getattr(order, field))}"
    kind, _, place = name.partition(" ")
    if kind == "latency":
        limits = dict(text.split("=", 1) for text in order.latencies)
        return f"latency {place} {limits[place]} ms"
    return name  # a feature, an attribute, audited or not


def tell_changes(order: Order, changes: Mapping[str, Any]) -> str:
    """Say how fields of an order become others; those that stay are not named."""
    return " and ".join(
        f"{_LABELS.get(field, field)} from {_tell(field, old)} to {_tell(field, new)}"
        for field, new in changes.items()
        if (old := getattr(order, field)) != new
    )


def tell_price(price_hour: int) -> str:
    """Write a price; micro-USD an hour."""
    return f"{format_money(price_hour)}/h"


def tell_size(size_bytes: int) -> str:
    """Write a size so that who asks for it gets it: exactly, or rounded down.

    >>> tell_size(24 << 30), tell_size(24_000_000_000), tell_size(25_383_141_377)
    ('24 GiB', '24 GB', '23.6 GiB')
    """
    spelt = spell_size(size_bytes)
    if len(spelt) <= _SPELT_MAX:
        number = spelt.rstrip("BKMGTPi")
        return f"{number} {spelt[len(number) :]}"
    unit, name = (_GIB, "GiB") if size_bytes >= _GIB else (_MIB, "MiB")
    tenths = size_bytes * 10 // unit
    return f"{tenths // 10}.{tenths % 10} {name}"


def _tell(field: str, value: Any) -> str:
    if not value and field not in _AMOUNTS:
        return "none" if field in _ALL_OF else "any"
    if field in _FORMATS:
        return _FORMATS[field](value)
    if isinstance(value, tuple):
        return (" and " if field in _ALL_OF else " or ").join(value)
    return str(value)


def _tell_rate(mbit_s: int) -> str:
    return f"{mbit_s} Mbit/s"


def _tell_share(milli: int) -> str:
    return f"{milli / GPU_SHARE_WHOLE:g}"


def _tell_avoided(providers: tuple[str, ...]) -> str:
    return " and ".join(f"{provider[:10]}…" for provider in providers)


def _tell_latencies(limits: tuple[str, ...]) -> str:
    return " and ".join(f"{text.replace('=', ' ')} ms" for text in limits)


# Where a wish has another name than its field.
_FIELDS: Mapping[str, str] = {
    "cpus": "cpus_milli",
    "memory": "memory_bytes",
    "disk": "disk_bytes",
    "gpu_memory": "gpu_memory_bytes",
    "gpu_model": "gpu_models",
    "disk_class": "disk_classes",
    "region": "regions",
    "jurisdiction": "jurisdictions",
    "speed": "work",
    "price": "price_hour_max",
}
_LABELS: Mapping[str, str] = {
    "cpus_milli": "cpus",
    "memory_bytes": "memory",
    "disk_bytes": "disk",
    "disk_classes": "disk class",
    "gpu_count": "GPUs",
    "gpu_models": "GPU model",
    "gpu_memory_bytes": "vram",
    "gpu_vendor": "GPU vendor",
    "gpu_interface": "GPU interface",
    "gpu_compute": "compute capability",
    "gpu_driver": "driver",
    "cuda": "CUDA",
    "gpu_share_milli": "GPU share",
    "gpu_sharing": "GPU sharing",
    "regions": "region",
    "jurisdictions": "jurisdiction",
    "up_mbit_s": "up",
    "down_mbit_s": "down",
    "latencies": "latency",
    "sandbox": "sandbox",
    "features": "features",
    "attributes": "attributes",
    "auditors_any": "auditors",
    "auditors_all": "auditors, each of them",
    "avoid": "avoided providers",
    "work": "measured speed of",
    "machines": "machines",
    "apart": "apart",
    "together_ms": "together",
    "price_hour_max": "price",
    "total_max": "total",
}
_OTHERS: Mapping[str, str] = {
    "provider_up": "provider away",
    "leases": "as many leases as it takes",
    "delegation": "not in the delegation",
    "avoided": "avoided by you",
    "refused": "refuses you",
    "booked": "booked by others",
}
# Nothing of these is no machine, or costs nothing; of others it is no wish.
_AMOUNTS = frozenset(
    {"cpus_milli", "memory_bytes", "disk_bytes", "gpu_count"}
    | {"price_hour_max", "total_max"}
)
_ALL_OF = frozenset({"features", "attributes", "auditors_all", "avoid", "apart"})
_FORMATS: Mapping[str, Callable[[Any], str]] = {
    "cpus_milli": lambda milli: f"{milli / 1_000:g}",
    "memory_bytes": tell_size,
    "disk_bytes": tell_size,
    "gpu_memory_bytes": tell_size,
    "gpu_compute": format_compute,
    "gpu_driver": format_driver,
    "cuda": format_cuda,
    "gpu_share_milli": _tell_share,
    "up_mbit_s": _tell_rate,
    "down_mbit_s": _tell_rate,
    "latencies": _tell_latencies,
    "avoid": _tell_avoided,
    "together_ms": lambda ms: f"{ms} ms",
    "price_hour_max": tell_price,
    "total_max": format_money,
}
