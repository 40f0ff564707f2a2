"""GET /v1/link: admits a provider to its control link and keeps it running."""

import secrets

from aiohttp import WSCloseCode, WSMsgType, web

from sublet.base.errors import SubletError, Unavailable
from sublet.core.book.live import find_calls
from sublet.node.link import DENIED_CLOSE, IN_USE_CLOSE, Link, make_socket, send
from sublet.node.state import Node
from sublet.node.view import open_leases_of_provider
from sublet.wire.codec import decode
from sublet.wire.message import Challenge, Hello, Welcome
from sublet.wire.request import Unauthorized

HELLO_S = 10  # for the hello to arrive
HELLO_BYTES_MAX = 2_048


async def get_link(node: Node, request: web.Request) -> web.StreamResponse:
    """Challenge, hello, welcome; then push until the link ends."""
    socket = make_socket()
    async with node.sockets.upgrade(request, socket):
        nonce = secrets.token_hex(16)
        try:
            await send(socket, Challenge(nonce=nonce, market=node.domain.market))
            hello = await _read_hello(node, socket, nonce=nonce)
        except (SubletError, TimeoutError) as error:
            why = error.code if isinstance(error, SubletError) else "too_slow"
            node.journal.info("link_refused", code=why)
            await socket.close(code=DENIED_CLOSE, message=why.encode())
        else:
            link = Link(hello.provider, socket, instance=hello.instance)
            code = await _admit(node, link)
            await socket.close(code=code, drain=False)
    return socket


async def _read_hello(
    node: Node, socket: web.WebSocketResponse, *, nonce: str
) -> Hello:
    frame = await socket.receive(timeout=HELLO_S)
    if frame.type is not WSMsgType.TEXT:
        raise Unavailable("the link broke before the hello", code="no_hello")
    hello = decode(frame.data.encode(), Hello, size_max=HELLO_BYTES_MAX)
    signer = node.door.admit(
        hello.authorization,
        method="GET",
        path=f"/v1/link?nonce={nonce}",
        body=b"",
        now_s=node.clock.now_s(),
    )
    if signer != hello.provider:
        raise Unauthorized(
            "the hello names another provider", code="forged_authorization"
        )
    return hello


async def _admit(node: Node, link: Link) -> int:
    """Keep the link; but of two processes with one key, the one that is there stays.

    A new link of the same process takes the place of its old one at once.
    """
    older = node.links.find(link.provider)
    if older is not None and older.instance != link.instance and await older.is_alive():
        node.journal.warning("link_refused", code="key_in_use", provider=link.provider)
        return IN_USE_CLOSE
    return await _keep(node, link)


async def _keep(node: Node, link: Link) -> int:
    provider = link.provider
    limits = node.config.limits
    node.links.put(link)
    node.watch.note_linked(provider)
    node.journal.info("link_up", provider=provider)
    try:
        await node.watch.reconcile()
        with (
            node.fanout.subscribe(provider) as changes,
            node.calls.subscribe(provider) as calls,
        ):
            # Read after listening began: nothing falls between. Nor is anything
            # old news that the provider heard from another node.
            await node.market.hear_others()
            leases = open_leases_of_provider(node, provider)
            book = node.market.book
            orders = tuple(find_calls(book, provider, now_s=book.now_s))
            await link.say(Welcome(leases=leases, ping_s=limits.ping_s, orders=orders))
            return await link.run(
                changes,
                calls,
                heard=lambda: node.watch.note_heard(provider),
                ping_s=limits.ping_s,
                silent_s=limits.lost_after_s,
            )
    except Unavailable:
        return WSCloseCode.GOING_AWAY  # during the welcome
    finally:
        if node.links.remove(link):
            if link.is_broken_off:
                node.watch.note_broken_off(provider)
            else:
                node.watch.note_unlinked(provider)
            node.journal.info("link_down", provider=provider)
