"""What readers may ask of the book. Changes nothing."""

from msgspec import Struct

from sublet.base.ids import Address, Digest
from sublet.core.book import funds
from sublet.core.book.attestation import AttestationRecord
from sublet.core.book.book import Book
from sublet.core.book.due import show, total_due
from sublet.core.book.open_order import OpenOrder
from sublet.core.book.record import OfferRecord
from sublet.core.lease.phase import Lease


class AccountView(Struct, frozen=True):
    """A wallet, in micro-USD."""

    balance: int  # free to spend
    held: int  # set aside for open leases
    earned: int  # all that ever came in by settlement
    spent: int  # all that ever went out by settlement


class OfferView(Struct, frozen=True):
    """A standing offer and what is free of it now; never below 0."""

    offer_id: Digest
    provider: Address
    machine: str
    is_up: bool
    region: str
    cpus_milli_free: int
    cpus_milli: int
    memory_bytes_free: int
    memory_bytes: int
    disk_bytes_free: int
    gpu_model: str
    gpu_memory_bytes: int
    gpus_free: int
    gpus: int
    cpu_price_hour: int  # micro-USD
    memory_price_hour: int  # micro-USD a GiB
    gpu_price_hour: int  # micro-USD
    sandboxes: tuple[str, ...]
    cpu_score: int
    gpu_interface: str = ""


class Counts(Struct, frozen=True):
    """How large the market is now."""

    providers_up: int
    offers: int
    leases_open: int


def account(book: Book, party: Address) -> AccountView:
    """Give the party's wallet; all zero where nothing ever moved.

    On the escrow rail it is all that lies in the party's channels.
    """
    found = book.ledger.find(party)
    if funds.is_escrow(book):
        own = [book.channels[key] for key in book.channels_of.get(party, ())]
        return AccountView(
            balance=funds.free_of(book, party),
            held=sum(book.ledger.find(one.id).debits_pending for one in own),
            earned=found.balance,
            spent=sum(one.paid - one.uncollected for one in own),
        )
    return AccountView(
        balance=found.balance,
        held=found.debits_pending,
        earned=found.credits_posted - found.credits_issued,
        spent=found.debits_posted,
    )


def find_lease(book: Book, lease_id: Digest) -> Lease | None:
    """Give an open or a remembered lease, or None; ``channel_total`` is filled in."""
    lease = book.find_lease(lease_id)
    return None if lease is None else show(book, lease)


def open_leases_of(book: Book, party: Address) -> list[Lease]:
    """List the party's open leases, as tenant, delegate or provider, oldest first."""
    ids = {
        **book.open_of_tenant.get(party, {}),
        **book.open_of_provider.get(party, {}),
        **book.open_of_delegate.get(party, {}),
    }
    leases = [show(book, book.leases[lease_id]) for lease_id in ids]
    return sorted(leases, key=lambda lease: lease.matched_at_s)


def leases_of(book: Book, party: Address) -> list[Lease]:
    """List all leases of the party that the book remembers: settled ones, then open."""
    settled = [
        show(book, lease)
        for lease in (*book.settled.values(), *book.unerased.values())
        if party in lease.line
    ]
    return settled + open_leases_of(book, party)


def orders_of(book: Book, party: Address) -> list[OpenOrder]:
    """List the orders of a tenant, or a delegate: those that ended lately, then open."""
    every = (*book.ended.values(), *book.orders.values())
    return [order for order in every if party in (order.tenant, order.signer)]


def channel_total(book: Book, lease_id: Digest) -> int:
    """Compute what the next voucher must say to cover this lease and the older ones.

    Cumulative, in micro-USD. For a settled lease: what its channel has paid so far; 0
    for an unknown one.
    """
    lease = book.find_lease(lease_id)
    return 0 if lease is None else total_due(book, lease)


def vouched(book: Book, channel_id: Digest) -> int:
    """Give what the channel's last voucher said, in micro-USD; 0 before the first."""
    channel = book.channels.get(channel_id)
    return 0 if channel is None else channel.vouched


def attestations(book: Book) -> list[AttestationRecord]:
    """List what stands, by auditor; an empty one was taken back."""
    return [
        record
        for said in book.attestations.values()
        for record in said.values()
        if record.attributes and record.expires_at_s > book.now_s
    ]


def offers(book: Book) -> list[OfferView]:
    """List the offers that stand, oldest first."""
    return [
        _offer_view(book, record)
        for record in book.offers.standing(book.now_s)
        if record.is_live(book.now_s)
    ]


def counts(book: Book) -> Counts:
    """Count what is there now."""
    return Counts(
        providers_up=sum(record.is_up for record in book.providers.values()),
        offers=book.offers.count_live(book.now_s),
        leases_open=len(book.leases),
    )


def _offer_view(book: Book, record: OfferRecord) -> OfferView:
    offer = record.offer
    return OfferView(
        offer_id=record.id,
        provider=record.provider,
        machine=offer.machine,
        is_up=book.find_provider(record.provider).is_up,
        region=offer.region,
        cpus_milli_free=max(0, offer.cpus_milli - record.cpus_milli_used),
        cpus_milli=offer.cpus_milli,
        memory_bytes_free=max(0, offer.memory_bytes - record.memory_bytes_used),
        memory_bytes=offer.memory_bytes,
        disk_bytes_free=max(0, offer.disk_bytes - record.disk_bytes_used),
        gpu_model=offer.gpu_model,
        gpu_memory_bytes=offer.gpu_memory_bytes,
        gpus_free=len(record.gpus_free()),
        gpus=len(offer.gpu_uuids),
        cpu_price_hour=offer.cpu_price_hour,
        memory_price_hour=offer.memory_price_hour,
        gpu_price_hour=offer.gpu_price_hour,
        sandboxes=offer.sandboxes,
        cpu_score=offer.cpu_score,
        gpu_interface=offer.gpu_interface,
    )
