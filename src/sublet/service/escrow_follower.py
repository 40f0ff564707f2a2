"""Follows channels of the escrow: each confirmed change once, in order.

Events say where to look, and the contract's storage at a confirmed block is what
counts. Whoever uses this keeps the ``cursor`` together with what it made of the
changes, and goes on from there after a restart: nothing is told twice or left out.
Where a reorg went deeper than the confirmations, all channels are read again.
"""

from collections.abc import Mapping

from msgspec import Struct

from sublet.base.ids import NO_DIGEST, Digest
from sublet.core.escrow.state import ChannelState
from sublet.core.rail.following import fold_event
from sublet.service.chain_port import Block, Chain
from sublet.service.escrow_port import Escrow, Happening

BLOCKS_PER_QUESTION = (
    1_000  # that RPCs give events of at once; an hour of Base has 1,800
)


class Cursor(Struct, frozen=True):
    """How far somebody has followed, and what the channels were there."""

    number: int = -1  # the block's; -1: nothing was seen yet
    hash: Digest = NO_DIGEST
    channels: dict[Digest, ChannelState] = {}


class Change(Struct, frozen=True):
    """A channel is this, as of a confirmed block; one for each block that changed it."""

    channel_id: Digest
    state: ChannelState
    block: Block


class Follower:
    """Follows a set of channels of one escrow."""

    def __init__(
        self,
        chain: Chain,
        escrow: Escrow,
        *,
        confirmations: int,
        cursor: Cursor | None = None,
    ) -> None:
        """Take what to follow, and from where.

        Args:
            chain: which.
            escrow: on this chain.
            confirmations: blocks on top of one that counts.
            cursor: as it was kept; without one, channels are read as they are.
        """
        self.cursor = cursor or Cursor()
        self._chain = chain
        self._escrow = escrow
        self._confirmations = confirmations
        self._watched = set(self.cursor.channels)
        self._turn = 0

    def watch(self, channel_id: Digest) -> None:
        """Follow this channel, too; the next look tells what it is."""
        self._watched.add(channel_id)

    def forget(self, channel_id: Digest) -> None:
        """Follow this channel no more."""
        self._watched.discard(channel_id)

    async def look(self) -> tuple[Change, ...]:
        """Give what has changed since the last look, and move the cursor.

        Raises:
            Unavailable, ChainLied: as the chain's port says; the cursor has not moved.
        """
        head = await self._chain.block()
        assert head is not None, "the newest block is there"
        number = head.number - self._confirmations
        was = self.cursor
        if number < 0 or number < was.number:
            return ()  # the chain is young, or this node of it lags behind
        confirmed = await self._chain.block(number)
        if confirmed is None or (number == was.number and confirmed.hash != was.hash):
            return ()  # it moves just now, and no later block tells where to
        channels = {
            name: state for name, state in was.channels.items() if name in self._watched
        }
        changes: list[Change] = []
        unread = self._watched - set(channels)
        if await self._is_on_chain(was):
            if number > was.number:
                changes += await self._fold(channels, was.number + 1, number)
                unread |= {change.channel_id for change in changes} | self._whose_turn()
        else:
            unread = set(self._watched)
        changes += await self._read(channels, unread, confirmed)
        self.cursor = Cursor(number, confirmed.hash, channels)
        return tuple(changes)

    async def peek(self) -> Mapping[Digest, ChannelState]:
        """Give the channels as of the newest block, which may be taken back."""
        head = await self._chain.block()
        assert head is not None, "the newest block is there"
        channels = dict(self.cursor.channels)
        await self._fold(channels, self.cursor.number + 1, head.number)
        return channels

    async def _is_on_chain(self, cursor: Cursor) -> bool:
        if cursor.number < 0:
            return False
        block = await self._chain.block(cursor.number)
        return block is not None and block.hash == cursor.hash

    async def _fold(
        self, channels: dict[Digest, ChannelState], first: int, last: int
    ) -> list[Change]:
        """Carry the events of these blocks into the channels."""
        changes: dict[tuple[int, Digest], Change] = {}
        for start in range(first, last + 1, BLOCKS_PER_QUESTION):
            end = min(start + BLOCKS_PER_QUESTION - 1, last)
            for one in await self._escrow.happenings(
                set(channels), first=start, last=end
            ):
                change = _change(channels, one)
                changes[change.block.number, change.channel_id] = change
        return list(changes.values())

    async def _read(
        self, channels: dict[Digest, ChannelState], unread: set[Digest], at: Block
    ) -> list[Change]:
        """Read channels as they are; what no event told of is a change now."""
        changes = []
        for name in sorted(unread):
            state = await self._escrow.channel(name, at=at)
            if state != channels.get(name, ChannelState()):
                changes.append(Change(name, state, at))
            channels[name] = state
        return changes

    def _whose_turn(self) -> set[Digest]:
        """Give one channel more at each look, so that an event left out is found."""
        names = sorted(self._watched)
        self._turn += 1
        return {names[self._turn % len(names)]} if names else set()


def _change(channels: dict[Digest, ChannelState], one: Happening) -> Change:
    name = one.event.channel_id  # type: ignore[union-attr]  # Settled is of no channel
    state = fold_event(channels[name], one.event, at_s=one.block.time_s)
    channels[name] = state
    return Change(name, state, one.block)
