"""The stake contract on a chain: what it holds of whom, and what happened to it.

Not here: the bytes (``wire.stake_call``), sending (``service.sender``).
"""

from collections.abc import Sequence

from msgspec import Struct

from sublet.base.errors import Refused
from sublet.base.ids import NO_ADDRESS, Address, Digest
from sublet.core.stake import event as ev
from sublet.core.stake.state import Award, Case, Holding
from sublet.service.chain_port import Chain, Reverted
from sublet.service.escrow_follower import BLOCKS_PER_QUESTION
from sublet.wire import stake_call
from sublet.wire.abi import BadAnswer, decode_values


class StakeTerms(Struct, frozen=True):
    """With what a stake contract was deployed, for good."""

    token: Address
    escrow: Address  # names the markets whose documents count there
    arbiters: tuple[Address, ...]
    quorum: int  # of them, that open a case
    appeal_quorum: int  # that uphold it after an appeal


class ChainStake:
    """One stake contract on one chain."""

    def __init__(self, chain: Chain, address: Address) -> None:
        """Take where it is."""
        self.address = address
        self._chain = chain

    async def terms(self) -> StakeTerms:
        """Ask with what it was deployed.

        Raises:
            Refused: ``bad_stake``, there is no stake contract.
            Unavailable, ChainLied: as the chain's port says; likewise below.
        """
        said = {}
        try:
            for name, (call, types) in stake_call.ask_terms(self.address).items():
                (said[name],) = decode_values(types, await self._chain.call(call))
        except (Reverted, BadAnswer):
            raise Refused(
                f"there is no stake contract at {self.address} on chain "
                f"{self._chain.chain_id}",
                code="bad_stake",
                field="chain.stake",
            ) from None
        return StakeTerms(**said)

    async def check(self, *, escrow: Address, dollar: Address = "") -> StakeTerms:
        """See that it is a stake for the markets of an escrow, and in this token.

        Raises:
            Refused: ``bad_stake``, it is another's.
        """
        terms = await self.terms()
        if terms.escrow != escrow or dollar not in ("", terms.token):
            raise Refused(
                f"the stake contract {self.address} is for the escrow {terms.escrow} and "
                f"the token {terms.token}, and this market's are others",
                code="bad_stake",
                field="chain.stake",
            )
        return terms

    async def holding(self, provider: Address) -> Holding:
        """Ask what is there of a provider's."""
        call = stake_call.ask_holding(self.address, provider)
        return stake_call.read_holding(await self._chain.call(call))

    async def award(self, award_id: int) -> Award:
        """Ask for an award.

        Raises:
            Refused: ``no_award``, there is none of this number.
        """
        call = stake_call.ask_award(self.address, award_id)
        award = stake_call.read_award(await self._chain.call(call))
        if award.provider == NO_ADDRESS:
            raise Refused(
                f"there is no award {award_id}; sublet dispute slash says the number",
                code="no_award",
            )
        return award

    async def case(self, case_id: Digest) -> Case | None:
        """Ask for a case; None: it was never opened."""
        call = stake_call.ask_case(self.address, case_id)
        case = stake_call.read_case(await self._chain.call(call))
        return case if case.executable_at_s else None

    async def owed(self, tenant: Address) -> int:
        """Ask what cases granted a tenant, and is not paid yet."""
        answer = await self._chain.call(stake_call.ask_owed(self.address, tenant))
        amount: int = decode_values("(uint256)", answer)[0]
        return amount

    async def find_cases(
        self, provider: Address, *, reserved: int, since_s: int
    ) -> tuple[tuple[Digest, Case], ...]:
        """List the open cases against a provider.

        They are looked for from the newest block backwards.

        Args:
            provider: against whom.
            reserved: what they hold, in all: when that is found, none is left.
            since_s: by the chain's time; none that is open is older.
        """
        found: list[tuple[Digest, Case]] = []
        head = await self._chain.block()
        last = head.number if head is not None else -1
        topics = ((stake_call.CASE_OPENED,), (), (stake_call.provider_topic(provider),))
        while last >= 0 and sum(case.amount for _, case in found) < reserved:
            first = max(0, last - BLOCKS_PER_QUESTION + 1)
            for event in await self._events(topics, first=first, last=last):
                if not isinstance(event, ev.CaseOpened):
                    continue
                case = await self.case(event.case_id)
                if case is not None and case.is_open:
                    found.append((event.case_id, case))
            block = await self._chain.block(first)
            if block is None or block.time_s < since_s:
                break
            last = first - 1
        return tuple(found)

    async def find_slash(self, lease_id: Digest, *, block: int) -> ev.Contradicted:
        """Find what a contradiction about a lease brought, in the block where it is.

        Raises:
            Refused: ``no_award``, the block says nothing of it.
        """
        topics = ((stake_call.CONTRADICTED,), (), (), (lease_id,))
        for event in await self._events(topics, first=block, last=block):
            if isinstance(event, ev.Contradicted):
                return event
        raise Refused(
            f"block {block} has no contradiction about lease {lease_id}; ask another RPC",
            code="no_award",
        )

    async def _events(
        self, topics: Sequence[Sequence[Digest]], *, first: int, last: int
    ) -> list[ev.Event]:
        logs = await self._chain.logs(self.address, topics, first=first, last=last)
        return [stake_call.read_event(log.topics, log.data) for log in logs]
