"""``sublet.yaml``: services in Sublet's own words. The types are the published schema.

Sizes, prices and times are written as on the command line. Not here: what is read from
other people's files (``sdl``, ``compose``).
"""

import re
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

from sublet.base.errors import Refused
from sublet.base.units import parse_money, parse_size
from sublet.wire.message import Volume
from sublet.workload.deploy.fault import Findings, Path
from sublet.workload.deploy.plan import (
    WORK,
    DeployPlan,
    Gpus,
    Port,
    ServicePlan,
    make_plan,
)
from sublet.workload.deploy.quantity import find_cpus_milli
from sublet.workload.deploy.reader import Reader
from sublet.workload.deploy.sdl_type import Image
from sublet.workload.deploy.tree import Mapping

NAME_LENGTH_MAX = 64  # of a volume
_NOT_NAME = re.compile(r"[^A-Za-z0-9._-]+")
# Patterns that JavaScript reads too: editors do.
ServiceName = Annotated[
    str,
    Meta(
        pattern=r"^[a-z]([-a-z0-9]{0,30}[a-z0-9])?$",
        extra={"cure": "name a service with a-z, 0-9 and -, at most 32 characters"},
    ),
]
Size = Annotated[
    str,
    Meta(
        pattern=r"^[0-9]{1,12}(\.[0-9]{1,6})? ?(B|[kKMGTP]i?B?)$",
        description="A size: 512MiB (2^20 bytes each), 24GB (10^9).",
        extra={"cure": "write a number and a unit: 512MiB, 24GB"},
    ),
]
Money = Annotated[
    str,
    Meta(
        pattern=r"^\$?[0-9]{1,9}(\.[0-9]{1,6})?$",
        description="US dollars: 0.40",
        extra={"cure": "write US dollars: 0.40"},
    ),
]
PortNumber = Annotated[int, Meta(ge=1, le=65_535, description="A TCP port.")]


class OwnGpu(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """GPUs of each copy."""

    count: Annotated[int, Meta(ge=1, le=64, description="How many.")] = 1
    model: Annotated[
        str,
        Meta(
            pattern=r"^[A-Za-z0-9]{0,64}$",
            description="Such as h100; without it, any.",
            extra={"cure": "write letters and digits: h100, rtx4090"},
        ),
    ] = ""
    memory: Annotated[
        Size | None, Meta(description="Memory of each GPU, at least: 24GB.")
    ] = None


class OwnService(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One program, as an image, on leases of its own."""

    image: Image
    command: Annotated[
        tuple[str, ...] | None,
        Meta(description="Program and arguments; without it, the image's own."),
    ] = None
    args: Annotated[
        tuple[str, ...] | None,
        Meta(
            description="Arguments behind command; without that, of the image's own "
            "entrypoint."
        ),
    ] = None
    env: Annotated[
        dict[str, str] | None, Meta(description="Variables: NAME: value.")
    ] = None
    copies: Annotated[int, Meta(ge=1, le=64, description="How many leases.")] = 1
    cpus: Annotated[
        str | int | float, Meta(description="CPUs of each copy: 2, 0.5, 500m.")
    ] = "1"
    memory: Annotated[Size, Meta(description="Memory of each copy.")] = "1GiB"
    disk: Annotated[Size, Meta(description="Disk of each copy.")] = "2GiB"
    gpu: OwnGpu | None = None
    ports: Annotated[
        tuple[PortNumber, ...],
        Meta(description="Ports that it listens on; reach them with: sublet port"),
    ] = ()
    keep: Annotated[
        str | tuple[str, ...],
        Meta(
            description="Folders that are kept while it runs, and found again on the "
            "next machine: /data, or a list of them. data is /work/data."
        ),
    ] = ()
    regions: Annotated[
        tuple[str, ...], Meta(description="Where: DE, US-CA; any of them.")
    ] = ()
    egress: Annotated[
        tuple[str, ...],
        Meta(description="What it may reach: huggingface.co:443. Without it, nothing."),
    ] = ()
    after: Annotated[
        tuple[str, ...], Meta(description="Services that are started before it.")
    ] = ()
    max_price: Annotated[
        Money | None, Meta(description="Highest price an hour of one copy.")
    ] = None


class OwnFile(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A deployment of several services on rented machines."""

    sublet: Annotated[
        Literal["1", 1],
        Meta(
            description="The version of this format.",
            extra={"cure": "write sublet: 1"},
        ),
    ]
    services: Annotated[
        dict[ServiceName, OwnService], Meta(description="By their names.")
    ]
    name: Annotated[
        str,
        Meta(
            pattern=r"^([A-Za-z0-9][A-Za-z0-9-]{0,27})?$",
            description="Of the deployment; the file's folder without it.",
            extra={"cure": "write a name of A-Z, a-z, 0-9 and -, at most 28"},
        ),
    ] = ""


HABITS = {
    "environment": "write env:, NAME: value",
    "depends_on": "write after:, a list of services",
    "volumes": "write keep:, a folder such as /data",
    "replicas": "write copies:",
    "count": "write copies:",
    "expose": "write ports:, a list of numbers",
    "entrypoint": "write command:, and what follows it under args:",
    "ram": "write memory:",
}


def make_schema() -> dict[str, Any]:
    """Give the JSON Schema of ``sublet.yaml``, for editors."""
    _, parts = msgspec.json.schema_components([OwnFile], ref_template="#/$defs/{name}")
    whole = parts.pop("OwnFile")
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **whole,
        "title": "sublet.yaml",
        "$defs": parts,
    }


def read_own(tree: Mapping, found: Findings, *, name: str) -> DeployPlan:
    """Read the tree of a ``sublet.yaml``.

    Raises:
        Faults: each with line, key and cure.
    """
    file = Reader(found, habits=HABITS, is_open=True).read(tree, OwnFile)
    services = [
        _plan(service, key, found, file) for key, service in file.services.items()
    ]
    found.check()
    return make_plan(file.name or name, services)


def _plan(
    service: OwnService, name: str, found: Findings, file: OwnFile
) -> ServicePlan:
    path: Path = ("services", name)
    cpus = find_cpus_milli(str(service.cpus))
    if not cpus:
        found.add(
            (*path, "cpus"),
            "is no number of CPUs",
            "write 2, 0.5 or 500m",
            code="bad_value",
        )
    for index, other in enumerate(service.after):
        if other not in file.services:
            found.add(
                (*path, "after", index),
                "is no service of this file",
                f"name one of: {', '.join(file.services)}",
                code="bad_value",
            )
    gpu = service.gpu
    return ServicePlan(
        name=name,
        image=service.image,
        command=(*(service.command or ()), *(service.args or ())),
        lengthens=bool(service.args and not service.command),
        env=service.env or {},
        copies=service.copies,
        cpus_milli=cpus or 0,
        memory_bytes=_size(service.memory, (*path, "memory"), found),
        disk_bytes=_size(service.disk, (*path, "disk"), found),
        gpus=Gpus()
        if gpu is None
        else Gpus(
            count=gpu.count,
            kinds=(gpu.model.lower(),) if gpu.model else (),
            memory_bytes=_size(gpu.memory or "0B", (*path, "gpu", "memory"), found),
        ),
        ports=tuple(map(Port, service.ports)),
        volumes=_volumes(service.keep),
        regions=service.regions,
        egress=service.egress,
        after=service.after,
        price_hour_max=None
        if service.max_price is None
        else _money(service.max_price, (*path, "max_price"), found),
    )


def _volumes(keep: str | tuple[str, ...]) -> tuple[Volume, ...]:
    paths = (keep,) if isinstance(keep, str) else keep
    return tuple(
        Volume(
            _NOT_NAME.sub("-", path)[-NAME_LENGTH_MAX:].strip("-.") or "keep",
            path if path.startswith("/") else f"{WORK}{path}",
            is_persistent=True,
        )
        for path in paths
        if path
    )


def _size(text: str, path: Path, found: Findings) -> int:
    try:
        return parse_size(text, field=str(path[-1]))
    except Refused:
        found.add(path, "is no size", "write 512MiB or 24GB", code="bad_value")
        return 0


def _money(text: str, path: Path, found: Findings) -> int:
    try:
        return parse_money(text, field=str(path[-1]))
    except Refused:
        found.add(path, "is no price", "write US dollars: 0.40", code="bad_value")
        return 0
