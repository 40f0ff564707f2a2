"""What must fit together across an SDL file. Pure; every fault with its cure.

Not here: what each part must be by itself (``sdl_check``).
"""

from collections.abc import Iterator

from sublet.workload.deploy.fault import Findings, Path, shorten
from sublet.workload.deploy.sdl_type import (
    TRUE,
    Compute,
    Expose,
    Service,
    Stack,
    Volume,
    volumes_of,
)

Deployed = tuple[str, str, Service]  # its name, the placement, the service


def check_links(stack: Stack, found: Findings) -> None:
    """Enter everything that does not fit together into ``found``."""
    links = _Links(stack, found)
    links.check_deployment()
    links.check_exposure()
    links.check_tee()


class _Links:
    def __init__(self, stack: Stack, found: Findings) -> None:
        self.stack = stack
        self.found = found
        self.endpoints = stack.endpoints or {}

    def _bad(self, path: Path, problem: str, cure: str) -> None:
        self.found.add(path, problem, cure, code="bad_value")

    def deployed(self) -> Iterator[Deployed]:
        """Give each service with each placement that it goes to."""
        for name in sorted(self.stack.deployment):
            if service := self.stack.services.get(name):
                for placement in sorted(self.stack.deployment[name]):
                    yield name, placement, service

    def check_deployment(self) -> None:
        profiles = self.stack.profiles
        denoms: set[str] = set()
        for name, placements in self.stack.deployment.items():
            path: Path = ("deployment", name)
            if name not in self.stack.services:
                self._bad(path, "is no service", "name one that is under services:")
            for placement, placed in placements.items():
                place: Path = (*path, placement)
                if placement not in profiles.placement:
                    self._bad(
                        place,
                        "is no placement profile",
                        "define it under profiles: placement:",
                    )
                compute = profiles.compute.get(placed.profile)
                if compute is None:
                    self._bad(
                        (*place, "profile"),
                        f"there is no compute profile {shorten(placed.profile)!r}",
                        "define it under profiles: compute:",
                    )
                    continue
                if placement in profiles.placement:
                    self._price(placement, placed.profile, denoms)
                if service := self.stack.services.get(name):
                    self._mounts(("services", name), service, compute)

    def _price(self, placement: str, profile: str, denoms: set[str]) -> None:
        path: Path = ("profiles", "placement", placement, "pricing", profile)
        price = self.stack.profiles.placement[placement].pricing.get(profile)
        if price is None:
            self.found.add(
                path,
                "is missing: no price for that compute profile",
                "add it with denom: and amount:",
                code="missing_key",
            )
            return
        denoms.add(price.denom)
        if len(denoms) > 1:
            self._bad(
                (*path, "denom"),
                "is another one than that of the rest",
                "pay for all of them with the same denom",
            )

    def _mounts(self, path: Path, service: Service, compute: Compute) -> None:
        volumes = {volume.name or "default": volume for volume in volumes_of(compute)}
        if isinstance(compute.resources.storage, Volume):
            volumes = {"default": compute.resources.storage}
        path = (*path, "params", "storage")
        params = (service.params.storage if service.params else None) or {}
        taken: dict[str, str] = {}
        for name, params_of in params.items():
            volume = volumes.get(name)
            if volume is None:
                self._bad(
                    (*path, name),
                    "is no volume of the compute profile",
                    f"name one of: {', '.join(map(shorten, volumes)) or 'none'}",
                )
            if not params_of.mount:
                self.found.add(
                    (*path, name, "mount"),
                    "is missing",
                    "write an absolute path: /data",
                    code="missing_key",
                )
            elif params_of.mount in taken:
                self._bad(
                    (*path, name, "mount"),
                    f"is that of {shorten(taken[params_of.mount])} too",
                    "mount each volume at a place of its own",
                )
            taken[params_of.mount] = name
            kind = volume.attributes if volume else None
            if params_of.read_only and kind and kind.storage_class == "ram":
                self._bad(
                    (*path, name, "readOnly"),
                    "is true of memory that is empty at first",
                    "remove readOnly",
                )
        self._need_mount(path, params=bool(params), volumes=volumes)

    def _need_mount(
        self, path: Path, *, params: bool, volumes: dict[str, Volume]
    ) -> None:
        """2.0 asks for a mount beside a persistent volume; any one contents it."""
        if params or self.stack.version != "2.0":
            return
        for name, volume in volumes.items():
            kind = volume.attributes
            if kind is not None and kind.persistent in TRUE:
                self.found.add(
                    (*path, name, "mount"),
                    "is missing: that volume is persistent",
                    "say where the service finds it: mount: /data",
                    code="missing_key",
                )

    # ---- what the world sees ----------------------------------------------------

    def check_exposure(self) -> None:
        is_global = False
        hosts: dict[str, str] = {}
        ports: dict[tuple[str, int, str], str] = {}
        used: set[str] = set()
        for name, _, service in self.deployed():
            for index, expose in enumerate(service.expose or ()):
                path: Path = ("services", name, "expose", index)
                for _ in expose.to or (None,):
                    self._hosts((*path, "accept"), expose, hosts, name)
                for at, to in enumerate(expose.to):
                    is_global = is_global or to.is_global
                    if not to.ip:
                        continue
                    used.add(to.ip)
                    number = expose.external_port or expose.port
                    key = (to.ip, number, expose.proto.upper())
                    if key in ports:
                        self._bad(
                            (*path, "to", at, "ip"),
                            f"port {number} of that address is {ports[key]}'s already",
                            "take another port or another endpoint",
                        )
                    ports[key] = name
        for name in self.endpoints:
            if name not in used:
                self._bad(
                    ("endpoints", name),
                    "is never used",
                    "name it under to: - global: true, ip:, or remove it",
                )
        faulty = map(self.found.is_faulty_below, (("services",), ("deployment",)))
        if not is_global and not any(faulty):
            self._bad(
                ("services",),
                "no port of any service is open to the world",
                "add expose: - port: N, to: - global: true to one of them",
            )

    def _hosts(
        self, path: Path, expose: Expose, hosts: dict[str, str], name: str
    ) -> None:
        for index, host in enumerate(expose.accept or ()):
            if host in hosts:
                self._bad(
                    (*path, index),
                    f"{shorten(host)} leads to {hosts[host]} already",
                    "let each host name lead to one port",
                )
            hosts[host] = name

    def check_tee(self) -> None:
        kinds: dict[str, str] = {}
        for name, placement, service in self.deployed():
            kind = service.params.tee if service.params else None
            if kind is None:
                continue
            path: Path = ("services", name, "params", "tee")
            profile = self.stack.deployment[name][placement].profile
            compute = self.stack.profiles.compute.get(profile)
            gpu = compute.resources.gpu if compute else None
            if kind == "cpu-gpu" and compute and not (gpu and gpu.units):
                self._bad(
                    path,
                    "is cpu-gpu, and the compute profile has no GPU",
                    "add a gpu, or write tee: cpu",
                )
            if kinds.setdefault(placement, kind) != kind:
                self._bad(
                    path,
                    f"is another one than the rest of {shorten(placement)} has",
                    "use one kind in a placement",
                )
