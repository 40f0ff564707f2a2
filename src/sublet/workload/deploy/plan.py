"""What is deployed: services with what they need, whichever file they come from. Pure.

A service's copies are leases of their own, each named ``NAME.SERVICE.NUMBER``. What a
file asks for and cannot be had here stands in ``unmet``: it is shown before anything is
signed, and such a plan is not carried out.
"""

import re
from collections.abc import Iterator, Mapping

from msgspec import Struct
from msgspec.structs import replace

from sublet.base import limits
from sublet.base.errors import Refused
from sublet.base.units import format_money, format_size
from sublet.core.image import parse_reference
from sublet.wire.message import Volume
from sublet.wire.path import find_path_fault
from sublet.wire.volume import find_volume_faults

COPIES_MAX = 64  # of all services of one file
WORK = "/work/"  # the job's own folder, in every sandbox
_MEMORY = ("/tmp", "/dev/shm")  # noqa: S108  # every sandbox has its own of these
APART = (
    "services do not reach each other: each is alone on its machine, without the "
    "others' names; reach a port from here with: sublet port NAME.SERVICE.1 PORT"
)
NAME_LENGTH_MAX = 28  # so that a copy's name is one of a job
SERVICE_LENGTH_MAX = 32
_VARIABLE = re.compile(r"\A[A-Za-z_][A-Za-z0-9_]{0,127}\Z")
_NOT_NAME = re.compile(r"[^A-Za-z0-9-]+")


class Port(Struct, frozen=True):
    """A port that a service listens on."""

    number: int
    proto: str = "TCP"
    is_global: bool = False


class Gpus(Struct, frozen=True):
    """Which GPUs, of each copy."""

    count: int = 0
    kinds: tuple[str, ...] = ()  # any of: "h100", "a100/80GiB/sxm"; empty for any
    memory_bytes: int = 0  # at least, of each


class ServicePlan(Struct, frozen=True, kw_only=True):
    """One service."""

    name: str
    image: str
    command: tuple[str, ...] = ()  # empty for the image's own
    lengthens: bool = False  # it follows the image's entrypoint
    env: dict[str, str] = {}
    copies: int = 1
    cpus_milli: int = 1_000
    memory_bytes: int = 1 << 30
    disk_bytes: int = 2 << 30
    gpus: Gpus = Gpus()
    ports: tuple[Port, ...] = ()
    volumes: tuple[Volume, ...] = ()
    regions: tuple[str, ...] = ()
    attributes: tuple[str, ...] = ()  # "key=value", that the owner has to say
    egress: tuple[str, ...] = ()
    after: tuple[str, ...] = ()  # services that start before it
    price_hour_max: int | None = None  # micro-USD for one copy
    unmet: tuple[str, ...] = ()  # what it asks for and cannot have here

    @property
    def checkpoint(self) -> str:
        """The folder below the work folder that is carried along, or ""."""
        kept = (_below_work(one) for one in self.volumes if one.is_persistent)
        return next(filter(None, kept), "")

    @property
    def mounts(self) -> tuple[Volume, ...]:
        """The volumes that are mounted in the image: not what every job has anyway."""
        plain = (
            replace(one, mount=one.mount.rstrip("/") or "/") for one in self.volumes
        )
        return tuple(
            one
            for one in plain
            if not _below_work(one) and (one.is_persistent or one.mount not in _MEMORY)
        )


class DeployPlan(Struct, frozen=True):
    """All services of one file, in the order in which they start."""

    name: str
    services: tuple[ServicePlan, ...]
    notes: tuple[str, ...] = ()  # what its writer should know, and does not stop it

    def copies(self) -> Iterator[tuple[str, ServicePlan]]:
        """Give each copy by the name of its job."""
        for service in self.services:
            for number in range(1, service.copies + 1):
                yield f"{self.name}.{service.name}.{number}", service


def make_plan(
    name: str, services: list[ServicePlan], *, are_linked: bool = False
) -> DeployPlan:
    """Put services into the order of their starts, and say what cannot be had.

    Args:
        name: of the deployment.
        services: in any order.
        are_linked: the file means that services reach each other.

    Raises:
        Refused: they wait for each other in a circle, or there are too many.
    """
    plan = DeployPlan(
        _NOT_NAME.sub("-", name).strip("-")[:NAME_LENGTH_MAX] or "deployment",
        tuple(map(_with_unmet, _sort(services))),
        (APART,) if are_linked else (),
    )
    count = sum(service.copies for service in services)
    if count > COPIES_MAX:
        raise Refused(
            f"{count} copies of services; at most {COPIES_MAX} are deployed from one "
            "file. Split it, or lower the counts",
            code="too_many_copies",
            field="services",
        )
    return plan


def _sort(services: list[ServicePlan]) -> list[ServicePlan]:
    waiting = {service.name: service for service in services}
    done: list[ServicePlan] = []
    while waiting:
        ready = [
            one for one in waiting.values() if not any(x in waiting for x in one.after)
        ]
        if not ready:
            names = ", ".join(waiting)
            raise Refused(
                f"these services wait for each other: {names}; break the circle",
                code="circle",
                field="services",
            )
        for one in ready:
            done.append(waiting.pop(one.name))
    return done


def _below_work(volume: Volume) -> str:
    """Give the path of a volume in the work folder, or ""."""
    if not volume.mount.startswith(WORK):
        return ""
    return volume.mount.removeprefix(WORK).strip("/")


def _with_unmet(service: ServicePlan) -> ServicePlan:
    unmet = list(service.unmet)
    if len(service.name) > SERVICE_LENGTH_MAX:
        unmet.append(f"a name of more than {SERVICE_LENGTH_MAX} characters: shorten it")
    try:
        parse_reference(service.image, field="image")
    except Refused as fault:
        unmet.append(fault.message)
    for name, value in service.env.items():
        if _VARIABLE.match(name) is None or "\0" in value:
            unmet.append(f"the variable {name[:40]!r}: use letters, digits and _")
    if any("\0" in word for word in service.command):
        unmet.append("a NUL character in a command: write it without")
    unmet += (f"volumes: {fault}" for fault in find_volume_faults(service.mounts))
    kept = [one for one in service.volumes if one.is_persistent]
    if service.checkpoint:
        if len(kept) > 1:
            unmet.append(
                f"several persistent volumes, one below {WORK}: mount all of them "
                "elsewhere, such as at /data"
            )
        if why := find_path_fault(service.checkpoint):
            unmet.append(f"volumes: {service.checkpoint[:80]!r} {why}")
    if any(port.proto == "UDP" for port in service.ports):
        unmet.append("UDP ports: what is forwarded is TCP")
    if len(service.gpus.kinds) > limits.LIST_LENGTH_MAX:
        unmet.append(f"more than {limits.LIST_LENGTH_MAX} GPU models: name fewer")
    return replace(service, unmet=tuple(unmet))


def describe_gpus(gpus: Gpus) -> str:
    """Say which GPUs, in people's words."""
    text = f"{gpus.count} x {' / '.join(gpus.kinds) or 'any'}"
    if gpus.memory_bytes:
        text += f", at least {format_size(gpus.memory_bytes)}"
    return text


def describe(plan: DeployPlan) -> list[tuple[str, ...]]:
    """Give a row for each service: what it is and needs, in people's words."""
    rows: list[tuple[str, ...]] = []
    for one in plan.services:
        gpu = describe_gpus(one.gpus) if one.gpus.count else "-"
        price = one.price_hour_max
        rows.append(
            (
                one.name,
                str(one.copies),
                one.image,
                f"{one.cpus_milli / 1_000:g}",
                format_size(one.memory_bytes),
                format_size(one.disk_bytes),
                gpu,
                ",".join(str(port.number) for port in one.ports) or "-",
                "as --max-total lasts" if price is None else f"{format_money(price)}/h",
            )
        )
    return rows


HEAD = (
    *("SERVICE", "COPIES", "IMAGE", "CPUS", "MEMORY", "DISK", "GPU", "PORTS"),
    "AT MOST",
)


def make_env(texts: tuple[str, ...]) -> dict[str, str]:
    """Read ``NAME=value`` texts.

    >>> make_env(("A=b=c", "D"))
    {'A': 'b=c', 'D': ''}
    """
    pairs = (text.partition("=") for text in texts)
    return {name: value for name, _, value in pairs}


def make_options(service: ServicePlan, name: str) -> Mapping[str, object]:
    """Give the options with which one copy is run."""
    gpus = service.gpus
    options: dict[str, object] = {
        "is_command": True,
        "lengthens": service.lengthens,
        "image": service.image,
        "name": name,
        "cpus": f"{service.cpus_milli / 1_000:g}",
        "memory": f"{service.memory_bytes}B",
        "disk": f"{service.disk_bytes}B",
        "regions": service.regions,
        "attributes": service.attributes,
        "egress": service.egress,
        "env": tuple(f"{key}={value}" for key, value in service.env.items()),
    }
    if gpus.count:
        options["gpu"] = str(gpus.count)
        options["gpu_kinds"] = gpus.kinds
    if gpus.memory_bytes:
        options["vram"] = f"{gpus.memory_bytes}B"
    if service.mounts:
        options["volumes"] = service.mounts
    if service.checkpoint:
        options["checkpoint"] = service.checkpoint
    if service.price_hour_max is not None:
        whole, micro = divmod(service.price_hour_max, 1_000_000)
        options["max_price"] = f"{whole}.{micro:06d}"
    return options
