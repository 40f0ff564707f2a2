"""An owner's floor: electricity, wear, margin, and how it is split."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sublet.base.errors import Refused
from sublet.base.units import MicroUsd
from sublet.core.pricing.floor import compute_floor, split_floor


@pytest.mark.parametrize(
    ("watts", "tariff", "wear", "margin", "floor"),
    [
        (1_000, 300_000, 0, 0, 300_000),  # one kilowatt for an hour
        (450, 300_000, 40_000, 20, 210_000),  # (135,000 + 40,000) x 1.2
        (0, 0, 50_000, 0, 50_000),  # solar roof: wear alone
        (1, 1, 0, 0, 1),  # a fraction of a micro-dollar rounds up
        (0, 0, 0, 50, 0),  # a gift stays a gift
    ],
)
def test_computes_floor_of_machine(
    watts: int, tariff: int, wear: int, margin: int, floor: int
) -> None:
    got = compute_floor(
        watts=watts,
        tariff_kwh=MicroUsd(tariff),
        wear_hour=MicroUsd(wear),
        margin_percent=margin,
    )
    assert got == floor


@pytest.mark.parametrize("name", ["watts", "tariff_kwh", "wear_hour", "margin_percent"])
def test_refuses_values_below_zero(name: str) -> None:
    values = {"watts": 1, "tariff_kwh": 1, "wear_hour": 1, "margin_percent": 1}
    with pytest.raises(Refused) as error:
        compute_floor(**{**values, name: -1})  # type: ignore[arg-type]
    assert error.value.code == "bad_price"


@given(
    floor=st.integers(0, 10**8),
    cpus=st.integers(1, 256),
    memory_gib=st.integers(1, 4_096),
    gpus=st.integers(0, 64),
)
def test_whole_machine_earns_floor(
    floor: int, cpus: int, memory_gib: int, gpus: int
) -> None:
    prices = split_floor(
        MicroUsd(floor),
        cpus_milli=cpus * 1_000,
        memory_bytes=memory_gib << 30,
        gpus=gpus,
    )
    earned = (
        prices.cpu_hour * cpus
        + prices.memory_hour * memory_gib
        + prices.gpu_hour * gpus
    )
    # At least the floor, and above it by less than one micro-dollar a unit.
    assert floor <= earned < floor + cpus + memory_gib + gpus + 1
    assert (prices.gpu_hour == 0) or gpus


def test_refuses_price_beyond_limit() -> None:
    with pytest.raises(Refused) as error:
        split_floor(MicroUsd(10**12), cpus_milli=1_000, memory_bytes=1 << 30, gpus=0)
    assert error.value.code == "bad_price"


def test_refuses_machine_without_parts() -> None:
    with pytest.raises(Refused):
        split_floor(MicroUsd(1), cpus_milli=0, memory_bytes=1 << 30, gpus=0)
