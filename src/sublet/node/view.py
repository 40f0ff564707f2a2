"""What the market knows, for whoever asks: market, offers, wallets, leases."""

import asyncio

from aiohttp import web
from msgspec.structs import asdict

from sublet.base import limits
from sublet.base.ids import Address, Digest
from sublet.core.book import view
from sublet.core.lease.phase import Lease
from sublet.core.version import RULES_VERSION
from sublet.node.answer import answer_bytes, answer_json
from sublet.node.intake import read_caller, read_count, read_lease_id
from sublet.node.refusal import Forbidden, NotFound
from sublet.node.state import Node
from sublet.wire.message import (
    Account,
    Attestations,
    Leases,
    MarketInfo,
    OfferRow,
    Offers,
    Orders,
)


async def get_market(node: Node, request: web.Request) -> web.StreamResponse:
    """Tell the market's rules and how large it is."""
    book = node.market.book
    counts = view.counts(book)
    return answer_json(
        MarketInfo(
            id=book.market_id,
            operator=book.operator,
            market=book.rules,
            size=node.market.size,
            now_s=node.clock.now_s(),
            providers_up=counts.providers_up,
            offers=counts.offers,
            leases_open=counts.leases_open,
            nodes=node.config.nodes,
            version=book.version,
            version_max=RULES_VERSION,
            chain=node.mirroring.terms if node.mirroring is not None else None,
        )
    )


async def get_offers(node: Node, request: web.Request) -> web.StreamResponse:
    """List all standing offers."""
    rows = (OfferRow(**asdict(each)) for each in view.offers(node.market.book))
    return answer_json(Offers(offers=tuple(rows)))


async def get_attestations(node: Node, request: web.Request) -> web.StreamResponse:
    """List what auditors vouch for, but for what has expired or was taken back."""
    rows = tuple(view.attestations(node.market.book))
    return answer_json(Attestations(attestations=rows))


async def get_offer(node: Node, request: web.Request) -> web.StreamResponse:
    """Give the log's entry of an offer, with the provider's own signature."""
    record = node.market.book.offers.find(read_lease_id(request))
    if record is None:
        raise NotFound("no such offer stands here", code="unknown_offer")
    [row] = await asyncio.to_thread(node.log.read, first=record.number, limit=1)
    return answer_bytes(row.body, kind="application/json")


async def get_account(node: Node, request: web.Request) -> web.StreamResponse:
    """Tell the caller's wallet."""
    return answer_json(read_account(node, await read_caller(node, request)))


async def get_leases(node: Node, request: web.Request) -> web.StreamResponse:
    """List the caller's open leases; with ``all=1`` the settled ones too."""
    caller = await read_caller(node, request)
    if not read_count(request, "all", default=0):
        leases = view.open_leases_of(node.market.book, caller)
        return answer_json(Leases(leases=tuple(leases)))
    kept = await node.market.read_settled(
        party=caller, before_s=None, limit=limits.PAGE_ENTRIES_MAX
    )
    # What the book still remembers is newer than what was kept beside the log.
    known = {lease.id: lease for lease in kept}
    known |= {lease.id: lease for lease in view.leases_of(node.market.book, caller)}
    every = sorted(known.values(), key=lambda lease: lease.matched_at_s)
    return answer_json(Leases(leases=tuple(every)))


async def get_orders(node: Node, request: web.Request) -> web.StreamResponse:
    """List the caller's orders that wait, and those that lately did."""
    caller = await read_caller(node, request)
    return answer_json(Orders(orders=tuple(view.orders_of(node.market.book, caller))))


async def get_order(node: Node, request: web.Request) -> web.StreamResponse:
    """Tell one order that waits, or did, with its bids: as public as the log is."""
    order = node.market.book.find_order(read_lease_id(request))
    if order is None:
        raise NotFound("no such order waits here, or did lately", code="unknown_order")
    return answer_json(order)


async def get_lease(node: Node, request: web.Request) -> web.StreamResponse:
    """Tell one lease of the caller."""
    caller = await read_caller(node, request)
    return answer_json(await read_lease_of(node, read_lease_id(request), party=caller))


def read_account(node: Node, party: Address) -> Account:
    """Give a party's wallet as it is now."""
    wallet = view.account(node.market.book, party)
    return Account(party=party, **asdict(wallet))


def open_leases_of_provider(node: Node, provider: Address) -> tuple[Lease, ...]:
    """List the open leases in which this party is the provider."""
    leases = view.open_leases_of(node.market.book, provider)
    return tuple(lease for lease in leases if lease.provider == provider)


async def read_lease_of(node: Node, lease_id: Digest, *, party: Address) -> Lease:
    """Give a lease to one of its parties: tenant, delegate or provider.

    Raises:
        NotFound: there is no such lease.
        Forbidden: it is somebody else's.
    """
    lease = await node.market.find_lease(lease_id)
    if lease is None:
        raise NotFound(f"there is no lease {lease_id} here", code="unknown_lease")
    if party not in lease.line:
        raise Forbidden(
            f"lease {lease_id} is not yours; sign with the key of its tenant, delegate or provider",
            code="not_yours",
        )
    return lease
