"""x402 version 2, scheme ``batch-settlement``: what client and resource say over HTTP.

A resource answers 402 with what it asks (``PAYMENT-REQUIRED``); the client comes again
with a voucher, and with a deposit where its channel holds too little
(``PAYMENT-SIGNATURE``); the resource serves, and says what it took (``PAYMENT-RESPONSE``).
All three are JSON in base64, and channels and vouchers are those of the escrow contract.

Pure. Not here: HTTP and the chain (``adapter.x402_door``). Refunds over HTTP and wallets
that are contracts (EIP-1271) are not spoken.
"""

import base64
import binascii
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct

from sublet.base.errors import Refused
from sublet.base.ids import NO_DIGEST, Address, Digest
from sublet.base.limits import AMOUNT_MAX
from sublet.core.document import Channel, Voucher
from sublet.core.escrow.state import ChannelState
from sublet.wire.abi import encode_values
from sublet.wire.signature import BadSignature, recover
from sublet.wire.typed_data import Domain, digest, keccak

VERSION = 2
SCHEME = "batch-settlement"
REQUIRED_HEADER = "PAYMENT-REQUIRED"
PAYMENT_HEADER = "PAYMENT-SIGNATURE"
RESPONSE_HEADER = "PAYMENT-RESPONSE"
HEADER_LENGTH_MAX = 8_000  # characters; what servers take of one header

# What x402 calls the reasons; its clients act on some of them.
_PREFIX = "invalid_batch_settlement_evm_"
BAD_PAYLOAD = f"{_PREFIX}payload_type"
BAD_NETWORK = f"{_PREFIX}network_mismatch"
BAD_CHANNEL_ID = f"{_PREFIX}channel_id_mismatch"
BAD_RECEIVER = f"{_PREFIX}receiver_mismatch"
BAD_AUTHORIZER = f"{_PREFIX}receiver_authorizer_mismatch"
BAD_TOKEN = f"{_PREFIX}token_mismatch"
BAD_DELAY = f"{_PREFIX}withdraw_delay_mismatch"
BAD_SIGNATURE = f"{_PREFIX}voucher_signature"
BAD_AMOUNT = f"{_PREFIX}cumulative_amount_mismatch"
BELOW_CLAIMED = f"{_PREFIX}cumulative_below_claimed"
OVER_BALANCE = f"{_PREFIX}cumulative_exceeds_balance"
NO_CHANNEL = f"{_PREFIX}channel_not_found"
SMALL_DEPOSIT = f"{_PREFIX}deposit_below_min_deposit"
DEPOSIT_FAILED = f"{_PREFIX}deposit_transaction_failed"
BUSY = f"{_PREFIX}channel_busy"
UNKNOWN_STATE = f"{_PREFIX}channel_state_read_failed"

_Account = Annotated[str, Meta(pattern=r"\A0x[0-9a-fA-F]{40}\Z")]
_Word = Annotated[str, Meta(pattern=r"\A0x[0-9a-fA-F]{64}\Z")]
_Digits = Annotated[str, Meta(pattern=r"\A[0-9]{1,39}\Z")]
_Hex = Annotated[str, Meta(pattern=r"\A0x([0-9a-fA-F]{2}){0,1024}\Z")]


class BadPayment(Refused):
    """This payment is not taken; the reason is x402's, and a new one may be made."""

    code = "bad_payment"

    def __init__(self, reason: str) -> None:
        """Take x402's word for it."""
        super().__init__(f"the payment is not taken: {reason}")
        self.reason = reason


class Terms(Struct, frozen=True, kw_only=True):
    """What a resource asks of every payer, whatever a request costs."""

    chain_id: int
    escrow: Address
    receiver: Address
    receiver_authorizer: Address
    token: Address
    token_name: str  # of its EIP-712 domain, as the token itself says
    token_version: str
    withdraw_delay_s: int
    deposit_min: int  # units; a deposit costs its receiver gas
    timeout_s: int = 300  # that an authorization of a deposit lives

    @property
    def network(self) -> str:
        """The chain, by its CAIP-2 name."""
        return f"eip155:{self.chain_id}"

    @property
    def domain(self) -> Domain:
        """What channels and vouchers are signed in; no market is part of it."""
        return Domain(NO_DIGEST, self.chain_id, self.escrow)


class Authorization(Struct, frozen=True, rename="camel"):
    """An EIP-3009 authorization for the collector, as x402's client writes it."""

    valid_after: _Digits
    valid_before: _Digits
    salt: _Word
    signature: _Hex


class Deposit(Struct, frozen=True):
    """What a payer wants to bring into its channel."""

    amount: int
    authorization: Authorization

    def encode(self) -> bytes:
        """Write the authorization as the contract ``Eip3009Collector`` reads it."""
        said = self.authorization
        values = (
            int(said.valid_after),
            int(said.valid_before),
            int(said.salt, 16),
            bytes.fromhex(said.signature[2:]),
        )
        return encode_values("(uint256,uint256,uint256,bytes)", values)


class Payment(Struct, frozen=True):
    """One payment, well formed; whether it pays is ``find_objection``'s to say."""

    channel: Channel
    voucher: Voucher
    signature: bytes
    deposit: Deposit | None = None

    def name_deposit(self) -> str:
        """Name the deposit by its nonce: the same authorization has the same name."""
        assert self.deposit is not None
        salt = self.deposit.authorization.salt
        nonce = keccak(bytes.fromhex(self.voucher.channel_id[2:] + salt[2:]))
        return f"x402-deposit-{nonce.hex()}"


# ---- what a client sends ----------------------------------------------------------


class _Config(Struct, rename="camel"):
    payer: _Account
    payer_authorizer: _Account
    receiver: _Account
    receiver_authorizer: _Account
    token: _Account
    withdraw_delay: Annotated[int, Meta(ge=0, lt=1 << 40)]
    salt: _Word


class _Voucher(Struct, rename="camel"):
    channel_id: _Word
    max_claimable_amount: _Digits
    signature: _Hex


class _Ways(Struct, rename={"erc3009": "erc3009Authorization"}):
    erc3009: Authorization


class _Deposit(Struct):
    amount: _Digits
    authorization: _Ways


class _Paid(Struct, rename={"channel_config": "channelConfig"}):
    type: str
    channel_config: _Config
    voucher: _Voucher
    deposit: _Deposit | None = None


class _Accepted(Struct):
    scheme: str
    network: str


class _Payload(Struct, rename={"version": "x402Version"}):
    version: int
    accepted: _Accepted
    payload: _Paid


def read_payment(header: str, terms: Terms) -> Payment:
    """Read the header of a paid request.

    Raises:
        BadPayment: it is none, or one of another kind, version or chain.
    """
    try:
        if len(header) > HEADER_LENGTH_MAX:
            raise BadPayment(BAD_PAYLOAD)
        said = msgspec.json.decode(
            base64.b64decode(header, validate=True), type=_Payload
        )
    except (msgspec.MsgspecError, binascii.Error, ValueError, RecursionError) as error:
        raise BadPayment(BAD_PAYLOAD) from error
    paid = said.payload
    if said.version != VERSION or said.accepted.scheme != SCHEME:
        raise BadPayment(BAD_PAYLOAD)
    if said.accepted.network != terms.network:
        raise BadPayment(BAD_NETWORK)
    if (paid.type, paid.deposit is None) not in (("voucher", True), ("deposit", False)):
        raise BadPayment(BAD_PAYLOAD)
    most = int(paid.voucher.max_claimable_amount)
    amount = int(paid.deposit.amount) if paid.deposit else 0
    if max(most, amount) > AMOUNT_MAX:
        raise BadPayment(BAD_AMOUNT)
    config = paid.channel_config
    return Payment(
        channel=Channel(
            payer=config.payer.lower(),
            payer_authorizer=config.payer_authorizer.lower(),
            receiver=config.receiver.lower(),
            receiver_authorizer=config.receiver_authorizer.lower(),
            token=config.token.lower(),
            withdraw_delay=config.withdraw_delay,
            salt=config.salt.lower(),
        ),
        voucher=Voucher(
            channel_id=paid.voucher.channel_id.lower(), max_claimable_amount=most
        ),
        signature=bytes.fromhex(paid.voucher.signature[2:]),
        deposit=Deposit(amount, paid.deposit.authorization.erc3009)
        if paid.deposit
        else None,
    )


# ---- whether it pays --------------------------------------------------------------


def check_voucher(payment: Payment, terms: Terms) -> None:
    """Check all that needs no look at the chain: the channel's terms, the signature.

    Strict, as the contract is: 65 bytes, v of 27 or 28, low s.

    Raises:
        BadPayment: it is not for this resource, or not signed by who may.
    """
    channel, voucher = payment.channel, payment.voucher
    wanted = (
        (digest(channel, terms.domain), voucher.channel_id, BAD_CHANNEL_ID),
        (channel.receiver, terms.receiver, BAD_RECEIVER),
        (channel.receiver_authorizer, terms.receiver_authorizer, BAD_AUTHORIZER),
        (channel.token, terms.token, BAD_TOKEN),
        (channel.withdraw_delay, terms.withdraw_delay_s, BAD_DELAY),
    )
    for found, right, reason in wanted:
        if found != right:
            raise BadPayment(reason)
    try:
        signer = recover(digest(voucher, terms.domain), payment.signature)
    except BadSignature as error:
        raise BadPayment(BAD_SIGNATURE) from error
    if signer != channel.payer_authorizer:
        raise BadPayment(BAD_SIGNATURE)


def check_amount(
    payment: Payment,
    terms: Terms,
    *,
    price: int,
    charged: int,
    state: ChannelState,
) -> None:
    """Check that a voucher pays for one more request, and that it is covered.

    Args:
        payment: its voucher and channel are checked.
        terms: of the resource.
        price: of this request, in units of the token.
        charged: what all requests before have cost.
        state: of the channel, at a confirmed block, before the deposit.

    Raises:
        BadPayment: replayed, stale, too small, too large, or not covered.
    """
    most = payment.voucher.max_claimable_amount
    if most != charged + price:
        raise BadPayment(BAD_AMOUNT)
    if most <= state.claimed:
        raise BadPayment(BELOW_CLAIMED)
    if payment.deposit is None and state.balance == 0:
        raise BadPayment(NO_CHANNEL)
    if payment.deposit is not None and payment.deposit.amount < terms.deposit_min:
        raise BadPayment(SMALL_DEPOSIT)
    brought = payment.deposit.amount if payment.deposit else 0
    # What is on its way back to the payer covers nothing.
    if most > state.balance - state.withdrawing + brought:
        raise BadPayment(OVER_BALANCE)


# ---- what a resource says ---------------------------------------------------------


def write_required(
    terms: Terms,
    *,
    price: int,
    url: str,
    error: str = "",
    known: dict[str, Any] | None = None,
) -> str:
    """Write the header that asks for payment.

    Args:
        terms: of the resource.
        price: of this request, in units of the token.
        url: of the resource.
        error: why the payment that came was not taken; "" where none came.
        known: the state of the payer's channel (``describe_channel``), from which it
            finds what its next voucher has to say.
    """
    extra = {
        "receiverAuthorizer": terms.receiver_authorizer,
        "withdrawDelay": terms.withdraw_delay_s,
        "name": terms.token_name,
        "version": terms.token_version,
        "assetTransferMethod": "eip3009",
        "minDeposit": str(max(terms.deposit_min, price)),
        **(known or {}),
    }
    asked = {
        "scheme": SCHEME,
        "network": terms.network,
        "asset": terms.token,
        "amount": str(price),
        "payTo": terms.receiver,
        "maxTimeoutSeconds": terms.timeout_s,
        "extra": extra,
    }
    said: dict[str, Any] = {"x402Version": VERSION, "resource": {"url": url}}
    if error:
        said["error"] = error
    return _pack({**said, "accepts": [asked]})


def write_response(
    terms: Terms,
    payment: Payment,
    state: ChannelState,
    *,
    charged: int,
    taken: int,
    transaction: Digest | None,
) -> str:
    """Write the header that says what was taken; ``charged`` counts it already."""
    deposit = payment.deposit
    return _pack(
        {
            "success": True,
            "payer": payment.channel.payer,
            "transaction": transaction or "",
            "network": terms.network,
            "amount": str(deposit.amount) if deposit else "",
            "extra": {
                "chargedAmount": str(taken),
                "channelState": _tell_state(payment.voucher.channel_id, state, charged),
            },
        }
    )


def describe_channel(
    channel_id: Digest,
    state: ChannelState,
    *,
    charged: int,
    signed: int = 0,
    signature: bytes = b"",
) -> dict[str, Any]:
    """Tell a payer how its channel stands, with its own last voucher as the proof."""
    known: dict[str, Any] = {"channelState": _tell_state(channel_id, state, charged)}
    if signature:
        known["voucherState"] = {
            "signedMaxClaimable": str(signed),
            "signature": "0x" + signature.hex(),
        }
    return known


def _tell_state(
    channel_id: Digest, state: ChannelState, charged: int
) -> dict[str, Any]:
    return {
        "channelId": channel_id,
        "balance": str(state.balance),
        "totalClaimed": str(state.claimed),
        "withdrawRequestedAt": state.initiated_at_s,
        "refundNonce": str(state.refund_nonce),
        "chargedCumulativeAmount": str(charged),
    }


def _pack(said: dict[str, Any]) -> str:
    return base64.b64encode(msgspec.json.encode(said)).decode()
