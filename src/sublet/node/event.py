"""The changes of one lease, told to its tenant or provider over a WebSocket."""

from aiohttp import WSCloseCode, WSMsgType, web

from sublet.core.lease.phase import Lease, Phase
from sublet.node.fanout import FellBehind, Subscription
from sublet.node.intake import read_caller, read_lease_id
from sublet.node.link import BEHIND_CLOSE
from sublet.node.race import race
from sublet.node.state import Node
from sublet.node.view import read_lease_of
from sublet.wire.codec import encode

WAITING_MAX = 64  # changes of one lease that a listener may be behind
FRAME_BYTES_MAX = 1_024  # of what a listener says: nothing is foreseen
HEARTBEAT_S = 20


async def get_lease_events(node: Node, request: web.Request) -> web.StreamResponse:
    """Tell the lease as it is, then again after each change, until it is settled."""
    caller = await read_caller(node, request)
    lease_id = read_lease_id(request)
    socket = web.WebSocketResponse(
        compress=False, heartbeat=HEARTBEAT_S, max_msg_size=FRAME_BYTES_MAX
    )
    with node.fanout.subscribe(lease_id, waiting_max=WAITING_MAX) as changes:
        # Read after listening began: nothing falls between.
        lease = await read_lease_of(node, lease_id, party=caller)
        async with node.sockets.upgrade(request, socket):
            code: int = WSCloseCode.OK
            try:
                await race(_tell(socket, lease, changes), _wait_closed(socket))
            except FellBehind:
                code = BEHIND_CLOSE
            except ConnectionError:
                code = WSCloseCode.GOING_AWAY
            await socket.close(code=code)
    return socket


async def _tell(
    socket: web.WebSocketResponse, lease: Lease, changes: Subscription[Lease]
) -> None:
    await socket.send_str(encode(lease).decode())
    while lease.phase is not Phase.SETTLED:
        lease = await changes.wait_change()
        await socket.send_str(encode(lease).decode())


async def _wait_closed(socket: web.WebSocketResponse) -> None:
    while (await socket.receive()).type in (WSMsgType.TEXT, WSMsgType.BINARY):
        pass  # what a listener says is not listened to
