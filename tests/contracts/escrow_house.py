"""An escrow with its tokens and its people on a chain in the process.

Channels and vouchers are the project's own documents, signed by its own keys.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import eth_abi

from sublet.base.ids import NO_DIGEST, Address, Digest
from sublet.core.document import Channel, Voucher
from sublet.wire.signature import CURVE_ORDER, Key
from sublet.wire.typed_data import (
    Domain,
    compile_struct,
    digest,
    digest_of,
    domain_separator,
    keccak,
)
from tests.contracts.evm import Done, Evm, selector, split_types

CONFIG = "(address,address,address,address,address,uint40,bytes32)"
CLAIM = f"(({CONFIG},uint128),bytes,uint128)"
DEPOSIT = f"deposit({CONFIG},uint128,address,bytes)"
DEPOSIT_PERMIT = f"depositWithPermit({CONFIG},uint128,uint256,bytes)"
DEPOSIT_3009 = (
    f"depositWithAuthorization({CONFIG},uint128,uint256,uint256,uint256,bytes)"
)
CLAIM_BATCH = f"claim({CLAIM}[])"
CLAIM_SIGNED = f"claimWithSignature({CLAIM}[],bytes)"
SETTLE = "settle(address,address)"
REFUND = f"refund({CONFIG},uint128)"
REFUND_SIGNED = f"refundWithSignature({CONFIG},uint128,uint256,bytes)"
INITIATE = f"initiateWithdraw({CONFIG},uint128)"
FINALIZE = f"finalizeWithdraw({CONFIG})"

USDC = "test/Usdc.vy"
NOBODY: Address = "0x" + "00" * 20
CENT = 10_000
DOLLAR = 1_000_000
FOR_EVER = 2**63

_REFUND_TYPES = {
    "Refund": (("channelId", "bytes32"), ("nonce", "uint256"), ("amount", "uint128"))
}
_BATCH_TYPES = {
    "ClaimBatch": (("claims", "ClaimEntry[]"),),
    "ClaimEntry": (
        ("channelId", "bytes32"),
        ("maxClaimableAmount", "uint128"),
        ("totalClaimed", "uint128"),
    ),
}
_TOKEN_TYPES = {
    "Permit": (
        ("owner", "address"),
        ("spender", "address"),
        ("value", "uint256"),
        ("nonce", "uint256"),
        ("deadline", "uint256"),
    ),
    "ReceiveWithAuthorization": (
        ("from", "address"),
        ("to", "address"),
        ("value", "uint256"),
        ("validAfter", "uint256"),
        ("validBefore", "uint256"),
        ("nonce", "bytes32"),
    ),
}


def key(number: int) -> Key:
    """A key that everybody knows."""
    return Key.generate(keccak(b"test" + number.to_bytes(4, "big")))


@dataclass(frozen=True)
class Claimed:
    """One claim of a batch, before it is encoded."""

    channel: Channel
    most: int
    signature: bytes
    total: int

    def encode(self) -> tuple[Any, ...]:
        return (
            (encode_channel(self.channel), self.most),
            self.signature,
            self.total,
        )


def encode_channel(channel: Channel) -> tuple[Any, ...]:
    return (
        channel.payer,
        channel.payer_authorizer,
        channel.receiver,
        channel.receiver_authorizer,
        channel.token,
        channel.withdraw_delay,
        bytes.fromhex(channel.salt[2:]),
    )


class EscrowHouse:
    """One escrow; every method is one transaction."""

    def __init__(self, *tokens: str, evm: Evm | None = None, at: Address = "") -> None:
        """Deploy; ``tokens`` are sources or addresses, one test USDC by default."""
        self.evm = evm or Evm()
        self.tokens = [
            token if token.startswith("0x") else self.evm.deploy(token)
            for token in tokens or (USDC,)
        ]
        self.escrow = self.evm.deploy("Escrow.vy", self.tokens, at=at)
        self.token, self.token_name = self.tokens[0], "Test USD"
        self.chain_id = self.evm.chain_id
        self.domain = Domain(NO_DIGEST, self.chain_id, self.escrow)
        self.tenant, self.provider = key(1), key(2)

    def channel(self, **changes: Any) -> Channel:
        """The channel from tenant to provider, but for what is said otherwise."""
        said = {
            "payer": self.tenant.address,
            "payer_authorizer": self.tenant.address,
            "receiver": self.provider.address,
            "receiver_authorizer": self.provider.address,
            "token": self.token,
            "withdraw_delay": 900,
            "salt": NO_DIGEST,
        }
        return Channel(**{**said, **changes})

    def channel_id(self, channel: Channel) -> Digest:
        return digest(channel, self.domain)

    # ---- tokens ---------------------------------------------------------------

    def mint(self, party: Address, amount: int, *, approve: bool = True) -> None:
        for token in self.tokens:
            self._token(token, "mint(address,uint256)", party, amount)
            if approve:
                allow = ("approve(address,uint256)", self.escrow, 2**256 - 1)
                self._token(token, *allow, sender=party)

    def _token(self, token: Address, *call: Any, **more: Any) -> None:
        done = self.evm.call(token, *call, **more)
        assert done.ok, done.fault

    def balance(self, party: Address, token: Address | None = None) -> int:
        call = self.evm.call(token or self.token, "balanceOf(address)", party)
        return int(call.give("uint256"))

    def sign_token(self, signer: Key, primary: str, **members: Any) -> bytes:
        """Sign a permit or an authorization of the test token."""
        separator = domain_separator(
            {
                "name": self.token_name,
                "version": "2",
                "chainId": self.chain_id,
                "verifyingContract": self.token,
            }
        )
        hashed = compile_struct(primary, _TOKEN_TYPES)(members)
        return signer.sign(digest_of(separator=separator, struct_hash=hashed))

    def sign_authorization(
        self, channel: Channel, amount: int, *, salt: int, target: Address, signer: Key
    ) -> bytes:
        nonce = keccak(
            bytes.fromhex(self.channel_id(channel)[2:]) + salt.to_bytes(32, "big")
        )
        return self.sign_token(
            signer,
            "ReceiveWithAuthorization",
            **{
                "from": channel.payer,
                "to": target,
                "value": amount,
                "validAfter": 0,
                "validBefore": FOR_EVER,
                "nonce": "0x" + nonce.hex(),
            },
        )

    # ---- the escrow -----------------------------------------------------------

    def call(self, signature: str, *args: Any, by: Address) -> Done:
        return self.evm.call(self.escrow, signature, *args, sender=by)

    def deposit(self, channel: Channel, amount: int, *, by: Address = "") -> Done:
        args = (encode_channel(channel), amount, NOBODY, b"")
        return self.call(DEPOSIT, *args, by=by or channel.payer)

    def open(self, amount: int, **changes: Any) -> Channel:
        """Make a channel with money in it."""
        channel = self.channel(**changes)
        self.mint(channel.payer, amount)
        done = self.deposit(channel, amount)
        assert done.ok, done.fault
        return channel

    def voucher(
        self, channel: Channel, most: int, *, total: int = -1, signer: Key | None = None
    ) -> Claimed:
        """A voucher, signed by the tenant; claimed to the last unit."""
        said = digest(Voucher(self.channel_id(channel), most), self.domain)
        signature = (signer or self.tenant).sign(said)
        return Claimed(channel, most, signature, most if total < 0 else total)

    def claim(self, *claims: Claimed, by: Address = "") -> Done:
        encoded = [claim.encode() for claim in claims]
        return self.call(CLAIM_BATCH, encoded, by=by or self.provider.address)

    def sign_batch(self, claims: Sequence[Claimed], signer: Key) -> bytes:
        entries = [
            {
                "channelId": self.channel_id(claim.channel),
                "maxClaimableAmount": claim.most,
                "totalClaimed": claim.total,
            }
            for claim in claims
        ]
        hashed = compile_struct("ClaimBatch", _BATCH_TYPES)({"claims": entries})
        return signer.sign(
            digest_of(separator=self.domain.channel_separator, struct_hash=hashed)
        )

    def claim_signed(self, *claims: Claimed, signature: bytes, by: Address) -> Done:
        encoded = [claim.encode() for claim in claims]
        return self.call(CLAIM_SIGNED, encoded, signature, by=by)

    def settle(self, receiver: Address = "", *, token: Address = "") -> Done:
        args = (receiver or self.provider.address, token or self.token)
        return self.call(SETTLE, *args, by=NOBODY)

    def refund(self, channel: Channel, amount: int, *, by: Address = "") -> Done:
        args = (encode_channel(channel), amount)
        return self.call(REFUND, *args, by=by or channel.receiver)

    def sign_refund(
        self, channel: Channel, amount: int, nonce: int, signer: Key
    ) -> bytes:
        said = {
            "channelId": self.channel_id(channel),
            "nonce": nonce,
            "amount": amount,
        }
        hashed = compile_struct("Refund", _REFUND_TYPES)(said)
        return signer.sign(
            digest_of(separator=self.domain.channel_separator, struct_hash=hashed)
        )

    def refund_signed(
        self, channel: Channel, amount: int, *, nonce: int, signature: bytes
    ) -> Done:
        args = (encode_channel(channel), amount, nonce, signature)
        return self.call(REFUND_SIGNED, *args, by=NOBODY)

    def initiate(self, channel: Channel, amount: int, *, by: Address = "") -> Done:
        args = (encode_channel(channel), amount)
        return self.call(INITIATE, *args, by=by or channel.payer)

    def finalize(self, channel: Channel) -> Done:
        return self.call(FINALIZE, encode_channel(channel), by=NOBODY)

    # ---- what is --------------------------------------------------------------

    def books(self, channel: Channel) -> tuple[int, int]:
        """Balance and totalClaimed of a channel."""
        return self.view("channels(bytes32)", channel, "uint128", "uint128")

    def pending(self, channel: Channel) -> tuple[int, int]:
        return self.view("pendingWithdrawals(bytes32)", channel, "uint128", "uint40")

    def refund_nonce(self, channel: Channel) -> int:
        return self.view("refundNonce(bytes32)", channel, "uint256")

    def view(self, signature: str, channel: Channel, *types: str) -> Any:
        channel_id = bytes.fromhex(self.channel_id(channel)[2:])
        return self.evm.call(self.escrow, signature, channel_id).give(*types)

    def earned(self, receiver: Address, token: Address = "") -> tuple[int, int]:
        """Claimed and settled, ever, of a receiver."""
        call = ("receivers(address,address)", receiver, token or self.token)
        return self.evm.call(self.escrow, *call).give("uint128", "uint128")


# ---- what the logs say ------------------------------------------------------------

_TOPICS = {
    keccak(signature.encode()): (name, types)
    for name, signature, types in (
        ("Deposited", "Deposited(bytes32,address,address,uint128,uint128)", 2),
        ("Claimed", "Claimed(bytes32,uint128)", 1),
        ("Skipped", "VoucherSkipped(bytes32,string)", 0),
        ("Settled", "Settled(address,address,address,uint128)", 1),
        ("WithdrawInitiated", "WithdrawInitiated(bytes32,uint128,uint256)", 2),
        ("WithdrawFinalized", "WithdrawFinalized(bytes32,uint128,uint128)", 2),
        ("Refunded", "Refunded(bytes32,uint128,uint128)", 2),
    )
}


def read_logs(done: Done, escrow: Address) -> list[tuple[Any, ...]]:
    """Read the escrow's logs: name, topics in hex, numbers or the reason."""
    said = []
    for log in done.logs:
        if log.address != escrow:
            continue
        name, numbers = _TOPICS[log.topics[0]]
        topics = tuple("0x" + topic.hex() for topic in log.topics[1:])
        if name == "Skipped":
            body = eth_abi.decode(["string"], log.data)
        else:
            body = eth_abi.decode(["uint256"] * numbers, log.data)
        said.append((name, *topics, *body))
    return said


def skipped(done: Done, escrow: Address) -> list[str]:
    """Why vouchers of a batch were skipped."""
    return [said[-1] for said in read_logs(done, escrow) if said[0] == "Skipped"]


# ---- what tests do with it --------------------------------------------------------

THIEF = key(66)


def _high_s(signature: bytes) -> bytes:
    s = CURVE_ORDER - int.from_bytes(signature[32:64], "big")
    return signature[:32] + s.to_bytes(32, "big") + bytes((55 - signature[64],))


# What is made of a good signature, and signs for nobody.
SPOILS: dict[str, Callable[[bytes], bytes]] = {
    "high_s": _high_s,
    "v_0_1": lambda raw: raw[:64] + bytes((raw[64] - 27,)),
    "64_bytes": lambda raw: raw[:64],
    "66_bytes": lambda raw: raw + b"\0",
    "96_bytes": lambda raw: raw + bytes(31),
    "empty": lambda raw: b"",
    "zeros": lambda raw: bytes(65),
    "zero_r_s": lambda raw: bytes(64) + b"\x1b",
}


def call_data(signature: str, *args: Any) -> bytes:
    """Write a call as a transaction, or a multicall, carries it."""
    return selector(signature) + eth_abi.encode(split_types(signature), args)


def make_rich(house: EscrowHouse) -> Address:
    """Give somebody else who has a dollar to deposit."""
    house.mint(THIEF.address, DOLLAR)
    return THIEF.address


def check_conserved(house: EscrowHouse, *channels: Channel) -> None:
    """What the escrow holds is what its books say it owes."""
    owed = sum(balance - claimed for balance, claimed in map(house.books, channels))
    for receiver in {channel.receiver for channel in channels}:
        claimed, settled = house.earned(receiver)
        owed += claimed - settled
    assert house.balance(house.escrow) == owed
