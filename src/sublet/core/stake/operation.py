"""What can be asked of the stake contract: one class for each of its functions.

Who called, who signed and what was signed come with the operation: whoever calls the
model has recovered signers and computed digests (``wire``).

Not here: what an operation does (``step``).
"""

from msgspec import Struct

from sublet.base.ids import Address, Digest
from sublet.core.document import LeaseTerms, UsageRecord


class Mint(Struct, frozen=True):
    """Tokens come into a wallet from outside."""

    target: Address
    amount: int  # units of the token


class Block(Struct, frozen=True):
    """The token's issuer takes a party on its blacklist, or off it."""

    target: Address
    is_blocked: bool


class Stake(Struct, frozen=True):
    """Put up for a provider, out of the caller's tokens."""

    provider: Address
    amount: int
    caller: Address


class Unbond(Struct, frozen=True):
    """A provider asks for some of it back."""

    amount: int
    caller: Address


class Withdraw(Struct, frozen=True):
    """Pay a provider what is unbonded; anybody asks."""

    provider: Address


class SignedTerms(Struct, frozen=True):
    """Terms as they were brought, and whose signature it is."""

    document: LeaseTerms
    signer: Address | None  # None where the signature is none


class SignedUsage(Struct, frozen=True):
    """A reading as it was brought, and whose signature it is."""

    document: UsageRecord
    signer: Address | None


class SlashTerms(Struct, frozen=True):
    """Two terms of one lease that contradict each other; anybody brings them."""

    first: SignedTerms
    second: SignedTerms
    evidence: Digest  # hash of the two digests


class SlashUsage(Struct, frozen=True):
    """Two readings of one number that contradict each other, and the lease's terms."""

    first: SignedUsage
    second: SignedUsage
    terms: SignedTerms
    evidence: Digest


class PayAward(Struct, frozen=True):
    """Pay a tenant what a contradiction brought it; anybody asks."""

    award_id: int


class OpenCase(Struct, frozen=True):
    """Arbiters ask for a part of a stake."""

    case_id: Digest
    provider: Address
    tenant: Address
    amount: int
    evidence: Digest
    signers: tuple[Address | None, ...]


class Appeal(Struct, frozen=True):
    """The provider disagrees with a case."""

    case_id: Digest
    caller: Address


class ExecuteCase(Struct, frozen=True):
    """Grant what a case asks for; anybody asks."""

    case_id: Digest
    signers: tuple[Address | None, ...]  # of its confirmation, after an appeal


class DropCase(Struct, frozen=True):
    """Nobody executed a case in time; anybody says so."""

    case_id: Digest


class Pay(Struct, frozen=True):
    """Pay a tenant what cases granted it; anybody asks."""

    tenant: Address


Operation = (
    Mint
    | Block
    | Stake
    | Unbond
    | Withdraw
    | SlashTerms
    | SlashUsage
    | PayAward
    | OpenCase
    | Appeal
    | ExecuteCase
    | DropCase
    | Pay
)
