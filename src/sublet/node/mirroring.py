"""The node's eye on the chain: what changes in a registered channel goes into the log.

It reads the contract at a confirmed block and remembers nothing: what differs from the
book is said, so that neither a restart matters nor a chain that took blocks back. Several
nodes of one market may do it side by side; the log takes each word once.

Not here: what the book makes of it (``core.book.by_chain``).
"""

import asyncio
import secrets
from typing import TypedDict

from sublet.adapter.chain_rpc import RpcChain
from sublet.adapter.escrow_chain import ChainEscrow, find_token_domain
from sublet.adapter.stake_chain import ChainStake
from sublet.base.errors import PeerFault, Refused, Unavailable
from sublet.base.ids import Address, Digest
from sublet.base.limits import AMOUNT_MAX
from sublet.core.book.record import ChannelRecord
from sublet.core.document import Market, Mirror
from sublet.core.escrow.state import ChannelState
from sublet.core.rail.transaction import Call
from sublet.node.journal import Journal
from sublet.service.escrow_follower import Cursor, Follower
from sublet.service.market import MarketService
from sublet.service.ports import Clock
from sublet.wire.abi import decode_values, encode_call
from sublet.wire.deposit import ChainTerms

POLL_S = 1.0
POLL_S_MAX = 30.0  # while nobody answers
SALT_BITS = 63
DECIMALS = 6  # of a token whose unit is a micro-USD


class Amounts(TypedDict):
    """What a mirror says of a channel, in micro-USD."""

    balance: int
    claimed: int
    withdrawing: int


class Mirroring:
    """Keeps the book's channels as the chain has them."""

    def __init__(
        self,
        market: MarketService,
        chain: RpcChain,
        *,
        rules: Market,
        confirmations: int,
        public_rpc: str,
        stake: Address = "",
        clock: Clock,
        journal: Journal,
    ) -> None:
        """Take what it reads and what it tells; nothing is asked yet."""
        self.terms: ChainTerms | None = None  # once the chain was reached
        self._market = market
        self._chain = chain
        self._rules = rules
        self._follower = Follower(
            chain, ChainEscrow(chain, rules.contract), confirmations=confirmations
        )
        self._public_rpc = public_rpc
        self._stake = stake
        self._clock = clock
        self._journal = journal

    async def run(self) -> None:
        """Look again and again until cancelled.

        Raises:
            Refused: the chain has no such contract or token; no other try would help.
        """
        pause_s, is_away = POLL_S, False
        while True:
            try:
                if self.terms is None:
                    self.terms = await self._learn()
                await self.look()
                if is_away:
                    self._journal.info("chain_back")
                pause_s, is_away = POLL_S, False
            except (Unavailable, PeerFault) as fault:
                if not is_away:
                    self._journal.warning(
                        "chain_away", code=fault.code, why=fault.message
                    )
                pause_s, is_away = min(2 * pause_s, POLL_S_MAX), True
            await asyncio.sleep(pause_s)

    async def look(self) -> None:
        """Say what has changed up to the newest confirmed block.

        Raises:
            Unavailable: the chain or the log does not answer; it is all said later.
            ChainLied: the chain contradicts itself.
        """
        channels = self._market.book.channels
        for channel_id in channels:
            self._follower.watch(channel_id)
        await self._follower.look()
        seen = self._follower.cursor
        for channel_id, state in seen.channels.items():
            said = _count(state)
            if said != _count_known(channels[channel_id]):
                await self._say(channel_id, said, seen)

    async def _say(self, channel_id: Digest, said: Amounts, seen: Cursor) -> None:
        mirror = Mirror(
            channel_id=channel_id,
            **said,
            block=seen.number,
            block_hash=seen.hash,
            signed_at_s=self._clock.now_s(),
            salt=secrets.randbits(SALT_BITS),
        )
        result = await self._market.say(mirror)
        if result.refusal is None:  # else another node was first
            self._journal.info("channel_mirrored", channel=channel_id, **said)

    async def _learn(self) -> ChainTerms:
        """Look at the contract and the token once.

        Raises:
            Refused: ``no_contract``, ``bad_token`` or ``bad_stake``.
        """
        rules = self._rules
        if not await self._chain.code(rules.contract):
            raise Refused(
                f"there is no contract at {rules.contract} on chain {rules.chain_id}; "
                "was it deployed, and is this the right chain?",
                code="no_contract",
                field="market.contract",
            )
        call = Call(rules.token, encode_call("decimals()"))
        decimals = decode_values("(uint8)", await self._chain.call(call))[0]
        if decimals != DECIMALS:
            raise Refused(
                f"the token {rules.token} has {decimals} decimals, and vouchers count "
                f"micro-USD; take a dollar token of {DECIMALS}, such as USDC",
                code="bad_token",
                field="market.token",
            )
        domain = await find_token_domain(self._chain, rules.token)
        if self._stake:
            stake = ChainStake(self._chain, self._stake)
            await stake.check(escrow=rules.contract, dollar=rules.token)
        return ChainTerms(domain.name, domain.version, self._public_rpc, self._stake)


def _count(state: ChannelState) -> Amounts:
    # What lies above counts no more here: nobody can owe as much.
    return Amounts(
        balance=min(state.balance, AMOUNT_MAX),
        claimed=min(state.claimed, AMOUNT_MAX),
        withdrawing=min(state.withdrawing, state.balance, AMOUNT_MAX),
    )


def _count_known(record: ChannelRecord) -> Amounts:
    return Amounts(
        balance=record.balance, claimed=record.claimed, withdrawing=record.withdrawing
    )
