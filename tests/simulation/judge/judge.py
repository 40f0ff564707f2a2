"""A second opinion on a market: leases, vouchers, delegations, told from facts alone.

The book is fast: columns, indexes, running sums. The judge is slow and plain: it hears
each fact and what the book says it did, keeps its own notes, and works everything out
again by the words of ``docs/protocol.md``. It shares no rule with the book, so that a
mistake has to be made twice to pass.

Not here: who says what when (``test_market_machine``, ``test_delegation_machine``).
"""

from collections import Counter

from sublet.core.book.outcome import LeaseErased, LeaseMoved, Step
from sublet.core.document import (
    AnyDocument,
    Channel,
    Delegation,
    Fact,
    Market,
    Offer,
    OfferWithdrawal,
    Order,
    ProviderLost,
    ProviderSeen,
    Revocation,
    Voucher,
)
from sublet.core.lease.phase import Lease
from sublet.core.ledger.ledger import Ledger
from tests.simulation.judge.life import erased, moves_on
from tests.simulation.judge.match import check_match, check_right
from tests.simulation.judge.notes import Case, Notes


class Judge:
    """Hears all; asserts that it was right."""

    def __init__(self, rules: Market) -> None:
        self.notes = Notes(rules)

    def hear(self, fact: Fact, done: Step) -> None:
        """Hold what the book did against the protocol."""
        self.notes.now_s = max(self.notes.now_s, fact.at_s)
        is_void = done.refusal is not None
        self.notes.vouched_before = dict(self.notes.vouched)
        if not is_void and isinstance(fact.document, Voucher):
            self._vouch(fact, fact.document)  # before what it pays
        for outcome in done.outcomes:
            if isinstance(outcome, LeaseErased):
                erased(self.notes, fact, outcome.lease)
            elif isinstance(outcome, LeaseMoved):
                self._moved(fact, outcome.lease, is_void=is_void)
        if not is_void:
            self._note(fact, fact.document)
        for case in self.notes.cases.values():
            if case.phase != "settled":
                assert case.due_s(self.notes.rules) > self.notes.now_s, (
                    "a deadline was missed"
                )

    def count(self, ledger: Ledger) -> None:
        """Hold every wallet against the sum of what its leases paid."""
        spent: Counter[str] = Counter()
        for case in self.notes.cases.values():
            spent[case.lease.tenant] += case.paid
        for tenant, paid in spent.items():
            assert ledger.find(tenant).debits_posted == paid, "a wallet paid otherwise"

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
            case Order():
                assert fact.id in self.notes.cases, (
                    "an order was taken and gave no lease"
                )

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
        assert isinstance(fact.document, Order), "a lease without an order"
        assert not is_void, "a void order gave a lease"
        assert (lease.id, lease.phase.value) == (fact.id, "matched")
        check_right(self.notes, fact, fact.document, lease)
        check_match(self.notes, fact.document, lease)
        self.notes.cases[lease.id] = Case(
            lease, fact.document, "matched", self.notes.now_s
        )
