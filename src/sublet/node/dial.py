"""The two ends of a relayed connection: the tenant dials, the provider joins."""

from aiohttp import web

from sublet.base.errors import Unavailable
from sublet.core.lease.phase import Lease, Phase
from sublet.node.intake import read_caller, read_lease_id
from sublet.node.refusal import Conflict, Forbidden
from sublet.node.relay import Session, make_end, splice, wait_joined
from sublet.node.state import Node
from sublet.node.view import read_lease_of
from sublet.wire.message import Dial

SETTLED_DIAL_S = 600  # after the settlement, so that outputs can still be fetched
OPEN_FRAME = '{"type":"open"}'


async def get_lease_dial(node: Node, request: web.Request) -> web.StreamResponse:
    """Connect a tenant to its provider; every refusal comes before the upgrade."""
    caller = await read_caller(node, request)
    lease = await read_lease_of(node, read_lease_id(request), party=caller)
    _check_dial(lease, caller=caller, now_s=node.clock.now_s())
    limits = node.config.limits
    tenant = make_end()
    with node.relay.open(lease_id=lease.id, provider=lease.provider) as session:
        provider = await _call_back(node, session)
        async with node.sockets.upgrade(request, tenant):
            with node.metrics.relays.track_inprogress():
                await tenant.send_str(OPEN_FRAME)
                await splice(
                    tenant,
                    provider,
                    idle_s=limits.relay_idle_s,
                    count=node.metrics.relay_bytes.inc,
                )
    return tenant


async def _call_back(node: Node, session: Session) -> web.WebSocketResponse:
    link = node.links.find(session.provider)
    if link is None:
        raise Unavailable(
            "the provider is not connected just now; try again",
            code="provider_unreachable",
            retry_after_s=3,
        )
    await link.say(Dial(session=session.id, lease_id=session.lease_id))
    return await wait_joined(session, timeout_s=node.config.limits.relay_join_s)


async def get_relay(node: Node, request: web.Request) -> web.StreamResponse:
    """Join a session as its provider; returns when the splice has ended."""
    caller = await read_caller(node, request)
    session = node.relay.take(request.match_info["session"], provider=caller)
    socket = make_end()
    async with node.sockets.upgrade(request, socket):
        if not session.joined.done():
            session.joined.set_result(socket)
            await session.ended.wait()
        await socket.close()
    return socket


def _check_dial(lease: Lease, *, caller: str, now_s: int) -> None:
    if caller not in (lease.tenant, lease.authorizer):
        raise Forbidden(
            "only the lease's tenant or delegate dials its provider", code="not_yours"
        )
    is_over = lease.phase is Phase.SETTLED and now_s > lease.ended_at_s + SETTLED_DIAL_S
    if is_over:
        raise Conflict(
            f"lease {lease.id} ended more than {SETTLED_DIAL_S} s ago; the provider "
            "has removed its files",
            code="lease_over",
        )
