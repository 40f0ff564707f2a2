"""The part of Docker Compose's file that means the same on rented machines.

Image, command, entrypoint, environment, ports, named volumes, resources with GPUs, and
``depends_on`` as the order of starts. Everything else is refused by its name: a file is
never deployed as less than what it says. Keys ``x-…`` are the writer's own.
"""

import re
import shlex
from typing import Annotated, Literal

from msgspec import Meta, Struct, field

from sublet.wire.message import Volume
from sublet.workload.deploy.fault import Findings, Path, shorten
from sublet.workload.deploy.plan import (
    DeployPlan,
    Gpus,
    Port,
    ServicePlan,
    make_env,
    make_plan,
)
from sublet.workload.deploy.quantity import find_cpus_milli
from sublet.workload.deploy.reader import Reader
from sublet.workload.deploy.sdl_type import Image
from sublet.workload.deploy.tree import Mapping

_PORT = re.compile(r"\A(?:(?:[0-9.]+:)?[0-9]{1,5}:)?([0-9]{1,5})(?:/(tcp|udp))?\Z")
_NAMED_VOLUME = re.compile(r"\A([A-Za-z0-9][A-Za-z0-9_.-]*):(/[^:]*)(?::(rw))?\Z")
_SIZE = re.compile(r"\A([0-9]{1,12})(b|k|kb|m|mb|g|gb|ki?b?|mi?b?|gi?b?)?\Z", re.I)
_POWER = {"": 0, "b": 0, "k": 1, "m": 2, "g": 3}
PORT_MAX = 65_535
GPU_ALL = "all"

Name = Annotated[
    str,
    Meta(
        pattern=r"\A[a-zA-Z0-9][a-zA-Z0-9_-]{0,31}\Z",
        extra={"cure": "name a service with letters, digits, - and _, at most 32"},
    ),
]


class Device(Struct, frozen=True, kw_only=True):
    """A reservation of GPUs."""

    capabilities: tuple[Literal["gpu"], ...]
    driver: Literal["nvidia"] = "nvidia"
    count: int | Literal["all"] = 1


class Share(Struct, frozen=True, kw_only=True):
    """Limits or reservations."""

    cpus: str | None = None
    memory: str | None = None
    devices: tuple[Device, ...] = ()


class DeployResources(Struct, frozen=True, kw_only=True):
    """Both."""

    limits: Share | None = None
    reservations: Share | None = None


class Deploy(Struct, frozen=True, kw_only=True):
    """How a service is spread."""

    replicas: Annotated[int, Meta(ge=1, le=64)] = 1
    resources: DeployResources | None = None


class Condition(Struct, frozen=True, kw_only=True):
    """The long form of ``depends_on``; only the order is kept."""

    condition: Annotated[
        Literal["service_started"],
        Meta(extra={"cure": "write service_started: only the order of starts is kept"}),
    ] = "service_started"


class ComposeService(Struct, frozen=True, kw_only=True):
    """One service."""

    image: Image
    command: tuple[str, ...] | str | None = None
    entrypoint: tuple[str, ...] | str | None = None
    environment: dict[str, str | None] | tuple[str, ...] | None = None
    ports: tuple[str, ...] = ()
    expose: tuple[str, ...] = ()
    volumes: tuple[str, ...] = ()
    deploy: Deploy | None = None
    gpus: int | Literal["all"] | None = None
    cpus: str | None = None
    mem_limit: str | None = None
    depends_on: tuple[str, ...] | dict[str, Condition] = ()


class ComposeFile(Struct, frozen=True, kw_only=True):
    """The whole file."""

    services: dict[Name, ComposeService]
    version: str = ""
    name: str = ""
    volumes: dict[str, dict[str, str] | None] | None = field(default=None)


HABITS = {
    "build": "build the image first, push it, and name it under image:",
    "restart": "remove it: where a machine fails, the service goes on elsewhere",
    "networks": "remove it: services do not reach each other here",
    "network_mode": "remove it: each service has a network of its own",
    "links": "remove it: services do not reach each other here",
    "healthcheck": "remove it: nothing asks for it here",
    "container_name": "remove it: a copy is called NAME.SERVICE.NUMBER",
    "env_file": "write the variables under environment:",
    "secrets": "remove it: give secrets with sublet run --secret",
    "configs": "put the file into the image",
    "privileged": "remove it: no rented machine gives that away",
    "cap_add": "remove it: no rented machine gives that away",
    "devices": "write deploy: resources: reservations: devices: for GPUs",
    "runtime": "remove it, and write gpus: 1 for a GPU",
    "user": "remove it: the image says so itself",
    "working_dir": "remove it: the image says so itself",
    "logging": "remove it: see what a service writes with sublet logs",
    "args": "write them under command:",
    "env": "write environment:",
}


def read_compose(tree: Mapping, found: Findings, *, name: str) -> DeployPlan:
    """Read the tree of a Compose file.

    Raises:
        Faults: each with line, key and cure.
    """
    file = Reader(found, habits=HABITS, is_open=True).read(tree, ComposeFile)
    services = []
    for key, service in file.services.items():
        services.append(_Planner(("services", key), found, file).plan(key, service))
    found.check()
    # In Compose all services of a file are in one network, by their names.
    return make_plan(file.name or name, services, are_linked=len(services) > 1)


class _Planner:
    """Makes a plan of one service."""

    def __init__(self, path: Path, found: Findings, file: ComposeFile) -> None:
        self._path = path
        self._found = found
        self._file = file

    def _bad(self, path: Path, problem: str, cure: str) -> None:
        self._found.add((*self._path, *path), problem, cure, code="bad_value")

    def plan(self, name: str, service: ComposeService) -> ServicePlan:
        for other in service.depends_on:
            if other not in self._file.services:
                self._bad(
                    ("depends_on",),
                    f"there is no service {shorten(other)!r}",
                    "name one of this file",
                )
        entrypoint = self._words(service.entrypoint, "entrypoint")
        command = self._words(service.command, "command")
        deploy = service.deploy or Deploy()
        return ServicePlan(
            name=name.replace("_", "-"),
            image=service.image,
            # In Compose a command alone is what follows the image's entrypoint.
            command=(*entrypoint, *command),
            lengthens=bool(command and not entrypoint),
            env=self._environment(service),
            copies=deploy.replicas,
            cpus_milli=self._cpus(service),
            memory_bytes=self._memory(service),
            gpus=self._gpus(service),
            ports=self._ports(service),
            volumes=self._volumes(service),
            after=tuple(one.replace("_", "-") for one in service.depends_on),
            unmet=self._shared(service, deploy.replicas),
        )

    def _words(self, given: tuple[str, ...] | str | None, key: str) -> tuple[str, ...]:
        if not isinstance(given, str):
            return given or ()
        try:
            return tuple(shlex.split(given))
        except ValueError:
            self._bad((key,), "has a quote that is not closed", "write it as a list")
            return ()

    def _environment(self, service: ComposeService) -> dict[str, str]:
        given = service.environment or {}
        if isinstance(given, tuple):
            for index, text in enumerate(given):
                if "=" not in text:
                    self._bad(
                        ("environment", index),
                        "has no value",
                        "write NAME=value: nothing is taken from your environment",
                    )
            return make_env(given)
        for key, value in given.items():
            if value is None:
                self._bad(
                    ("environment", key),
                    "has no value",
                    "write one: nothing is taken from your environment",
                )
        return {key: value or "" for key, value in given.items()}

    def _ports(self, service: ComposeService) -> tuple[Port, ...]:
        made = []
        for key in ("ports", "expose"):
            texts: tuple[str, ...] = getattr(service, key)
            for index, text in enumerate(texts):
                match = _PORT.match(text)
                if match is None or not 1 <= int(match[1]) <= PORT_MAX:
                    self._bad(
                        (key, index), f"is {shorten(text)!r}", "write 8080 or 80:8080"
                    )
                    continue
                proto = (match[2] or "tcp").upper()
                made.append(Port(int(match[1]), proto, key == "ports"))
        return tuple(made)

    def _volumes(self, service: ComposeService) -> tuple[Volume, ...]:
        made = []
        for index, text in enumerate(service.volumes):
            match = _NAMED_VOLUME.match(text)
            if match is None:
                self._bad(
                    ("volumes", index),
                    f"is {shorten(text)!r}: no folder of yours is on a rented machine",
                    "put the files into the image, or name a volume: data:/work/data",
                )
                continue
            if match[1] not in (self._file.volumes or {}):
                self._bad(
                    ("volumes", index),
                    f"there is no volume {shorten(match[1])!r}",
                    f"add volumes: {shorten(match[1])}: at the top level",
                )
            made.append(Volume(match[1], match[2], True))
        return tuple(made)

    def _shared(self, service: ComposeService, replicas: int) -> tuple[str, ...]:
        """Name volumes that several containers would share: each copy has its own."""
        mounted = [
            {text.partition(":")[0] for text in one.volumes}
            for one in self._file.services.values()
        ]
        mine = sorted({text.partition(":")[0] for text in service.volumes})
        return tuple(
            f"volume {shorten(name)}, shared by several services or replicas: each copy "
            "has a folder of its own; use it in one service with one replica"
            for name in mine
            if replicas > 1 or sum(name in names for names in mounted) > 1
        )

    def _shares(self, service: ComposeService) -> tuple[tuple[str, Share], ...]:
        resources = service.deploy.resources if service.deploy else None
        given = resources or DeployResources()
        pairs = (("reservations", given.reservations), ("limits", given.limits))
        return tuple((name, share) for name, share in pairs if share is not None)

    def _cpus(self, service: ComposeService) -> int:
        named: list[tuple[Path, str | None]] = [(("cpus",), service.cpus)]
        for key, share in self._shares(service):
            named.append((("deploy", "resources", key, "cpus"), share.cpus))
        most = 0
        for path, text in named:
            if text is None:
                continue
            milli = find_cpus_milli(text)
            if not milli or text.endswith("m"):
                self._bad(path, f"is {shorten(text)!r}", "write CPUs: 2 or 0.5")
            most = max(most, milli or 0)
        return most or 1_000

    def _memory(self, service: ComposeService) -> int:
        named: list[tuple[Path, str | None]] = [(("mem_limit",), service.mem_limit)]
        for key, share in self._shares(service):
            named.append((("deploy", "resources", key, "memory"), share.memory))
        most = 0
        for path, text in named:
            if text is None:
                continue
            match = _SIZE.match(text)
            if match is None or not int(match[1]):
                self._bad(path, f"is {shorten(text)!r}", "write a size: 512M or 2G")
                continue
            unit = (match[2] or "")[:1].lower()
            most = max(most, int(match[1]) << (10 * _POWER[unit]))  # as Compose: 2^10
        return most or 1 << 30

    def _gpus(self, service: ComposeService) -> Gpus:
        count = service.gpus
        for _, share in self._shares(service):
            for device in share.devices:
                count = device.count
        if count == GPU_ALL:
            self._bad(
                ("gpus",) if service.gpus else ("deploy", "resources"),
                "asks for all GPUs of a machine that is not chosen yet",
                "write how many: 1",
            )
            return Gpus()
        if isinstance(count, int) and not 0 <= count <= 64:
            self._bad(("gpus",), f"is {count}", "write a number from 1 to 64")
            return Gpus()
        return Gpus(count=count if isinstance(count, int) else 0)
