"""What the judge wrote down: offers, orders, leases, channels, vouchers, delegations."""

from collections import Counter
from dataclasses import dataclass, field

from sublet.core.book.open_order import Booking
from sublet.core.document import Bid, Channel, Delegation, Market, Offer, Order
from sublet.core.lease.phase import Lease

SPANS = {
    "matched": "accept_s",
    "accepted": "deliver_s",
    "preparing": "prepare_s",
    "closing": "close_s",
    "settling": "settle_s",
}
IN_USE = {"matched", "accepted", "preparing", "running", "closing"}

BEFORE_THE_END = {"matched", "accepted", "preparing", "running"}


@dataclass
class Case:
    """What the judge knows of one lease."""

    lease: Lease  # as the book told it last
    order: Order
    phase: str
    since_s: int  # in this phase
    heard_s: int = 0  # the last report, or the start
    started_s: int = 0
    ends_by_s: int = 0  # once it runs
    until_s: int = 0  # another's slice from then on, or 0
    give_back_by_s: int = 0
    ran_ms: int = 0
    secured_ms: int = 0
    is_given_back: bool = False
    may_hold_data: bool = False
    paid: int = 0

    def due_s(self, rules: Market) -> int:
        """Say when the present phase is over by force."""
        if self.phase == "running":
            due_s = min(self.heard_s + rules.report_s, self.ends_by_s)
        else:
            due_s = self.since_s + int(getattr(rules, SPANS[self.phase]))
        if self.phase in BEFORE_THE_END:
            due_s = min(due_s, self.until_s or due_s, self.give_back_by_s or due_s)
        return due_s

    def be_away(self, away_s: int) -> None:
        """Nobody counts a time in which there was no market."""
        self.since_s += away_s
        self.heard_s += away_s
        self.ends_by_s += away_s if self.ends_by_s else 0
        self.until_s += away_s if self.until_s else 0
        self.give_back_by_s += away_s if self.give_back_by_s else 0

    def price(self, ran_ms: int) -> int:
        """Price milliseconds: rounded down, none beyond the duration."""
        billed_ms = min(ran_ms, self.lease.duration_s * 1_000)
        return self.lease.price_hour * billed_ms // 3_600_000


@dataclass
class Wish:
    """What the judge knows of one order that waits, or did."""

    order: Order
    signer: str
    placed_s: int
    due_s: int  # by when it is over, whatever happens
    hold: int  # micro-USD that its leases may still cost
    left_s: int  # seconds that it may still lease
    bids: dict[str, tuple[str, Bid, str]] = field(default_factory=dict)  # and machine
    victims: list[Case] = field(default_factory=list)  # displaced for what it booked
    booking: Booking | None = None
    is_late: bool = False  # the market was away while it waited
    over_at: str = ""  # the fact that ended it

    def closes_s(self) -> int:
        """Say when no more bids are taken."""
        return self.due_s - self.order.choose_s


@dataclass
class Notes:
    """All that was heard and counts."""

    rules: Market
    cases: dict[str, Case] = field(default_factory=dict)
    wishes: dict[str, Wish] = field(default_factory=dict)
    not_granted: Counter[str] = field(default_factory=Counter)  # by provider
    offers: dict[str, tuple[str, Offer]] = field(default_factory=dict)  # that stand
    up: set[str] = field(default_factory=set)
    channels: dict[str, Channel] = field(default_factory=dict)
    vouched: dict[str, int] = field(default_factory=dict)
    vouched_before: dict[str, int] = field(default_factory=dict)  # this fact
    delegations: dict[str, tuple[str, Delegation]] = field(default_factory=dict)
    revoked: set[str] = field(default_factory=set)
    now_s: int = 0

    @property
    def open_wishes(self) -> list[Wish]:
        """List the orders that wait."""
        return [wish for wish in self.wishes.values() if not wish.over_at]

    def used(self, provider: str, machine: str) -> list[Lease]:
        """List the leases that keep a part of this machine from others."""
        return [
            case.lease
            for case in self.cases.values()
            if (case.lease.provider, case.lease.machine) == (provider, machine)
            and (case.phase in IN_USE or case.may_hold_data)
        ]
