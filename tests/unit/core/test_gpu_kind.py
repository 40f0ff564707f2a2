"""Kinds of GPUs, read from an order's words."""

import pytest

from sublet.base.errors import Refused
from sublet.core.gpu_kind import GIB, GpuKind, fits_any, parse_kind
from tests.unit.core.book.world import make_offer

KINDS = [
    ("h100", GpuKind("h100")),
    ("h100/sxm", GpuKind("h100", 0, "sxm")),
    ("a100/80GiB", GpuKind("a100", 80 * GIB)),
    ("a100/80GiB/pcie", GpuKind("a100", 80 * GIB, "pcie")),
]


@pytest.mark.parametrize(("text", "kind"), KINDS)
def test_reads_a_kind(text: str, kind: GpuKind) -> None:
    assert parse_kind(text, field="x") == kind


@pytest.mark.parametrize("text", ["", "H100", "a100/80GB", "a100/sxm/80GiB", "a 100"])
def test_refuses_what_is_no_kind(text: str) -> None:
    with pytest.raises(Refused) as refusal:
        parse_kind(text, field="x")
    assert refusal.value.code == "bad_gpu"


def test_any_kind_does() -> None:
    offer = make_offer(gpu_model="a100", gpu_memory_bytes=40 * GIB, gpu_interface="sxm")
    assert fits_any(offer, ())
    assert fits_any(offer, ("h100", "a100/40GiB/sxm"))
    for model in ("h100", "a100/41GiB", "a100/pcie"):
        assert not fits_any(offer, (model,))
