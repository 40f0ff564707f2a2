"""An owner's floor price: electricity and wear, and a margin on top.

    floor = (watts x tariff / 1,000 + wear) x (100 + margin) / 100      per hour

rounded up once, at the end: an owner never earns less than asked for. The floor of the
whole machine is then split over what is sold of it (CPUs, memory, GPUs), so that a
machine that is let out whole earns at least its floor.

Not here: what a slice of a machine costs an order (``core.book``).
"""

from msgspec import Struct

from sublet.base import limits
from sublet.base.errors import Refused
from sublet.base.units import MicroUsd

_WATTS_PER_KILOWATT = 1_000
_PERCENT = 100
_GIB = 1 << 30
_CPU_MILLI = 1_000

# Shares of the floor, in percent: (CPUs, memory, GPUs). A machine with GPUs is bought,
# powered and worn for them; without any, its CPUs are what people rent.
_SHARES_WITH_GPUS = (8, 2, 90)
_SHARES_WITHOUT = (80, 20, 0)


class UnitPrices(Struct, frozen=True):
    """Floor prices in micro-USD an hour, as an offer states them."""

    cpu_hour: MicroUsd  # of one CPU
    memory_hour: MicroUsd  # of one GiB
    gpu_hour: MicroUsd  # of one GPU


def compute_floor(
    *, watts: int, tariff_kwh: MicroUsd, wear_hour: MicroUsd, margin_percent: int
) -> MicroUsd:
    """Price one hour of a machine at work. Rounds up, in the owner's favour.

    Args:
        watts: what the machine draws from the wall when it works.
        tariff_kwh: micro-USD for one kilowatt-hour.
        wear_hour: micro-USD an hour for wear: its price over the hours it will last.
        margin_percent: what the owner wants on top.

    Raises:
        Refused: a value below zero.

    >>> compute_floor(watts=450, tariff_kwh=300_000, wear_hour=40_000, margin_percent=20)
    210000
    """
    for name, value in (
        ("watts", watts),
        ("tariff", tariff_kwh),
        ("wear", wear_hour),
        ("margin", margin_percent),
    ):
        if value < 0:
            raise Refused(f"--{name} must not be negative", code="bad_price")
    # In units of 10^-5 micro-USD until the one division: nothing is lost before it.
    exact = (watts * tariff_kwh + wear_hour * _WATTS_PER_KILOWATT) * (
        _PERCENT + margin_percent
    )
    return MicroUsd(_ceil(exact, _WATTS_PER_KILOWATT * _PERCENT))


def split_floor(
    floor_hour: MicroUsd, *, cpus_milli: int, memory_bytes: int, gpus: int
) -> UnitPrices:
    """Split a machine's floor over its parts. Rounds each up, in the owner's favour.

    The whole machine at these prices earns at least ``floor_hour``.

    Raises:
        Refused: a unit price beyond the limit of the protocol, or nothing to sell.

    >>> split_floor(1_000_000, cpus_milli=8_000, memory_bytes=16 << 30, gpus=2)
    UnitPrices(cpu_hour=10000, memory_hour=1250, gpu_hour=450000)
    """
    if cpus_milli <= 0 or memory_bytes <= 0:
        raise Refused("a machine without CPUs or memory has nothing to offer")
    cpu_share, memory_share, gpu_share = _SHARES_WITH_GPUS if gpus else _SHARES_WITHOUT
    prices = UnitPrices(
        cpu_hour=MicroUsd(
            _ceil(floor_hour * cpu_share * _CPU_MILLI, _PERCENT * cpus_milli)
        ),
        memory_hour=MicroUsd(
            _ceil(floor_hour * memory_share * _GIB, _PERCENT * memory_bytes)
        ),
        gpu_hour=MicroUsd(
            _ceil(floor_hour * gpu_share, _PERCENT * gpus) if gpus else 0
        ),
    )
    dearest = max(prices.cpu_hour, prices.memory_hour, prices.gpu_hour)
    if dearest > limits.PRICE_PER_HOUR_MAX:
        raise Refused(
            f"a unit price of {dearest} micro-USD an hour is beyond the limit of "
            f"{limits.PRICE_PER_HOUR_MAX}; check watts, tariff, wear and margin",
            code="bad_price",
        )
    return prices


def _ceil(value: int, divisor: int) -> int:
    return -(-value // divisor)
