"""Take a stake by a file of evidence, and be paid out of it.

Anybody may bring the file: the contract looks at documents and signatures itself, and
pays the lease's tenant. Not here: which documents count (``wire.slash``), arbiters'
cases (``workload.arbiters``).
"""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from msgspec import Struct

from sublet.adapter.chain_place import ChainPlace, open_chain
from sublet.adapter.chain_rpc import RpcChain
from sublet.adapter.clock_system import SystemClock
from sublet.adapter.stake_chain import ChainStake
from sublet.base.errors import Refused
from sublet.base.ids import Address, Digest
from sublet.core.rail.sending import Sending
from sublet.core.rail.transaction import Call
from sublet.sdk.connection import Connection
from sublet.wire import stake_call
from sublet.wire.dispute import Opened
from sublet.wire.signature import Key
from sublet.wire.slash import Slash
from sublet.workload.courier import JOURNAL_FILE, check_gas, open_courier
from sublet.workload.escrow import find_rpc, find_stake, make_place


class Slashed(Struct, frozen=True):
    """What came of a slash. Money in the token's unit, a micro-USD."""

    transaction: Digest
    provider: Address
    lease: Digest
    tenant: Address
    award: int  # its number, for ``sublet dispute collect``
    awarded: int  # to the tenant, less what arbiters' cases take until then
    burnt: int
    payable_at_s: int  # by the chain's time


class Place(Struct, frozen=True):
    """Where a stake contract is."""

    rpc: str
    chain_id: int
    stake: Address


class Slashing:
    """One key at one stake contract; ``open_slashing`` makes it."""

    def __init__(
        self, chain: RpcChain, place: ChainPlace, *, at: Address, key: Key, home: Path
    ) -> None:
        """Take what it works with; ``home`` is where the key's journal lies."""
        self.address = key.address
        self.stake = ChainStake(chain, at)
        self._chain = chain
        self._place = place
        self._key = key
        self._journal = home / JOURNAL_FILE

    async def send(self, what: str, call: Call) -> Sending:
        """Send a call with the key, and wait until the chain has taken it.

        Raises:
            Refused: ``no_gas``, ``not_taken`` or ``journal_in_use``.
        """
        await check_gas(self._chain, self.address)
        async with open_courier(
            self._chain, self._place, key=self._key, journal=self._journal
        ) as courier:
            return await courier.send(what, call)

    async def slash(self, found: Slash) -> Slashed:
        """Show the contract two documents that contradict each other.

        Raises:
            Refused: nothing is staked, or the contract does not take it.
            Unavailable, ChainLied: as the chain's port says; likewise below.
        """
        holding = await self.stake.holding(found.provider)
        if min(holding.bonded + holding.unbonding, holding.free) <= 0:
            raise Refused(
                f"{found.provider} has nothing at stake that is not taken or in a case "
                "already; whatever it stakes later can be taken with the same file",
                code="nothing_left",
            )
        sent = await self.send("slash", found.write(self.stake.address))
        said = await self.stake.find_slash(found.lease_id, block=sent.block_number)
        award = await self.stake.award(said.award_id)
        return Slashed(
            transaction=sent.transaction,
            provider=said.provider,
            lease=said.lease_id,
            tenant=said.tenant,
            award=said.award_id,
            awarded=said.awarded,
            burnt=said.burnt,
            payable_at_s=award.payable_at_s,
        )

    async def collect_award(self, award_id: int) -> int:
        """Have a tenant paid what a contradiction brought it; give how much it was.

        Raises:
            Refused: there is no such award, it is too early, or a case holds it.
        """
        award = await self.stake.award(award_id)
        block = await self._chain.block()
        if not award.amount:
            raise Refused(f"award {award_id} has been paid", code="nothing_left")
        if block is not None and block.time_s < award.payable_at_s:
            raise Refused(
                f"for {award.payable_at_s - block.time_s} s more arbiters may take it "
                "for other tenants; try again then",
                code="too_early",
            )
        call = stake_call.pay_award(self.stake.address, award_id)
        await self.send("award", call)
        return award.amount - (await self.stake.award(award_id)).amount

    async def collect_owed(self) -> int:
        """Have this key's account paid what cases granted it; give how much it was.

        Raises:
            Refused: nothing was granted, or it was paid.
        """
        amount = await self.stake.owed(self.address)
        if not amount:
            raise Refused(
                f"no case has granted {self.address} anything that is not paid yet",
                code="nothing_left",
            )
        await self.send("pay", stake_call.pay(self.stake.address, self.address))
        return amount


async def find_place(
    urls: tuple[str, ...], *, key: Key, rpc: str, stake: Address, opened: Opened | None
) -> Place:
    """Say where the stake is: what was named, or else what the market says.

    Args:
        urls: of the market, which is asked for what is not named.
        key: to ask it with.
        rpc: of the chain, or "".
        stake: the contract, or "".
        opened: the evidence that it is about; its market has to be this one.

    Raises:
        Refused: ``wrong_market``, ``wrong_rail``, ``no_rpc`` or ``no_stake``.
        Unavailable: the market does not answer.
    """
    if opened is not None and rpc and stake:  # nobody has to be asked
        return Place(rpc, opened.market.chain_id, stake)
    async with Connection(*urls, key=key, clock=SystemClock()) as connection:
        market, domain = await connection.learn_market(), await connection.domain()
        if opened is not None and opened.dispute.market != domain.market:
            raise Refused(
                f"the evidence is of market {opened.dispute.market}, and "
                f"{connection.nodes.current} is {domain.market}; name the right one "
                "with --market, or give --rpc and --stake",
                code="wrong_market",
                field="--market",
            )
        return Place(
            rpc=await find_rpc(connection, rpc),
            chain_id=market.chain_id,
            stake=stake or await find_stake(connection),
        )


@asynccontextmanager
async def open_slashing(
    place: Place, *, key: Key, home: Path, opened: Opened | None = None
) -> AsyncIterator[Slashing]:
    """Open a stake contract.

    Raises:
        Refused: ``bad_stake``, there is none, or it is not for the evidence's market.
        Unavailable: the chain does not answer.
    """
    settings = make_place(place.rpc, chain_id=place.chain_id)
    async with AsyncExitStack() as stack:
        chain = await stack.enter_async_context(
            open_chain(settings, chain_id=place.chain_id)
        )
        if opened is not None:
            stake = ChainStake(chain, place.stake)
            await stake.check(escrow=opened.market.contract)
        yield Slashing(chain, settings, at=place.stake, key=key, home=home)
