"""Setting up a provider: what is sold, for how much, and why."""

from pathlib import Path, PurePath

import pytest
from msgspec.structs import replace

from sublet.adapter.clock_system import SystemClock
from sublet.base.errors import Refused
from sublet.base.units import MicroUsd
from sublet.provider.config import read_config
from sublet.provider.setup import (
    CPU_HOUR,
    GPU_HOUR,
    Electricity,
    Wish,
    choose_prices,
    choose_sold,
    set_up,
)
from sublet.service.ports import Gpu, Machine
from tests.fakes.sandbox_fake import FakeSandbox

GIB = 1 << 30
WISH = Wish(market="http://127.0.0.1:8470", name="box", region="DE")
MACHINE = Machine(
    cpus_milli=8_000,
    memory_bytes=64 * GIB,
    disk_bytes=100 * GIB,
    gpus=(
        Gpu("GPU-0", "h200", 141 * GIB, 700, 0),
        Gpu("GPU-1", "t4", 16 * GIB, 70, 1),
        Gpu("GPU-2", "h200", 140 * GIB, 700, 2),
    ),
)
POWER = Electricity(
    watts=1_000,
    tariff_kwh=MicroUsd(300_000),
    wear_hour=MicroUsd(700_000),
    margin_percent=0,
)


class _Machine:
    """A machine that looks like this (port ``Devices``)."""

    def find_machine(self, *, folder: PurePath) -> Machine:
        assert Path(folder).is_dir()
        return MACHINE


def test_sells_what_there_is() -> None:
    sold = choose_sold(MACHINE, WISH)
    assert (sold.cpus_milli, sold.memory_bytes) == (8_000, 64 * GIB)
    assert sold.disk_bytes == 50 * GIB  # half stays the owner's
    assert [gpu.uuid for gpu in sold.gpus] == ["GPU-0", "GPU-2"]  # of one model


@pytest.mark.parametrize(
    ("field", "value", "flag"),
    [
        ("cpus_milli", 8_001, "--cpus"),
        ("cpus_milli", 0, "--cpus"),
        ("memory_bytes", 65 * GIB, "--memory"),
        ("disk_bytes", 101 * GIB, "--disk"),
    ],
)
def test_sells_no_more_than_that(field: str, value: int, flag: str) -> None:
    with pytest.raises(Refused) as error:
        choose_sold(MACHINE, replace(WISH, **{field: value}))
    assert error.value.field == flag


def test_prices_as_told() -> None:
    prices, story = choose_prices(replace(WISH, gpu_hour=MicroUsd(7)), MACHINE)
    assert (prices.gpu_hour, prices.cpu_hour) == (7, CPU_HOUR)
    assert "gave" in story
    prices, story = choose_prices(WISH, MACHINE)
    assert prices.gpu_hour == GPU_HOUR
    assert "suggests" in story


def test_prices_by_electricity() -> None:
    sold = choose_sold(MACHINE, WISH)
    prices, story = choose_prices(replace(WISH, electricity=POWER), sold)
    assert prices.gpu_hour * 2 == 900_000  # 90 % of a dollar, over two GPUs
    assert "1000 W" in story
    assert "$1.00 an hour" in story


def test_refuses_two_ways_to_price() -> None:
    wish = replace(WISH, electricity=POWER, cpu_hour=MicroUsd(1))
    with pytest.raises(Refused) as error:
        choose_prices(wish, MACHINE)
    assert error.value.code == "two_prices"


def test_sets_up_a_home(tmp_path: Path) -> None:
    home = tmp_path / "new" / "home"
    ports = {
        "sandboxes": (FakeSandbox(),),
        "devices": _Machine(),
        "clock": SystemClock(),
    }
    done = set_up(home, WISH, **ports)  # type: ignore[arg-type]
    config = read_config(home)
    assert config == done.config
    assert config.gpu_model == "h200"
    assert config.gpu_memory_bytes == 140 * GIB  # the smaller one, of each
    assert config.cpu_score > 0
    for name in ("key", "ssh_host_key", "config.toml"):
        assert (home / name).stat().st_mode & 0o077 == 0
    again = set_up(home, replace(WISH, name="other"), **ports)  # type: ignore[arg-type]
    assert again.provider == done.provider  # keys stay
    assert read_config(home).name == "other"
