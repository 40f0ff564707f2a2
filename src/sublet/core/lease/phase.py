"""The phases of a lease and the lease itself: plain values.

Not here: what moves a lease from one phase to the next (``lease.table``).
"""

from enum import StrEnum

from msgspec import Struct

from sublet.base.ids import NO_ADDRESS, NO_DIGEST, Address, Digest

REVOKED = "revoked"  # why a lease ends whose delegation was revoked
NOT_FUNDED = "not_funded"  # … for which no deposit came in time
WITHDRAWN = "withdrawn"  # … whose deposit its tenant took back


class Phase(StrEnum):
    """Where a lease stands. Each but the last has a deadline with an owner."""

    MATCHED = "matched"  # provider must sign the terms
    ACCEPTED = "accepted"  # tenant must deliver the manifest
    PREPARING = "preparing"  # provider must start the job; not billed
    RUNNING = "running"  # provider must report; tenant may be billed
    CLOSING = "closing"  # provider must send the receipt
    SETTLING = "settling"  # tenant must send the last voucher
    SETTLED = "settled"  # paid; nothing moves any more


class Fault(StrEnum):
    """Who made the lease end before its time."""

    NOBODY = "nobody"
    TENANT = "tenant"
    PROVIDER = "provider"


class Lease(Struct, frozen=True, gc=False):
    """One slice of one machine, promised to one tenant. All times in seconds (UTC)."""

    id: Digest  # the order's id, but for a piece of a standing order
    offer_id: Digest
    tenant: Address
    provider: Address
    machine: str
    phase: Phase
    price_hour: int  # micro-USD for the whole slice: what the runner-up would cost
    duration_s: int  # longest it may run
    hold: int  # micro-USD set aside in the tenant's wallet
    cpus_milli: int
    memory_bytes: int
    disk_bytes: int
    gpu_uuids: tuple[str, ...]  # the GPUs that are bound, by UUID
    manifest: Digest
    sandbox: str  # the class that the order required; "" for any
    features: tuple[str, ...]  # that the order required
    ssh_key: str  # the tenant's
    ssh_host_key: str  # the provider's, as in the offer
    endpoint: str
    matched_at_s: int
    deadline_s: int  # when the present phase is over by force
    started_at_s: int = 0  # 0: never
    ends_by_s: int = 0  # when duration_s has passed, outages of the market not counted
    ended_at_s: int = 0
    ran_ms: int = 0  # by the latest record or the receipt
    secured_ms: int = 0  # up to the last checkpoint that the tenant keeps
    checkpoint: Digest = NO_DIGEST
    exit_code: int = 0
    outputs: Digest = NO_DIGEST
    reason: str = ""  # why it ended
    fault: Fault = Fault.NOBODY
    owed: int = 0  # micro-USD for what ran, by the meter
    paid: int = 0  # micro-USD that moved at settlement
    give_back_by_s: int = 0  # owner's notice: receipt due by then; 0: no notice
    is_erasure_due: bool = False  # its slice stays bound until the provider has erased
    erasure: Digest = NO_DIGEST  # of the statement that says how
    erasure_level: str = ""  # its assurance: "A0" … "A4"
    delegation: Digest = NO_DIGEST  # whose budget it counts against
    delegate: Address = NO_ADDRESS  # who ordered it under that delegation
    order: Digest = NO_DIGEST  # that it fills, or a piece of which it is
    until_s: int = 0  # its slice is another's from then on, or soon after; 0: never
    spot_max: int = 0  # micro-USD an hour: who pays more displaces it; 0: nobody does
    notice_s: int = 0  # with which it was sold, for that case
    displaced_by: Digest = NO_DIGEST  # the order that did
    replacement: Digest = NO_DIGEST  # the manifest that the tenant asked for last
    replacements: int = 0  # how often it did
    runs: Digest = NO_DIGEST  # of those, the one that runs; NO_DIGEST: the order's
    is_funded: bool = (
        True  # its hold is there; on the escrow rail, once it is deposited
    )
    deposit_due: int = 0  # micro-USD that its channel lacks for it; see book.due
    channel_total: int = 0  # what a voucher must say to cover it; see book.view

    @property
    def authorizer(self) -> Address:
        """Who speaks and pays for the tenant: it itself, or its delegate."""
        return self.tenant if self.delegation == NO_DIGEST else self.delegate

    @property
    def line(self) -> tuple[Address, Address, Address]:
        """The ends of the channel that pays it: payer, receiver, who signs vouchers."""
        return (self.tenant, self.provider, self.authorizer)


_PLACE = {phase: place for place, phase in enumerate(Phase)}


def is_older(lease: Lease, *, than: Lease) -> bool:
    """Say whether ``lease`` is an earlier state of the same lease.

    Phases and meters only go up; where they are equal, neither is older.
    """
    return _age(lease) < _age(than)


def _age(lease: Lease) -> tuple[int, int, int]:
    return _PLACE[lease.phase], lease.ran_ms, lease.secured_ms
