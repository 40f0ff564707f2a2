"""The escrow contract and a test USDC for the chain in memory, by the pure model.

They take the calldata that the real ones take, and say the same events. Signatures
are checked here, as the contract does; what an operation does, the model says.
"""

from collections.abc import Callable
from contextlib import suppress
from typing import Any

from sublet.base.errors import PeerFault, Refused
from sublet.base.ids import NO_DIGEST
from sublet.core.document import Channel, Voucher
from sublet.core.escrow import event as ev
from sublet.core.escrow import operation as op
from sublet.core.escrow.state import EscrowState
from sublet.core.escrow.step import EscrowRefused, step
from sublet.service.chain_port import Reverted
from sublet.wire import token_message
from sublet.wire.abi import decode_values, encode_values, event_topic
from sublet.wire.signature import recover
from sublet.wire.token_message import TokenDomain
from sublet.wire.typed_data import Domain, digest
from tests.fakes.chain_memory import MemoryChain, Message

CONFIG = "(address,address,address,address,address,uint40,bytes32)"
CLAIM = f"(({CONFIG},uint128),bytes,uint128)"
Events = list[tuple[list[str], bytes]]
Answer = tuple[bytes, Events]


def word(value: str) -> str:
    """An address as a topic."""
    return "0x" + value[2:].rjust(64, "0")


class MemoryEscrow:
    """The contract. The model keeps the token's wallets, too."""

    def __init__(self, address: str, *, token: str, chain_id: int) -> None:
        self.address = address
        self.token = token
        self.state = EscrowState(tokens=frozenset((token,)))
        self.used: set[str] = set()  # nonces of authorizations
        self.allowed: dict[str, int] = {}
        self._domain = Domain(NO_DIGEST, chain_id, address)
        self._token_domain = TokenDomain("Test USD", "2", chain_id, token)
        self._functions: dict[bytes, tuple[str, Callable[..., Answer]]] = {}
        for name, types, function in (
            ("channels", "(bytes32)", self._channels),
            ("pendingWithdrawals", "(bytes32)", self._pending),
            ("receivers", "(address,address)", self._receivers),
            ("deposit", f"({CONFIG},uint128,address,bytes)", self._deposit),
            (
                "depositWithAuthorization",
                f"({CONFIG},uint128,uint256,uint256,uint256,bytes)",
                self._deposit_3009,
            ),
            ("claim", f"({CLAIM}[])", self._claim),
            ("settle", "(address,address)", self._settle),
            ("refund", f"({CONFIG},uint128)", self._refund),
            ("initiateWithdraw", f"({CONFIG},uint128)", self._initiate),
            ("finalizeWithdraw", f"({CONFIG})", self._finalize),
        ):
            self._functions[_selector(name + types)] = (types, function)

    def __deepcopy__(self, memo: Any) -> "MemoryEscrow":
        """The state is never changed, so a copy may share it."""
        copy = MemoryEscrow(
            self.address, token=self.token, chain_id=self._domain.chain_id
        )
        copy.state, copy.used = self.state, set(self.used)
        copy.allowed = dict(self.allowed)
        return copy

    def handle(self, message: Message) -> Answer:
        types, function = self._functions[message.data[:4]]
        return function(message, *decode_values(types, message.data[4:]))

    def do(self, operation: op.Operation, *, at_s: int) -> Events:
        try:
            outcome = step(self.state, operation, at_s=at_s)
        except EscrowRefused as refused:
            raise Reverted(f"the contract refuses: {refused.code}") from refused
        self.state = outcome.state
        return [encode_event(event) for event in outcome.events]

    # ---- functions --------------------------------------------------------------

    def _channels(self, _: Message, channel_id: str) -> Answer:
        channel = self.state.channel(channel_id)
        return encode_values(
            "(uint128,uint128)", (channel.balance, channel.claimed)
        ), []

    def _pending(self, _: Message, channel_id: str) -> Answer:
        channel = self.state.channel(channel_id)
        return encode_values(
            "(uint128,uint40)", (channel.withdrawing, channel.initiated_at_s)
        ), []

    def _receivers(self, _: Message, receiver: str, token: str) -> Answer:
        earned = self.state.earned(receiver, token)
        return encode_values("(uint128,uint128)", (earned.claimed, earned.settled)), []

    def _deposit(
        self, message: Message, config: Any, amount: int, collector: str, data: bytes
    ) -> Answer:
        assert (collector, data) == ("0x" + "0" * 40, b"")
        if self.allowed.get(message.sender, 0) < amount:
            raise Reverted("the contract refuses: transfer_failed")
        self.allowed[message.sender] -= amount
        return b"", self._put_in(message, Channel(*config), amount, message.sender)

    def _deposit_3009(
        self,
        message: Message,
        config: Any,
        amount: int,
        after: int,
        before: int,
        salt: int,
        signature: bytes,
    ) -> Answer:
        channel = Channel(*config)
        asked = token_message.authorization(
            self._token_domain,
            payer=channel.payer,
            escrow=self.address,
            channel_id=self._id(channel),
            amount=amount,
            valid_after_s=after,
            valid_before_s=before,
            salt=salt,
        )
        nonce = str(asked.message["nonce"])
        signer = _recover(asked.digest, signature)
        if signer != channel.payer or nonce in self.used:
            raise Reverted("the contract refuses: bad_signature")
        if not after < message.now_s < before:
            raise Reverted("the contract refuses: expired")
        self.used.add(nonce)
        return b"", self._put_in(message, channel, amount, channel.payer)

    def _put_in(
        self, message: Message, channel: Channel, amount: int, source: str
    ) -> Events:
        asked = op.Deposit(self._id(channel), channel, amount, source)
        return self.do(asked, at_s=message.now_s)

    def _claim(self, message: Message, claims: Any) -> Answer:
        vouchers = []
        for (config, most), signature, total in claims:
            channel = Channel(*config)
            channel_id = self._id(channel)
            signed = digest(
                Voucher(channel_id=channel_id, max_claimable_amount=most), self._domain
            )
            vouchers.append(
                op.Voucher(
                    channel_id, channel, most, total, _recover(signed, signature)
                )
            )
        asked = op.Claim(message.sender, tuple(vouchers))
        return b"", self.do(asked, at_s=message.now_s)

    def _settle(self, message: Message, receiver: str, token: str) -> Answer:
        return b"", self.do(op.Settle(receiver, token), at_s=message.now_s)

    def _refund(self, message: Message, config: Any, amount: int) -> Answer:
        channel = Channel(*config)
        asked = op.Refund(self._id(channel), channel, amount, message.sender)
        return b"", self.do(asked, at_s=message.now_s)

    def _initiate(self, message: Message, config: Any, amount: int) -> Answer:
        channel = Channel(*config)
        asked = op.InitiateWithdraw(self._id(channel), channel, amount, message.sender)
        return b"", self.do(asked, at_s=message.now_s)

    def _finalize(self, message: Message, config: Any) -> Answer:
        channel = Channel(*config)
        asked = op.FinalizeWithdraw(self._id(channel), channel)
        return b"", self.do(asked, at_s=message.now_s)

    def _id(self, channel: Channel) -> str:
        return digest(channel, self._domain)


class MemoryUsdc:
    """What the rail asks of a token; its wallets are in the escrow's model."""

    def __init__(self, address: str, *, escrow: str, chain_id: int) -> None:
        self.address = address
        self._escrow = escrow
        self._domain = TokenDomain("Test USD", "2", chain_id, address)

    def handle(self, message: Message) -> Answer:
        escrow = message.world.contracts[self._escrow]
        assert isinstance(escrow, MemoryEscrow)
        selector, given = message.data[:4], message.data[4:]
        if selector == _selector("name()"):
            return encode_values("(string)", ("Test USD",)), []
        if selector == _selector("version()"):
            return encode_values("(string)", ("2",)), []
        if selector == _selector("DOMAIN_SEPARATOR()"):
            return self._domain.separator, []
        if selector == _selector("balanceOf(address)"):
            (holder,) = decode_values("(address)", given)
            amount = escrow.state.wallet(holder, self.address)
            return encode_values("(uint256)", (amount,)), []
        target, amount = decode_values("(address,uint256)", given)
        if selector == _selector("mint(address,uint256)"):
            escrow.do(op.Mint(self.address, target, amount), at_s=message.now_s)
            return b"", []
        assert selector == _selector("approve(address,uint256)")
        escrow.allowed[message.sender] = amount
        return b"", []


def place_escrow(chain: MemoryChain) -> tuple[str, str]:
    """Have both stand on a chain; give the escrow's address and the token's."""
    escrow, token = "0x" + "e5" * 20, "0x" + "70" * 20
    chain.place(MemoryEscrow(escrow, token=token, chain_id=chain.chain_id))
    chain.place(MemoryUsdc(token, escrow=escrow, chain_id=chain.chain_id))
    return escrow, token


def encode_event(event: ev.Event) -> tuple[list[str], bytes]:
    """Write an event as the contract does."""
    two, one = "(uint128,uint128)", "(uint128)"
    match event:
        case ev.Deposited(of, payer, receiver, amount, balance):
            name = "Deposited(bytes32,address,address,uint128,uint128)"
            topics, types, data = (
                [of, word(payer), word(receiver)],
                two,
                (amount, balance),
            )
        case ev.Claimed(of, total):
            name = "Claimed(bytes32,uint128)"
            topics, types, data = [of], one, (total,)
        case ev.Skipped(of, reason):
            name = "VoucherSkipped(bytes32,string)"
            return [event_topic(name), of], encode_values("(string)", (reason,))
        case ev.Settled(receiver, token, amount):
            name = "Settled(address,address,address,uint128)"
            topics, types = [word(receiver), word(token), word(receiver)], one
            return [event_topic(name), *topics], encode_values(types, (amount,))
        case ev.WithdrawInitiated(of, amount, at_s):
            name = "WithdrawInitiated(bytes32,uint128,uint256)"
            topics, types, data = [of], "(uint128,uint256)", (amount, at_s)
        case ev.WithdrawFinalized(of, amount, balance):
            name = "WithdrawFinalized(bytes32,uint128,uint128)"
            topics, types, data = [of], two, (amount, balance)
        case ev.Refunded(of, amount, balance):
            name = "Refunded(bytes32,uint128,uint128)"
            topics, types, data = [of], two, (amount, balance)
    return [event_topic(name), *topics], encode_values(types, data)


def _selector(signature: str) -> bytes:
    return bytes.fromhex(event_topic(signature)[2:10])


def _recover(signed: str, signature: bytes) -> str | None:
    with suppress(PeerFault, Refused):
        return recover(signed, signature)
    return None
