"""An order that waits for its lease, as the book remembers it: plain, immutable values.

Not here: what makes it go on (``live``, ``standing``, ``spot``, ``reserved``, ``gang``).
"""

from enum import StrEnum

from msgspec import Struct

from sublet.base.ids import Address, Digest
from sublet.core.document import Order

FILLED = "filled"  # why an order ends that got all that it wanted


class OrderPhase(StrEnum):
    """What an order waits for. Each but the last has a deadline of the book's own."""

    BIDDING = "bidding"  # for providers, until its window closes
    CHOOSING = "choosing"  # for its tenant to take one of the bids
    WAITING = "waiting"  # for supply at its price
    COMMITTING = "committing"  # for each provider of its gang to sign the terms
    RESERVED = "reserved"  # for the time from which on a slice is its own
    ENDED = "ended"  # nothing moves any more; leases that it got go their own way


class BidRecord(Struct, frozen=True, array_like=True, gc=False):
    """One provider's word for one order; the lower of its prices counts."""

    id: Digest
    provider: Address
    machine: str  # whatever is offered of it by then
    price_hour: int  # micro-USD


class Booking(Struct, frozen=True, gc=False):
    """A slice of a machine that is spoken for, from a time on and until another."""

    provider: Address
    machine: str
    offer_id: Digest  # by which it was promised
    price_hour: int  # micro-USD
    duration_s: int
    hold: int  # micro-USD that the lease may cost at most
    from_s: int
    until_s: int  # when even a lease that ends by force has left it


class OpenOrder(Struct, frozen=True, gc=False):
    """One order that waits, or did. All times in seconds (UTC), money in micro-USD."""

    id: Digest
    order: Order
    signer: Address  # the tenant, or its delegate
    phase: OrderPhase
    placed_at_s: int
    deadline_s: int  # when the present phase is over by force
    hold: int  # set aside in the tenant's wallet for what is still to be leased
    left_s: int  # seconds of the slice that are still to be leased
    leases: tuple[Digest, ...] = ()  # that it got, oldest first
    bids: tuple[BidRecord, ...] = ()  # best first
    booking: Booking | None = None
    reason: str = ""  # why it ended: filled, cancelled, expired, …

    @property
    def tenant(self) -> Address:
        """Who pays."""
        return self.order.tenant

    @property
    def delegation(self) -> Digest:
        """Whose budget its hold counts against, or NO_DIGEST."""
        return self.order.delegation

    @property
    def is_piecewise(self) -> bool:
        """Say whether it is filled by several leases."""
        return self.order.volume_s > 0
