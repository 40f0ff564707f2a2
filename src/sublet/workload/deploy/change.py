"""What differs between a service that runs and a file that is deployed again. Pure.

Image, command and variables change in place, on the lease that there is. What a lease is
made of does not: whoever wants that ends it and orders another.

Not here: who tells the provider (``update``).
"""

from msgspec import Struct

from sublet.base.errors import Faults, Refused, SubletError
from sublet.base.units import format_money, format_size
from sublet.wire.message import Volume
from sublet.workload.deploy.plan import (
    DeployPlan,
    Gpus,
    ServicePlan,
    describe_gpus,
)

IN_PLACE = ("image", "command", "lengthens", "env")
_FREE = ("ports", "after")  # say nothing to the machine
_WORDS = {
    "cpus_milli": "cpus",
    "memory_bytes": "memory",
    "disk_bytes": "disk",
    "gpus": "gpu",
    "attributes": "placement attributes",
    "price_hour_max": "highest price",
}


class Running(Struct, frozen=True):
    """One copy that runs, and the plan that it runs by."""

    name: str  # of its job
    plan: ServicePlan


def find_changes(
    plan: DeployPlan, running: list[Running]
) -> dict[str, tuple[str, ...]]:
    """Name what changes in place of each copy of a plan, in the plan's order.

    Raises:
        Faults: what cannot change in place, all of it, each with what to do instead.
    """
    wanted, there = dict(plan.copies()), {one.name: one.plan for one in running}
    faults: list[SubletError] = []
    for service in plan.services:
        mine = [one.plan for one in running if one.plan.name == service.name]
        if len(mine) != service.copies:
            faults.append(
                _fixed(plan, service.name, "copies", len(mine), service.copies)
            )
        if mine:
            faults += _fixed_parts(plan, mine[0], service)
    names = {service.name for service in plan.services}
    for name in dict.fromkeys(one.plan.name for one in running):
        if name not in names:
            faults.append(
                Refused(
                    f"services.{name} runs and is not in the file; stop it with: sublet "
                    f"stop {plan.name}.{name}.1",
                    code="not_in_place",
                    field=f"services.{name}",
                )
            )
    if faults:
        raise Faults(faults)
    return {
        name: tuple(
            part
            for part in IN_PLACE
            if getattr(there[name], part) != getattr(service, part)
        )
        for name, service in wanted.items()
        if name in there
    }


def _fixed_parts(
    plan: DeployPlan, before: ServicePlan, after: ServicePlan
) -> list[SubletError]:
    skipped = {*IN_PLACE, *_FREE, "name", "copies", "unmet"}
    return [
        _fixed(plan, after.name, part, getattr(before, part), getattr(after, part))
        for part in ServicePlan.__struct_fields__
        if part not in skipped and getattr(before, part) != getattr(after, part)
    ]


def _fixed(
    plan: DeployPlan, service: str, part: str, before: object, after: object
) -> SubletError:
    word = _WORDS.get(part, part)
    return Refused(
        f"services.{service}: {word} cannot change in place, from "
        f"{_show(part, before)} to {_show(part, after)}: a lease is what was ordered. "
        f"Stop it with: sublet deployments --stop {plan.name}, and deploy it again",
        code="not_in_place",
        field=f"services.{service}.{part}",
    )


def _show(part: str, value: object) -> str:
    match value:
        case None:
            return "none"
        case int() if part == "price_hour_max":
            return f"{format_money(value)}/h"
        case int() if part.endswith("_bytes"):
            return format_size(value)
        case int() if part == "cpus_milli":
            return f"{value / 1_000:g}"
        case Gpus():
            return describe_gpus(value) if value.count else "none"
        case Volume():
            return value.mount
        case tuple():
            return ", ".join(_show("", one) for one in value) or "none"
    return str(value)
