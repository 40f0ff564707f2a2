"""A node from start to end: open, listen, watch, and go down in order.

Cancelling ``serve`` is how it is told to stop: no new connections, what is in flight
is finished and answered, the book is sealed, the log is closed; within ten seconds.
"""

import ssl
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import ip_address

from aiohttp import web

from sublet.adapter.clock_system import SystemClock
from sublet.base.errors import Refused
from sublet.base.ids import Address, Digest
from sublet.core.book.live import find_takers
from sublet.core.book.open_order import OpenOrder
from sublet.core.lease.phase import Lease
from sublet.node.app import make_app
from sublet.node.compose import make_tls, open_node
from sublet.node.config import NodeConfig, is_local
from sublet.node.quicken import quicken
from sublet.node.race import race
from sublet.node.state import Node
from sublet.service.ports import Clock

SHUTDOWN_S = 3  # for requests in flight to be answered
LINGER_S = 5  # for the rest of a body that was refused, so that the refusal is read
BACKLOG = 1_024  # connections that the kernel may hold for us
HEAD_BYTES_MAX = 4_096  # of a request's first line, and of one header
HEADERS_MAX = 64


@dataclass(frozen=True, slots=True)
class Running:
    """A node that serves."""

    url: str
    market: Digest
    operator: Address


async def serve(
    config: NodeConfig,
    *,
    clock: Clock | None = None,
    ready: Callable[[Running], None] | None = None,
) -> None:
    """Run a node until cancelled; ``ready`` is called once it answers.

    The clock is this machine's, where none is given.

    Raises:
        Refused: it cannot start like this: no keys, the address is taken.
        Broken: an invariant fell; the process must end.
    """
    tls = make_tls(config)
    async with open_node(config, clock=clock or SystemClock()) as node:
        runner = _make_runner(node)
        await runner.setup()
        remove_listeners = (
            node.market.listen(_publish_in(node)),
            node.market.listen_orders(_call_in(node)),
        )
        try:
            port = await _listen(runner, config, tls=tls)
            scheme = "https" if tls is not None else "http"
            host = f"[{config.host}]" if ":" in config.host else config.host
            running = Running(
                url=f"{scheme}://{host}:{port}",
                market=node.domain.market,
                operator=node.market.book.operator,
            )
            _report(node, running)
            if ready is not None:
                ready(running)
            await race(
                node.watch.run(),
                quicken(lambda: node.market.book, journal=node.journal),
                node.cosigning.run(),
                node.controllers.run(await _open_own_door(runner, running.url, config)),
                *([node.mirroring.run()] if node.mirroring is not None else []),
                *([node.maker.run()] if node.maker is not None else []),
                node.market.wait_stopped(),
            )
        finally:
            for remove in remove_listeners:
                remove()
            await runner.cleanup()


async def _open_own_door(runner: web.AppRunner, url: str, config: NodeConfig) -> str:
    """Give the address under which this node's pilots reach it.

    Where there is TLS, that is a door of its own at this machine's loopback: the
    certificate is for the name by which others know the node, and perhaps of an
    authority that this machine does not know.
    """
    if config.tls_cert is None:
        return _own_url(url, config)
    await web.TCPSite(runner, "127.0.0.1", 0, backlog=BACKLOG).start()
    return f"http://127.0.0.1:{runner.addresses[-1][1]}"


def _own_url(url: str, config: NodeConfig) -> str:
    """Give the address under which this node reaches itself."""
    try:
        is_everywhere = ip_address(config.host).is_unspecified
    except ValueError:  # a name
        is_everywhere = False
    if not is_everywhere:
        return url
    scheme, port = url.partition(":")[0], url.rpartition(":")[2]
    return f"{scheme}://{'[::1]' if ':' in config.host else '127.0.0.1'}:{port}"


def _publish_in(node: Node) -> Callable[[Lease], None]:
    def publish(lease: Lease) -> None:
        dropped = node.fanout.publish(lease, (lease.id, lease.provider))
        if dropped:
            node.metrics.dropped.inc(dropped)

    return publish


def _call_in(node: Node) -> Callable[[OpenOrder], None]:
    def call(order: OpenOrder) -> None:
        now_s = node.market.book.now_s
        takers = find_takers(node.market.book, order.order, now_s=now_s)
        dropped = node.calls.publish(order, takers)
        if dropped:
            node.metrics.dropped.inc(dropped)

    return call


def _make_runner(node: Node) -> web.AppRunner:
    return web.AppRunner(
        make_app(node),
        access_log=None,
        # A head that does not arrive in this time costs its sender the connection.
        keepalive_timeout=node.config.limits.keepalive_s,
        lingering_time=LINGER_S,
        shutdown_timeout=SHUTDOWN_S,
        max_line_size=HEAD_BYTES_MAX,
        max_field_size=HEAD_BYTES_MAX,
        max_headers=HEADERS_MAX,
        auto_decompress=False,
    )


async def _listen(
    runner: web.AppRunner, config: NodeConfig, *, tls: ssl.SSLContext | None
) -> int:
    site = web.TCPSite(
        runner, config.host, config.port, ssl_context=tls, backlog=BACKLOG
    )
    try:
        await site.start()
    except OSError as error:
        raise Refused(
            f"cannot listen on {config.host}:{config.port}: {error.strerror}; is a node "
            "running there already? Choose another with --listen",
            code="cannot_listen",
            field="--listen",
        ) from None
    port: int = runner.addresses[0][1]
    return port


def _report(node: Node, running: Running) -> None:
    node.journal.info(
        "node_ready",
        url=running.url,
        market=running.market,
        entries=node.market.size,
    )
    if node.config.tls_cert is None and not is_local(node.config.host):
        node.journal.warning(
            "no_tls",
            why="others reach this node without TLS; give tls_cert and tls_key, or "
            "put a proxy that has them in front",
        )
