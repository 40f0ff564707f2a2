"""One question to a market and its answer, as bytes: pure, no network.

A request is built here and an answer is read here, by the sync and the async client
alike; ``connection`` only moves the bytes. The calls are those of ``docs/protocol.md``.
"""

from collections.abc import Mapping
from types import UnionType
from typing import Any, Generic, TypeVar
from urllib.parse import urlencode

from msgspec import Struct

from sublet.base.errors import PeerFault, Refused, SubletError, Unavailable
from sublet.base.ids import Digest
from sublet.core.book.open_order import OpenOrder
from sublet.core.document import Order
from sublet.core.lease.phase import Lease
from sublet.core.outlook import Outlook
from sublet.wire import codec
from sublet.wire.exchange import QuoteWish, SignedQuote
from sublet.wire.message import (
    Account,
    Appended,
    Appendix,
    Attestations,
    Fault,
    Leases,
    MarketInfo,
    Offers,
    Orders,
    Quote,
    Signed,
    Submission,
)
from sublet.wire.prices import PriceDepth, PriceHistory, Prices
from sublet.wire.typed_data import Domain, digest

T = TypeVar("T")

ANSWER_BYTES_MAX = 64 * 1024 * 1024  # a hostile market cannot fill the memory
_FAULT_BYTES_MAX = 65_536
_PRICE_PATHS: Mapping[Any, str] = {
    Prices: "/v1/prices",
    PriceDepth: "/v1/prices/depth",
    PriceHistory: "/v1/prices/history",
}
_UNAVAILABLE = frozenset({429, 500, 502, 503, 504})


class Call(Struct, Generic[T], frozen=True):
    """One HTTP request, not signed yet, and the type of its answer."""

    method: str
    path: str  # with the query
    kind: type[T] | UnionType
    body: bytes = b""
    is_signed: bool = False


def ask_market() -> Call[MarketInfo]:
    """Who operates the market, and by which rules."""
    return Call("GET", "/v1/market", MarketInfo)


def ask_offers() -> Call[Offers]:
    """Everything that is offered now."""
    return Call("GET", "/v1/offers", Offers)


def ask_attestations() -> Call[Attestations]:
    """What auditors vouch for."""
    return Call("GET", "/v1/attestations", Attestations)


def ask_prices(
    kind: type[T], *, model: str | None, region: str | None, first: int
) -> Call[T]:
    """What machines are offered for and were let for: one page of one of its kinds."""
    wanted = {"model": model, "region": region, "first": first}
    query = urlencode({k: v for k, v in wanted.items() if v is not None})
    return Call("GET", f"{_PRICE_PATHS[kind]}?{query}", kind)


def ask_quote(order: Order) -> Call[Quote]:
    """What this order would get now."""
    return Call("POST", "/v1/quote", Quote, codec.encode(order))


def ask_outlook(order: Order) -> Call[Outlook]:
    """When this order would begin, and when its work would be done."""
    return Call("POST", "/v1/outlook", Outlook, codec.encode(order))


def submit(documents: tuple[Signed, ...]) -> Call[Appendix]:
    """Append signed documents; the same ones again are harmless."""
    body = codec.encode(Submission(documents=documents))
    return Call("POST", "/v1/documents", Appendix, body)


def ask_account() -> Call[Account]:
    """The caller's wallet."""
    return Call("GET", "/v1/account", Account, is_signed=True)


def ask_leases(*, is_all: bool) -> Call[Leases]:
    """The caller's leases: the open ones, or also the settled ones."""
    path = "/v1/leases?all=1" if is_all else "/v1/leases"
    return Call("GET", path, Leases, is_signed=True)


def ask_lease(lease_id: Digest) -> Call[Lease]:
    """One lease of the caller."""
    return Call("GET", f"/v1/leases/{lease_id}", Lease, is_signed=True)


def ask_orders() -> Call[Orders]:
    """The caller's orders that wait, and those that lately did."""
    return Call("GET", "/v1/orders", Orders, is_signed=True)


def ask_order(order_id: Digest) -> Call[OpenOrder]:
    """One order that waits, or did, with its bids."""
    return Call("GET", f"/v1/orders/{order_id}", OpenOrder)


def ask_faucet() -> Call[Account]:
    """Credits for a new tenant, where the operator gives them."""
    return Call("POST", "/v1/faucet", Account, is_signed=True)


def ask_token_quote(wish: QuoteWish) -> Call[SignedQuote]:
    """What the operator gives for tokens, into a channel of the caller."""
    body = codec.encode(wish)
    return Call("POST", "/v1/convert/quote", SignedQuote, body, is_signed=True)


def read_answer(call: Call[T], *, status: int, body: bytes) -> T:
    """Read what a market answered.

    Raises:
        Refused: the request cannot be granted.
        Unavailable: the market cannot answer now.
        PeerFault: the answer is not what the protocol says.
    """
    if status // 100 == 2:
        if call.kind is bytes:
            return body  # type: ignore[return-value]
        answer: T = codec.decode(body, call.kind, size_max=ANSWER_BYTES_MAX)
        return answer
    raise error_of(read_fault(status=status, body=body), status=status)


def read_fault(*, status: int, body: bytes) -> Fault:
    """Read an error answer; one that is not ours (a proxy's) is put into words."""
    try:
        return codec.decode(body, Fault, size_max=_FAULT_BYTES_MAX)
    except SubletError:
        is_passing = status in _UNAVAILABLE
        return Fault(
            code="unavailable" if is_passing else "bad_answer",
            message=f"the market answered HTTP {status} and nothing that sublet reads; "
            "check the --market address",
        )


def error_of(fault: Fault, *, status: int = 400) -> SubletError:
    """Put a market's fault into the error that says who must act."""
    if fault.code == "bad_answer":
        return PeerFault(fault.message, code=fault.code)
    if status in _UNAVAILABLE:
        return Unavailable(
            fault.message,
            code=fault.code,
            field=fault.field,
            detail=fault.detail,
            retry_after_s=fault.retry_after_s,
        )
    return Refused(
        fault.message, code=fault.code, field=fault.field, detail=fault.detail
    )


def refuse_one(
    fault: Refused, documents: tuple[Signed, ...], domain: Domain
) -> Appendix:
    """Say of a submission's only document that it was refused.

    Raises:
        Refused: there are several, so the submission as a whole was refused.
    """
    if len(documents) != 1:
        raise fault
    said = Fault(
        code=fault.code, message=fault.message, field=fault.field, detail=fault.detail
    )
    id_ = digest(documents[0].document, domain)
    return Appendix(results=(Appended(id=id_, fault=said),))


def check_answered(call_size: int, appendix: Appendix) -> Appendix:
    """Check that every document of a submission was answered.

    Raises:
        PeerFault: one answer too many or too few.
    """
    if len(appendix.results) != call_size:
        raise PeerFault(
            f"{call_size} documents were sent and {len(appendix.results)} answered",
            code="bad_answer",
        )
    return appendix
