"""A second opinion on a market: leases, vouchers, delegations, told from facts alone.

The book is fast: columns, indexes, running sums. The judge is slow and plain: it hears
each fact and what the book says it did, keeps its own notes, and works everything out
again by the words of ``docs/protocol.md``. It shares no rule with the book, so that a
mistake has to be made twice to pass.

Not here: who says what when (``test_market_machine``, ``test_delegation_machine``).
"""

from collections import Counter
from dataclasses import dataclass, field

from sublet.base.ids import NO_DIGEST
from sublet.core.book.outcome import LeaseErased, LeaseMoved, Step
from sublet.core.document import (
    AnyDocument,
    Channel,
    CheckpointKept,
    Delegation,
    Erasure,
    Fact,
    GiveBack,
    Market,
    Offer,
    OfferWithdrawal,
    Order,
    ProviderLost,
    ProviderSeen,
    Receipt,
    Revocation,
    Start,
    Stop,
    UsageRecord,
    Voucher,
)
from sublet.core.lease.phase import Fault, Lease
from sublet.core.ledger.ledger import Ledger

GIB = 1 << 30
SLACK_MS = 2_000

# From where, by whose word, to where. Only what is here may ever happen.
BY_WORD = {
    ("matched", "LeaseTerms"): "accepted",
    ("matched", "Stop"): "settled",
    ("accepted", "Delivery"): "preparing",
    ("accepted", "Stop"): "settled",
    ("preparing", "Start"): "running",
    ("preparing", "Receipt"): "settled",
    ("preparing", "Stop"): "settled",
    ("running", "UsageRecord"): "running",
    ("running", "CheckpointKept"): "running",
    ("running", "GiveBack"): "running",
    ("running", "Receipt"): "settling",
    ("running", "Stop"): "closing",
    ("closing", "Receipt"): "settling",
    ("settling", "Erasure"): "settling",
}
OF_THE_TENANT = {"Stop", "CheckpointKept"}
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
class Judge:
    """Hears all; asserts that it was right."""

    rules: Market
    cases: dict[str, Case] = field(default_factory=dict)
    offers: dict[str, tuple[str, Offer]] = field(default_factory=dict)  # that stand
    up: set[str] = field(default_factory=set)
    channels: dict[str, Channel] = field(default_factory=dict)
    vouched: dict[str, int] = field(default_factory=dict)
    delegations: dict[str, tuple[str, Delegation]] = field(default_factory=dict)
    revoked: set[str] = field(default_factory=set)
    vouched_before: dict[str, int] = field(default_factory=dict)  # this fact
    now_s: int = 0

    def hear(self, fact: Fact, done: Step) -> None:
        """Hold what the book did against the protocol."""
        self.now_s = max(self.now_s, fact.at_s)
        is_void = done.refusal is not None
        self.vouched_before = dict(self.vouched)
        if not is_void and isinstance(fact.document, Voucher):
            self._vouch(fact, fact.document)  # before what it pays
        for outcome in done.outcomes:
            if isinstance(outcome, LeaseErased):
                self._erased(fact, outcome.lease)
            elif isinstance(outcome, LeaseMoved):
                self._moved(fact, outcome.lease, is_void=is_void)
        if not is_void:
            self._note(fact, fact.document)
        for case in self.cases.values():
            if case.phase != "settled":
                assert case.due_s(self.rules) > self.now_s, "a deadline was missed"

    def count(self, ledger: Ledger) -> None:
        """Hold every wallet against the sum of what its leases paid."""
        spent: Counter[str] = Counter()
        for case in self.cases.values():
            spent[case.lease.tenant] += case.paid
        for tenant, paid in spent.items():
            assert ledger.find(tenant).debits_posted == paid, "a wallet paid otherwise"

    # ---- what is said -----------------------------------------------------------------

    def _note(self, fact: Fact, said: AnyDocument) -> None:
        match said:
            case ProviderSeen():
                self.up.add(said.provider)
            case ProviderLost():
                self.up.discard(said.provider)
            case Offer():
                for key, (signer, old) in list(self.offers.items()):
                    if (signer, old.machine) == (fact.signer, said.machine):
                        del self.offers[key]
                self.offers[fact.id] = (fact.signer, said)
            case OfferWithdrawal():
                assert said.offer_id in self.offers, "withdrawn twice, or never made"
                signer, _ = self.offers.pop(said.offer_id)
                assert signer == fact.signer, "someone else's offer was withdrawn"
            case Channel():
                assert fact.signer == said.payer, "a stranger opened a channel"
                self.channels[fact.id] = said
            case Delegation():
                self.delegations[fact.id] = (fact.signer, said)
            case Revocation():
                assert self.delegations[said.delegation_id][0] == fact.signer
                self.revoked.add(said.delegation_id)
                for case in self.cases.values():
                    if case.lease.delegation == said.delegation_id:
                        assert case.phase in ("closing", "settling", "settled")
            case Order():
                assert fact.id in self.cases, "an order was taken and gave no lease"

    def _vouch(self, fact: Fact, said: Voucher) -> None:
        channel = self.channels[said.channel_id]
        assert fact.signer == channel.payer_authorizer, "a stranger's voucher counts"
        before = self.vouched.get(said.channel_id, 0)
        assert said.max_claimable_amount > before, "a voucher fell"
        self.vouched[said.channel_id] = said.max_claimable_amount

    # ---- a lease is made ----------------------------------------------------------------

    def _moved(self, fact: Fact, lease: Lease, *, is_void: bool) -> None:
        if lease.id in self.cases:
            self._moves_on(fact, self.cases[lease.id], lease, is_void=is_void)
            return
        assert isinstance(fact.document, Order), "a lease without an order"
        assert not is_void, "a void order gave a lease"
        assert (lease.id, lease.phase.value) == (fact.id, "matched")
        self._check_right(fact, fact.document, lease)
        self._check_match(fact.document, lease)
        self.cases[lease.id] = Case(lease, fact.document, "matched", self.now_s)

    def _check_right(self, fact: Fact, order: Order, lease: Lease) -> None:
        """Whoever ordered may, and what it may cost is allowed."""
        assert lease.tenant == order.tenant
        assert lease.hold <= order.total_max, "more is held than the order allows"
        if order.delegation == NO_DIGEST:
            assert fact.signer == order.tenant, "a stranger ordered"
            return
        tenant, delegation = self.delegations[order.delegation]
        assert (tenant, delegation.delegate) == (order.tenant, fact.signer)
        assert delegation.expires_at_s > self.now_s, "the delegation has expired"
        assert order.delegation not in self.revoked, "the delegation was revoked"
        allowed = delegation.providers
        assert not allowed or lease.provider in allowed, "out of the delegation's scope"
        under = [
            case
            for case in self.cases.values()
            if case.lease.delegation == order.delegation
        ]
        at_once = sum(case.phase in IN_USE for case in under)
        assert at_once < delegation.leases_max, "too many leases under a delegation"
        used = sum(
            case.paid if case.phase == "settled" else case.lease.hold for case in under
        )
        assert used + lease.hold <= delegation.budget, "over the delegation's budget"

    def _check_match(self, order: Order, lease: Lease) -> None:
        """The best score won, for the price at which it would just tie the next."""
        fitting = {
            key: self._cost(order, offer)
            for key, (provider, offer) in self.offers.items()
            if self._fits(order, provider, offer)
        }
        costs = {k: cost for k, cost in fitting.items() if cost <= order.price_hour_max}
        assert lease.offer_id in costs, "the winner does not fit"
        provider, offer = self.offers[lease.offer_id]
        assert lease.provider == provider
        chances = {p: self._chance_ppm(p, order) for p, _ in self.offers.values()}
        scale = (1 << 62) // max(1, order.price_hour_max)
        scores = {
            k: cost * scale // chances[self.offers[k][0]] for k, cost in costs.items()
        }
        assert scores[lease.offer_id] == min(scores.values()), "not the best score won"
        if all(self.offers[k][0] == provider for k in fitting):
            price = costs[lease.offer_id]  # a lone seller is paid what it asks
        elif all(self.offers[k][0] == provider for k in costs):
            price = order.price_hour_max
        else:
            next_score = min(
                score for k, score in scores.items() if self.offers[k][0] != provider
            )
            # With scales as large as here no two prices have one score.
            price = -(-next_score * chances[provider] // scale)
            while (price + 1) * scale // chances[provider] <= next_score:
                price += 1
            while price * scale // chances[provider] > next_score:
                price -= 1
            if self._is_younger_than_next(lease.offer_id, scores, next_score):
                ties = price * scale // chances[provider] == next_score
                price += 0 if ties else 1
            price = min(price, order.price_hour_max)
        assert lease.price_hour == price, "not the second score"
        used = self._used(provider, offer.machine)
        gpus = {uuid for one in used for uuid in one.gpu_uuids}
        assert len(set(lease.gpu_uuids)) == order.gpu_count
        assert set(lease.gpu_uuids) <= set(offer.gpu_uuids) - gpus, "a GPU twice"

    def _chance_ppm(self, provider: str, order: Order) -> int:
        """A day without faults, and what was seen since."""
        seen = [
            case
            for case in self.cases.values()
            if case.phase == "settled" and case.lease.provider == provider
        ]
        ran_s = sum(case.lease.ran_ms // 1_000 for case in seen)
        faults = sum(case.lease.fault is Fault.PROVIDER for case in seen)
        lasts_s = (86_400 + ran_s) // (1 + faults)
        lasts_s -= lasts_s % 3_600 if lasts_s > 3_600 else 0
        return 1 + lasts_s * 999_999 // (lasts_s + order.duration_s_max)

    def _is_younger_than_next(
        self, key: str, scores: dict[str, int], next_score: int
    ) -> bool:
        """Say whether the one that it has to beat was offered before it."""
        places = {one: place for place, one in enumerate(self.offers)}
        rivals = [
            places[one]
            for one, score in scores.items()
            if score == next_score and self.offers[one][0] != self.offers[key][0]
        ]
        return min(rivals) < places[key]

    def _fits(self, order: Order, provider: str, offer: Offer) -> bool:
        used = self._used(provider, offer.machine)
        gpus = {uuid for one in used for uuid in one.gpu_uuids}
        allowed: tuple[str, ...] = ()
        if order.delegation != NO_DIGEST:
            allowed = self.delegations[order.delegation][1].providers
        return (
            provider in self.up
            and offer.expires_at_s > self.now_s
            and provider not in order.avoid
            and order.tenant not in offer.refuses
            and (not allowed or provider in allowed)
            and (not offer.leases_max or len(used) < offer.leases_max)
            and set(order.features) <= set(offer.features)
            and (not order.sandbox or order.sandbox in offer.sandboxes)
            and (not order.gpu_models or offer.gpu_model in order.gpu_models)
            and order.gpu_memory_bytes <= offer.gpu_memory_bytes
            and order.gpu_count <= len(set(offer.gpu_uuids) - gpus)
            and all(
                getattr(order, what) + sum(getattr(one, what) for one in used)
                <= getattr(offer, what)
                for what in ("cpus_milli", "memory_bytes", "disk_bytes")
            )
        )

    def _used(self, provider: str, machine: str) -> list[Lease]:
        """List the leases that keep a part of this machine from others."""
        return [
            case.lease
            for case in self.cases.values()
            if (case.lease.provider, case.lease.machine) == (provider, machine)
            and (case.phase in IN_USE or case.may_hold_data)
        ]

    def _cost(self, order: Order, offer: Offer) -> int:
        return (
            -(-order.cpus_milli * offer.cpu_price_hour // 1_000)
            - (-order.memory_bytes * offer.memory_price_hour // GIB)
            + order.gpu_count * offer.gpu_price_hour
        )

    # ---- a lease moves ------------------------------------------------------------------

    def _moves_on(self, fact: Fact, case: Case, lease: Lease, *, is_void: bool) -> None:
        assert case.phase != "settled", "a settled lease moved"
        was, to = case.phase, lease.phase.value
        due_s = case.due_s(self.rules)
        said = fact.document
        is_about_it = not is_void and getattr(said, "lease_id", "") == lease.id
        if due_s <= self.now_s:
            owed = self._expire(case, to, due_s)
        elif lease.reason == "provider_lost" and to == "settled":
            assert isinstance(said, ProviderLost), "lost, and nobody said so"
            assert (said.provider, is_void) == (lease.provider, False)
            owed = case.price(case.secured_ms)
            owed = min(owed, self._owed(case)) if was == "settling" else owed
        elif (was, to) == ("settling", "settled"):
            owed = self._owed(case)
            assert lease.paid == owed, "settled before it was covered"
        elif isinstance(said, Revocation) and not is_void:
            assert said.delegation_id == lease.delegation
            assert to == BY_WORD[was, "Stop"]
            owed, case.since_s = 0, self.now_s
        else:
            assert is_about_it, "moved by nobody"
            kind = type(said).__name__
            assert BY_WORD.get((was, kind)) == to, f"{was} to {to} by {kind}"
            owed = self._hear_of_lease(fact, case, said)
            case.since_s = self.now_s if was != to else case.since_s
        case.lease, case.phase = lease, to
        if to == "settled":
            self._settled(case, owed)

    def _owed(self, case: Case) -> int:
        """What is owed once the program is over, by what was claimed."""
        ran_ms = case.ran_ms
        if case.is_given_back:
            ran_ms = min(ran_ms, case.secured_ms)
        return case.price(ran_ms) if case.started_s else 0

    def _expire(self, case: Case, to: str, due_s: int) -> int:
        is_timeout = due_s == case.started_s + case.lease.duration_s
        if case.phase == "running" and is_timeout:
            case.since_s = due_s
            assert to == "closing", "its time is over and it does not close"
            return 0
        assert to == "settled", "a deadline passed and the lease goes on"
        if case.phase == "settling":
            return self._owed(case)
        return case.price(case.secured_ms)

    def _hear_of_lease(self, fact: Fact, case: Case, said: AnyDocument) -> int:
        kind, lease = type(said).__name__, case.lease
        allowed = {lease.tenant, lease.authorizer}
        if kind not in OF_THE_TENANT:
            allowed = {lease.provider}
        assert fact.signer in allowed, f"{kind} by a stranger"
        match said:
            case Start():
                case.started_s = case.heard_s = self.now_s
            case UsageRecord() | Receipt():
                self._check_claim(case, said.ran_ms)
                if isinstance(said, UsageRecord):
                    assert said.ran_ms >= case.ran_ms, "the meter went back"
                else:
                    case.is_given_back = said.reason == "given_back"
                case.ran_ms, case.heard_s = said.ran_ms, self.now_s
                return self._owed(case)
            case CheckpointKept():
                self._check_claim(case, said.ran_ms)
                assert said.ran_ms >= case.secured_ms, "an older checkpoint counts"
                case.secured_ms = said.ran_ms
            case GiveBack():
                by_s = self.now_s + said.notice_s + self.rules.report_s
                case.give_back_by_s = min(by_s, case.give_back_by_s or by_s)
            case Stop():
                return 0
            case Erasure():
                assert case.may_hold_data, "erased twice"
                case.may_hold_data = False
            case _:
                case.may_hold_data |= "erasure" in lease.features
        return 0

    def _check_claim(self, case: Case, ran_ms: int) -> None:
        passed_ms = (self.now_s - case.started_s) * 1_000 if case.started_s else 0
        slack_ms = SLACK_MS if case.started_s else 0
        assert ran_ms <= passed_ms + slack_ms, "more time is claimed than passed"

    def _settled(self, case: Case, owed: int) -> None:
        """Exactly what the channel's last voucher leaves for it is paid."""
        lease, names = case.lease, list(self.cases)
        assert lease.owed == owed, f"owed is {owed}, and {lease.owed} was charged"
        of_channel = [
            one for one in self.cases.values() if one.lease.line == lease.line
        ]
        paid = sum(one.paid for one in of_channel)
        older = sum(
            one.lease.owed
            for one in of_channel
            if one.phase != "settled"
            and names.index(one.lease.id) < names.index(lease.id)
        )
        case.paid = lease.paid
        keys = [key for key, one in self.channels.items() if _line(one) == lease.line]
        # Whether a voucher came before or after a deadline of the same instant is the
        # book's to say: it pays by what was vouched before, or by what is now.
        allowed = {
            min(owed, max(0, sum(said.get(key, 0) for key in keys) - paid - older))
            for said in (self.vouched_before, self.vouched)
        }
        assert lease.paid in allowed, f"{lease.paid} is paid; right is {allowed}"

    def _erased(self, fact: Fact, lease: Lease) -> None:
        case = self.cases[lease.id]
        assert isinstance(fact.document, Erasure)
        assert fact.signer == lease.provider, "a stranger says that it is erased"
        assert case.phase == "settled"
        assert case.may_hold_data, "erased twice"
        case.lease, case.may_hold_data = lease, False


def _line(channel: Channel) -> tuple[str, str, str]:
    return (channel.payer, channel.receiver, channel.payer_authorizer)
