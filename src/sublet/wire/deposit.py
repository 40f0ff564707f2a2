"""A tenant's deposit for one lease: its word to a token, which the provider brings there.

It is an EIP-3009 authorization to the escrow contract whose nonce is made of the channel
and of the lease. So it fills this channel and no other, counts once however often and by
whomever it is sent, and the tenant needs no gas.

Not here: the typed data itself (``token_message``), sending (``service.sender``).
"""

from typing import Annotated

from msgspec import Meta, Struct

from sublet.base.errors import PeerFault
from sublet.base.ids import Address, Digest
from sublet.core.document import Channel
from sublet.core.lease.phase import Lease
from sublet.core.member import Amount, Seconds
from sublet.wire.signature import Key, recover
from sublet.wire.token_message import TokenDomain, TokenMessage, authorization
from sublet.wire.typed_data import Domain, digest


class BadDeposit(PeerFault):
    """A deposit that its token would not take."""

    code = "bad_deposit"


class Deposit(Struct, frozen=True, forbid_unknown_fields=True):
    """What its tenant signed for one lease; amounts in the token's smallest unit."""

    amount: Amount
    valid_before_s: Seconds  # by the chain's time
    signature: Annotated[str, Meta(pattern=r"\A0x[0-9a-f]{130}\Z")]


class ChainTerms(Struct, frozen=True, forbid_unknown_fields=True):
    """What a party has to know of the chain, and does not look up itself."""

    token_name: str  # with the version: in which domain its messages are signed
    token_version: str
    rpc: str = ""  # that the operator lets everybody use; "" for none
    # The contract of providers' stake; "" for none.
    stake: Annotated[str, Meta(pattern=r"\A(0x[0-9a-f]{40})?\Z")] = ""


def token_domain(terms: ChainTerms, domain: Domain, token: Address) -> TokenDomain:
    """Say in which domain the token's messages are signed."""
    return TokenDomain(terms.token_name, terms.token_version, domain.chain_id, token)


def salt_of(lease_id: Digest) -> int:
    """Give the salt of a lease's one deposit."""
    return int(lease_id, 16)


def sign_deposit(
    lease: Lease,
    channel: Channel,
    *,
    domain: Domain,
    token: TokenDomain,
    valid_before_s: int,
    amount: int,
    key: Key,
) -> Deposit:
    """Let so much go from the tenant's wallet into the pair's channel, for this lease."""
    message = _message(
        lease.id,
        channel,
        domain=domain,
        token=token,
        valid_before_s=valid_before_s,
        amount=amount,
    )
    signature = "0x" + key.sign(message.digest).hex()
    return Deposit(amount, valid_before_s, signature)


def check_deposit(
    said: Deposit, lease: Lease, channel: Channel, *, domain: Domain, token: TokenDomain
) -> None:
    """Check that the channel's payer signed it for this lease.

    Raises:
        BadDeposit: another one did, or for something else.
        PeerFault: the signature is none.
    """
    message = _message(
        lease.id,
        channel,
        domain=domain,
        token=token,
        valid_before_s=said.valid_before_s,
        amount=said.amount,
    )
    signer = recover(message.digest, bytes.fromhex(said.signature[2:]))
    if signer != channel.payer:
        raise BadDeposit(
            f"the deposit was signed by {signer}, and the channel's payer is "
            f"{channel.payer}; sign it for this lease, channel and token"
        )


def _message(
    lease_id: Digest,
    channel: Channel,
    *,
    domain: Domain,
    token: TokenDomain,
    valid_before_s: int,
    amount: int,
) -> TokenMessage:
    return authorization(
        token,
        payer=channel.payer,
        escrow=domain.contract,
        channel_id=digest(channel, domain),
        amount=amount,
        valid_after_s=0,
        valid_before_s=valid_before_s,
        salt=salt_of(lease_id),
    )
