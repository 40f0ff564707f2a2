"""What an offer says of its machine: read, filled in, refused with a cure."""

from typing import Any

import pytest
from msgspec.structs import asdict

from sublet.base.errors import SubletError
from sublet.core.document import Offer
from sublet.core.wording import check_wording
from sublet.provider.config import make_offer, parse_config
from sublet.provider.declared import (
    Declared,
    DeclaredFile,
    describe,
    fill_in,
    read_declared,
)
from sublet.service.ports import Gpu, Machine

GPU = Gpu(
    uuid="GPU-1",
    model="h100",
    memory_bytes=80 << 30,
    power_limit_w=700,
    index=0,
    vendor="nvidia",
    interface="sxm",
    compute=90,
    driver=550_054_014,
    cuda=12_040,
    instances=("MIG-1",),
)
OLDER = Gpu(
    "GPU-2", "h100", 80 << 30, 700, 1, "nvidia", "pcie", 90, 535_000_000, 12_020
)
MACHINE = Machine(1_000, 1 << 30, 1 << 30, (GPU, OLDER), disk_class="nvme")


def read(*gpu_uuids: str, **said: Any) -> tuple[Declared, list[SubletError]]:
    faults: list[SubletError] = []
    return read_declared(DeclaredFile(**said), faults, gpu_uuids=gpu_uuids), faults


def test_words_become_fields_of_the_offer() -> None:
    declared, faults = read(
        "GPU-1",
        jurisdiction="DE",
        network="as24940",
        up="1Gbit",
        down="2.5Gbit",
        latencies=("oslo=12",),
        attributes=("tier=datacenter",),
        disk_class="nvme",
        gpu_driver="550.54.14",
        gpu_share="1/4",
        gpu_sharing="time-slice",
    )
    assert not faults
    assert (declared.up_mbit_s, declared.down_mbit_s) == (1_000, 2_500)
    assert (declared.gpu_driver, declared.gpu_share_milli) == (550_054_014, 250)
    assert set(asdict(declared)) <= set(Offer.__struct_fields__)


REFUSED = [
    # what is written, for which GPUs: the field
    ({"jurisdiction": "Germany"}, (), "declared.jurisdiction"),
    ({"network": "AS 24940"}, (), "declared.network"),
    ({"up": "fast"}, (), "declared.up"),
    ({"latencies": ("oslo",)}, (), "declared.latencies"),
    ({"attributes": ("ѕoc2=1",)}, (), "declared.attributes"),  # a Cyrillic letter
    ({"disk_class": "tape"}, (), "declared.disk_class"),
    ({"gpu_vendor": "Nvidia"}, (), "declared.gpu_vendor"),
    ({"cuda": "new"}, (), "declared.cuda"),
    ({"gpu_share": "0"}, (), "declared.gpu_share"),
    ({"gpu_share": "0.5"}, ("GPU-1",), "declared.gpu_sharing"),  # parted how?
    ({"gpu_sharing": "mig"}, ("MIG-1",), "declared.gpu_sharing"),  # how large?
    ({"gpu_share": "0.5", "gpu_sharing": "mig"}, ("GPU-1",), "declared.gpu_sharing"),
    ({}, ("MIG-1",), "declared.gpu_sharing"),
    (
        {"gpu_share": "1%", "gpu_sharing": "time-slice"},
        ("GPU-1",),
        "declared.gpu_sharing",
    ),
]


@pytest.mark.parametrize(("said", "gpus", "field"), REFUSED)
def test_names_the_wrong_value(
    said: dict[str, Any], gpus: tuple[str, ...], field: str
) -> None:
    _, faults = read(*gpus, **said)
    assert [fault.field for fault in faults] == [field]


def test_machine_says_what_its_owner_does_not() -> None:
    said = fill_in(Declared(cuda=11_080), MACHINE, gpu_uuids=("GPU-1",))
    assert (said.disk_class, said.gpu_vendor, said.gpu_interface) == (
        *("nvme", "nvidia", "sxm"),
    )
    assert (said.gpu_compute, said.gpu_driver, said.cuda) == (90, 550_054_014, 11_080)


def test_part_is_of_the_kind_of_its_gpu() -> None:
    said = fill_in(Declared(), MACHINE, gpu_uuids=("MIG-1",))
    assert (said.gpu_interface, said.gpu_driver) == ("sxm", 550_054_014)


def test_unlike_gpus_promise_what_both_have() -> None:
    said = fill_in(Declared(), MACHINE, gpu_uuids=("GPU-1", "GPU-2"))
    assert (said.gpu_interface, said.gpu_driver) == ("", 535_000_000)


def test_offer_without_gpus_says_nothing_of_them() -> None:
    declared = Declared(gpu_vendor="nvidia", disk_class="ssd")
    assert "gpu_vendor" not in describe(declared, has_gpus=False)
    assert describe(declared, has_gpus=False)["disk_class"] == "ssd"


def test_slices_are_offered_one_by_one() -> None:
    sliced = {"gpu_share": "1/2", "gpu_sharing": "time-slice"}
    table = {
        "market": "http://127.0.0.1:1",
        "name": "box",
        "price": {"cpu": "0.01", "memory": "0.01", "gpu": "1"},
        "machine": {
            "cpus": 2,
            "memory": "1GiB",
            "disk": "1GiB",
            "gpus": ["GPU-1", "GPU-2"],
            "gpu_model": "h100",
            "gpu_memory": "40GiB",
        },
        "declared": sliced,
    }
    offer = make_offer(
        parse_config(table),
        ssh_host_key="k",
        seal_key="s",
        sandboxes=(),
        features=(),
        now_s=1,
        lasts_s=1,
        salt=0,
    )
    assert offer.gpu_uuids == ("GPU-1/0", "GPU-1/1", "GPU-2/0", "GPU-2/1")
    assert (offer.gpu_share_milli, offer.gpu_sharing) == (500, "time-slice")
    check_wording(offer, whose="offer")
    with pytest.raises(SubletError, match="gpu_alone"):
        parse_config(table | {"rules": {"gpu_alone": True}})
