"""What a provider risks for its word: put up, asked back, looked at.

Not here: the contract's rules (``core.stake``), who takes it (``workload.slashing``).
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from msgspec import Struct

from sublet.adapter.chain_place import ChainPlace, open_chain
from sublet.adapter.chain_rpc import RpcChain
from sublet.adapter.chain_sender import JOURNAL_FILE
from sublet.adapter.clock_system import SystemClock
from sublet.adapter.escrow_chain import find_balance
from sublet.adapter.key_file import load_key
from sublet.adapter.stake_chain import ChainStake, StakeTerms
from sublet.base.errors import Refused, Unavailable
from sublet.base.ids import Address, Digest
from sublet.base.units import format_money
from sublet.core.mirror import ESCROW
from sublet.core.stake.step import EXPIRY_S, TIMELOCK_S
from sublet.provider import control
from sublet.provider.config import find_market, read_config
from sublet.provider.errand import AgentCourier
from sublet.sdk.connection import Connection
from sublet.sdk.nodes import parse_urls
from sublet.wire import escrow_call, stake_call
from sublet.wire.signature import Key
from sublet.workload.courier import Courier, check_gas, open_courier
from sublet.workload.escrow import find_stake


class CaseLine(Struct, frozen=True):
    """A case against the provider that is open."""

    id: Digest
    tenant: Address
    amount: int
    evidence: Digest  # SHA-256 of the arbiters' file
    executable_at_s: int  # by the chain's time: until then it may be appealed
    is_appealed: bool


class StakeView(Struct, frozen=True):
    """What a provider has at stake. Money in the token's unit, a micro-USD."""

    provider: Address
    chain_id: int
    contract: Address
    token: Address
    arbiters: tuple[Address, ...]
    quorum: int
    appeal_quorum: int
    wallet: int  # of the token, at no risk
    gas_wei: int
    now_s: int  # the chain's time
    bonded: int
    unbonding: int  # asked back, and at risk until it is withdrawn
    unbonded_at_s: int  # when that can be had
    awarded: int  # taken for contradictions, and not paid to tenants yet
    reserved: int  # of all that, for the open cases
    cases: tuple[CaseLine, ...]


class Staking:
    """One provider's stake; ``open_staking`` makes it."""

    def __init__(
        self, home: Path, place: ChainPlace, chain: RpcChain, *, key: Key, at: Address
    ) -> None:
        """Take what it works with; ``at`` is the contract."""
        self._home = home
        self._place = place
        self._chain = chain
        self._key = key
        self._own = key.address
        self._stake = ChainStake(chain, at)

    async def read(self) -> StakeView:
        """Say what lies where.

        Raises:
            Refused: ``bad_stake``, there is no such contract.
            Unavailable, ChainLied: as the chain's port says; likewise below.
        """
        terms = await self._stake.terms()
        holding = await self._stake.holding(self._own)
        now_s = await self._now_s()
        cases: tuple[CaseLine, ...] = ()
        if holding.reserved:  # else none is open
            since_s = now_s - TIMELOCK_S - EXPIRY_S
            found = await self._stake.find_cases(
                self._own, reserved=holding.reserved, since_s=since_s
            )
            cases = tuple(
                CaseLine(
                    id=case_id,
                    tenant=case.tenant,
                    amount=case.amount,
                    evidence=case.evidence,
                    executable_at_s=case.executable_at_s,
                    is_appealed=case.is_appealed,
                )
                for case_id, case in found
            )
        return StakeView(
            provider=self._own,
            chain_id=self._chain.chain_id,
            contract=self._stake.address,
            token=terms.token,
            arbiters=terms.arbiters,
            quorum=terms.quorum,
            appeal_quorum=terms.appeal_quorum,
            wallet=await find_balance(self._chain, terms.token, self._own),
            gas_wei=await self._chain.balance(self._own),
            now_s=now_s,
            bonded=holding.bonded,
            unbonding=holding.unbonding,
            unbonded_at_s=holding.unbonded_at_s,
            awarded=holding.awarded,
            reserved=holding.reserved,
            cases=cases,
        )

    async def put(self, amount: int) -> None:
        """Put so much more up.

        Raises:
            Refused: the wallet has less, or the chain does not take it.
        """
        terms: StakeTerms = await self._stake.terms()
        has = await find_balance(self._chain, terms.token, self._own)
        if not 0 < amount <= has:
            raise Refused(
                f"the wallet {self._own} has {format_money(has)} of the token "
                f"{terms.token}; send it more, or stake less, and above zero",
                code="short_wallet",
                field="USD",
            )
        async with self._open_courier() as courier:
            allow = escrow_call.approve(
                terms.token, spender=self._stake.address, amount=amount
            )
            await courier.send("approve", allow)
            call = stake_call.put(self._stake.address, self._own, amount)
            await courier.send("stake", call)

    async def unbond(self, amount: int) -> int:
        """Ask so much back; give the chain's time from which on it can be had.

        Raises:
            Refused: less is bonded, or the chain does not take it.
        """
        bonded = (await self._stake.holding(self._own)).bonded
        if not 0 < amount <= bonded:
            raise Refused(
                f"{format_money(bonded)} are staked; ask for no more, and above zero",
                code="over_stake",
                field="USD",
            )
        async with self._open_courier() as courier:
            await courier.send("unbond", stake_call.unbond(self._stake.address, amount))
        return (await self._stake.holding(self._own)).unbonded_at_s

    async def withdraw(self) -> int:
        """Take what was asked back, once it is free; give how much it was.

        Raises:
            Refused: nothing was, it is too early, or cases hold all of it.
        """
        before = await self._stake.holding(self._own)
        left_s = before.unbonded_at_s - await self._now_s()
        if not before.unbonding:
            raise Refused(
                "nothing was asked back; ask with: sublet provider unstake USD",
                code="not_unbonding",
            )
        if left_s > 0:
            raise Refused(
                f"it stays at risk for {left_s} s more; try again then",
                code="too_early",
            )
        if before.free <= 0:
            raise Refused(
                "open cases hold all of it; sublet provider stake lists them",
                code="case_open",
            )
        async with self._open_courier() as courier:
            call = stake_call.withdraw(self._stake.address, self._own)
            await courier.send("withdraw stake", call)
        return before.unbonding - (await self._stake.holding(self._own)).unbonding

    async def appeal(self, case_id: Digest) -> None:
        """Disagree with a case: now the larger quorum has to uphold it.

        Raises:
            Refused: no such case is open against this provider, or it is too late.
        """
        case = await self._stake.case(case_id)
        if case is None or not case.is_open or case.provider != self._own:
            raise Refused(
                f"no case {case_id} is open against {self._own}; "
                "sublet provider stake lists them",
                code="no_case",
                field="CASE",
            )
        async with self._open_courier() as courier:
            await courier.send(
                "appeal", stake_call.appeal(self._stake.address, case_id)
            )

    async def _now_s(self) -> int:
        block = await self._chain.block()
        assert block is not None, "the newest block is there"
        return block.time_s

    @asynccontextmanager
    async def _open_courier(self) -> AsyncIterator[Courier]:
        """Send by the agent where one runs, else by oneself."""
        await check_gas(self._chain, self._own)
        if await _has_agent(self._home):
            yield AgentCourier(self._home)
            return
        journal = self._home / JOURNAL_FILE
        async with open_courier(
            self._chain, self._place, key=self._key, journal=journal
        ) as courier:
            yield courier


async def _has_agent(home: Path) -> bool:
    try:
        await asyncio.to_thread(control.ask, home, "status")
    except Unavailable as fault:
        if fault.code != "no_agent":
            raise
        return False
    return True


@asynccontextmanager
async def open_staking(home: Path) -> AsyncIterator[Staking]:
    """Open the stake of the provider in a home.

    Its settings say which contract; else the market does, and then the chain is asked
    whether it is for the market's escrow and token.

    Raises:
        Refused: ``wrong_rail``, ``no_rpc``, ``no_stake`` or ``bad_stake``.
        Unavailable: market or chain do not answer.
    """
    config, key = read_config(home), load_key(home / "key")
    async with AsyncExitStack() as stack:
        node = await stack.enter_async_context(
            Connection(
                *parse_urls(config.market),
                key=key,
                clock=SystemClock(),
                market=find_market(home),
            )
        )
        market = await node.learn_market()
        if market.rail != ESCROW:
            raise Refused(
                "this market's money is credits; nothing is staked on a chain",
                code="wrong_rail",
            )
        at = config.chain.stake or await find_stake(node)
        chain = await stack.enter_async_context(
            open_chain(config.chain, chain_id=market.chain_id)
        )
        await ChainStake(chain, at).check(escrow=market.contract, dollar=market.token)
        yield Staking(home, config.chain, chain, key=key, at=at)
