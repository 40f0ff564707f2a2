"""Take a stake by a file of evidence, and be paid out of it.

Anybody may bring the file: the contract looks at documents and signatures itself, and
pays the lease's tenant; arbiters' cases go the same way. Not here: which documents
count (``wire.slash``), what arbiters sign (``wire.case``).
"""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from msgspec import Struct

from sublet.adapter.chain_place import ChainPlace, open_chain
from sublet.adapter.chain_rpc import RpcChain
from sublet.adapter.chain_sender import JOURNAL_FILE
from sublet.adapter.clock_system import SystemClock
from sublet.adapter.stake_chain import ChainStake
from sublet.base.errors import Refused
from sublet.base.ids import Address, Digest
from sublet.core.rail.sending import Sending
from sublet.core.rail.transaction import Call
from sublet.core.stake.state import Case
from sublet.sdk.connection import Connection
from sublet.wire import stake_call
from sublet.wire.case import CaseFile, keep_arbiters
from sublet.wire.signature import Key
from sublet.wire.slash import Slash
from sublet.workload.courier import check_gas, open_courier
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

    async def open_case(self, case: CaseFile) -> Case:
        """Open a case that a quorum has signed; give it as the chain has it.

        Raises:
            Refused: ``no_quorum``, ``case_known``, or the contract does not take it.
        """
        terms = await self.stake.terms()
        case = keep_arbiters(case, terms.arbiters)
        _check_quorum(len(case.opening), terms.quorum, "open a case")
        if await self.stake.case(case.id) is not None:
            raise Refused(f"case {case.id} was opened before", code="case_known")
        await self.send("case", case.write_opening())
        return await self._find_case(case.id)

    async def execute_case(self, case: CaseFile) -> Case:
        """Grant the tenant what a case asks for, after its three days.

        Raises:
            Refused: ``no_case``, ``too_early``, ``no_quorum`` after an appeal, or the
                contract does not take it.
        """
        terms, known = await self.stake.terms(), await self._find_case(case.id)
        block = await self._chain.block()
        if not known.is_open:
            raise Refused(f"case {case.id} is closed", code="no_case")
        if block is not None and block.time_s < known.executable_at_s:
            raise Refused(
                f"its provider may appeal for {known.executable_at_s - block.time_s} s "
                "more; try again then",
                code="too_early",
            )
        case = keep_arbiters(case, terms.arbiters)
        if known.is_appealed:
            wanted = terms.appeal_quorum
            _check_quorum(len(case.confirming), wanted, "uphold an appealed case")
        call = case.write_execution(is_appealed=known.is_appealed)
        await self.send("execute", call)
        return known

    async def _find_case(self, case_id: Digest) -> Case:
        case = await self.stake.case(case_id)
        if case is None:
            raise Refused(f"case {case_id} was never opened", code="no_case")
        return case

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


def _check_quorum(count: int, quorum: int, what: str) -> None:
    if count < quorum:
        raise Refused(
            f"{count} arbiters of this contract have signed, and {quorum} {what}; each "
            "signs a copy with: sublet dispute sign, and all copies are named together",
            code="no_quorum",
        )


async def find_place(
    urls: tuple[str, ...],
    *,
    key: Key,
    rpc: str = "",
    stake: Address = "",
    chain_id: int = 0,
    market: Digest = "",
) -> Place:
    """Say where the stake is: what was named, or else what the market says.

    Args:
        urls: of the market, which is asked for what is not named.
        key: to ask it with.
        rpc: of the chain, or "".
        stake: the contract, or "".
        chain_id: of which it has to be; 0: the market says.
        market: whose id it has to be; "": any.

    Raises:
        Refused: ``wrong_market``, ``wrong_rail``, ``no_rpc`` or ``no_stake``.
        Unavailable: the market does not answer.
    """
    if rpc and stake and chain_id:  # nobody has to be asked
        return Place(rpc, chain_id, stake)
    async with Connection(*urls, key=key, clock=SystemClock()) as connection:
        rules, domain = await connection.learn_market(), await connection.domain()
        if market not in ("", domain.market) or chain_id not in (0, rules.chain_id):
            raise Refused(
                f"the file is of another market or chain than {connection.nodes.current}"
                "; name the right one with --market, or give --rpc and --stake",
                code="wrong_market",
                field="--market",
            )
        return Place(
            rpc=await find_rpc(connection, rpc),
            chain_id=rules.chain_id,
            stake=stake or await find_stake(connection),
        )


@asynccontextmanager
async def open_slashing(
    place: Place, *, key: Key, home: Path, escrow: Address = ""
) -> AsyncIterator[Slashing]:
    """Open a stake contract; ``escrow`` is the one that it has to be for, if any.

    Raises:
        Refused: ``bad_stake``, there is none, or it is not for the evidence's market.
        Unavailable: the chain does not answer.
    """
    settings = make_place(place.rpc, chain_id=place.chain_id)
    async with AsyncExitStack() as stack:
        chain = await stack.enter_async_context(
            open_chain(settings, chain_id=place.chain_id)
        )
        if escrow:
            await ChainStake(chain, place.stake).check(escrow=escrow)
        yield Slashing(chain, settings, at=place.stake, key=key, home=home)
