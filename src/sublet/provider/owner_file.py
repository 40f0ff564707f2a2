"""What an owner writes into ``config.toml`` about strangers: ``[egress]``, ``[rules]``.

Not here: the other tables (``config``), what the words mean (``core.egress``, ``core.owner``).
"""

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, tzinfo
from functools import partial
from typing import Annotated, TypeVar
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from msgspec import Meta, Struct

from sublet.base import limits
from sublet.base.errors import Refused, SubletError
from sublet.base.ids import Address
from sublet.base.units import parse_duration, parse_size, spell_size
from sublet.core.egress import (
    Destination,
    EgressRules,
    check_network,
    parse_destination,
)
from sublet.core.image import DEFAULT_REGISTRIES, ImageRules, parse_registry
from sublet.core.owner.hours import parse_window, show_window
from sublet.core.owner.rules import Rules

T = TypeVar("T")
HTTPS_PORT = 443

Words = Annotated[tuple[str, ...], Meta(max_length=1_024)]


class EgressFile(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[egress]``: what jobs may reach, where they ask for it."""

    allow: Words = ()
    forbid: Words = ()
    local: Words = ()
    bytes: str = "100GiB"
    rate: str = "0B"
    connections: Annotated[int, Meta(ge=1, le=1_024)] = 64


class ImagesFile(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[images]``: what jobs may bring instead of this machine's system."""

    registries: Annotated[tuple[str, ...], Meta(max_length=8)] = DEFAULT_REGISTRIES
    hosts: Annotated[tuple[str, ...], Meta(max_length=64)] = ()
    own: bool = True
    size: str = "20GiB"
    shelf: str = "60GiB"


class RulesFile(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[rules]``: when the machine is on offer, and to whom not."""

    hours: Words = ()
    zone: Annotated[str, Meta(max_length=64)] = ""
    idle: str = "0s"
    load: Annotated[float, Meta(ge=0, le=1_024)] = 0
    gpu_alone: bool = False
    temperature: Annotated[int, Meta(ge=0, le=200)] = 0
    gpu_temperature: Annotated[int, Meta(ge=0, le=200)] = 0
    power: Annotated[int, Meta(ge=0, le=100_000)] = 0
    jobs: Annotated[int, Meta(ge=0, le=limits.LEASES_PER_MACHINE_MAX)] = 0
    block: Words = ()
    settle: str = "1m"
    input: Annotated[str, Meta(min_length=1, max_length=4_096)] = "/dev/input"


class Reader:
    """Reads one value after the other, and collects what is wrong with them."""

    def __init__(self, faults: list[SubletError]) -> None:
        """Take the list that faults go to."""
        self._faults = faults

    def all(self, words: Words, parse: Callable[[str], T]) -> tuple[T, ...]:
        """Read each word; those that are refused are left out."""
        found = []
        for text in words:
            try:
                found.append(parse(text))
            except Refused as fault:
                self._faults.append(fault)
        return tuple(found)

    def one(self, text: str, parse: Callable[[str], T], default: T) -> T:
        """Read one word."""
        return next(iter(self.all((text,), parse)), default)


def read_egress(file: EgressFile, faults: list[SubletError]) -> EgressRules:
    """Give the table its final shape; what is wrong goes into ``faults``. Pure."""
    reader = Reader(faults)

    def read_destination(field: str) -> Callable[[str], Destination]:
        return partial(parse_destination, field=field, is_owner=True)

    return EgressRules(
        allow=reader.all(file.allow, read_destination("egress.allow")),
        forbid=reader.all(file.forbid, read_destination("egress.forbid")),
        local=reader.all(file.local, partial(check_network, field="egress.local")),
        bytes_max=reader.one(file.bytes, partial(parse_size, field="egress.bytes"), 0),
        rate_bytes_s=reader.one(file.rate, partial(parse_size, field="egress.rate"), 0),
        connections_max=file.connections,
    )


def compose_egress(rules: EgressRules) -> str:
    """Write the table, with what its words mean."""

    def listed(values: tuple[object, ...]) -> str:
        return "[" + ", ".join(f'"{value}"' for value in values) + "]"

    return f"""\
[egress]  # what jobs may reach when they ask for it; nothing where allow is empty
allow = {listed(rules.allow)}  # "huggingface.co:443", "*.example.org:443", "*:443"
forbid = {listed(rules.forbid)}  # of these; it wins over allow
local = {listed(rules.local)}  # networks of yours that they may reach all the same
bytes = "{spell_size(rules.bytes_max)}"  # of one lease, both ways together
rate = "{spell_size(rules.rate_bytes_s)}"  # a second, of one lease; 0B for any
connections = {rules.connections_max}  # of one lease at one time
"""


def read_images(file: ImagesFile, faults: list[SubletError]) -> ImageRules:
    """Give the table its final shape; what is wrong goes into ``faults``. Pure."""
    reader = Reader(faults)
    registry = partial(parse_registry, field="images.registries")
    host = partial(parse_destination, field="images.hosts", port=HTTPS_PORT)
    return ImageRules(
        registries=reader.all(file.registries, registry),
        hosts=tuple(map(str, reader.all(file.hosts, host))),
        own=file.own,
        bytes_max=reader.one(file.size, partial(parse_size, field="images.size"), 0),
        shelf_bytes_max=reader.one(
            file.shelf, partial(parse_size, field="images.shelf"), 0
        ),
    )


def compose_images(rules: ImageRules) -> str:
    """Write the table, with what its words mean."""

    def listed(values: tuple[object, ...]) -> str:
        return "[" + ", ".join(f'"{value}"' for value in values) + "]"

    return f"""\
[images]  # what jobs may bring along instead of this machine's own system
registries = {listed(rules.registries)}  # that they may come from; "http://10.0.0.5:5000" by http
hosts = {listed(rules.hosts)}  # that these registries send downloads to, "cdn.example.org:443"
own = {str(rules.own).lower()}  # images that tenants send along with the job
size = "{spell_size(rules.bytes_max)}"  # of one at most, unpacked
shelf = "{spell_size(rules.shelf_bytes_max)}"  # that all images of registries may hold together
"""


def read_rules(file: RulesFile, faults: list[SubletError]) -> Rules:
    """Give the table its final shape; what is wrong goes into ``faults``."""
    reader = Reader(faults)
    span = reader.one
    if len(file.block) > limits.LIST_LENGTH_MAX:
        faults.append(
            Refused(
                f"rules.block: an offer names at most {limits.LIST_LENGTH_MAX} tenants",
                code="too_many_blocked",
                field="rules.block",
            )
        )
    return Rules(
        hours=reader.all(file.hours, partial(parse_window, field="rules.hours")),
        zone="" if reader.one(file.zone, find_zone, None) is None else file.zone,
        idle_s=span(file.idle, partial(parse_duration, field="rules.idle"), 0),
        load_milli=round(file.load * 1_000),
        gpu_alone=file.gpu_alone,
        temperature_c=file.temperature,
        gpu_temperature_c=file.gpu_temperature,
        power_w=file.power,
        leases_max=file.jobs,
        refuses=reader.all(file.block, _read_tenant)[: limits.LIST_LENGTH_MAX],
        settle_s=span(file.settle, partial(parse_duration, field="rules.settle"), 0),
        input=file.input,
    )


def find_zone(name: str) -> tzinfo:
    """Give a time zone by its name, or that of this machine for "".

    Raises:
        Refused: there is none of that name (``bad_zone``).
    """
    try:
        return ZoneInfo(name) if name else _LocalZone()
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise Refused(
            f"rules.zone: {name[:64]!r} is no time zone; write it like Europe/Berlin",
            code="bad_zone",
            field="rules.zone",
        ) from None


class _LocalZone(tzinfo):
    """The wall clock of this machine, changes of the clock included."""

    def utcoffset(self, at: datetime | None) -> timedelta | None:
        """As the system has it for that wall time."""
        return None if at is None else at.replace(tzinfo=None).astimezone().utcoffset()

    def dst(self, at: datetime | None) -> timedelta | None:
        """Unknown; nobody asks."""
        return None

    def tzname(self, at: datetime | None) -> str | None:
        """As the system has it."""
        return None if at is None else at.replace(tzinfo=None).astimezone().tzname()

    def fromutc(self, at: datetime) -> datetime:
        """The wall time of an instant."""
        stamp = at.replace(tzinfo=UTC)
        return stamp.astimezone().replace(tzinfo=self)


def _read_tenant(text: str) -> Address:
    if re.fullmatch("0x[0-9a-f]{40}", text.lower()) is None:
        raise Refused(
            f"rules.block: {text[:80]!r} is no address; write it like 0x and 40 digits",
            code="bad_address",
            field="rules.block",
        )
    return text.lower()


def compose_rules(rules: Rules) -> str:
    """Write the table, with what its words mean."""
    hours = ", ".join(f'"{show_window(window)}"' for window in rules.hours)
    block = ", ".join(f'"{tenant}"' for tenant in rules.refuses)
    return f"""\
[rules]  # when the machine is on offer; as they stand here, always
hours = [{hours}]  # such as "mon-fri 18:00-08:00", "sat,sun"; none for always
zone = "{rules.zone}"  # of the hours, such as "Europe/Berlin"; "" for this machine's
idle = "{rules.idle_s}s"  # nobody has touched the machine for so long; 0s: no matter
load = {rules.load_milli / 1_000}  # CPUs that others may be using; 0: no matter
gpu_alone = {str(rules.gpu_alone).lower()}  # nobody else computes on the GPUs
temperature = {rules.temperature_c}  # degrees Celsius at most; 0: no matter
gpu_temperature = {rules.gpu_temperature_c}  # of the GPUs
power = {rules.power_w}  # watts at most, CPUs and GPUs together; 0: no matter
jobs = {rules.leases_max}  # at most, at one time; 0 for as many as fit
block = [{block}]  # tenants that you do not work for, by address; your offer says so
settle = "{rules.settle_s}s"  # the rules hold for so long before it is on offer again
input = "{rules.input}"  # where keyboards and mice are
"""
