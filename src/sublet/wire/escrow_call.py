"""The escrow contract in bytes: its calls, its answers, its events.

Not here: what they do (``core.escrow``), where the bytes go (``adapter.escrow_chain``),
what a payer signs for a deposit (``token_message``).
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from msgspec import Struct

from sublet.base.ids import NO_ADDRESS, Address, Digest
from sublet.core.document import Channel
from sublet.core.escrow import event as ev
from sublet.core.rail.claiming import VoucherClaim
from sublet.core.rail.transaction import Call
from sublet.wire.abi import BadAnswer, decode_values, encode_call, event_topic

CONFIG = "(address,address,address,address,address,uint40,bytes32)"
_CLAIM = f"(({CONFIG},uint128),bytes,uint128)"


class Authorization(Struct, frozen=True):
    """An EIP-3009 authorization to the escrow, as its payer signed it."""

    valid_after_s: int  # by the chain's time, likewise below
    valid_before_s: int
    salt: int  # with the channel's id it makes the nonce
    signature: bytes


def write_channel(channel: Channel) -> tuple[Any, ...]:
    """Give a channel's terms in the contract's order."""
    return (
        channel.payer,
        channel.payer_authorizer,
        channel.receiver,
        channel.receiver_authorizer,
        channel.token,
        channel.withdraw_delay,
        channel.salt,
    )


# ---- calls that change something --------------------------------------------------


def deposit(
    escrow: Address,
    channel: Channel,
    amount: int,
    *,
    collector: Address = NO_ADDRESS,
    collector_data: bytes = b"",
) -> Call:
    """Deposit the sender's tokens, which it has approved, or by a collector."""
    signature = f"deposit({CONFIG},uint128,address,bytes)"
    config = write_channel(channel)
    return Call(
        escrow, encode_call(signature, config, amount, collector, collector_data)
    )


def deposit_with_permit(
    escrow: Address, channel: Channel, amount: int, *, deadline_s: int, signature: bytes
) -> Call:
    """Deposit the sender's tokens by its EIP-2612 permit."""
    name = f"depositWithPermit({CONFIG},uint128,uint256,bytes)"
    config = write_channel(channel)
    return Call(escrow, encode_call(name, config, amount, deadline_s, signature))


def deposit_with_authorization(
    escrow: Address, channel: Channel, amount: int, signed: Authorization
) -> Call:
    """Deposit the payer's tokens by what it signed; anybody sends this."""
    name = f"depositWithAuthorization({CONFIG},uint128,uint256,uint256,uint256,bytes)"
    data = encode_call(
        name,
        write_channel(channel),
        amount,
        signed.valid_after_s,
        signed.valid_before_s,
        signed.salt,
        signed.signature,
    )
    return Call(escrow, data)


def claim(escrow: Address, claims: Sequence[VoucherClaim]) -> Call:
    """Claim a batch as its receiver, or as its authorizer."""
    written = [
        ((write_channel(one.channel), one.most), one.signature, one.total)
        for one in claims
    ]
    return Call(escrow, encode_call(f"claim({_CLAIM}[])", written))


def settle(escrow: Address, *, receiver: Address, token: Address) -> Call:
    """Have a receiver paid what it has claimed."""
    return Call(escrow, encode_call("settle(address,address)", receiver, token))


def refund(escrow: Address, channel: Channel, amount: int) -> Call:
    """Give back to the payer, as the receiver, up to this of what is not claimed."""
    data = encode_call(f"refund({CONFIG},uint128)", write_channel(channel), amount)
    return Call(escrow, data)


def initiate_withdraw(escrow: Address, channel: Channel, amount: int) -> Call:
    """Ask for money back, as the payer; the channel's delay begins."""
    name = f"initiateWithdraw({CONFIG},uint128)"
    return Call(escrow, encode_call(name, write_channel(channel), amount))


def finalize_withdraw(escrow: Address, channel: Channel) -> Call:
    """Have the payer paid once the delay is over."""
    name = f"finalizeWithdraw({CONFIG})"
    return Call(escrow, encode_call(name, write_channel(channel)))


def approve(token: Address, *, spender: Address, amount: int) -> Call:
    """Let somebody take this much of the sender's tokens."""
    return Call(token, encode_call("approve(address,uint256)", spender, amount))


# ---- questions --------------------------------------------------------------------


def ask_channel(escrow: Address, channel_id: Digest) -> Call:
    """Ask for balance and what is claimed; read with ``(uint128,uint128)``."""
    return Call(escrow, encode_call("channels(bytes32)", channel_id))


def ask_withdrawal(escrow: Address, channel_id: Digest) -> Call:
    """Ask for amount and begin of a withdrawal; read with ``(uint128,uint40)``."""
    return Call(escrow, encode_call("pendingWithdrawals(bytes32)", channel_id))


def ask_earned(escrow: Address, *, receiver: Address, token: Address) -> Call:
    """Ask for what was claimed and settled, ever; read with ``(uint128,uint128)``."""
    return Call(escrow, encode_call("receivers(address,address)", receiver, token))


# ---- events -----------------------------------------------------------------------

_Reader = Callable[[tuple[Digest, ...], tuple[Any, ...]], ev.Event]


def _address(topic: Digest) -> Address:
    if topic[2:26] != "0" * 24:
        raise BadAnswer("an event names what is no address")
    return "0x" + topic[26:]


# By signature: how many topics follow the first, the data's types, the reader.
_EVENTS: Mapping[str, tuple[int, str, _Reader]] = {
    "Deposited(bytes32,address,address,uint128,uint128)": (
        3,
        "(uint128,uint128)",
        lambda at, of: ev.Deposited(at[0], _address(at[1]), _address(at[2]), *of),
    ),
    "Claimed(bytes32,uint128)": (
        1,
        "(uint128)",
        lambda at, of: ev.Claimed(at[0], *of),
    ),
    "VoucherSkipped(bytes32,string)": (
        1,
        "(string)",
        lambda at, of: ev.Skipped(at[0], *of),
    ),
    "Settled(address,address,address,uint128)": (
        3,
        "(uint128)",
        lambda at, of: ev.Settled(_address(at[0]), _address(at[1]), *of),
    ),
    "WithdrawInitiated(bytes32,uint128,uint256)": (
        1,
        "(uint128,uint256)",
        lambda at, of: ev.WithdrawInitiated(at[0], *of),
    ),
    "WithdrawFinalized(bytes32,uint128,uint128)": (
        1,
        "(uint128,uint128)",
        lambda at, of: ev.WithdrawFinalized(at[0], *of),
    ),
    "Refunded(bytes32,uint128,uint128)": (
        1,
        "(uint128,uint128)",
        lambda at, of: ev.Refunded(at[0], *of),
    ),
}
_BY_TOPIC = {event_topic(signature): entry for signature, entry in _EVENTS.items()}

# Of the events that change a channel; its id is the topic after.
CHANNEL_TOPICS: tuple[Digest, ...] = tuple(
    event_topic(signature)
    for signature in _EVENTS
    if not signature.startswith(("Settled", "VoucherSkipped"))
)


def read_event(topics: Sequence[Digest], data: bytes) -> ev.Event:
    """Read an event of the escrow contract.

    Raises:
        BadAnswer: it is none of this contract's.
    """
    entry = _BY_TOPIC.get(topics[0]) if topics else None
    if entry is None or len(topics) != entry[0] + 1:
        raise BadAnswer("an event is none of the escrow contract's")
    _, types, read = entry
    return read(tuple(topics[1:]), decode_values(types, data))
