"""What this machine has promised to whom: the owner's own book of commitments. Pure.

The market matches; this book decides whether the owner signs. It is made anew from
the leases that this machine remembers, so a market that forgets or lies cannot sell
one GPU twice.

Not here: what a lease does next (``lease_state``), what the market's book says.
"""

from collections.abc import Iterable, Sequence

from sublet.base.errors import Refused
from sublet.base.ids import Address
from sublet.core.document import LeaseTerms, Offer
from sublet.core.lease.phase import Lease
from sublet.core.lease.table import ERASURE
from sublet.provider.bid_record import BidMade
from sublet.provider.lease_state import OCCUPYING, Stage
from sublet.provider.record import LeaseRecord

_CPU_MILLI = 1_000
_GIB = 1 << 30


class NotOurs(Refused):
    """A match that this provider does not sign; the lease will lapse."""

    code = "not_ours"


def compute_floor_of_slice(
    offer: Offer, *, cpus_milli: int, memory_bytes: int, gpus: int
) -> int:
    """Price a slice of an offer, micro-USD an hour; each part rounds up."""
    return (
        -(-offer.cpu_price_hour * cpus_milli // _CPU_MILLI)
        + -(-offer.memory_price_hour * memory_bytes // _GIB)
        + offer.gpu_price_hour * gpus
    )


def check_match(
    lease: Lease,
    *,
    offer: Offer,
    provider: Address,
    records: Sequence[LeaseRecord],
    bid: BidMade | None = None,
) -> None:
    """Check a match against what was offered and what is promised already.

    Args:
        lease: as the market says it was matched.
        offer: the one that it names.
        provider: this one.
        records: of all leases that this machine remembers.
        bid: that was made for the lease's order, if any: then its price counts.

    Raises:
        NotOurs: below the floor (``below_floor``), more than was offered
            (``not_offered``), a GPU that is promised (``gpu_promised``) or more than is
            free (``machine_full``), another slice than was bid for (``not_bid``), or a
            tenant that is not worked for (``refused_tenant``).
    """
    _check_offered(lease, offer=offer, provider=provider)
    _check_price(lease, offer=offer, bid=bid)
    busy = [
        record.lease
        for record in records
        if _is_busy(record) and record.lease.id != lease.id
    ]
    running = sum(
        record.stage in OCCUPYING and record.stage is not Stage.ERASING
        for record in records
        if record.lease.id != lease.id
    )
    if offer.leases_max and running >= offer.leases_max:
        raise NotOurs(
            f"{running} leases run, and no more than that were offered",
            code="machine_full",
        )
    for other in busy:
        if shared := set(other.gpu_uuids) & set(lease.gpu_uuids):
            raise NotOurs(
                f"GPU {min(shared)} is promised to lease {other.id}",
                code="gpu_promised",
            )
    for field in ("cpus_milli", "memory_bytes", "disk_bytes"):
        used = sum(getattr(other, field) for other in busy)
        if used + getattr(lease, field) > getattr(offer, field):
            raise NotOurs(
                f"{field}: {getattr(lease, field)} asked, {used} of "
                f"{getattr(offer, field)} are promised already",
                code="machine_full",
                field=field,
            )


def _is_busy(record: LeaseRecord) -> bool:
    """Say whether a lease has its slice: also while its data is still to be erased."""
    return record.stage in OCCUPYING or (
        ERASURE in record.lease.features and record.stage is not Stage.GONE
    )


def _check_offered(lease: Lease, *, offer: Offer, provider: Address) -> None:
    if lease.provider != provider or lease.ssh_host_key != offer.ssh_host_key:
        raise NotOurs("the lease names another provider or host key")
    if lease.sandbox and lease.sandbox not in offer.sandboxes:
        raise NotOurs(
            f"the lease is for a sandbox {lease.sandbox!r} that was not offered",
            code="not_offered",
        )
    if not set(lease.features) <= set(offer.features):
        raise NotOurs("the lease is for features not offered", code="not_offered")
    if not set(lease.gpu_uuids) <= set(offer.gpu_uuids):
        raise NotOurs("the lease names a GPU that was not offered", code="not_offered")
    if lease.tenant in offer.refuses:
        raise NotOurs("the owner does not work for this tenant", code="refused_tenant")


def _check_price(lease: Lease, *, offer: Offer, bid: BidMade | None) -> None:
    """Hold a lease to the listed prices, or to the one bid that it can have won."""
    if bid is not None:
        _check_won(lease, bid)
    floor = (
        compute_floor_of_slice(
            offer,
            cpus_milli=lease.cpus_milli,
            memory_bytes=lease.memory_bytes,
            gpus=len(lease.gpu_uuids),
        )
        if bid is None
        else bid.price_hour
    )
    if lease.price_hour < floor:
        raise NotOurs(
            f"{lease.price_hour} micro-USD an hour is below the floor of {floor}",
            code="below_floor",
        )


def _check_won(lease: Lease, bid: BidMade) -> None:
    """A bid is for one lease: this one, of that slice, on that machine."""
    slice_ = (
        lease.machine,
        lease.cpus_milli,
        lease.memory_bytes,
        lease.disk_bytes,
        len(lease.gpu_uuids),
    )
    bid_for = (
        bid.machine,
        bid.cpus_milli,
        bid.memory_bytes,
        bid.disk_bytes,
        bid.gpu_count,
    )
    is_longer = lease.duration_s > bid.duration_s
    if lease.id != lease.order or slice_ != bid_for or is_longer:
        raise NotOurs("the lease is for another slice than was bid for", code="not_bid")


def make_terms(lease: Lease, *, now_s: int, salt: int) -> LeaseTerms:
    """Write the terms of a match that was checked, for signing."""
    return LeaseTerms(
        lease_id=lease.id,
        offer_id=lease.offer_id,
        tenant=lease.tenant,
        provider=lease.provider,
        price_hour=lease.price_hour,
        duration_s=lease.duration_s,
        signed_at_s=now_s,
        salt=salt,
    )


def choose_uid(taken: Iterable[int], *, first: int) -> int:
    """Give the lowest host uid from ``first`` on that no lease has."""
    used = set(taken)
    uid = first
    while uid in used:
        uid += 1
    return uid
