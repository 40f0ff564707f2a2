"""Every endpoint of a node, once: what serves it and what the API says of it.

The server and ``openapi.json`` are both made from this table.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from aiohttp import web
from msgspec import Struct

from sublet.core.book.open_order import OpenOrder
from sublet.core.document import Order
from sublet.core.lease.phase import Lease
from sublet.core.outlook import Outlook
from sublet.node import (
    control,
    convert,
    detached,
    dial,
    document,
    event,
    health,
    history,
    outlook,
    prices,
    view,
)
from sublet.node.state import Node
from sublet.wire.detached import Delegate, DetachedPlan, JobView
from sublet.wire.exchange import QuoteWish, SignedQuote
from sublet.wire.message import (
    Account,
    Appendix,
    Attestations,
    Leases,
    MarketInfo,
    Offers,
    Orders,
    Quote,
    Submission,
)
from sublet.wire.prices import PriceDepth, PriceHistory, Prices

Handler = Callable[[Node, web.Request], Awaitable[web.StreamResponse]]


@dataclass(frozen=True, slots=True)
class Route:
    """One endpoint."""

    method: str
    path: str
    handler: Handler
    summary: str
    takes: type[Struct] | None = None  # the JSON body
    gives: type[Struct] | None = None  # the JSON answer; else ``media`` says what
    media: str = "application/json"
    query: tuple[str, ...] = ()  # whole numbers
    texts: tuple[str, ...] = ()  # of the query, too
    is_signed: bool = False
    is_socket: bool = False


ROUTES: tuple[Route, ...] = (
    Route(
        "POST",
        "/v1/documents",
        document.post_documents,
        "Append up to 256 signed documents, in order",
        takes=Submission,
        gives=Appendix,
    ),
    Route(
        "POST",
        "/v1/quote",
        document.post_quote,
        "Say what an (unsigned) order would get now",
        takes=Order,
        gives=Quote,
    ),
    Route(
        "POST",
        "/v1/outlook",
        outlook.post_outlook,
        "Say when an (unsigned) order would begin, and when its work would be done",
        takes=Order,
        gives=Outlook,
    ),
    Route(
        "GET",
        "/v1/market",
        view.get_market,
        "The market's rules and size",
        gives=MarketInfo,
    ),
    Route(
        "GET",
        "/v1/attestations",
        view.get_attestations,
        "What auditors vouch for",
        gives=Attestations,
    ),
    Route("GET", "/v1/offers", view.get_offers, "All standing offers", gives=Offers),
    Route(
        "GET",
        "/v1/prices",
        prices.get_prices,
        "What each kind of machine is offered for, and was let for lately",
        gives=Prices,
        query=("first", "limit"),
        texts=("model", "region"),
    ),
    Route(
        "GET",
        "/v1/prices/depth",
        prices.get_depth,
        "How much is offered at which price",
        gives=PriceDepth,
        query=("first", "limit", "levels"),
        texts=("model", "region"),
    ),
    Route(
        "GET",
        "/v1/prices/history",
        prices.get_history,
        "What was paid, hour by hour",
        gives=PriceHistory,
        query=("first", "limit", "hours"),
        texts=("model", "region"),
    ),
    Route(
        "GET",
        "/v1/account",
        view.get_account,
        "The caller's wallet",
        gives=Account,
        is_signed=True,
    ),
    Route(
        "GET",
        "/v1/leases",
        view.get_leases,
        "The caller's open leases; with all=1 the settled ones too",
        gives=Leases,
        query=("all",),
        is_signed=True,
    ),
    Route(
        "GET",
        "/v1/orders",
        view.get_orders,
        "The caller's orders that wait, and those that lately did",
        gives=Orders,
        is_signed=True,
    ),
    Route(
        "GET",
        "/v1/orders/{id}",
        view.get_order,
        "One order that waits, or did, with its bids",
        gives=OpenOrder,
    ),
    Route(
        "GET",
        "/v1/leases/{id}",
        view.get_lease,
        "One lease of the caller",
        gives=Lease,
        is_signed=True,
    ),
    Route(
        "GET",
        "/v1/leases/{id}/events",
        event.get_lease_events,
        "The lease, then again after each change",
        gives=Lease,
        is_signed=True,
        is_socket=True,
    ),
    Route(
        "GET",
        "/v1/leases/{id}/dial",
        dial.get_lease_dial,
        "Bytes to the provider of the lease",
        media="application/octet-stream",
        is_signed=True,
        is_socket=True,
    ),
    Route(
        "GET",
        "/v1/link",
        control.get_link,
        "A provider's control link; the hello carries the signature",
        is_socket=True,
    ),
    Route(
        "GET",
        "/v1/relay/{session}",
        dial.get_relay,
        "A provider's end of a dial; single use",
        media="application/octet-stream",
        is_signed=True,
        is_socket=True,
    ),
    Route(
        "GET",
        "/v1/log/entries",
        history.get_entries,
        "Canonical entries, one a line",
        media="application/x-ndjson",
        query=("first", "limit"),
    ),
    Route(
        "GET",
        "/v1/log/checkpoint",
        history.get_checkpoint,
        "The newest signed note, or the newest of at most this size",
        media="text/plain",
        query=("size",),
    ),
    Route(
        "GET",
        "/v1/log/cosigned",
        history.get_cosigned,
        "The newest signed note that witnesses have cosigned",
        media="text/plain",
    ),
    Route(
        "GET",
        "/v1/log/checkpoints",
        history.get_checkpoints,
        "JSON [[size, note], …]",
        query=("first", "limit"),
    ),
    Route(
        "GET",
        "/v1/log/leaves",
        history.get_leaves,
        "Leaf hashes, 32 bytes each",
        media="application/octet-stream",
        query=("first", "limit"),
    ),
    Route(
        "GET",
        "/v1/log/proof/inclusion",
        history.get_inclusion,
        "JSON list of hex hashes: the entry is in the tree of this size",
        query=("index", "size"),
    ),
    Route(
        "GET",
        "/v1/log/proof/consistency",
        history.get_consistency,
        "JSON list of hex hashes: the old tree is a prefix of the new",
        query=("old", "new"),
    ),
    Route(
        "GET",
        "/v1/log/snapshot",
        history.get_snapshot,
        "The newest snapshot of the book",
    ),
    Route(
        "POST",
        "/v1/faucet",
        document.post_faucet,
        "Credit for a new tenant, where the operator allows it",
        gives=Account,
        is_signed=True,
    ),
    Route(
        "POST",
        "/v1/convert/quote",
        convert.post_convert_quote,
        "What the caller's tokens are given for, where the operator is a maker",
        takes=QuoteWish,
        gives=SignedQuote,
        is_signed=True,
    ),
    Route(
        "GET",
        "/v1/offers/{id}",
        view.get_offer,
        "The log's entry of an offer: what its provider signed",
    ),
    Route(
        "GET",
        "/v1/jobs/{id}/delegate",
        detached.get_delegate,
        "The key that would order and pay for a detached job",
        gives=Delegate,
        is_signed=True,
    ),
    Route(
        "PUT",
        "/v1/jobs/{id}",
        detached.put_job,
        "Leave a sealed job with this market",
        takes=DetachedPlan,
        gives=JobView,
        is_signed=True,
    ),
    Route(
        "GET",
        "/v1/jobs/{id}",
        detached.get_job,
        "How a detached job stands",
        gives=JobView,
        is_signed=True,
    ),
    Route(
        "DELETE",
        "/v1/jobs/{id}",
        detached.delete_job,
        "Forget a detached job that is over",
        is_signed=True,
    ),
    Route(
        "POST",
        "/v1/jobs/{id}/start",
        detached.start_job,
        "Begin, once every chunk is there",
        gives=JobView,
        is_signed=True,
    ),
    Route(
        "POST",
        "/v1/jobs/{id}/stop",
        detached.stop_job,
        "Stop a detached job and settle it",
        gives=JobView,
        is_signed=True,
    ),
    Route(
        "PUT",
        "/v1/jobs/{id}/chunks/{chunk}",
        detached.put_chunk,
        "A sealed chunk of the job's inputs",
        is_signed=True,
    ),
    Route(
        "GET",
        "/v1/jobs/{id}/chunks/{chunk}",
        detached.get_chunk,
        "A sealed chunk that the job left",
        media="application/octet-stream",
        is_signed=True,
    ),
    Route(
        "GET",
        "/v1/jobs/{id}/logs/{lease}/{stream}",
        detached.get_log,
        "A piece of a sealed stream",
        media="application/octet-stream",
        query=("offset",),
        is_signed=True,
    ),
    Route(
        "GET", "/healthz", health.get_health, "The process lives", media="text/plain"
    ),
    Route(
        "GET",
        "/readyz",
        health.get_ready,
        "Replayed, and the log takes entries",
        media="text/plain",
    ),
    Route("GET", "/metrics", health.get_metrics, "Prometheus", media="text/plain"),
    Route("GET", "/openapi.json", health.get_openapi, "This description"),
    Route("GET", "/", health.get_page, "A page for people", media="text/html"),
)
