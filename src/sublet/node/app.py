"""The HTTP application: the route table behind one door for all.

What holds for each request is here: rate, errors as faults, latency, headers. Not
here: sockets and lifecycle (``serve``), what endpoints do.
"""

import ipaddress
from collections.abc import Awaitable, Callable

from aiohttp import web

from sublet.base import limits
from sublet.base.errors import Broken, SubletError
from sublet.node.refusal import TooMany, answer_fault, fault_of, status_of
from sublet.node.route import ROUTES, Route
from sublet.node.state import Node
from sublet.wire.message import Fault

Handle = Callable[[web.Request], Awaitable[web.StreamResponse]]

# The operator's own probes are never turned away.
UNLIMITED = frozenset({"/healthz", "/readyz", "/metrics"})
IPV6_PREFIX = 64  # what one customer of an access network is given


def make_app(node: Node) -> web.Application:
    """Make the application; it starts nothing."""

    @web.middleware
    async def serve_all(request: web.Request, handler: Handle) -> web.StreamResponse:
        return await _serve(node, request, handler)

    async def close_sockets(_: web.Application) -> None:
        await node.sockets.close_all()

    app = web.Application(
        client_max_size=limits.REQUEST_BYTES_MAX, middlewares=[serve_all]
    )
    for route in ROUTES:
        # HEAD comes with GET in aiohttp; here it is what the table says.
        app.router.add_route(route.method, route.path, _bind(node, route))
    app.on_shutdown.append(close_sockets)
    return app


def _bind(node: Node, route: Route) -> Handle:
    async def handle(request: web.Request) -> web.StreamResponse:
        return await route.handler(node, request)

    return handle


async def _serve(
    node: Node, request: web.Request, handler: Handle
) -> web.StreamResponse:
    begun_ms = node.clock.monotonic_ms()
    try:
        _check_rate(node, request, now_ms=begun_ms)
        response = await handler(request)
    except Broken:
        raise  # logged by the supervisor, which ends the process
    except SubletError as error:
        response = answer_fault(fault_of(error), status=status_of(error))
    except web.HTTPException as error:
        response = _answer_http(error)
    except ConnectionError:
        raise  # the client has gone: nobody to answer
    except Exception:  # noqa: BLE001 # the outermost loop of this face
        node.journal.error("request_failed", route=_name_of(request))
        fault = Fault(code="internal", message="the node failed; its own log says why")
        response = answer_fault(fault, status=500)
    response_s = (node.clock.monotonic_ms() - begun_ms) / 1_000
    if not isinstance(response, web.WebSocketResponse):
        node.metrics.http_s.labels(
            request.method, _name_of(request), response.status
        ).observe(response_s)
        response.headers.setdefault("X-Content-Type-Options", "nosniff")
        response.headers.setdefault("Cache-Control", "no-store")
    return response


def _check_rate(node: Node, request: web.Request, *, now_ms: int) -> None:
    if request.path in UNLIMITED:
        return
    wait_ms = node.rate.take(_party_of(request.remote or ""), now_ms=now_ms)
    if wait_ms:
        raise TooMany(
            f"your address asks too often; wait {wait_ms} ms",
            detail={"wait_ms": wait_ms},
        )


def _party_of(remote: str) -> str:
    if ":" not in remote:
        return remote
    network = ipaddress.ip_network(f"{remote}/{IPV6_PREFIX}", strict=False)
    return str(network.network_address)


def _name_of(request: web.Request) -> str:
    # The route, never the path: a label must not be a stranger's choice.
    resource = request.match_info.route.resource
    return resource.canonical if resource is not None else "unknown"


def _answer_http(error: web.HTTPException) -> web.Response:
    codes = {404: "no_such_endpoint", 405: "wrong_method"}
    fault = Fault(
        code=codes.get(error.status, "bad_request"),
        message=f"{error.reason}; see /openapi.json for what this node answers",
    )
    response = answer_fault(fault, status=error.status)
    if "Allow" in error.headers:
        response.headers["Allow"] = error.headers["Allow"]
    return response
