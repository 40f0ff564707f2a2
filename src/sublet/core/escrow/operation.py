"""What can be asked of the escrow contract: one class for each of its functions.

Who called, who signed and a channel's id come with the operation: whoever calls the
model has checked signatures and computed digests (``wire``).

Not here: what an operation does (``step``).
"""

from msgspec import Struct

from sublet.base.ids import Address, Digest
from sublet.core.document import Channel


class Mint(Struct, frozen=True):
    """Tokens come into a wallet from outside."""

    token: Address
    target: Address
    amount: int  # units of the token


class Block(Struct, frozen=True):
    """A token's issuer takes a party on its blacklist, or off it."""

    token: Address
    target: Address
    is_blocked: bool


class Deposit(Struct, frozen=True):
    """Open a channel or top it up, by any of the ways."""

    channel_id: Digest
    channel: Channel
    amount: int
    source: Address  # whose tokens: the caller's or, where it signed, the payer's


class Voucher(Struct, frozen=True):
    """One voucher of a batch, as its signature was found to be."""

    channel_id: Digest
    channel: Channel
    most: int  # that the voucher allows to claim, cumulative
    total: int  # that is claimed of it, cumulative
    signer: Address | None  # None where the signature is none


class Claim(Struct, frozen=True):
    """Claim a batch of vouchers."""

    claimant: Address  # the caller or, of a signed batch, its signer
    vouchers: tuple[Voucher, ...]


class Settle(Struct, frozen=True):
    """Pay a receiver what it has claimed; anybody asks."""

    receiver: Address
    token: Address


class Refund(Struct, frozen=True):
    """The receiver gives back what it has not claimed."""

    channel_id: Digest
    channel: Channel
    amount: int  # at most
    claimant: Address | None  # the caller, or who signed; None: the signature is none
    nonce: int | None = None  # of a signed refund


class InitiateWithdraw(Struct, frozen=True):
    """The payer wants its money back after the delay."""

    channel_id: Digest
    channel: Channel
    amount: int
    caller: Address


class FinalizeWithdraw(Struct, frozen=True):
    """The delay is over; anybody asks."""

    channel_id: Digest
    channel: Channel


Operation = (
    Mint
    | Block
    | Deposit
    | Claim
    | Settle
    | Refund
    | InitiateWithdraw
    | FinalizeWithdraw
)
