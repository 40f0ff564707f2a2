"""What each part of an SDL file must be. Pure; every fault with its cure.

Not here: what must fit together across the file (``sdl_link``).
"""

import re
from collections.abc import Callable
from decimal import Decimal

from sublet.workload.deploy.fault import Findings, Path, shorten
from sublet.workload.deploy.quantity import find_bytes, find_cpus_milli
from sublet.workload.deploy.sdl_link import check_links
from sublet.workload.deploy.sdl_type import (
    FALSE,
    TRUE,
    Compute,
    Expose,
    Gpu,
    Service,
    Stack,
    StorageAttributes,
    Volume,
    volumes_of,
)

CPUS_MILLI = (10, 384_000)
MEMORY_BYTES = (1 << 20, 2 << 40)
STORAGE_BYTES = (5 << 20, 32 << 40)
_VARIABLE = re.compile(r"\A[-._a-zA-Z][-._a-zA-Z0-9]*\Z")
_HOST = re.compile(
    r"\A(?=.{1,255}\Z)[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*\Z"
)
_ATTRIBUTE = re.compile(r"\A[A-Za-z][\w/.-]{0,126}[\w*]?\Z", re.ASCII)


def check_stack(stack: Stack, found: Findings) -> None:
    """Enter everything that does not fit together into ``found``."""
    _Check(stack, found).run()


class _Check:
    def __init__(self, stack: Stack, found: Findings) -> None:
        self.stack = stack
        self.found = found
        self.endpoints = stack.endpoints or {}

    def run(self) -> None:
        for name, compute in self.stack.profiles.compute.items():
            self._compute(("profiles", "compute", name), compute)
        for name, placement in self.stack.profiles.placement.items():
            path: Path = ("profiles", "placement", name)
            for coin, price in placement.pricing.items():
                if not Decimal(price.amount or 1):
                    self._bad(
                        (*path, "pricing", coin, "amount"),
                        "is 0",
                        "write the most that you pay for a block, above 0",
                    )
            for key in placement.attributes or {}:
                if _ATTRIBUTE.match(key) is None:
                    self._bad(
                        (*path, "attributes", key),
                        "is no name of an attribute",
                        "begin with a letter; then letters, digits and / . - _",
                    )
        for name, service in self.stack.services.items():
            self._service(("services", name), service)
        check_links(self.stack, self.found)

    def _bad(self, path: Path, problem: str, cure: str) -> None:
        self.found.add(path, problem, cure, code="bad_value")

    # ---- resources --------------------------------------------------------------

    def _compute(self, path: Path, compute: Compute) -> None:
        path = (*path, "resources")
        resources = compute.resources
        self._quantity(
            (*path, "cpu", "units"),
            resources.cpu.units,
            find_cpus_milli,
            CPUS_MILLI,
            "write CPUs between 0.01 and 384: 0.5, 2, or 500m",
        )
        self._quantity(
            (*path, "memory", "size"),
            resources.memory.size,
            find_bytes,
            MEMORY_BYTES,
            "write memory between 1Mi and 2Ti: 512Mi, 4Gi (GB is no unit of SDL)",
        )
        names: set[str] = set()
        is_list = not isinstance(resources.storage, Volume)
        for index, volume in enumerate(volumes_of(compute)):
            place: Path = (*path, "storage", index) if is_list else (*path, "storage")
            self._quantity(
                (*place, "size"),
                volume.size,
                find_bytes,
                STORAGE_BYTES,
                "write a size between 5Mi and 32Ti: 1Gi (GB is no unit of SDL)",
            )
            name = (volume.name if is_list else "") or "default"
            if name in names:
                self._bad(
                    (*place, "name"),
                    f"is {shorten(name)!r} like that of another volume",
                    "give each volume a name of its own",
                )
            names.add(name)
            if volume.attributes is not None:
                self._storage((*place, "attributes"), volume.attributes)
        if resources.gpu is not None:
            self._gpu((*path, "gpu"), resources.gpu)

    def _quantity(
        self,
        path: Path,
        text: str,
        find: Callable[[str], int | None],
        bounds: tuple[int, int],
        cure: str,
    ) -> None:
        value = find(text)
        if value is None:
            self._bad(path, f"{shorten(text)!r} is no quantity", cure)
        elif not bounds[0] <= value <= bounds[1]:
            self._bad(path, f"{shorten(text)!r} is out of range", cure)

    def _storage(self, path: Path, attributes: StorageAttributes) -> None:
        persistent = attributes.persistent
        if persistent is not None and persistent not in TRUE | FALSE:
            self._bad((*path, "persistent"), "is no truth", "write true or false")
            return
        is_persistent = persistent in TRUE
        is_ram = attributes.storage_class == "ram"
        if is_ram and is_persistent:
            self._bad(
                (*path, "persistent"),
                "is true of memory, which forgets",
                "write persistent: false, or another class",
            )
        if attributes.storage_class and not is_ram and not is_persistent:
            self._bad(
                (*path, "class"),
                "names a class of a volume that is not kept",
                "add persistent: true, or remove class",
            )

    def _gpu(self, path: Path, gpu: Gpu) -> None:
        if gpu.units and gpu.attributes is None:
            self._bad(
                (*path, "attributes"),
                "is missing",
                "add attributes: vendor: nvidia: (empty for any model)",
            )
        if gpu.attributes is None:
            return
        if not gpu.units:
            self._bad(
                (*path, "units"),
                "is 0 beside attributes",
                "write how many GPUs, or remove the attributes",
            )
        place: Path = (*path, "attributes", "vendor", "nvidia")
        for index, model in enumerate(gpu.attributes.vendor.nvidia or ()):
            size = None if model.ram is None else find_bytes(model.ram)
            if model.ram is not None and not (model.ram.endswith("i") and size):
                self._bad(
                    (*place, index, "ram"),
                    f"is {shorten(model.ram)!r}",
                    "write the least memory of a GPU: 80Gi",
                )

    # ---- services ---------------------------------------------------------------

    def _service(self, path: Path, service: Service) -> None:
        for index, text in enumerate(service.env or ()):
            name = text.partition("=")[0]
            if _VARIABLE.match(name) is None or name in (".", ".."):
                self._bad(
                    (*path, "env", index),
                    f"{shorten(name)!r} is no name of a variable",
                    "write NAME=value, without blanks in NAME",
                )
        for index, dependency in enumerate(service.dependencies):
            if dependency.service not in self.stack.services:
                self._bad(
                    (*path, "dependencies", index, "service"),
                    f"there is no service {shorten(dependency.service)!r}",
                    "name one of this file",
                )
        if service.credentials is not None:
            for key in ("host", "username", "password"):
                if not getattr(service.credentials, key).strip():
                    self._bad((*path, "credentials", key), "is blank", "fill it in")
        for index, expose in enumerate(service.expose or ()):
            self._expose((*path, "expose", index), expose)

    def _expose(self, path: Path, expose: Expose) -> None:
        cases = expose.http_options.next_cases
        if "off" in cases and len(cases) > 1:
            self._bad(
                (*path, "http_options", "next_cases"),
                "has off beside other cases",
                "write off alone, or leave it out",
            )
        for index, host in enumerate(expose.accept or ()):
            if _HOST.match(host) is None:
                self._bad(
                    (*path, "accept", index),
                    f"{shorten(host)!r} is no host name",
                    "write a name such as www.example.org, in small letters",
                )
        for index, to in enumerate(expose.to):
            place: Path = (*path, "to", index)
            if to.ip and not to.is_global:
                self._bad(
                    (*place, "ip"),
                    "stands without global: true",
                    "add global: true beside it",
                )
            if to.ip and to.ip not in self.endpoints:
                self._bad(
                    (*place, "ip"),
                    f"there is no endpoint {shorten(to.ip)!r}",
                    "define it under endpoints: with kind: ip",
                )
