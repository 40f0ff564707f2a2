"""Documents in: decode, verify, submit, answer one by one. Quotes. The faucet.

Each document of a batch stands for itself: a bad one is refused by name and the
others go on. What a document does to the market decides the service.
"""

import asyncio
from collections.abc import Sequence
from typing import Annotated

import msgspec
from aiohttp import web
from msgspec import Meta, Struct

from sublet.base import limits
from sublet.base.errors import PeerFault, Refused, SubletError
from sublet.base.ids import NO_DIGEST, Address
from sublet.core.book.live import find_calls
from sublet.core.document import Credit, Offer, Order
from sublet.node.answer import answer_json
from sublet.node.intake import read_body, read_caller
from sublet.node.refusal import Conflict, Forbidden, fault_of
from sublet.node.state import Node
from sublet.node.view import read_account
from sublet.service.submission import Candidate, Result
from sublet.wire.codec import decode, decode_signed
from sublet.wire.message import Appended, Appendix, Quote, QuotedMachine
from sublet.wire.typed_data import Domain

# A verification takes 0.1 ms: beyond this many the event loop would be held up.
INLINE_MAX = 8
FAUCET_MEMO = "faucet"

Reading = Candidate | SubletError


class _Batch(Struct, frozen=True, forbid_unknown_fields=True):
    """A Submission whose documents are still unread, so that each fails alone."""

    documents: Annotated[
        tuple[msgspec.Raw, ...],
        Meta(min_length=1, max_length=limits.BATCH_DOCUMENTS_MAX),
    ]


async def post_documents(node: Node, request: web.Request) -> web.StreamResponse:
    """Append signed documents; a single one is answered with its own status."""
    body = await read_body(node, request)
    batch = decode(body, _Batch, size_max=limits.REQUEST_BYTES_MAX)
    if len(batch.documents) <= INLINE_MAX:
        readings = read_candidates(batch.documents, domain=node.domain)
    else:
        readings = await asyncio.to_thread(
            read_candidates, batch.documents, domain=node.domain
        )
    candidates = [one for one in readings if isinstance(one, Candidate)]
    newcomers = [one.signer for one in candidates if _is_new_machine(node, one)]
    results = iter(await node.market.submit(candidates) if candidates else ())
    outcomes = [
        one if isinstance(one, SubletError) else next(results) for one in readings
    ]
    for reading, outcome in zip(readings, outcomes, strict=True):
        _count(node, reading, outcome)
    for provider in newcomers:
        _call(node, provider)
    appended = tuple(_answer(outcome) for outcome in outcomes)
    refusal = _refusal_of(outcomes[0])
    if len(outcomes) == 1 and refusal is not None and appended[0].index < 0:
        raise refusal
    return answer_json(Appendix(results=appended))


def read_candidates(raws: Sequence[msgspec.Raw], *, domain: Domain) -> list[Reading]:
    """Decode documents and check their signatures: each a candidate or an error.

    Holds the CPU for 0.1 ms a document; safe to call in a thread.
    """
    readings: list[Reading] = []
    for raw in raws:
        try:
            signed, id_, signer = decode_signed(bytes(raw), domain=domain)
        except (PeerFault, Refused) as error:
            readings.append(error)
        else:
            readings.append(
                Candidate(
                    id=id_,
                    signer=signer,
                    document=signed.document,
                    signature=bytes.fromhex(signed.signature[2:]),
                )
            )
    return readings


async def post_quote(node: Node, request: web.Request) -> web.StreamResponse:
    """Say what an order would get now; that nothing fits is an answer too."""
    body = await read_body(node, request)
    order = decode(body, Order, size_max=limits.DOCUMENT_BYTES_MAX)
    try:
        match = node.market.quote(order)
    except Refused as error:
        return answer_json(Quote(fault=fault_of(error)))
    return answer_json(
        Quote(
            offer_id=match.offer_id,
            provider=match.provider,
            machine=match.machine,
            region=match.region,
            price_hour=match.price_hour,
            duration_s=match.duration_s,
            hold=match.hold,
            offers_matching=node.market.count_fitting(order),
            winner=match.winner,
            runner_up=match.runner_up,
            members=tuple(
                QuotedMachine(
                    offer_id=member.offer_id,
                    provider=member.provider,
                    machine=member.machine,
                    region=member.region,
                    price_hour=member.price_hour,
                    hold=member.hold,
                    winner=member.winner,
                )
                for member in match.members
            ),
        )
    )


async def post_faucet(node: Node, request: web.Request) -> web.StreamResponse:
    """Give a new tenant its first credit, once."""
    caller = await read_caller(node, request)
    amount = node.config.faucet
    if not amount:
        raise Forbidden(
            "this market has no faucet; ask its operator for credit", code="no_faucet"
        )
    # One at a time, so that two requests do not both find an empty wallet. Nor do two
    # nodes: the same credit to the same party is one document, wherever it is signed.
    async with node.faucet:
        account = read_account(node, caller)
        if account.balance or account.held or account.spent or account.earned:
            raise Conflict(
                "the faucet gives to new parties only; this one has had credit",
                code="faucet_spent",
            )
        credit = Credit(
            party=caller,
            amount=amount,
            memo=FAUCET_MEMO,
            signed_at_s=node.market.book.rules.signed_at_s,
            salt=0,
        )
        result = await node.market.say(credit)
        if result.refusal is not None:
            raise result.refusal
    return answer_json(read_account(node, caller))


def _is_new_machine(node: Node, one: Candidate) -> bool:
    """Say whether it offers what was not on offer: not a renewal, of which many come."""
    offer, book = one.document, node.market.book
    if not isinstance(offer, Offer):
        return False
    was = book.offers.find_machine(one.signer, offer.machine)
    return was is None or not was.is_live(book.now_s)


def _call(node: Node, provider: Address) -> None:
    """Ask a provider for bids that could make none when the windows were opened."""
    book = node.market.book
    for order in find_calls(book, provider, now_s=book.now_s):
        node.metrics.dropped.inc(node.calls.publish(order, (provider,)))


def _answer(outcome: Result | SubletError) -> Appended:
    if isinstance(outcome, SubletError):
        return Appended(id=NO_DIGEST, fault=fault_of(outcome))
    return Appended(
        id=outcome.id,
        index=outcome.index,
        at_s=outcome.at_s,
        lease=outcome.lease,
        order=outcome.order,
        fault=None if outcome.refusal is None else fault_of(outcome.refusal),
    )


def _refusal_of(outcome: Result | SubletError) -> SubletError | None:
    return outcome if isinstance(outcome, SubletError) else outcome.refusal


def _count(node: Node, reading: Reading, outcome: Result | SubletError) -> None:
    refusal = _refusal_of(outcome)
    if refusal is not None:
        node.metrics.refused.labels(refusal.code).inc()
    elif isinstance(reading, Candidate):
        node.metrics.appended.labels(type(reading.document).__name__).inc()
