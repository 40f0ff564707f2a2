"""What the stake contract says that it did: the content of its logs.

Not here: the bytes of a log (``wire.stake_call``).
"""

from msgspec import Struct

from sublet.base.ids import Address, Digest


class Staked(Struct, frozen=True):
    """Somebody put tokens up for a provider."""

    provider: Address
    amount: int


class Unbonding(Struct, frozen=True):
    """A provider wants some of it back; until then it stays at risk."""

    provider: Address
    amount: int
    unbonded_at_s: int


class Withdrawn(Struct, frozen=True):
    """A provider was paid what was unbonded."""

    provider: Address
    amount: int


class Contradicted(Struct, frozen=True):
    """A provider's key contradicted itself, and lost what was free."""

    provider: Address
    tenant: Address
    lease_id: Digest
    award_id: int
    awarded: int
    burnt: int
    evidence: Digest  # hash of the two digests


class AwardPaid(Struct, frozen=True):
    """A tenant was paid what a contradiction brought it."""

    award_id: int
    tenant: Address
    amount: int


class CaseOpened(Struct, frozen=True):
    """A quorum of arbiters asks for a part of a stake."""

    case_id: Digest
    provider: Address
    tenant: Address
    amount: int
    evidence: Digest
    executable_at_s: int


class CaseAppealed(Struct, frozen=True):
    """The provider disagrees."""

    case_id: Digest


class CaseClosed(Struct, frozen=True):
    """A case was executed, or has run out."""

    case_id: Digest
    is_executed: bool
    amount: int


class Paid(Struct, frozen=True):
    """A tenant was paid what cases granted it."""

    tenant: Address
    amount: int


Event = (
    Staked
    | Unbonding
    | Withdrawn
    | Contradicted
    | AwardPaid
    | CaseOpened
    | CaseAppealed
    | CaseClosed
    | Paid
)
