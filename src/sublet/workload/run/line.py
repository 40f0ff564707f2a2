"""A line to the provider of a lease: straight where that works, else by the relay."""

from msgspec import Struct

from sublet.base.errors import PeerFault, Unavailable
from sublet.core.lease.phase import Lease
from sublet.sdk.connection import Connection
from sublet.sdk.job_channel import ClientKey, JobChannel, find_direct
from sublet.sdk.tunnel import Tunnel


class Line(Struct, frozen=True):
    """An open connection, and what carries it."""

    channel: JobChannel
    tunnel: Tunnel | None  # none where the provider was reached directly

    async def close(self) -> None:
        """Close both; what was said before is sent. Twice is harmless."""
        await self.channel.close()
        if self.tunnel is not None:
            await self.tunnel.close()


async def open_line(connection: Connection, *, lease: Lease, key: ClientKey) -> Line:
    """Reach the provider of a lease.

    Raises:
        Unavailable: it cannot be reached just now.
        Refused: the market does not connect to this lease any more.
        PeerFault: whoever answers is somebody else, or does not admit this key.
    """
    if lease.endpoint and (channel := await _reach_directly(lease, key)):
        return Line(channel, None)
    tunnel = await connection.dial(lease.id)
    try:
        channel = await JobChannel.connect(tunnel.socket, lease=lease, key=key)
    except BaseException:
        await tunnel.close()
        raise
    return Line(channel, tunnel)


async def _reach_directly(lease: Lease, key: ClientKey) -> JobChannel | None:
    """Try the address that the offer names; whoever else answers there is left."""
    sock = await find_direct(lease.endpoint)
    if sock is None:
        return None
    try:
        return await JobChannel.connect(sock, lease=lease, key=key)
    except (Unavailable, PeerFault):
        sock.close()
        return None
