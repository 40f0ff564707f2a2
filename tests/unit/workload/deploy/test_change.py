"""What of a service may change while it runs, and what is refused, in which words."""

import pytest
from msgspec.structs import replace

from sublet.base.errors import Faults
from sublet.workload.deploy.change import Running, find_changes
from sublet.workload.deploy.plan import DeployPlan, Gpus, Port, ServicePlan

WEB = ServicePlan(
    name="web", image="nginx:1", env={"A": "1"}, copies=2, price_hour_max=400_000
)
DB = ServicePlan(name="db", image="postgres:16")
THERE = [
    Running("shop.web.1", WEB),
    Running("shop.web.2", WEB),
    Running("shop.db.1", DB),
]


def changes(*services: ServicePlan) -> dict[str, tuple[str, ...]]:
    return find_changes(DeployPlan("shop", services), THERE)


def test_names_what_changes_of_each_copy() -> None:
    web = replace(WEB, image="nginx:2", env={"A": "2"}, ports=(Port(80),))
    assert changes(web, DB) == {
        "shop.web.1": ("image", "env"),
        "shop.web.2": ("image", "env"),
        "shop.db.1": (),
    }


def test_tells_copies_apart() -> None:
    newer = replace(WEB, image="nginx:2")  # an update that came half way
    there = [Running("shop.web.1", newer), *THERE[1:]]
    found = find_changes(DeployPlan("shop", (newer, DB)), there)
    assert found == {"shop.web.1": (), "shop.web.2": ("image",), "shop.db.1": ()}


def test_refuses_all_that_is_fixed_at_once() -> None:
    web = replace(
        WEB,
        copies=3,
        memory_bytes=2 << 30,
        gpus=Gpus(count=1, kinds=("h100",)),
        price_hour_max=500_000,
        regions=("DE",),
    )
    with pytest.raises(Faults) as caught:
        changes(web, replace(DB, cpus_milli=2_500))
    told = [fault.message.partition(": a lease")[0] for fault in caught.value.faults]
    assert told == [
        "services.web: copies cannot change in place, from 2 to 3",
        "services.web: memory cannot change in place, from 1.0 GiB to 2.0 GiB",
        "services.web: gpu cannot change in place, from none to 1 x h100",
        "services.web: regions cannot change in place, from none to DE",
        "services.web: highest price cannot change in place, from $0.40/h to $0.50/h",
        "services.db: cpus cannot change in place, from 1 to 2.5",
    ]
    assert "sublet deployments --stop shop" in caught.value.faults[0].message


def test_refuses_services_that_come_and_go() -> None:
    with pytest.raises(Faults) as caught:
        changes(WEB, replace(DB, name="cache"))
    told = [fault.message for fault in caught.value.faults]
    assert told[0].startswith(
        "services.cache: copies cannot change in place, from 0 to 1"
    )
    assert told[1].startswith("services.db runs and is not in the file")
    assert len(told) == 2
