"""Each wish as people write it, what the order says then, and what is refused."""

from typing import Any

import pytest

from sublet.base.ids import NO_DIGEST
from sublet.base.limits import LIST_LENGTH_MAX
from sublet.workload.run.contract import join_avoided, make_order
from sublet.workload.run.need import parse_needs
from sublet.workload.run.particular import AVOID_MAX
from sublet.workload.run.wish import Collector, Wish

NOW_S = 1_800_000_000
ALICE, BOB = "0x" + "a" * 40, "0x" + "b" * 40

READ: list[tuple[dict[str, Any], dict[str, Any]]] = [
    # what is asked: what the order says
    ({"gpu_vendor": "NVIDIA"}, {"gpu_vendor": "nvidia", "gpu_count": 1}),
    ({"gpu_interface": "sxm", "gpu": "2"}, {"gpu_interface": "sxm", "gpu_count": 2}),
    ({"compute_capability": "9.0"}, {"gpu_compute": 90, "gpu_count": 1}),
    ({"driver": "550.54.14"}, {"gpu_driver": 550_054_014}),
    ({"cuda": "12.4"}, {"cuda": 12_040}),
    ({"gpu": "h200"}, {"gpu_share_milli": 1_000}),  # a whole one
    ({"gpu_share": "1/7"}, {"gpu_share_milli": 142, "gpu_count": 1}),
    ({"gpu_share": "any"}, {"gpu_share_milli": 0}),
    ({"gpu_sharing": "mig"}, {"gpu_sharing": "mig"}),
    (
        {"gpu": "h100, A100/80GiB/SXM:8"},
        {"gpu_models": ("h100", "a100/80GiB/sxm"), "gpu_count": 8},
    ),
    ({"vram": "24GB"}, {"gpu_memory_bytes": 24 * 10**9}),
    ({"vram": "24GiB"}, {"gpu_memory_bytes": 24 << 30}),
    ({"vram": "24Gi"}, {"gpu_memory_bytes": 24 << 30}),
    ({"disk_classes": ("ssd", "nvme")}, {"disk_classes": ("ssd", "nvme")}),
    ({"up": "100Mbit"}, {"up_mbit_s": 100}),
    ({"down": "2.5Gbit/s"}, {"down_mbit_s": 2_500}),
    ({"latencies": ("oslo=30ms", "rome=9")}, {"latencies": ("oslo=30", "rome=9")}),
    ({"jurisdictions": ("de", "DE")}, {"jurisdictions": ("DE",)}),
    ({"attributes": ("soc2=type-2",)}, {"attributes": ("soc2=type-2",)}),
    ({"auditors": (ALICE.upper(),)}, {"auditors_any": (ALICE,)}),
    ({"auditors_all": (ALICE, BOB)}, {"auditors_all": (ALICE, BOB)}),
    ({"avoid": (BOB,)}, {"avoid": (BOB,)}),
    ({"work": "cpu"}, {"work": "cpu"}),
    ({"near": "oslo=0.001"}, {"near": "oslo", "near_price_hour": 1_000}),
    (
        {"data_at": (ALICE,), "data_price": "0.10"},
        {"data_at": (ALICE,), "data_price_hour": 100_000},
    ),
    ({"pricing": "pay_as_bid"}, {"pricing": "pay_as_bid"}),
    ({"deadline": "6h"}, {"deadline_s": NOW_S + 6 * 3_600}),
    ({"deadline": "2027-01-15T10:00+01:00"}, {"deadline_s": NOW_S + 3_600}),
]


def read(**options: Any) -> Any:
    found = Collector()
    needs = parse_needs(Wish(target=("x",), **options), found, now_s=NOW_S)
    found.check()
    return make_order(
        needs,
        tenant=ALICE,
        manifest=None,
        ssh_key="k",
        avoid=(),
        spent=0,
        at_s=NOW_S + 60,  # of a later attempt: it moves no deadline
        salt=0,
    )


@pytest.mark.parametrize(("options", "said"), READ)
def test_order_says_what_was_asked(
    options: dict[str, Any], said: dict[str, Any]
) -> None:
    order = read(**options)
    assert {name: getattr(order, name) for name in said} == said
    assert order.manifest == NO_DIGEST


REFUSED: list[tuple[dict[str, Any], str, str]] = [
    # an option: the fault's field and code
    ({"gpu_vendor": "matrox"}, "--gpu-vendor", "bad_choice"),
    ({"gpu_interface": "agp"}, "--gpu-interface", "bad_choice"),
    ({"compute_capability": "sm_90"}, "--compute-capability", "bad_version"),
    ({"driver": "latest"}, "--driver", "bad_version"),
    ({"cuda": "12.4.1"}, "--cuda", "bad_version"),
    ({"gpu_share": "2"}, "--gpu-share", "bad_share"),
    ({"gpu_sharing": "vgpu"}, "--gpu-sharing", "bad_choice"),
    ({"gpu": "h100/80GB"}, "--gpu", "bad_gpu"),  # no whole GiB
    ({"gpu": "h100/80"}, "--gpu", "bad_gpu"),
    ({"gpu": "h100:2,a100"}, "--gpu", "bad_gpu"),
    ({"gpu": "h100,:2"}, "--gpu", "bad_gpu"),
    ({"gpu": "hö100"}, "--gpu", "bad_gpu"),  # looks alike is not alike
    ({"disk_classes": ("tape",)}, "--disk-class", "bad_choice"),
    ({"up": "100"}, "--up", "bad_rate"),
    ({"up": "100MB"}, "--up", "bad_rate"),
    ({"down": "0Mbit"}, "--down", "out_of_range"),
    ({"down": "99999Tbit"}, "--down", "out_of_range"),
    ({"latencies": ("oslo",)}, "--latency", "bad_latency"),
    ({"latencies": ("oslo=1001",)}, "--latency", "bad_latency"),
    ({"latencies": ("Oslo=30",)}, "--latency", "bad_wording"),
    ({"jurisdictions": ("Germany",)}, "--jurisdiction", "bad_region"),
    ({"attributes": ("soc2",)}, "--attribute", "bad_wording"),
    ({"attributes": ("ѕoc2=1",)}, "--attribute", "bad_wording"),  # a Cyrillic letter
    ({"auditors": ("bob",)}, "--auditor", "bad_address"),
    ({"auditors_all": ("0x12",)}, "--auditor-all", "bad_address"),
    ({"avoid": ("",)}, "--avoid", "bad_address"),
    ({"work": "thought"}, "--work", "bad_choice"),
    ({"near": "oslo"}, "--near", "bad_near"),
    ({"near": "oslo=much"}, "--near", "bad_money"),
    ({"data_at": (ALICE,)}, "--data-price", "bad_data"),
    ({"data_price": "1"}, "--data-price", "bad_data"),
    ({"pricing": "free"}, "--pricing", "bad_choice"),
    ({"deadline": "soon"}, "--deadline", "bad_duration"),
    ({"deadline": "2027-01-15T10:00"}, "--deadline", "bad_deadline"),  # whose time?
    ({"deadline": "2001-01-01T00:00Z"}, "--deadline", "bad_deadline"),
]


@pytest.mark.parametrize(("options", "field", "code"), REFUSED)
def test_nonsense_is_refused_by_name(
    options: dict[str, Any], field: str, code: str
) -> None:
    found = Collector()
    parse_needs(Wish(target=("x",), **options), found, now_s=NOW_S)
    assert [(fault.field, fault.code) for fault in found.faults] == [(field, code)]
    assert str(found.faults[0]).startswith(field)


def test_too_many_are_refused() -> None:
    avoid = tuple(f"0x{number:040x}" for number in range(AVOID_MAX + 1))
    found = Collector()
    parse_needs(Wish(target=("x",), avoid=avoid), found, now_s=NOW_S)
    assert [fault.code for fault in found.faults] == ["too_many_named"]


def test_blocklist_goes_before_bad_luck() -> None:
    named = tuple(f"named{number}" for number in range(AVOID_MAX))
    fared = tuple(f"fared{number}" for number in range(LIST_LENGTH_MAX))
    joined = join_avoided(named, (*fared, named[0]))
    assert joined[:AVOID_MAX] == named
    assert joined[AVOID_MAX:] == fared[-(LIST_LENGTH_MAX - AVOID_MAX) :]
    assert join_avoided((), fared) == fared
