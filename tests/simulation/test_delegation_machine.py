"""Delegates among all the others: whatever they try, they stay within their bounds.

The machine of ``test_market_machine``, with delegations, revocations and delegates
that reach for what they were not given.
"""

from collections import Counter

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import invariant, rule

from sublet.base.ids import NO_DIGEST
from sublet.core.book.record import DelegationRecord
from sublet.core.document import Credit, Delegation, Revocation, Stop
from sublet.core.lease.phase import Lease
from sublet.core.lease.table import HOLDING
from tests.simulation.test_market_machine import DELEGATE, PROVIDERS, TENANTS, Market
from tests.unit.core.book.world import make_order


class Delegates(Market):
    """The market with delegates in it."""

    @rule(tenant=st.sampled_from(TENANTS), budget=st.sampled_from([0, 100, 100_000]))
    def delegate(self, tenant: str, budget: int) -> None:
        expires_at_s = self.world.now_s + 100
        providers = (PROVIDERS[0],) if budget else ()
        delegation = Delegation(
            DELEGATE,
            budget,
            1 + self.salt % 2,
            providers,
            "",
            expires_at_s,
            1,
            self.salt,
        )
        self.say(tenant, delegation)
        for provider in PROVIDERS:
            self.say(tenant, self.world.channel(tenant, provider, DELEGATE))

    @rule(data=st.data(), signer=st.sampled_from([*TENANTS, DELEGATE]))
    def revoke(self, data: st.DataObject, signer: str) -> None:
        known = [*self.world.book.delegations, NO_DIGEST]
        revoked = data.draw(st.sampled_from(known))
        self.say(signer, Revocation(revoked, 1, self.salt))

    @rule(data=st.data(), duration_s_max=st.sampled_from([10, 3_600]))
    def order_by_delegate(self, data: st.DataObject, duration_s_max: int) -> None:
        known = list(self.world.book.delegations)
        if known:
            record = self.world.book.delegations[data.draw(st.sampled_from(known))]
            order = make_order(
                tenant=record.tenant,
                delegation=record.id,
                duration_s_max=duration_s_max,
                salt=self.salt,
            )
            done = self.world.fold(self.world.fact(DELEGATE, order))
            if done.refusal is None:
                self.check_scope(
                    record, self.world.book.leases[self.world.facts[-1].id]
                )

    def check_scope(self, record: DelegationRecord, lease: Lease) -> None:
        """What a delegate got lies within what it was given."""
        assert record.expires_at_s > self.world.now_s
        assert not record.is_revoked
        assert not record.providers or lease.provider in record.providers
        assert (lease.tenant, lease.delegate) == (record.tenant, DELEGATE)
        leases = self.world.book.leases.values()
        same = [one for one in leases if one.delegation == record.id]
        assert sum(one.phase in HOLDING for one in same) <= record.leases_max

    @rule(
        data=st.data(), tenant=st.sampled_from(TENANTS), amount=st.integers(0, 300_000)
    )
    def overreach(self, data: st.DataObject, tenant: str, amount: int) -> None:
        """A delegate tries what it was not given: own channels, others' leases."""
        provider = data.draw(st.sampled_from(PROVIDERS))
        lease_id = self.draw_lease_id(data)
        self.say(DELEGATE, self.world.channel(tenant, provider, DELEGATE))
        self.say(DELEGATE, make_order(tenant=tenant, salt=self.salt))
        self.say(DELEGATE, Credit(DELEGATE, amount, "", 1, self.salt))
        lease = self.world.book.leases.get(lease_id)
        done = self.world.fold(
            self.world.fact(DELEGATE, Stop(lease_id, "cancelled", 1, self.salt))
        )
        if done.refusal is None:
            assert lease is not None
            assert lease.delegate == DELEGATE

    @invariant()
    def delegates_stay_within_bounds(self) -> None:
        """Recounted from all leases that ever were, not from the book's sums."""
        if not hasattr(self, "world"):
            return
        book = self.world.book
        over = [*book.settled.values(), *book.unerased.values()]
        every = [*book.leases.values(), *over]
        for fact in self.world.facts:
            said = fact.document
            if isinstance(said, Delegation):
                own = [one for one in every if one.delegation == fact.id]
                assert sum(one.paid for one in own) <= said.budget
                assert all(one.tenant == fact.signer for one in own)
                assert all(one.matched_at_s < said.expires_at_s for one in own)
                assert not said.providers or {one.provider for one in own} <= set(
                    said.providers
                )
        paid: Counter[tuple[str, str, str]] = Counter()
        for one in over:
            paid[one.line] += one.paid
        for channel in book.channels.values():
            assert channel.paid == paid[channel.line]


TestDelegates = Delegates.TestCase
TestDelegates.settings = settings(
    max_examples=50, stateful_step_count=80, deadline=None, print_blob=True
)
