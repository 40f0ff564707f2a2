"""A tenant's money on the chain: what lies in which channel, more into it, back again.

Jobs pay deposits in by themselves, by a signature that costs no gas. What is here needs
an RPC, and for what changes something also the chain's own coin for gas. Every
transaction is in a journal first: Ctrl-C and another try send it once.
"""

import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from msgspec import Struct

from sublet.adapter.chain_place import DEVELOPMENT_CHAIN_ID, ChainPlace, open_chain
from sublet.adapter.chain_rpc import RpcChain
from sublet.adapter.chain_sender import JOURNAL_FILE
from sublet.adapter.escrow_chain import ChainEscrow, find_balance, find_token_domain
from sublet.base.errors import Refused, Unavailable
from sublet.base.ids import Address, Digest
from sublet.core.document import Channel, Market
from sublet.core.mirror import ESCROW
from sublet.sdk.connection import Connection
from sublet.wire import escrow_call
from sublet.wire.channel import channel_of
from sublet.wire.escrow_call import Authorization
from sublet.wire.token_message import authorization
from sublet.wire.typed_data import Domain, digest
from sublet.workload.client import AsyncClient
from sublet.workload.courier import Courier, open_courier

AUTHORIZED_S = 3_600  # that a deposit of one's own may take to be mined
TRIES = 3  # to ask for all that is left, while a provider claims
CONFIRMATIONS = 2  # for one's own eyes; parties that count on it have their own


class ChannelLine(Struct, frozen=True):
    """One channel of the tenant. Money in the token's smallest unit, a micro-USD."""

    provider: Address
    channel_id: Digest
    balance: int  # deposited and not taken back
    claimed: int  # of that, by the provider
    withdrawing: int  # asked back
    ready_at_s: int  # by the chain's time: when that can be had; 0: nothing is asked


class Holdings(Struct, frozen=True):
    """What the tenant has on the chain."""

    address: Address
    chain_id: int
    token: Address
    wallet: int  # of the token, in no channel
    gas_wei: int
    channels: tuple[ChannelLine, ...]


class TenantEscrow:
    """One tenant's channels in one market; ``open_escrow`` makes it."""

    def __init__(
        self, client: AsyncClient, chain: RpcChain, courier: Courier, *, market: Market
    ) -> None:
        """Take what it works with."""
        self.client = client
        self.chain = chain
        self.courier = courier
        self.market = market
        self._escrow = ChainEscrow(chain, market.contract)

    async def read(self) -> Holdings:
        """Say what lies where.

        Raises:
            Unavailable: market or chain does not answer.
        """
        own, token = self.client.key.address, self.market.token
        leases = await self.client.leases(is_all=True)
        providers = sorted({one.provider for one in leases if one.tenant == own})
        lines = [await self.line(provider) for provider in providers]
        return Holdings(
            address=own,
            chain_id=self.market.chain_id,
            token=token,
            wallet=await find_balance(self.chain, token, own),
            gas_wei=await self.chain.balance(own),
            channels=tuple(line for line in lines if line.balance or line.withdrawing),
        )

    async def deposit(self, provider: Address, amount: int) -> None:
        """Put more into the channel to a provider.

        Raises:
            Refused: the chain does not take it; the message says why.
        """
        channel, domain = await self.channel(provider)
        token = await find_token_domain(self.chain, channel.token)
        block = await self.chain.block()
        assert block is not None, "the newest block is there"
        salt = secrets.randbits(256)
        until_s = block.time_s + AUTHORIZED_S
        message = authorization(
            token,
            payer=channel.payer,
            escrow=domain.contract,
            channel_id=digest(channel, domain),
            amount=amount,
            valid_after_s=0,
            valid_before_s=until_s,
            salt=salt,
        )
        signature = self.client.key.sign(message.digest)
        signed = Authorization(0, until_s, salt, signature)
        call = escrow_call.deposit_with_authorization(
            domain.contract, channel, amount, signed
        )
        await self.client.connection.submit(channel)  # the book has to know it
        await self.courier.send("deposit", call)

    async def withdraw(self, provider: Address, amount: int | None = None) -> int:
        """Ask money back; give the chain's time at which it can be had.

        The pair's jobs end, unless what is left still covers them.

        Raises:
            Refused: there is nothing to ask back, or the chain does not take it.
        """
        channel, domain = await self.channel(provider)
        for left in range(TRIES, 0, -1):
            line = await self.line(provider)
            wanted = line.balance - line.claimed if amount is None else amount
            if wanted <= 0:
                raise Refused(
                    f"the channel to {provider} holds nothing of yours",
                    code="nothing_to_withdraw",
                )
            call = escrow_call.initiate_withdraw(domain.contract, channel, wanted)
            try:
                await self.courier.send("withdraw", call)
                break
            except Refused:
                # Where a claim came in between, all that is left is less than it was.
                is_claimed = (await self.line(provider)).claimed > line.claimed
                if amount is not None or not is_claimed or left == 1:
                    raise
        return (await self.line(provider)).ready_at_s

    async def finish(self, provider: Address) -> int:
        """Take what was asked back, once the delay is over; give how much it was.

        Raises:
            Refused: nothing was asked back, it is too early, or the chain refuses.
        """
        channel, domain = await self.channel(provider)
        before = await self.line(provider)
        block = await self.chain.block()
        if not before.withdrawing:
            raise Refused(
                f"nothing was asked back of the channel to {provider}; ask with: "
                f"sublet escrow withdraw {provider}",
                code="not_withdrawing",
            )
        if block is not None and block.time_s < before.ready_at_s:
            raise Refused(
                f"the provider may claim for {before.ready_at_s - block.time_s} s more; "
                "try again then",
                code="too_early",
            )
        call = escrow_call.finalize_withdraw(domain.contract, channel)
        await self.courier.send("finish", call)
        return before.balance - (await self.line(provider)).balance

    async def line(self, provider: Address) -> ChannelLine:
        """Say what lies in the channel to a provider."""
        channel, domain = await self.channel(provider)
        channel_id = digest(channel, domain)
        state = await self._escrow.channel(channel_id, at=None)
        ready_at_s = state.initiated_at_s + channel.withdraw_delay
        return ChannelLine(
            provider=provider,
            channel_id=channel_id,
            balance=state.balance,
            claimed=state.claimed,
            withdrawing=state.withdrawing,
            ready_at_s=ready_at_s if state.withdrawing else 0,
        )

    async def channel(self, provider: Address) -> tuple[Channel, Domain]:
        """Give the channel to a provider, and the domain of the market's documents."""
        domain = await self.client.connection.domain()
        channel = channel_of(
            self.market,
            domain.market,
            tenant=self.client.key.address,
            provider=provider,
        )
        return channel, domain


async def find_rpc(connection: Connection, named: str) -> str:
    """Give an RPC of a market's chain: what was named, or else what the market names.

    Raises:
        Refused: ``wrong_rail`` or ``no_rpc``.
        Unavailable: the market does not answer.
    """
    market = await connection.learn_market()
    if market.rail != ESCROW:
        raise Refused(
            "this market's money is credits; nothing of it lies on a chain",
            code="wrong_rail",
        )
    if named:
        return named
    terms = (await connection.market()).chain
    if terms is None or not terms.rpc:
        raise Refused(
            f"this market names no RPC of chain {market.chain_id}; give one with --rpc",
            code="no_rpc",
            field="--rpc",
        )
    return terms.rpc


async def find_stake(connection: Connection) -> Address:
    """Ask a market for its stake contract.

    Raises:
        Refused: ``no_stake``, it names none.
        Unavailable: it does not answer, or has not seen its chain yet.
    """
    terms = (await connection.market()).chain
    if terms is None:
        raise Unavailable(
            "this market's node has not reached its chain yet; try again soon",
            code="chain_away",
        )
    if not terms.stake:
        raise Refused(
            "this market names no stake contract; name the one that you trust in "
            "config.toml: [chain] stake, or with --stake",
            code="no_stake",
        )
    return terms.stake


def make_place(rpc: str, *, chain_id: int) -> ChainPlace:
    """Say how a person's own commands reach a chain."""
    is_dev = chain_id == DEVELOPMENT_CHAIN_ID
    return ChainPlace(rpc=(rpc,), confirmations=0 if is_dev else CONFIRMATIONS)


@asynccontextmanager
async def open_escrow(
    client: AsyncClient, *, rpc: str = ""
) -> AsyncIterator[TenantEscrow]:
    """Open the chain of a market on the escrow rail; the client is open already.

    Args:
        client: of the market.
        rpc: of its chain; "" for the one that the market names.

    Raises:
        Refused: ``wrong_rail``, ``no_rpc``, or the journal is open elsewhere.
        Unavailable: market or disk do not answer.
    """
    market = await client.connection.learn_market()
    named = await find_rpc(client.connection, rpc)
    place = make_place(named, chain_id=market.chain_id)
    async with open_chain(place, chain_id=market.chain_id) as chain:
        journal = client.home.path / JOURNAL_FILE
        async with open_courier(
            chain, place, key=client.key, journal=journal
        ) as courier:
            yield TenantEscrow(client, chain, courier, market=market)
