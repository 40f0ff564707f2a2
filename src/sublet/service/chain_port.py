"""The port of a chain: what an EVM node is asked, in plain values.

A chain forgets: what stood in its last blocks may never have happened. So what is
read says at which block, and whoever counts on it waits until that block is confirmed.

All methods raise ``Unavailable`` where nobody answers, and ``ChainLied`` where answers
contradict each other or what was asked.
"""

from collections.abc import Sequence
from typing import Protocol

from msgspec import Struct

from sublet.base.errors import PeerFault, Refused
from sublet.base.ids import Address, Digest
from sublet.core.rail.transaction import Call, Fees

Topics = Sequence[Sequence[Digest]]  # for each place those that fit; none: any


class ChainLied(PeerFault):
    """An RPC contradicts itself or what it was asked; use another one."""

    code = "chain_lied"


class WrongChain(Refused):
    """The RPC is of another chain; give the address of one of the right chain."""

    code = "wrong_chain"


class Reverted(Refused):
    """The contract refuses the call; nothing has changed."""

    code = "reverted"


class NotTaken(Refused):
    """The chain does not take a transaction; the ``code`` says why.

    ``nonce_used``: one with this nonce is mined; ``underpriced``: one with this nonce
    waits and offers as much; ``no_gas_money``: the sender cannot pay; ``not_taken``.
    """

    code = "not_taken"


class Block(Struct, frozen=True):
    """A block's header, what Sublet reads of it."""

    number: int
    hash: Digest
    parent: Digest
    time_s: int  # the chain's own time
    base_fee_wei: int


class Log(Struct, frozen=True):
    """One event."""

    contract: Address
    topics: tuple[Digest, ...]
    data: bytes
    block_number: int
    block_hash: Digest
    transaction: Digest
    index: int  # in its block


class Receipt(Struct, frozen=True):
    """A transaction stands in a block."""

    transaction: Digest
    block_number: int
    block_hash: Digest
    is_success: bool
    gas_used: int
    gas_price_wei: int
    contract: Address | None  # that it made


class Chain(Protocol):
    """One chain, through one or several RPCs."""

    chain_id: int

    async def block(self, number: int | None = None) -> Block | None:
        """Give a block; without a number the newest. None: there is none yet."""
        ...

    async def call(
        self, call: Call, *, at: Block | None = None, sender: Address | None = None
    ) -> bytes:
        """Ask what a call would answer, in this block's state or in the newest.

        Raises:
            Reverted: the contract refuses; its data says why, as far as it goes.
        """
        ...

    async def estimate(self, call: Call, *, sender: Address) -> int:
        """Ask how much gas a call needs now; raises ``Reverted``."""
        ...

    async def logs(
        self, contract: Address, topics: Topics, *, first: int, last: int
    ) -> tuple[Log, ...]:
        """Give the events of a contract in these blocks, both included, in order."""
        ...

    async def send(self, raw: bytes) -> Digest:
        """Hand over a signed transaction; one that is known already is fine.

        Raises:
            NotTaken: the chain does not want it.
        """
        ...

    async def receipt(self, transaction: Digest) -> Receipt | None:
        """Say in which block a transaction stands; None: in none, now."""
        ...

    async def nonce(self, address: Address, *, at: int | None = None) -> int:
        """Count what an address has sent, up to block ``at`` or the newest."""
        ...

    async def balance(self, address: Address) -> int:
        """Give the wei that an address has for gas."""
        ...

    async def code(self, address: Address) -> bytes:
        """Give the code of a contract; empty where there is none."""
        ...

    async def fees(self) -> Fees:
        """Suggest fees with which a transaction comes into one of the next blocks."""
        ...
