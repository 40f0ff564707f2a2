"""The networks that this machine is in, and its own addresses, as the kernel has them.

Read anew each time: laptops move. What cannot be read is left out: addresses that are
not public are nobody's business anyway, this is about those that are.
"""

import socket
import struct
from ipaddress import IPv6Address
from itertools import pairwise
from pathlib import Path

_PROC = Path("/proc/net")


def find_own_networks(proc: Path = _PROC) -> tuple[str, ...]:
    """List them, such as ``203.0.113.0/24`` and ``2001:db8::/64``."""
    found = [
        *_read_routes(_read(proc / "route")),
        *_read_local(_read(proc / "fib_trie")),
        *_read_six(_read(proc / "if_inet6")),
    ]
    return tuple(dict.fromkeys(found))


def _read(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return []


def _read_routes(lines: list[str]) -> list[str]:
    """Take the routes without a gateway: who is reached directly is a neighbour."""
    found = []
    for line in lines[1:]:
        words = line.split()
        if len(words) > 7 and words[2] == "00000000" and words[7] != "00000000":
            network, mask = (
                socket.inet_ntoa(struct.pack("=I", int(words[place], 16)))
                for place in (1, 7)
            )
            found.append(f"{network}/{mask}")
    return found


def _read_local(lines: list[str]) -> list[str]:
    """Take the addresses that the kernel calls local."""
    found = []
    for before, line in pairwise(lines):
        if "host LOCAL" in line and "-- " in before:
            found.append(f"{before.partition('-- ')[2].strip()}/32")
    return found


def _read_six(lines: list[str]) -> list[str]:
    found = []
    for line in lines:
        words = line.split()
        if len(words) > 2:
            address = IPv6Address(int(words[0], 16))
            found.append(f"{address}/{int(words[2], 16)}")
    return found
