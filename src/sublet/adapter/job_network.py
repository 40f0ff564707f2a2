"""The network of a running sandbox, entered from outside: one socket at a time.

A job's ports are open on its own loopback only, and nobody else's packets reach that.
But a socket belongs to the network in which it was made, for ever, whoever holds it:
so a short-lived thread enters, makes one, and ends. The rest of this process never
leaves its own network.
"""

import asyncio
import ctypes
import errno
import os
import socket
import threading
from pathlib import Path

from sublet.adapter import cgroup
from sublet.base.errors import Refused, Unavailable

CONNECT_S = 10
_CLONE_NEWNET = 0x40000000
_LOOPBACKS = ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1"))


def open_network(group: cgroup.Group) -> int:
    """Open the network of a sandbox, as a descriptor for ``setns``.

    bubblewrap's own outer process is of the group too, and lives in the network of
    this machine: that one is never given.

    Raises:
        Refused: nothing runs there, or it has no network of its own.
    """
    own = Path("/proc/self/ns/net").stat()
    for pid in cgroup.read_pids(group):
        try:
            handle = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            continue  # it has just ended
        # Looked up once more: its number may have gone to a stranger in between.
        is_ours = os.fstat(handle).st_ino != own.st_ino
        if is_ours and pid in cgroup.read_pids(group):
            return handle
        os.close(handle)
    raise Refused(
        "nothing runs in this sandbox, or it has no network of its own",
        code="not_running",
    )


async def connect_inside(network: int, *, port: int) -> socket.socket:
    """Connect to a port on the loopback of a network.

    Raises:
        Refused: nothing listens there.
        Unavailable: this process may not enter networks: it is not root.
    """
    for family, host in _LOOPBACKS:
        made = await asyncio.to_thread(_make_socket, network, family)
        try:
            made.setblocking(False)
            async with asyncio.timeout(CONNECT_S):
                loop = asyncio.get_running_loop()
                await loop.sock_connect(made, (host, port))
        except (OSError, TimeoutError):
            made.close()
        except BaseException:
            made.close()
            raise
        else:
            return made
    raise Refused(
        f"nothing listens on port {port} of the job; a server inside must listen on "
        "127.0.0.1 or on all addresses",
        code="port_closed",
    )


def _make_socket(network: int, family: socket.AddressFamily) -> socket.socket:
    """Make a socket inside; the thread that went there does not come back."""
    made: list[socket.socket] = []
    trouble: list[int] = []

    def enter() -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.setns(network, _CLONE_NEWNET):
            trouble.append(ctypes.get_errno())
            return
        try:
            made.append(socket.socket(family, socket.SOCK_STREAM))
        except OSError as exc:
            trouble.append(exc.errno or errno.EIO)

    thread = threading.Thread(target=enter, name="sublet-setns")
    thread.start()
    thread.join()
    if made:
        return made[0]
    raise Unavailable(
        f"cannot enter the job's network: {os.strerror(trouble[0])}; ports can be "
        "forwarded only by a provider that runs as root",
        code="no_port_forwarding",
    )
