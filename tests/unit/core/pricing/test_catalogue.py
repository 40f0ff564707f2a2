"""Clouds' prices: names brought together, the cheapest that does, nothing made up."""

import pytest

from sublet.base.errors import Refused
from sublet.core.gpu_kind import GpuKind
from sublet.core.pricing.catalogue import (
    COLUMNS,
    CloudPrice,
    find_cheapest,
    find_model,
    parse_catalogue,
)

GIB = 1 << 30
ROWS = (
    ("AWS", "old", "A100 (40 GB)", 8, 96, 1152, "", 1, 1, "2024-05-20", "s", ""),
    (
        "AWS",
        "p4d",
        "A100 (40 GB)",
        8,
        96,
        1152,
        "",
        "32.77",
        "9.83",
        "2025-03-07",
        "s",
        "",
    ),
    (
        "AWS",
        "p4de",
        "A100 (80 GB)",
        8,
        96,
        1152,
        "",
        "40.97",
        "",
        "2025-03-07",
        "s",
        "",
    ),
    (
        "GCP",
        "a2-1",
        "A100 (40 GB)",
        1,
        12,
        85,
        "",
        "3.67",
        "1.1",
        "2025-03-07",
        "s",
        "",
    ),
    (
        "GCP",
        "a2-2",
        "A100 (40 GB)",
        2,
        24,
        170,
        "",
        "7.34",
        "2.2",
        "2025-03-07",
        "s",
        "",
    ),
    ("Azure", "spot", "T4 (16 GB)", 1, 4, 28, "", "", "0.21", "2025-03-07", "s", ""),
)


def make_text(*rows: tuple) -> str:
    return "\n".join([",".join(COLUMNS), *(",".join(map(str, row)) for row in rows)])


def find(**wanted: object) -> tuple[CloudPrice, ...]:
    wish = {
        "kinds": [GpuKind("a100")],
        "gpu_count": 1,
        "gpu_memory_bytes": 0,
        "cpus_milli": 1_000,
        "memory_bytes": GIB,
    }
    return find_cheapest(parse_catalogue(make_text(*ROWS), name="x"), **(wish | wanted))


def test_finds_cheapest_of_each_cloud() -> None:
    assert [(one.provider, one.instance) for one in find()] == [
        ("GCP", "a2-1"),
        ("AWS", "p4d"),
    ]
    gcp, aws = find()
    assert (gcp.on_demand_hour, gcp.spot_hour) == (3_670_000, 1_100_000)
    assert (aws.gpu_count, aws.on_demand_hour, aws.as_of) == (
        8,
        32_770_000,
        "2025-03-07",
    )


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        ({"gpu_count": 2}, ["a2-2", "p4d"]),
        ({"gpu_count": 3}, ["p4d"]),  # clouds sell whole instances
        ({"gpu_count": 9}, []),
        ({"gpu_memory_bytes": 41 * GIB}, ["p4de"]),
        ({"gpu_memory_bytes": 80 * GIB}, ["p4de"]),
        ({"kinds": [GpuKind("a100", 80 * GIB, "sxm")]}, ["p4de"]),
        ({"gpu_memory_bytes": 81 * GIB}, []),
        ({"cpus_milli": 13_000}, ["a2-2", "p4d"]),
        ({"memory_bytes": 100 * GIB}, ["a2-2", "p4d"]),
        ({"kinds": [GpuKind("h200")]}, []),  # nothing is made up
        ({"kinds": [GpuKind("t4"), GpuKind("h200")]}, ["spot"]),
        ({"kinds": [], "gpu_memory_bytes": 16 * GIB}, ["a2-1", "p4d", "spot"]),
    ],
)
def test_takes_what_does(wanted: dict, expected: list[str]) -> None:
    assert [one.instance for one in find(**wanted)] == expected


def test_price_that_is_missing_is_none() -> None:
    (one,) = find(kinds=[GpuKind("t4")])
    assert (one.on_demand_hour, one.spot_hour) == (-1, 210_000)


@pytest.mark.parametrize(
    ("gpu", "model"),
    [
        ("A100 (80 GB)", "a100"),
        ("A100_SXM4_40GB", "a100"),
        ("A100_PCIE_80GB", "a100"),
        ("H100 HGX (80GB)", "h100"),
        ("H100_NVL", "h100"),
        ("RTX A6000 (48 GB)", "a6000"),
        ("RTXA6000", "a6000"),
        ("A6000 (48 GB)", "a6000"),
        ("RTX4090", "rtx4090"),
        ("3080Ti (12 GB)", "rtx3080ti"),
        ("L40S", "l40s"),
    ],
)
def test_names_are_brought_together(gpu: str, model: str) -> None:
    assert find_model(gpu) == model


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "line 1 of f.csv has no column provider"),
        ("provider,gpu\n", "has no column instance"),
        (
            make_text(("AWS", "x", "A10", "many", *ROWS[0][4:])),
            "line 2 .*gpu_count = 'many'",
        ),
        (make_text((*ROWS[0][:7], "-1", *ROWS[0][8:])), "on_demand_usd_h = '-1'"),
        (make_text((*ROWS[0][:7], "NaN", *ROWS[0][8:])), "on_demand_usd_h = 'NaN'"),
        (make_text(ROWS[0][:-1]), "too few or too many"),
        (make_text((*ROWS[0], "more")), "too few or too many"),
    ],
)
def test_bad_catalogue_is_named_by_line(text: str, says: str) -> None:
    with pytest.raises(Refused, match=says) as caught:
        parse_catalogue(text, name="f.csv")
    assert caught.value.code == "bad_catalogue"
