"""What the judge wrote down: offers, leases, channels, vouchers, delegations."""

from dataclasses import dataclass, field

from sublet.core.document import Channel, Delegation, Market, Offer, Order
from sublet.core.lease.phase import Lease

SPANS = {
    "matched": "accept_s",
    "accepted": "deliver_s",
    "preparing": "prepare_s",
    "closing": "close_s",
    "settling": "settle_s",
}
IN_USE = {"matched", "accepted", "preparing", "running", "closing"}


@dataclass
class Case:
    """What the judge knows of one lease."""

    lease: Lease  # as the book told it last
    order: Order
    phase: str
    since_s: int  # in this phase
    heard_s: int = 0  # the last report, or the start
    started_s: int = 0
    give_back_by_s: int = 0
    ran_ms: int = 0
    secured_ms: int = 0
    is_given_back: bool = False
    may_hold_data: bool = False
    paid: int = 0

    def due_s(self, rules: Market) -> int:
        """Say when the present phase is over by force."""
        if self.phase != "running":
            return self.since_s + int(getattr(rules, SPANS[self.phase]))
        due_s = min(
            self.heard_s + rules.report_s, self.started_s + self.lease.duration_s
        )
        return min(due_s, self.give_back_by_s or due_s)

    def price(self, ran_ms: int) -> int:
        """Price milliseconds: rounded down, none beyond the duration."""
        billed_ms = min(ran_ms, self.lease.duration_s * 1_000)
        return self.lease.price_hour * billed_ms // 3_600_000


@dataclass
class Notes:
    """All that was heard and counts."""

    rules: Market
    cases: dict[str, Case] = field(default_factory=dict)
    offers: dict[str, tuple[str, Offer]] = field(default_factory=dict)  # that stand
    up: set[str] = field(default_factory=set)
    channels: dict[str, Channel] = field(default_factory=dict)
    vouched: dict[str, int] = field(default_factory=dict)
    vouched_before: dict[str, int] = field(default_factory=dict)  # this fact
    delegations: dict[str, tuple[str, Delegation]] = field(default_factory=dict)
    revoked: set[str] = field(default_factory=set)
    now_s: int = 0

    def used(self, provider: str, machine: str) -> list[Lease]:
        """List the leases that keep a part of this machine from others."""
        return [
            case.lease
            for case in self.cases.values()
            if (case.lease.provider, case.lease.machine) == (provider, machine)
            and (case.phase in IN_USE or case.may_hold_data)
        ]
