"""Sizes, counts, prices and times, as people write them and as they must not."""

from typing import Any

import pytest

from sublet.base.errors import Faults
from sublet.workload.run.need import parse_needs
from sublet.workload.run.wish import Collector, Needs, Wish

NOW_S = 1_800_000_000


def parse(**options: Any) -> Needs:
    found = Collector()
    needs = parse_needs(Wish(target=("x",), **options), found, now_s=NOW_S)
    found.check()
    return needs


def codes(**options: Any) -> list[str]:
    found = Collector()
    parse_needs(Wish(target=("x",), **options), found, now_s=NOW_S)
    return [fault.code for fault in found.faults]


def test_defaults_are_a_small_machine() -> None:
    needs = parse()
    assert needs.cpus_milli == 1_000
    assert needs.memory_bytes == 1 << 30
    assert needs.disk_bytes == 2 << 30
    assert (needs.gpu_models, needs.gpu_count) == ((), 0)
    assert needs.total_max == 1_000_000
    assert needs.timeout_s == 3_600
    assert needs.price_hour_max == 1_000_000


def test_total_lasts_for_the_timeout() -> None:
    assert parse(max_total="3.00", timeout="2h").price_hour_max == 1_500_000
    assert parse(max_total="3.00", max_price="9").price_hour_max == 9_000_000


GPUS = [
    # what is written: model, count, memory of each
    ({"gpu": "h200:2"}, ("h200", 2, 0)),
    ({"gpu": "H200"}, ("h200", 1, 0)),
    ({"gpu": "RTX 4090"}, ("rtx4090", 1, 0)),
    ({"gpu": "rtx4090:4"}, ("rtx4090", 4, 0)),
    ({"gpu": "4"}, ("", 4, 0)),
    ({"vram": "24GB"}, ("", 1, 24_000_000_000)),
    ({"gpu": "a100:8", "vram": "80GiB"}, ("a100", 8, 80 << 30)),
    ({"gpu": "A100/80Gi/SXM:8"}, ("a100/80GiB/sxm", 8, 0)),
    ({"gpu": "h100/pcie"}, ("h100/pcie", 1, 0)),
    ({"gpu": "rtx4090/24GiB"}, ("rtx4090/24GiB", 1, 0)),
    ({"cuda": "12.4"}, ("", 1, 0)),  # means a GPU
]


@pytest.mark.parametrize(("options", "expected"), GPUS)
def test_gpus_are_read(options: dict[str, str], expected: tuple[str, int, int]) -> None:
    needs, (model, *others) = parse(**options), expected
    assert needs.gpu_models == ((model,) if model else ())
    assert [needs.gpu_count, needs.gpu_memory_bytes] == others


CPUS = [("2", 2_000), ("0.5", 500), ("1.125", 1_125)]


@pytest.mark.parametrize(("text", "milli"), CPUS)
def test_cpus_are_read(text: str, milli: int) -> None:
    assert parse(cpus=text).cpus_milli == milli


REFUSED = [
    # an option: the fault's code
    ({"cpus": "0"}, "out_of_range"),
    ({"cpus": "-1"}, "bad_cpus"),
    ({"cpus": "nan"}, "bad_cpus"),
    ({"cpus": "1e3"}, "bad_cpus"),
    ({"cpus": "inf"}, "bad_cpus"),
    ({"cpus": "999999"}, "out_of_range"),
    ({"cpus": "١"}, "bad_cpus"),  # a digit, but not one of ours
    ({"memory": "4"}, "bad_size"),  # no unit
    ({"memory": "0GB"}, "out_of_range"),
    ({"memory": "-4GB"}, "bad_size"),
    ({"memory": "NaNGB"}, "bad_size"),
    ({"memory": "99999PB"}, "out_of_range"),
    ({"disk": "0B"}, "out_of_range"),
    ({"disk": "lots"}, "bad_size"),
    ({"vram": "24"}, "bad_size"),
    ({"vram": "0GB"}, "out_of_range"),
    ({"gpu": "h200:0"}, "out_of_range"),
    ({"gpu": "h200:65"}, "out_of_range"),
    ({"gpu": "h200:-1"}, "bad_gpu"),
    ({"gpu": ""}, "bad_gpu"),
    ({"gpu": "h200:x"}, "bad_gpu"),
    ({"max_price": "0"}, "out_of_range"),
    ({"max_price": "-1"}, "bad_money"),
    ({"max_price": "nan"}, "bad_money"),
    ({"max_price": "1001"}, "out_of_range"),
    ({"max_total": "0.00"}, "out_of_range"),
    ({"max_total": "1e9"}, "bad_money"),
    ({"max_total": "99999999999"}, "out_of_range"),
    ({"timeout": "10"}, "bad_duration"),
    ({"timeout": "0s"}, "out_of_range"),
    ({"timeout": "31d"}, "out_of_range"),
    ({"egress": ("huggingface.co",)}, "bad_destination"),
    ({"egress": ("*:443",)}, "bad_destination"),
    ({"egress": ("a.org:443",) * 65}, "too_many_destinations"),
    ({"regions": ("Germany",)}, "bad_region"),
    ({"regions": tuple(f"US-{number:02}" for number in range(17))}, "too_many_named"),
]


@pytest.mark.parametrize(("options", "code"), REFUSED)
def test_nonsense_is_refused_by_name(options: dict[str, Any], code: str) -> None:
    assert codes(**options) == [code]


def test_all_faults_come_at_once() -> None:
    with pytest.raises(Faults) as caught:
        parse(cpus="x", memory="4", timeout="soon", gpu="?")
    fields = [fault.field for fault in caught.value.faults]
    assert sorted(fields) == ["--cpus", "--gpu", "--memory", "--timeout"]


def test_regions_are_upper_case_once() -> None:
    assert parse(regions=("de", "DE", "us-ca")).regions == ("DE", "US-CA")


@pytest.mark.parametrize(
    ("text", "expected"), [(None, ""), ("gvisor", "gvisor"), (" Podman ", "podman")]
)
def test_sandbox_is_a_class_or_any(text: str | None, expected: str) -> None:
    assert parse(sandbox=text).sandbox == expected


@pytest.mark.parametrize("text", ["", "docker", "gvisor,podman"])
def test_refuses_sandboxes_that_nobody_has(text: str) -> None:
    assert codes(sandbox=text) == ["bad_sandbox"]
