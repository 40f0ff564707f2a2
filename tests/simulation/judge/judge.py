"""A second opinion on a market: orders, leases, vouchers, delegations, from facts alone.

The book is fast: columns, indexes, running sums. The judge is slow and plain: it hears
each fact and what the book says it did, keeps its own notes, and works everything out
again by the words of ``docs/protocol.md``. It shares no rule with the book, so that a
mistake has to be made twice to pass.

Not here: who says what when (``test_market_machine``, ``test_delegation_machine``).
"""

from collections import Counter

from sublet.core.book.outcome import LeaseErased, LeaseMoved, OrderMoved, Step
from sublet.core.document import (
    AnyDocument,
    Bid,
    Channel,
    Delegation,
    Fact,
    Market,
    Offer,
    OfferWithdrawal,
    Order,
    ProviderLost,
    ProviderSeen,
    Resume,
    Revocation,
    Voucher,
)
from sublet.core.lease.phase import Lease
from sublet.core.ledger.ledger import Ledger
from tests.simulation.judge.life import erased, moves_on
from tests.simulation.judge.match import check_match, check_right
from tests.simulation.judge.notes import Case, Notes
from tests.simulation.judge.wait import leased, note_bid, order_moved


class Judge:
    """Hears all; asserts that it was right."""

    def __init__(self, rules: Market) -> None:
        self.notes = Notes(rules)

    def hear(self, fact: Fact, done: Step) -> None:
        """Hold what the book did against the protocol."""
        is_void = done.refusal is not None
        if not is_void and isinstance(fact.document, Resume):
            self._be_away(max(0, fact.at_s - self.notes.now_s))
        self.notes.now_s = max(self.notes.now_s, fact.at_s)
        self.notes.vouched_before = dict(self.notes.vouched)
        if not is_void and isinstance(fact.document, Voucher):
            self._vouch(fact, fact.document)  # before what it pays
        for outcome in done.outcomes:
            if isinstance(outcome, LeaseErased):
                erased(self.notes, fact, outcome.lease)
            elif isinstance(outcome, LeaseMoved):
                self._moved(fact, outcome.lease, is_void=is_void)
            elif isinstance(outcome, OrderMoved):
                order_moved(self.notes, fact, outcome.order, is_void=is_void)
        if not is_void:
            self._note(fact, fact.document)
        for case in self.notes.cases.values():
            if case.phase != "settled":
                assert case.due_s(self.notes.rules) > self.notes.now_s, (
                    "a deadline was missed"
                )

        for wish in self.notes.open_wishes:
            assert wish.due_s > self.notes.now_s, "an order waits too long"

    def _be_away(self, away_s: int) -> None:
        """Nobody served the market for so long: all that is open moves."""
        for case in self.notes.cases.values():
            case.be_away(away_s)
        for wish in self.notes.open_wishes:
            wish.due_s += away_s
            wish.is_late |= away_s > 0

    def count(self, ledger: Ledger) -> None:
        """Hold every wallet against the sum of what its leases paid."""
        spent: Counter[str] = Counter()
        for case in self.notes.cases.values():
            spent[case.lease.tenant] += case.paid
        for tenant, paid in spent.items():
            assert ledger.find(tenant).debits_posted == paid, "a wallet paid otherwise"
        held: Counter[str] = Counter()
        for case in self.notes.cases.values():
            held[case.lease.tenant] += case.lease.hold * (case.phase != "settled")
        for wish in self.notes.open_wishes:
            held[wish.order.tenant] += wish.hold
        for tenant, amount in held.items():
            assert ledger.find(tenant).debits_pending == amount, "held otherwise"

    # ---- what is said -----------------------------------------------------------------

    def _note(self, fact: Fact, said: AnyDocument) -> None:
        match said:
            case ProviderSeen():
                self.notes.up.add(said.provider)
            case ProviderLost():
                self.notes.up.discard(said.provider)
            case Offer():
                for key, (signer, old) in list(self.notes.offers.items()):
                    if (signer, old.machine) == (fact.signer, said.machine):
                        del self.notes.offers[key]
                self.notes.offers[fact.id] = (fact.signer, said)
            case OfferWithdrawal():
                assert said.offer_id in self.notes.offers, (
                    "withdrawn twice, or never made"
                )
                signer, _ = self.notes.offers.pop(said.offer_id)
                assert signer == fact.signer, "someone else's offer was withdrawn"
            case Channel():
                assert fact.signer == said.payer, "a stranger opened a channel"
                self.notes.channels[fact.id] = said
            case Delegation():
                self.notes.delegations[fact.id] = (fact.signer, said)
            case Revocation():
                assert self.notes.delegations[said.delegation_id][0] == fact.signer
                self.notes.revoked.add(said.delegation_id)
                for case in self.notes.cases.values():
                    if case.lease.delegation == said.delegation_id:
                        assert case.phase in ("closing", "settling", "settled")
            case Bid():
                note_bid(self.notes, fact, said)
            case Order():
                known = fact.id in self.notes.cases or fact.id in self.notes.wishes
                assert known, "an order was taken, gave no lease and does not wait"

    def _vouch(self, fact: Fact, said: Voucher) -> None:
        channel = self.notes.channels[said.channel_id]
        assert fact.signer == channel.payer_authorizer, "a stranger's voucher counts"
        before = self.notes.vouched.get(said.channel_id, 0)
        assert said.max_claimable_amount > before, "a voucher fell"
        self.notes.vouched[said.channel_id] = said.max_claimable_amount

    # ---- a lease is made ----------------------------------------------------------------

    def _moved(self, fact: Fact, lease: Lease, *, is_void: bool) -> None:
        if lease.id in self.notes.cases:
            moves_on(
                self.notes, fact, self.notes.cases[lease.id], lease, is_void=is_void
            )
            return
        assert lease.phase.value == "matched", lease
        if lease.order in self.notes.wishes:
            order = self.notes.wishes[lease.order].order
            leased(self.notes, fact, lease)
        else:
            assert isinstance(fact.document, Order), "a lease without an order"
            assert not is_void, "a void order gave a lease"
            assert lease.id == fact.id
            order = fact.document
            check_right(self.notes, fact.signer, order, lease)
            check_match(self.notes, order, lease)
        case = Case(lease, order, "matched", self.notes.now_s)
        if order.mode == "reserved":
            case.until_s = lease.until_s
        self.notes.cases[lease.id] = case
