"""For whoever runs the node: health, readiness, metrics, the API, the page."""

from collections import Counter

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST

from sublet.base.errors import Unavailable
from sublet.core.lease.phase import Phase
from sublet.node.answer import answer_bytes, answer_text
from sublet.node.page import compute_policy, read_page
from sublet.node.state import Node


async def get_health(node: Node, request: web.Request) -> web.StreamResponse:
    """Say that the process lives and its loop turns."""
    return answer_text("ok\n")


async def get_ready(node: Node, request: web.Request) -> web.StreamResponse:
    """Say whether the node can serve: replayed, and the log takes entries."""
    reason = node.log.find_trouble()
    if reason:
        raise Unavailable(reason, code="log_not_writable", retry_after_s=5)
    return answer_text("ready\n")


async def get_metrics(node: Node, request: web.Request) -> web.StreamResponse:
    """Give the metrics as Prometheus text."""
    book = node.market.book
    phases = Counter(lease.phase.value for lease in book.leases.values())
    content = node.metrics.render(
        leases={p.value: phases[p.value] for p in Phase if p is not Phase.SETTLED},
        providers_up=sum(1 for each in book.providers.values() if each.is_up),
        log_size=node.market.size,
        links=len(node.links),
        cosigned=node.cosigning.size,
        not_cosigned=node.cosigning.refused,
    )
    return web.Response(body=content, headers={"Content-Type": CONTENT_TYPE_LATEST})


async def get_openapi(node: Node, request: web.Request) -> web.StreamResponse:
    """Describe the API."""
    return answer_bytes(node.openapi, kind="application/json")


async def get_page(node: Node, request: web.Request) -> web.StreamResponse:
    """Show the market to people."""
    return web.Response(
        text=read_page(),
        content_type="text/html",
        headers={
            "Content-Security-Policy": compute_policy(),
            "Referrer-Policy": "no-referrer",
        },
    )
