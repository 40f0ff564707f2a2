"""Host requirements become needs of a lease, or are refused by name."""

from decimal import Decimal
from types import SimpleNamespace
from typing import Any

import pytest

from sublet.base.errors import Faults
from sublet.workload.openjd.need import add_requirements, parse_requirements

NOW_S = 1_800_000_000


def amount(name: str, least: Any = None, most: Any = None) -> SimpleNamespace:
    bounds = [None if one is None else Decimal(one) for one in (least, most)]
    return SimpleNamespace(name=name, min=bounds[0], max=bounds[1])


def attribute(name: str, any_of: Any = None, all_of: Any = None) -> SimpleNamespace:
    return SimpleNamespace(name=name, anyOf=any_of, allOf=all_of)


def read(amounts: Any = (), attributes: Any = (), **typed: Any) -> dict[str, Any]:
    said = SimpleNamespace(amounts=list(amounts), attributes=list(attributes))
    required = parse_requirements("S", said)
    return dict(add_requirements(required, typed, now_s=NOW_S))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("one", "options"),
    [
        (amount("amount.worker.vcpu", 4), {"cpus": "4"}),
        (amount("amount.worker.vcpu", "0.5"), {"cpus": "0.5"}),
        (amount("amount.worker.vcpu", 1, 8), {}),  # as a map asks for by itself
        (amount("amount.worker.vcpu", None, "0.25"), {"cpus": "0.25"}),  # no more
        (amount("amount.worker.memory", 4_096), {"memory": "4096MiB"}),
        (amount("amount.worker.gpu", 2), {"gpu": "2"}),
        (amount("amount.worker.gpu", 0, 0), {}),
        (amount("amount.worker.gpu.memory", 24_576), {"vram": "24576MiB"}),
        (amount("amount.worker.disk.scratch", 100), {"disk": "102400MiB"}),
        (amount("Amount.Worker.vCPU", 3), {"cpus": "3"}),  # names have no case
    ],
)
def test_amounts_become_options(one: Any, options: dict[str, str]) -> None:
    assert read([one]) == options


def test_nothing_required_is_nothing_added() -> None:
    required = parse_requirements("S", None)
    assert add_requirements(required, {"cpus": "3"}, now_s=NOW_S) == {"cpus": "3"}


def test_what_was_typed_stands_where_it_fits() -> None:
    vcpu = amount("amount.worker.vcpu", 2, 8)
    assert read([vcpu], cpus="4", max_price="1") == {"cpus": "4", "max_price": "1"}
    gpu = amount("amount.worker.gpu", 1)
    assert read([gpu], gpu="h200:2") == {"gpu": "h200:2"}


@pytest.mark.parametrize(
    ("one", "typed", "said"),
    [
        (amount("amount.worker.vcpu", 4), {"cpus": "2"}, "--cpus: that is less"),
        (amount("amount.worker.vcpu", 1, 2), {"cpus": "3"}, "--cpus: that is more"),
        (amount("amount.worker.gpu", 2), {"gpu": "h200:1"}, "--gpu: that is less"),
        (amount("amount.worker.gpu", 0, 0), {"gpu": "1"}, "--gpu: that is more"),
        (amount("amount.worker.memory", 2048), {"memory": "x"}, "not a size"),
    ],
)
def test_what_was_typed_and_does_not_fit_is_refused(
    one: Any, typed: dict[str, str], said: str
) -> None:
    with pytest.raises(Faults) as caught:
        read([one], **typed)
    assert len(caught.value.faults) == 1
    assert said in caught.value.faults[0].message


def test_linux_may_be_asked_for() -> None:
    family = "attr.worker.os.family"
    assert read((), [attribute(family, ["linux", "windows"])]) == {}
    assert read((), [attribute(family, None, ["linux"])]) == {}
    for one in (attribute(family, ["windows"]), attribute(family, None, ["macos"])):
        with pytest.raises(Faults, match="run linux"):
            read((), [one])


def test_unknown_requirements_are_all_named() -> None:
    with pytest.raises(Faults) as caught:
        read([amount("amount.custom.licences", 1)], [attribute("attr.x.y", ["z"])])
    named = [fault.field for fault in caught.value.faults]
    assert named == ["amount.custom.licences", "attr.x.y"]
    assert {fault.code for fault in caught.value.faults} == {"unknown_requirement"}
