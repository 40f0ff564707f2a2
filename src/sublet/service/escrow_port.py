"""The port of the escrow: what the contract says of channels, at a block.

Both methods raise as ``service.chain_port`` says.
"""

from collections.abc import Collection
from typing import Protocol

from msgspec import Struct

from sublet.base.ids import Address, Digest
from sublet.core.escrow.event import Event
from sublet.core.escrow.state import ChannelState, Earned
from sublet.service.chain_port import Block


class Happening(Struct, frozen=True):
    """One event of the contract, and where it stands."""

    event: Event
    block: Block
    transaction: Digest
    index: int  # in its block


class Escrow(Protocol):
    """One escrow contract on one chain."""

    address: Address

    async def channel(self, channel_id: Digest, *, at: Block | None) -> ChannelState:
        """Give a channel as of a block, or of the newest; empty where it has nothing.

        The nonce of refunds is not asked for, and 0.
        """
        ...

    async def earned(
        self, receiver: Address, token: Address, *, at: Block | None
    ) -> Earned:
        """Give what a receiver has claimed and was paid, ever."""
        ...

    async def happenings(
        self, channel_ids: Collection[Digest], *, first: int, last: int
    ) -> tuple[Happening, ...]:
        """Give what changed these channels in these blocks, both included, in order."""
        ...
