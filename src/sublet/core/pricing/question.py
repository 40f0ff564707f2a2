"""What a pricing program is asked, and what it answers: JSON in, a price out. Pure.

Two styles of one question. Ours says all that the order and the machine say of the
slice. Akash's is what its providers' pricing scripts read, so that one written for
Akash runs here unchanged: resources in its units, and prices for one block of its
chain in a coin that is worth a US dollar.

Not here: how a program is run (``adapter.pricing_program``).
"""

import re
from collections.abc import Mapping
from fractions import Fraction
from typing import Any

from sublet.base.errors import Refused
from sublet.base.units import format_money
from sublet.core.document import Offer, Order

SUBLET = "sublet"
AKASH = "akash"
AKASH_ARRAY = "akash-array"  # as it was before 2023: the resources and nothing else
STYLES = (SUBLET, AKASH, AKASH_ARRAY)

QUESTION_VERSION = 1
USDC = "ibc/170C677610AC31DF0904FFE09CD3B5C657492170E7E52372E48756B71E56F2F1"
# What Akash's own script counts with: about 588.5 blocks an hour.
BLOCKS_PER_MONTH = 429_909
MONTH_MILLI_H = 730_488  # thousandths of an hour
_BLOCKS_PER_HOUR = Fraction(BLOCKS_PER_MONTH * 1_000, MONTH_MILLI_H)
_DIGITS = 18  # decimals of an amount of Akash's
_PRECISION = 6
_GIB = 1 << 30
_DECIMAL = re.compile(r"\A-?[0-9]{1,24}(\.[0-9]{1,18})?\Z")


class BadPrice(Refused):
    """A pricing program printed something that is no price: one decimal above 0."""

    code = "bad_price"


def write_question(
    style: str, order: Order, offer: Offer, *, floor_hour: int
) -> dict[str, Any] | list[Any]:
    """Put an order to a pricing program of this style; for JSON.

    Args:
        style: one of ``STYLES``.
        order: what is wanted.
        offer: the machine that would serve it.
        floor_hour: micro-USD an hour that its listed prices come to.
    """
    if style == SUBLET:
        return _write_own(order, offer, floor_hour=floor_hour)
    resources = [_write_akash_group(order, offer)]
    if style == AKASH_ARRAY:
        return resources
    return {
        "resources": resources,
        "price": {"denom": USDC, "amount": _per_block(order.price_hour_max)},
        "price_precision": _PRECISION,
    }


def find_environment(style: str, order: Order) -> Mapping[str, str]:
    """Give the variables that a program of this style reads beside its input."""
    if style == SUBLET:
        return {}
    return {"AKASH_OWNER": order.tenant, "AKASH_DENOM": USDC}


def read_price(style: str, text: str) -> int:
    """Read what a program printed as micro-USD an hour for the slice, rounded up.

    Raises:
        BadPrice: nothing, no decimal number, or not above 0.

    >>> read_price("sublet", "0.41\\n"), read_price("akash", "679.67")
    (410000, 400002)
    """
    word = text.strip()
    if not word:
        raise BadPrice("it printed nothing; that is how a program says: no bid")
    if _DECIMAL.match(word) is None:
        shown = "".join(c if c.isprintable() else "?" for c in word[:60])
        raise BadPrice(f"it printed {shown!r}; let it print one decimal such as 0.41")
    price = Fraction(word)
    if price <= 0:
        raise BadPrice(f"it printed {word}; only a price above 0 is a bid")
    hour = price * 1_000_000 if style == SUBLET else price * _BLOCKS_PER_HOUR
    return -(-hour.numerator // hour.denominator)


def _write_own(order: Order, offer: Offer, *, floor_hour: int) -> dict[str, Any]:
    return {
        "v": QUESTION_VERSION,
        "tenant": order.tenant,
        "cpus_milli": order.cpus_milli,
        "memory_bytes": order.memory_bytes,
        "disk_bytes": order.disk_bytes,
        "gpu_count": order.gpu_count,
        "features": order.features,
        "duration_s_max": order.duration_s_max,
        "price_hour_max": _dollars(order.price_hour_max),
        "floor_hour": _dollars(floor_hour),
        "machine": {
            "name": offer.machine,
            "region": offer.region,
            "gpu_model": offer.gpu_model,
            "gpu_memory_bytes": offer.gpu_memory_bytes,
        },
    }


def _write_akash_group(order: Order, offer: Offer) -> dict[str, Any]:
    vendors: dict[str, Any] = {}
    if order.gpu_count:
        gpu = {
            "model": offer.gpu_model,
            "ram": f"{round(offer.gpu_memory_bytes / _GIB)}Gi",
        }
        if offer.gpu_interface:
            gpu["interface"] = offer.gpu_interface
        vendors[offer.gpu_vendor or "nvidia"] = gpu
    return {
        "memory": order.memory_bytes,
        "cpu": order.cpus_milli,
        "gpu": {"units": order.gpu_count, "attributes": {"vendor": vendors}},
        "storage": [{"class": "ephemeral", "size": order.disk_bytes}],
        "count": 1,
        "endpoint_quantity": 0,
        "ip_lease_quantity": 0,
    }


def _per_block(price_hour: int) -> str:
    scaled = int(price_hour / _BLOCKS_PER_HOUR * 10**_DIGITS)
    whole, rest = divmod(scaled, 10**_DIGITS)
    return f"{whole}.{rest:0{_DIGITS}d}"


def _dollars(amount: int) -> str:
    return format_money(amount).removeprefix("$")
