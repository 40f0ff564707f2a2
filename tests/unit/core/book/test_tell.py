"""What is told of orders can be read, and typed again."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sublet.base.units import parse_size
from sublet.core.book.quote import quote
from sublet.core.book.tell import tell_changes, tell_size, tell_wish
from sublet.core.book.why_not import NoMatch
from tests.unit.core.book.test_quote import GPUS, make_book
from tests.unit.core.book.world import GIB, START_S, make_order

WISHES: list[tuple[str, dict[str, Any], str]] = [
    ("memory", {"memory_bytes": 64 * GIB}, "memory 64 GiB"),
    ("gpu_memory", {"gpu_memory_bytes": 24_000_000_000}, "vram 24 GB"),
    ("cpus", {"cpus_milli": 2_500}, "cpus 2.5"),
    ("gpu_driver", {"gpu_driver": 550_054_014}, "driver 550.54.14"),
    ("gpu_compute", {"gpu_compute": 89}, "compute capability 8.9"),
    ("cuda", {"cuda": 12_040}, "CUDA 12.4"),
    ("gpu_share_milli", {"gpu_share_milli": 142}, "GPU share 0.142"),
    ("up_mbit_s", {"up_mbit_s": 500}, "up 500 Mbit/s"),
    ("region", {"regions": ("DE", "FR")}, "region DE or FR"),
    ("latency oslo", {"latencies": ("oslo=30", "bern=5")}, "latency oslo 30 ms"),
    ("price", {"price_hour_max": 410_000}, "price $0.41/h"),
    ("speed", {"work": "gpu"}, "measured speed of gpu"),
    ("soc2=type-2", {"attributes": ("soc2=type-2",)}, "soc2=type-2"),
]


@pytest.mark.parametrize(("name", "asked", "told"), WISHES)
def test_a_wish_is_told_as_people_write_it(
    name: str, asked: dict[str, Any], told: str
) -> None:
    assert tell_wish(name, make_order(**asked)) == told


def test_what_becomes_nothing_has_a_word() -> None:
    order = make_order(cuda=12_040, avoid=("0x" + "1" * 40,), gpu_count=2)
    changes = {"cuda": 0, "avoid": (), "gpu_count": 0, "regions": order.regions}
    assert tell_changes(order, changes) == (
        f"CUDA from 12.4 to any and avoided providers from 0x{'1' * 8}… to none "
        "and GPUs from 2 to 0"
    )


@given(st.integers(0, 1 << 50))
def test_a_size_that_was_told_is_no_more_than_there_is(size_bytes: int) -> None:
    read = parse_size(tell_size(size_bytes), field="--memory")
    assert read <= size_bytes < read + max(read // 9, 110_000)


def test_people_read_units_and_programs_read_numbers() -> None:
    book = make_book(GPUS | {"gpu_driver": 535_000_000})
    order = make_order(gpu_count=1, gpu_driver=550_054_014)
    with pytest.raises(NoMatch) as refusal:
        quote(book, order, now_s=START_S)
    said = str(refusal.value)
    assert "excluded by: driver 550.54.14 (1)" in said
    assert "Change driver from 550.54.14 to 535, and 1 offer would do" in said
    detail = refusal.value.detail
    assert (detail["gpu_driver"], detail["relax_gpu_driver"]) == (1, 535_000_000)
