"""From an SDL file to the plan that is carried out here. Pure.

Akash prices a block; here prices are US dollars an hour. One ``uact`` is a micro-dollar;
for ``uakt`` the reader of the file says what an AKT is worth. What Akash's providers do
and ours do not is named as unmet, never passed over.
"""

import re
from decimal import Decimal

from sublet.wire.message import Volume
from sublet.workload.deploy.plan import (
    DeployPlan,
    Gpus,
    Port,
    ServicePlan,
    make_env,
    make_plan,
)
from sublet.workload.deploy.quantity import find_bytes, find_cpus_milli
from sublet.workload.deploy.sdl_type import (
    TRUE,
    Compute,
    Gpu,
    Placement,
    Service,
    Stack,
    volumes_of,
)

_NOT_MODEL = re.compile(r"[^a-z0-9]")
BLOCKS_PER_HOUR = 600  # one in six seconds


def plan_sdl(
    stack: Stack,
    *,
    name: str,
    akt_usd: Decimal | None = None,
    is_any_provider: bool = False,
) -> DeployPlan:
    """Say what an SDL file comes to here.

    Args:
        stack: that was found right.
        name: of the deployment.
        akt_usd: what one AKT is worth, in US dollars; None where nobody said.
        is_any_provider: pass over placement attributes and signedBy, which name Akash's
            own labels and auditors.

    Raises:
        Refused: a circle of dependencies, or too many copies.
    """
    made = []
    for service_name, placements in stack.deployment.items():
        service = stack.services[service_name]
        for place, placed in placements.items():
            compute = stack.profiles.compute[placed.profile]
            placement = stack.profiles.placement[place]
            price, missing = _price(placement, placed.profile, akt_usd)
            is_alone = len(placements) == 1
            made.append(
                ServicePlan(
                    name=service_name if is_alone else f"{service_name}-{place}",
                    image=service.image,
                    command=(*(service.command or ()), *(service.args or ())),
                    lengthens=bool(service.args and not service.command),
                    env=make_env(service.env or ()),
                    copies=placed.count,
                    cpus_milli=find_cpus_milli(compute.resources.cpu.units) or 0,
                    memory_bytes=find_bytes(compute.resources.memory.size) or 0,
                    disk_bytes=sum(
                        find_bytes(volume.size) or 0 for volume in volumes_of(compute)
                    ),
                    gpus=_gpus(compute.resources.gpu),
                    ports=_ports(service),
                    volumes=_volumes(service, compute),
                    attributes=() if is_any_provider else _attributes(placement),
                    after=tuple(one.service for one in service.dependencies),
                    price_hour_max=price,
                    unmet=(
                        *missing,
                        *_unmet(service, compute),
                        *(() if is_any_provider else _unmet_placement(placement)),
                    ),
                )
            )
    links = (
        to.service
        for one in stack.services.values()
        for exposed in one.expose or ()
        for to in exposed.to
    )
    return make_plan(name, made, are_linked=any(links))


def _price(
    placement: Placement, profile: str, akt_usd: Decimal | None
) -> tuple[int | None, tuple[str, ...]]:
    coin = placement.pricing[profile]
    hourly = Decimal(coin.amount) * BLOCKS_PER_HOUR
    if coin.denom == "uact":
        return int(hourly), ()
    if akt_usd is None:
        return None, (
            f"a price of {coin.amount} uakt a block: say what an AKT is worth with "
            "--akt-usd",
        )
    return int(hourly * akt_usd), ()


def _gpus(gpu: Gpu | None) -> Gpus:
    if gpu is None or not gpu.units:
        return Gpus()
    models = (gpu.attributes.vendor.nvidia if gpu.attributes else None) or ()
    least = [(find_bytes(one.ram or "") or 0) for one in models]
    if any(one.model == "*" for one in models):  # any model, with the least of all
        return Gpus(count=gpu.units, memory_bytes=min(least))
    kinds = [
        "/".join(
            (
                _NOT_MODEL.sub("", one.model.lower()),
                *((f"{-(-size // (1 << 30))}GiB",) if size else ()),  # up: at least
                *((one.interface,) if one.interface else ()),
            )
        )
        for one, size in zip(models, least, strict=True)
    ]
    return Gpus(count=gpu.units, kinds=tuple(dict.fromkeys(kinds)))


def _ports(service: Service) -> tuple[Port, ...]:
    return tuple(
        Port(one.port, one.proto.upper(), any(to.is_global for to in one.to))
        for one in service.expose or ()
    )


def _volumes(service: Service, compute: Compute) -> tuple[Volume, ...]:
    mounts = (service.params.storage if service.params else None) or {}
    kept = {
        volume.name or "default": volume.attributes is not None
        and volume.attributes.persistent in TRUE
        for volume in volumes_of(compute)
    }
    return tuple(
        Volume(name, one.mount, kept.get(name, False)) for name, one in mounts.items()
    )


def _unmet(service: Service, compute: Compute) -> tuple[str, ...]:
    unmet = []
    if service.credentials is not None:
        unmet.append("credentials of a private registry: bring the image as a file")
    if service.params is not None and service.params.tee is not None:
        unmet.append(f"tee {service.params.tee}: no provider attests to it")
    cpu = compute.resources.cpu.attributes
    if cpu is not None and cpu.arch not in (None, "amd64"):
        unmet.append(f"the CPU architecture {cpu.arch}: machines here are amd64")
    return tuple(unmet)


def _unmet_placement(placement: Placement) -> tuple[str, ...]:
    if not placement.signed_by.any_of and not placement.signed_by.all_of:
        return ()
    return (
        "signedBy: Akash's auditors sign nothing here; remove it, or pass over it with "
        "--any-provider",
    )


def _attributes(placement: Placement) -> tuple[str, ...]:
    given = placement.attributes or {}
    # "host" is Akash's label of its own network.
    return tuple(f"{key}={value}" for key, value in given.items() if key != "host")
