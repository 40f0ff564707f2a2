"""What a chain is asked to do, before and after somebody signs it. All fees in wei."""

from msgspec import Struct

from sublet.base.ids import Address, Digest


class Call(Struct, frozen=True):
    """One call of a contract, or a plain transfer where ``data`` is empty."""

    to: Address | None  # None: ``data`` makes a new contract
    data: bytes = b""
    value_wei: int = 0


class Fees(Struct, frozen=True):
    """What a transaction offers for a unit of gas (EIP-1559)."""

    max_wei: int  # for base fee and tip together
    tip_wei: int  # of which for whoever makes the block, at most


class Transaction(Struct, frozen=True):
    """A call with all that is signed."""

    chain_id: int
    nonce: int
    call: Call
    gas: int  # units, at most
    fees: Fees


class SignedTransaction(Struct, frozen=True):
    """The bytes that a chain takes, and the name under which it knows them."""

    raw: bytes
    hash: Digest
    fees: Fees
