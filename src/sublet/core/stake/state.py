"""The books of the stake contract, and the wallets around it.

Amounts in units of its token. Not here: what changes them (``step``).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from msgspec import Struct

from sublet.base.errors import Broken
from sublet.base.ids import Address, Digest


class Holding(Struct, frozen=True):
    """What is there of one provider's."""

    bonded: int = 0
    unbonding: int = 0  # asked back, and at risk until it has left
    unbonded_at_s: int = 0  # when that may leave
    awarded: int = 0  # to tenants, for contradictions; not paid yet
    reserved: int = 0  # of all that, for open cases

    @property
    def free(self) -> int:
        """What can still be taken for a new fault."""
        return self.bonded + self.unbonding + self.awarded - self.reserved


class Award(Struct, frozen=True):
    """What a contradiction brought a tenant."""

    provider: Address
    tenant: Address
    amount: int  # that is not paid yet
    payable_at_s: int


class Case(Struct, frozen=True):
    """What arbiters ask of a provider, for a tenant."""

    provider: Address
    tenant: Address
    amount: int
    evidence: Digest  # SHA-256 of the file that third parties verify
    executable_at_s: int  # 0 for no such case
    is_appealed: bool = False
    is_open: bool = True


@dataclass(frozen=True)
class StakeState:
    """All that the contract and its token know; a step gives a new one."""

    arbiters: frozenset[Address]
    quorum: int  # that opens a case
    appeal_quorum: int  # that upholds it
    holdings: Mapping[Address, Holding] = field(default_factory=dict)
    awards: tuple[Award, ...] = ()
    cases: Mapping[Digest, Case] = field(default_factory=dict)
    owed: Mapping[Address, int] = field(default_factory=dict)  # by closed cases
    burnt: int = 0
    issued: int = 0  # units of the token that there are
    wallets: Mapping[Address, int] = field(default_factory=dict)
    blocked: frozenset[Address] = frozenset()

    def holding(self, provider: Address) -> Holding:
        """Give what is there of a provider's."""
        return self.holdings.get(provider, Holding())

    @property
    def held(self) -> int:
        """Give what the contract itself must hold of the token."""
        return (
            sum(one.free + one.reserved for one in self.holdings.values())
            + sum(self.owed.values())
            + self.burnt
        )


class StakeUnbalanced(Broken):
    """The books of the stake contract differ: money was created or lost."""

    code = "stake_unbalanced"


def check_stake(state: StakeState) -> None:
    """Count everything anew.

    Raises:
        StakeUnbalanced: not every unit is in one place, or what a case holds has left.
    """
    if state.issued != sum(state.wallets.values()) + state.held:
        raise StakeUnbalanced(f"{state.issued} were issued, and {state.held} are held")
    reserved: dict[Address, int] = {}
    for case in state.cases.values():
        if case.is_open:
            reserved[case.provider] = reserved.get(case.provider, 0) + case.amount
    awarded: dict[Address, int] = {}
    for award in state.awards:
        awarded[award.provider] = awarded.get(award.provider, 0) + award.amount
    for provider, one in state.holdings.items():
        is_whole = min(one.bonded, one.unbonding, one.awarded, one.free) >= 0
        if not is_whole or one.reserved != reserved.get(provider, 0):
            raise StakeUnbalanced(f"{provider} has {one}, and cases hold another sum")
        # Cases may have taken a part of what awards say; never the other way round.
        if one.awarded > awarded.get(provider, 0):
            raise StakeUnbalanced(f"{provider} has {one}, and its awards are less")
    if min((0, state.burnt, *state.wallets.values(), *state.owed.values())) < 0:
        raise StakeUnbalanced("an account is below zero")
