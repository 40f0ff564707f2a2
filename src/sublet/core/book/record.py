"""What the book remembers of parties and their agreements: plain, immutable values."""

from msgspec import Struct

from sublet.base.ids import Address, Digest
from sublet.core.document import Offer
from sublet.core.reliability.chance import lasts_s

UNLIMITED = 1 << 31  # leases on a machine whose owner names no number


class ProviderRecord(Struct, frozen=True):
    """A provider's standing: whether a node reaches it, and how its leases ended."""

    provider: Address
    is_up: bool = False
    since_s: int = 0  # when it was last seen or lost
    times_lost: int = 0
    leases_completed: int = 0  # ran, and ended without anyone's fault
    leases_at_fault: int = 0  # settled by the provider's fault
    ran_s: int = 0  # seconds that its settled leases ran
    withdrew_s: int = 0  # when the newest offer was signed that it took back

    @property
    def lasts_s(self) -> int:
        """Seconds between two faults, as predicted."""
        return lasts_s(ran_s=self.ran_s, faults=self.leases_at_fault)


class ChannelRecord(Struct, frozen=True):
    """The one payment channel of payer, receiver and authorizer in this market."""

    id: Digest
    payer: Address
    receiver: Address
    authorizer: Address  # who signs its vouchers
    vouched: int = 0  # micro-USD: what the last voucher says, cumulative
    paid: int = 0  # micro-USD that settled leases were paid out of it
    # On the escrow rail, by the last Mirror, in micro-USD:
    balance: int = 0  # that lies in it on the chain, what was claimed included
    claimed: int = 0
    withdrawing: int = 0  # that the payer has asked back
    block: int = 0  # of which the three are

    @property
    def line(self) -> tuple[Address, Address, Address]:
        """Its ends, and who signs its vouchers."""
        return (self.payer, self.receiver, self.authorizer)

    @property
    def uncollected(self) -> int:
        """Micro-USD that were paid here, and left the chain before they were claimed."""
        return max(0, self.paid - self.balance)


class DelegationRecord(Struct, frozen=True):
    """A key that may order in a tenant's name, and how much of its budget is left."""

    id: Digest
    tenant: Address
    delegate: Address
    budget: int  # micro-USD
    expires_at_s: int
    leases_max: int
    providers: tuple[Address, ...]  # with whom alone it may deal; empty for anyone
    is_revoked: bool = False
    spent: int = 0  # micro-USD paid by settled leases
    held: int = 0  # micro-USD set aside for open ones
    leases_open: int = 0


class PaceRecord(Struct, frozen=True, gc=False):
    """When a key may say as much of a kind at once again as if it had been silent."""

    signer: Address
    kind: str  # of document
    full_at_ms: int


class OfferRecord(Struct, frozen=True):
    """One machine on offer, and what leases use of it."""

    id: Digest
    number: int  # position in the log: the older of two equal offers wins
    provider: Address
    offer: Offer
    is_withdrawn: bool = False
    cpus_milli_used: int = 0
    memory_bytes_used: int = 0
    disk_bytes_used: int = 0
    gpus_used: frozenset[str] = frozenset()  # UUIDs
    leases_used: int = 0  # how many leases use a part of it

    def is_live(self, now_s: int) -> bool:
        """Say whether the offer stands: neither withdrawn nor expired."""
        return not self.is_withdrawn and self.offer.expires_at_s > now_s

    def is_used(self) -> bool:
        """Say whether any lease still uses a part of the machine."""
        return self.leases_used > 0

    def leases_free(self) -> int:
        """Count the leases that the owner takes on beside those that there are."""
        return (self.offer.leases_max or UNLIMITED) - self.leases_used

    def gpus_free(self) -> list[str]:
        """List the UUIDs that no lease has bound, sorted."""
        return sorted(set(self.offer.gpu_uuids) - self.gpus_used)
