"""The book as canonical bytes, and back. The same book gives the same bytes anywhere.

Only the truth is written: indexes, columns and running sums are made again.
"""

from hashlib import sha256

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from sublet.base.errors import Broken, Outdated
from sublet.base.ids import Address, Digest
from sublet.core.book.attestation import AttestationRecord
from sublet.core.book.book import Book
from sublet.core.book.open_order import OpenOrder
from sublet.core.book.record import (
    ChannelRecord,
    DelegationRecord,
    OfferRecord,
    PaceRecord,
    ProviderRecord,
)
from sublet.core.document import Market, Offer
from sublet.core.lease.phase import Lease
from sublet.core.ledger.ledger import Account, Transfer, restore
from sublet.core.tape.tape import Series
from sublet.core.version import RULES_VERSION


class OfferState(Struct, frozen=True, forbid_unknown_fields=True):
    """One machine on offer. What is used of it follows from the leases."""

    id: Digest
    number: int
    provider: Address
    is_withdrawn: bool
    offer: Offer


class BookState(Struct, frozen=True, forbid_unknown_fields=True):
    """What a book is, in the order in which it is written."""

    format: int  # the version of the rules that hold, by which it is written, too
    market: Market | None
    market_id: Digest
    operator: Address
    size: int
    now_s: int
    accounts: list[Account]
    pending: list[Transfer]
    resolved: list[Transfer]
    providers: list[ProviderRecord]
    offers: list[OfferState]
    leases: list[Lease]
    settled: list[Lease]
    unerased: list[Lease]
    channels: list[ChannelRecord]
    delegations: list[DelegationRecord]
    tape: list[Series]
    attestations: list[AttestationRecord]
    orders: list[OpenOrder]
    ended: list[OpenOrder]
    paces: list[PaceRecord]


class _Format(Struct, frozen=True):
    format: int


_ENCODER = msgspec.json.Encoder()
_DECODER = msgspec.json.Decoder(BookState)
# What msgspec raises for bytes that somebody made, nested without end among them.
_UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
_FORMAT_DECODER = msgspec.json.Decoder(_Format)
# Leases are bound only when all offers are there: until then none is dead and unused.
_BEFORE_ALL_S = -1


def dump(book: Book) -> bytes:
    """Write the book as canonical JSON."""
    return _ENCODER.encode(
        BookState(
            format=book.version,
            market=book.market,
            market_id=book.market_id,
            operator=book.operator,
            size=book.size,
            now_s=book.now_s,
            accounts=list(book.ledger.accounts.values()),
            pending=list(book.ledger.pending.values()),
            resolved=list(book.ledger.resolved.values()),
            providers=list(book.providers.values()),
            offers=[
                OfferState(
                    record.id,
                    record.number,
                    record.provider,
                    record.is_withdrawn,
                    record.offer,
                )
                for record in book.offers.standing(book.now_s)
            ],
            leases=list(book.leases.values()),
            settled=list(book.settled.values()),
            unerased=list(book.unerased.values()),
            channels=list(book.channels.values()),
            delegations=list(book.delegations.values()),
            tape=list(book.tape.series.values()),
            attestations=[
                record
                for records in book.attestations.values()
                for record in records.values()
            ],
            orders=list(book.orders.values()),
            ended=list(book.ended.values()),
            paces=list(book.paces.values()),
        )
    )


def book_hash(book: Book) -> bytes:
    """Compute the SHA-256 of the book's canonical bytes: what a Seal says."""
    return sha256(dump(book)).digest()


def load(raw: bytes) -> Book:
    """Make the book again from what ``dump`` wrote.

    Whoever did not write the bytes checks their hash against a Seal first.

    Raises:
        Outdated: written by the rules of a version that this program does not know.
        Broken: not a snapshot.
    """
    _check_format(raw)
    try:
        state = _DECODER.decode(raw)
    except _UNREADABLE as error:
        raise Broken(f"the snapshot is damaged: {error}; replay the log") from error
    try:
        return _make_book(state)
    except (LookupError, ValueError, OverflowError) as error:
        # Offers, leases and channels that name one another, and one is not there.
        raise Broken(
            f"the snapshot contradicts itself ({error}); replay the log"
        ) from error


def _make_book(state: BookState) -> Book:
    book = Book()
    book.version = state.format
    book.market, book.market_id = state.market, state.market_id
    book.operator, book.size, book.now_s = state.operator, state.size, state.now_s
    book.ledger = restore(
        accounts=state.accounts, pending=state.pending, resolved=state.resolved
    )
    book.providers = {record.provider: record for record in state.providers}
    book.settled = {lease.id: lease for lease in state.settled}
    for channel in state.channels:
        book.add_channel(channel)
    for delegation in state.delegations:
        book.add_delegation(delegation)
    book.tape.series = {(each.model, each.region): each for each in state.tape}
    for record in state.attestations:
        of_auditor = book.attestations.setdefault(record.auditor, {})
        of_auditor[record.provider, record.machine] = record
    for offer in state.offers:
        _put_offer(book, offer)
    for lease in state.leases:
        book.add_lease(lease)
    for lease in state.unerased:
        book.offers.bind(lease)
        book.add_unerased(lease)
    for order in state.orders:
        book.add_order(order)
    book.ended = {order.id: order for order in state.ended}
    book.paces = {(pace.signer, pace.kind): pace for pace in state.paces}
    book.fresh, book.unserved = {}, {}  # all was looked at when it was written
    return book


def _check_format(raw: bytes) -> None:
    """Look at the version alone: what a newer book looks like, nobody knows here."""
    try:
        format_ = _FORMAT_DECODER.decode(raw).format
    except _UNREADABLE:
        return  # damaged: the decoder of the whole says where
    if format_ > RULES_VERSION:
        raise Outdated(
            f"the newest snapshot is of version {format_} of the rules, and this "
            f"program reads up to {RULES_VERSION}; update sublet"
        )


def _put_offer(book: Book, state: OfferState) -> None:
    record = OfferRecord(
        id=state.id, number=state.number, provider=state.provider, offer=state.offer
    )
    book.offers.put(
        replace(record, is_withdrawn=state.is_withdrawn),
        is_up=book.find_provider(state.provider).is_up,
        now_s=_BEFORE_ALL_S,
        lasts_s=book.find_provider(state.provider).lasts_s,
    )
