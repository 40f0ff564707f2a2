"""Whom a job may reach: destinations, an owner's rules about them, addresses. Pure.

A destination is ``NAME:PORT``: ``huggingface.co:443``, ``*.example.org:443`` (all names
below, not ``example.org`` itself), an address, ``[2001:db8::1]:22``. Owners may also
write ``*`` for any name and any port.

Not here: names and sockets (``adapter.egress_proxy``).
"""

import re
from collections.abc import Collection, Iterable, Sequence
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address, ip_network

from msgspec import Struct

from sublet.base import limits
from sublet.base.errors import Refused

ANY_PORT = 0
FEATURE = "egress"  # as offers and orders have it

_LABEL = r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"
_NAME = re.compile(rf"\A(?:\*\.)?{_LABEL}(?:\.{_LABEL})*\Z")
_NAME_LENGTH_MAX = 253
# Addresses that stand for IPv4 ones: what they lead to is what counts.
_NAT64 = IPv6Network("64:ff9b::/96")
# Where clouds keep a machine's secrets, beside what is not public anyway: Azure, Oracle.
_METADATA = ("168.63.129.16/32", "192.0.0.0/24")

Address = IPv4Address | IPv6Address


class Destination(Struct, frozen=True):
    """Where a connection may go."""

    host: str  # lower case; "*", "*.example.org", a name, an address
    port: int  # ANY_PORT for all

    def covers(self, other: "Destination") -> bool:
        """Say whether everything that the other one means is meant by this one, too."""
        if self.port not in (ANY_PORT, other.port):
            return False
        if self.host in ("*", other.host):
            return True
        return self.host.startswith("*.") and other.host.endswith(self.host[1:])

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port if self.port else '*'}"


class EgressRow(Struct, frozen=True, forbid_unknown_fields=True):
    """What went to one destination, and what came from there."""

    destination: str
    connections: int
    bytes_out: int
    bytes_in: int


class EgressTable(Struct, frozen=True, forbid_unknown_fields=True):
    """Whom a job reached. Only its tenant sees it; the receipt holds its digest."""

    salt: str  # 32 random hex digits: a short list of names could be guessed
    rows: tuple[EgressRow, ...]  # sorted by destination
    refused: int = 0  # connections that were not allowed


class EgressRules(Struct, frozen=True):
    """What an owner lets jobs reach, and how much."""

    allow: tuple[Destination, ...] = ()  # none: this machine offers no egress
    forbid: tuple[Destination, ...] = ()  # wins over ``allow``
    local: tuple[str, ...] = ()  # networks that are not public, and allowed
    bytes_max: int = 100 << 30  # of one lease, both ways together
    rate_bytes_s: int = 0  # of one lease, both ways together; 0 for any
    connections_max: int = 64  # of one lease at one time


def parse_destination(
    text: str, *, field: str, is_owner: bool = False, port: int | None = None
) -> Destination:
    """Read ``NAME:PORT``.

    Args:
        text: as written.
        field: what to name in a refusal.
        is_owner: ``*`` may stand for any name and any port.
        port: where none is written; None refuses that.

    Raises:
        Refused: it is no destination (``bad_destination``).

    >>> str(parse_destination("*.Example.org:443", field="--egress"))
    '*.example.org:443'
    """

    def refuse(why: str) -> Refused:
        return Refused(
            f"{field}: {text[:80]!r} {why}; write it like huggingface.co:443 or "
            "*.example.org:443",
            code="bad_destination",
            field=field,
        )

    host, port_text = _split(text.strip().lower())
    if not port_text and port is not None:
        number = port
    elif port_text == "*" and is_owner:
        number = ANY_PORT
    elif re.fullmatch("[0-9]{1,5}", port_text) and 0 < int(port_text) < 1 << 16:
        number = int(port_text)
    else:
        raise refuse("names no port")
    if host == "*" and is_owner:
        return Destination(host, number)
    if address := _find_address(host):
        return Destination(str(address), number)
    host = host.removesuffix(".")
    if len(host) > _NAME_LENGTH_MAX or _NAME.match(host) is None or _is_numeric(host):
        raise refuse("names no host")
    return Destination(host, number)


def _split(text: str) -> tuple[str, str]:
    if text.startswith("["):
        host, _, rest = text[1:].partition("]")
        return host, rest.removeprefix(":")
    host, _, port = text.rpartition(":")
    return (host, port) if host else (text, "")


def _find_address(host: str) -> Address | None:
    try:
        return ip_address(host)
    except ValueError:
        return None


def _is_numeric(host: str) -> bool:
    """``127.1``, ``0x7f000001``: addresses to some resolvers, names to nobody."""
    last = host.rpartition(".")[2]
    return last.isdigit() or last.startswith("0x")


def check_destinations(
    texts: Sequence[str], *, field: str = "egress"
) -> tuple[Destination, ...]:
    """Read a tenant's destinations.

    Raises:
        Refused: one is none, or there are too many.
    """
    if len(texts) > limits.EGRESS_DESTINATIONS_MAX:
        raise Refused(
            f"{field}: at most {limits.EGRESS_DESTINATIONS_MAX} destinations",
            code="too_many_destinations",
            field=field,
        )
    found = (parse_destination(text, field=field) for text in texts)
    return tuple(dict.fromkeys(found))


def check_allowed(
    wanted: Iterable[Destination], rules: EgressRules, *, own: Collection[str]
) -> None:
    """Check destinations against an owner's rules, before any name is resolved.

    Args:
        wanted: by a tenant.
        rules: the owner's.
        own: networks of this very machine, as ``find_address_fault`` takes them.

    Raises:
        Refused: the first one that is not allowed, by name (``egress_forbidden``).
    """
    for one in wanted:
        if why := find_fault(one, rules) or _find_literal_fault(one, rules, own):
            raise Refused(
                f"manifest.egress: {one} {why}; leave it out, or run elsewhere",
                code="egress_forbidden",
                field="manifest.egress",
                detail={"destination": str(one)},
            )


def find_fault(wanted: Destination, rules: EgressRules) -> str:
    """Say why an owner does not let anybody go there, or ""."""
    if any(one.covers(wanted) for one in rules.forbid):
        return "is forbidden by this machine's owner"
    if not any(one.covers(wanted) for one in rules.allow):
        return "is not among what this machine's owner allows"
    return ""


def _find_literal_fault(
    wanted: Destination, rules: EgressRules, own: Collection[str]
) -> str:
    if _find_address(wanted.host) is None:
        return ""
    return find_address_fault(wanted.host, local=rules.local, own=own)


def find_address_fault(
    text: str, *, local: Collection[str], own: Collection[str]
) -> str:
    """Say why nobody may be sent to this address, or "".

    Args:
        text: an address.
        local: networks that the owner has named: they may be reached.
        own: networks that the machine itself is in, and its own addresses.

    >>> find_address_fault("169.254.169.254", local=(), own=())
    'is an address that is not public'
    >>> find_address_fault("10.1.2.3", local=("10.0.0.0/8",), own=())
    ''
    """
    address = ip_address(text.partition("%")[0])
    for seen in _see_through(address):
        if any(_is_in(seen, network) for network in local):
            continue
        if not seen.is_global or seen.is_multicast or seen.is_reserved:
            return "is an address that is not public"
        if any(_is_in(seen, network) for network in _METADATA):
            return "is an address at which a cloud keeps this machine's secrets"
        if any(_is_in(seen, network) for network in own):
            return "is an address of this machine's own network"
    return ""


def _see_through(address: Address) -> tuple[Address, ...]:
    """The address, or the IPv4 address for which it stands and which it leads to."""
    if isinstance(address, IPv4Address):
        return (address,)
    if address.ipv4_mapped is not None:
        return (address.ipv4_mapped,)
    if address.sixtofour is not None:
        return (address, address.sixtofour)
    if address in _NAT64:
        return (IPv4Address(int(address) & 0xFFFF_FFFF),)
    if int(address) >> 32 == 0:  # ::a.b.c.d, long deprecated
        return (address, IPv4Address(int(address) & 0xFFFF_FFFF))
    return (address,)


def _is_in(address: Address, network: str) -> bool:
    return address in ip_network(network, strict=False)


def check_network(text: str, *, field: str) -> str:
    """Read a network or one address, as an owner names it.

    Raises:
        Refused: it is neither (``bad_network``).
    """
    try:
        return str(ip_network(text.strip(), strict=False))
    except ValueError:
        raise Refused(
            f"{field}: {text[:80]!r} is no network; write it like 192.168.1.20 or "
            "10.0.0.0/8",
            code="bad_network",
            field=field,
        ) from None
