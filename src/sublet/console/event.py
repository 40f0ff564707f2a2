"""Say in one line what an entry of the log did. Pure.

Only what was said by somebody is worth a line; readings that come every few seconds
are not. Not here: the whole life of one lease (``service.story``).
"""

from collections.abc import Callable, Mapping

from sublet.base.ids import Address, Digest
from sublet.base.units import format_money
from sublet.core.book.outcome import LeaseMoved, Step
from sublet.core.document import (
    CheckpointKept,
    Credit,
    Erasure,
    Fact,
    GiveBack,
    LeaseTerms,
    Market,
    Offer,
    OfferWithdrawal,
    Order,
    ProviderLost,
    ProviderSeen,
    Receipt,
    Replacement,
    Start,
    Stop,
    Upgrade,
)
from sublet.core.lease.phase import Lease, Phase

NameOf = Callable[[Address], str]

_OF_LEASE: Mapping[type, str] = {
    LeaseTerms: "accepted by {who}",
    Start: "runs on {who}",
    CheckpointKept: "has a checkpoint with the tenant",
    Replacement: "is to run another program",
    GiveBack: "is asked back by {who}",
    Stop: "is stopped by the tenant",
    Receipt: "has a receipt of {who}",
    Erasure: "is erased by {who}",
}


def describe(fact: Fact, step: Step, *, name_of: NameOf) -> list[str]:
    """Give the lines that an entry deserves, perhaps none."""
    if step.refusal is not None:
        kind = type(fact.document).__name__
        return [f"{kind} of {name_of(fact.signer)} is void: {step.refusal.code}"]
    # An erasure settles nothing.
    moved = [o.lease for o in step.outcomes if type(o) is LeaseMoved]
    lines = [line for line in [_said(fact, moved, name_of=name_of)] if line]
    settled = [lease for lease in moved if lease.phase is Phase.SETTLED]
    return lines + [_settled(lease, name_of=name_of) for lease in settled]


def _said(fact: Fact, moved: list[Lease], *, name_of: NameOf) -> str:
    who = name_of(fact.signer)
    match fact.document:
        case Market(name=name):
            return f"market {name} opens"
        case Credit(party=party, amount=amount):
            return f"{name_of(party)} is credited {format_money(amount)}"
        case Offer(machine=machine):
            return f"{machine} is offered"
        case OfferWithdrawal():
            return f"{who} takes an offer back"
        case ProviderSeen(provider=provider):
            return f"{name_of(provider)} is up"
        case ProviderLost(provider=provider):
            return f"{name_of(provider)} is lost"
        case Upgrade(version=version):
            return f"the rules of version {version} hold from here on"
        case Order() if moved:
            return _matched(moved[-1], name_of=name_of)
        case (
            LeaseTerms()
            | Start()
            | CheckpointKept()
            | Replacement()
            | GiveBack()
            | Stop()
            | Receipt()
            | Erasure()
        ) as said:
            return (
                f"lease {short(said.lease_id)} {_OF_LEASE[type(said)].format(who=who)}"
            )
        case _:
            return ""


def _matched(lease: Lease, *, name_of: NameOf) -> str:
    price = format_money(lease.price_hour)
    return (
        f"lease {short(lease.id)} goes to {name_of(lease.provider)} at {price} an hour"
    )


def _settled(lease: Lease, *, name_of: NameOf) -> str:
    ran = f"{lease.ran_ms / 1_000:.1f} s"
    why = lease.reason.replace("_", " ")
    return (
        f"lease {short(lease.id)} is settled: ran {ran}, paid {format_money(lease.paid)} "
        f"to {name_of(lease.provider)} ({why})"
    )


def short(name: Digest | Address) -> str:
    """Cut an id down to what people can compare.

    >>> short("0x0a1b2c3d4e5f")
    '0a1b2c3d'
    """
    return name[2:10]
