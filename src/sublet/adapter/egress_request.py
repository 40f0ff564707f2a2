"""What a client of the egress proxy asks for, in three languages. Pure.

- ``CONNECT name:port`` (HTTP): any bytes to any allowed port;
- ``GET http://name/path``: one plain HTTP request, for tools such as apt. It is written
  anew, with the host of its own address, and it is the only one on its connection: what
  follows could be for somebody else who lives at the same address;
- SOCKS5 with a name or an address, for tools that know no HTTP.
"""

import re
import struct
from ipaddress import ip_address

from msgspec import Struct

from sublet.base.errors import Refused
from sublet.core.egress import Destination, parse_destination

HEADER_BYTES_MAX = 16_384
SOCKS_VERSION = 5
SOCKS_GREETED = b"\x05\x00"  # no authentication: whoever holds the socket may ask
SOCKS_UNWILLING = b"\x05\xff"
SOCKS_ADDRESS_BYTES = {1: 4, 4: 16}  # IPv4, IPv6; 3 is a name behind its length
SOCKS_NAME = 3

_REQUEST = re.compile(rb"\A([A-Z]{1,20}) (\S{1,8000}) HTTP/1\.[01]\r\n")
_HTTP = re.compile(r"\Ahttp://([^/?#@\s]{1,300})([/?][^#\s]*)?\Z")
_HEADER = re.compile(rb"\A[!#$%&'*+.^_`|~0-9A-Za-z-]+:[^\r\n\0]*\Z")
_HOP_BY_HOP = frozenset(
    {b"connection", b"proxy-connection", b"proxy-authorization", b"keep-alive"}
    | {b"te", b"trailer", b"upgrade", b"host"}
)
_SOCKS_CODES = {"403": 2, "502": 4, "405": 7}


class Denied(Exception):
    """What to answer a client instead of a connection."""

    def __init__(self, status: str, reason: str) -> None:
        """Take the HTTP status and a reason for people."""
        super().__init__(reason)
        self.status = status
        self.reason = reason

    def http(self) -> bytes:
        """Write it as an HTTP answer."""
        body = f"sublet: {self.reason}\n".encode()
        head = f"HTTP/1.1 {self.status}\r\nContent-Type: text/plain\r\n"
        return head.encode() + f"Content-Length: {len(body)}\r\n\r\n".encode() + body

    def socks(self) -> bytes:
        """Write it as a SOCKS answer."""
        return write_socks_answer(_SOCKS_CODES.get(self.status[:3], 1))


class Ask(Struct, frozen=True):
    """One connection that a client wants."""

    target: Destination
    head: bytes = b""  # to be sent there first: a plain request, written anew
    body_bytes: int = -1  # what may follow from the client; -1: anything


def parse_http(header: bytes) -> Ask:
    """Read a request's head, up to and with its empty line.

    Raises:
        Denied: no proxy request, or one that is not served.
    """
    match = _REQUEST.match(header)
    if match is None:
        raise Denied("405 Method Not Allowed", "no request that a proxy knows")
    method, target = match.group(1), match.group(2).decode("latin-1")
    if method == b"CONNECT":
        return Ask(_parse_target(target, port=None))
    url = _HTTP.match(target)
    if url is None:
        raise Denied("405 Method Not Allowed", "neither CONNECT nor a http:// address")
    destination = _parse_target(url.group(1), port=80)
    lines = header[match.end() : -4].split(b"\r\n")
    if any(_HEADER.match(line) is None for line in lines if line):
        raise Denied("400 Bad Request", "a header that is none")
    host = url.group(1).encode()
    path = (url.group(2) or "/").encode("latin-1")
    kept = [b"%s %s HTTP/1.1" % (method, path if path[:1] == b"/" else b"/" + path)]
    kept += [b"Host: " + host]
    kept += [line for line in lines if line and _name_of(line) not in _HOP_BY_HOP]
    head = b"\r\n".join([*kept, b"Connection: close", b"", b""])
    return Ask(destination, head, _find_body_bytes(lines))


def _parse_target(text: str, *, port: int | None) -> Destination:
    try:
        found = parse_destination(text, field="egress", port=port)
    except Refused as fault:
        raise Denied("403 Forbidden", fault.message) from None
    if "*" in found.host:
        raise Denied("403 Forbidden", f"{found} is no name")
    return found


def _name_of(line: bytes) -> bytes:
    return line.partition(b":")[0].strip().lower()


def _find_body_bytes(lines: list[bytes]) -> int:
    found = {
        line.partition(b":")[2].strip()
        for line in lines
        if _name_of(line) == b"content-length"
    }
    if any(_name_of(line) == b"transfer-encoding" for line in lines):
        raise Denied("411 Length Required", "a plain request of unknown length")
    if not found:
        return 0
    size = found.pop()
    if found or re.fullmatch(b"[0-9]{1,18}", size) is None:
        raise Denied("400 Bad Request", "a length that is none")
    return int(size)


def parse_socks(request: bytes) -> Ask:
    """Read a whole SOCKS5 request, with its address and port.

    Raises:
        Denied: another command than CONNECT, or a name that is none.
    """
    if request[:3] != b"\x05\x01\x00":
        raise Denied("405 Method Not Allowed", "a SOCKS command other than CONNECT")
    (port,) = struct.unpack(">H", request[-2:])
    host = request[4:-2]
    is_name = request[3] == SOCKS_NAME
    name = host[1:].decode("latin-1") if is_name else str(ip_address(host))
    return Ask(_parse_target(f"[{name}]:{port}", port=None))


def write_socks_answer(code: int) -> bytes:
    """Write the answer to a SOCKS5 request; 0 for success."""
    return bytes([SOCKS_VERSION, code, 0, 1, 0, 0, 0, 0, 0, 0])
