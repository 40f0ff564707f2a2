"""What an owner writes into ``config.toml`` about strangers: the table ``[egress]``.

Not here: the other tables (``config``), what the words mean (``core.egress``).
"""

from collections.abc import Callable
from functools import partial
from typing import Annotated, TypeVar

from msgspec import Meta, Struct

from sublet.base.errors import Refused, SubletError
from sublet.base.units import parse_size
from sublet.core.egress import (
    Destination,
    EgressRules,
    check_network,
    parse_destination,
)

T = TypeVar("T")

Words = Annotated[tuple[str, ...], Meta(max_length=1_024)]


class EgressFile(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[egress]``: what jobs may reach, where they ask for it."""

    allow: Words = ()
    forbid: Words = ()
    local: Words = ()
    bytes: str = "100GB"
    rate: str = "0B"
    connections: Annotated[int, Meta(ge=1, le=1_024)] = 64


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
bytes = "{rules.bytes_max}B"  # of one lease, both ways together
rate = "{rules.rate_bytes_s}B"  # a second, of one lease; 0B for any
connections = {rules.connections_max}  # of one lease at one time
"""
