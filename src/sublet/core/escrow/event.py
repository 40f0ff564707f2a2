"""What the escrow contract says that it did: the content of its logs.

Not here: the bytes of a log (``adapter``).
"""

from msgspec import Struct

from sublet.base.ids import Address, Digest


class Deposited(Struct, frozen=True):
    """Tokens came into a channel."""

    channel_id: Digest
    payer: Address
    receiver: Address
    amount: int
    balance: int  # afterwards


class Claimed(Struct, frozen=True):
    """A voucher was turned into what its receiver has earned."""

    channel_id: Digest
    total: int  # of the channel, afterwards


class Skipped(Struct, frozen=True):
    """A voucher of a batch paid nothing; ``reason`` is one of SKIP_REASONS."""

    channel_id: Digest
    reason: str


class Settled(Struct, frozen=True):
    """A receiver was paid what it had earned."""

    receiver: Address
    token: Address
    amount: int


class WithdrawInitiated(Struct, frozen=True):
    """A payer wants its money back: whoever holds vouchers claims them now."""

    channel_id: Digest
    amount: int
    finalizable_at_s: int


class WithdrawFinalized(Struct, frozen=True):
    """A payer has its money back."""

    channel_id: Digest
    amount: int
    balance: int


class Refunded(Struct, frozen=True):
    """A receiver gave money back to the payer."""

    channel_id: Digest
    amount: int
    balance: int


Event = (
    Deposited
    | Claimed
    | Skipped
    | Settled
    | WithdrawInitiated
    | WithdrawFinalized
    | Refunded
)

SKIP_REASONS = (
    "not_payee",  # the claimant is neither receiver nor its authorizer
    "over_voucher",  # claimed is more than the voucher says
    "stale_voucher",  # a later one was claimed before, or this one
    "nothing_left",  # the deposit is claimed to the last unit
    "bad_signature",  # malformed, malleable, or not by the payer's key
)
