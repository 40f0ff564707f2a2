"""The model of leases, vouchers and delegations finds bugs that are planted in the book.

A model that never fails proves nothing. So each rule about money, time and rights is
broken here once, on purpose, and the machine must notice; unbroken it must not.
"""

from typing import Any

import numpy as np
import pytest
from hypothesis import strategies as st
from hypothesis.stateful import rule
from msgspec.structs import replace

from sublet.core.book import (
    book,
    by_delegation,
    by_tenant,
    offer_table,
    quote,
    search,
    settlement,
    step,
)
from sublet.core.book.view import channel_total
from sublet.core.document import (
    Delegation,
    Fact,
    Order,
    ProviderLost,
    ProviderSeen,
    Revocation,
    Tick,
    Voucher,
)
from sublet.core.lease import table
from sublet.core.lease.phase import Lease
from sublet.core.ledger.ledger import Ledger
from tests.simulation.judge.planted import JudgedWorld, Plant, find, run
from tests.simulation.test_delegation_machine import Delegates
from tests.simulation.test_market_machine import DELEGATE, PROVIDERS, TENANTS
from tests.unit.core.book.world import OPERATOR, World, make_offer, make_order


class Judged(Delegates):
    """Everything that anybody may say, before a judge; and what seldom comes about."""

    def make_world(self) -> World:
        return JudgedWorld()

    def order_two(self, signer: str, **wish: Any) -> list[Lease]:
        known = set(self.world.book.leases)
        for _ in range(2):
            self.say(signer, make_order(cpus_milli=500, salt=self.salt, **wish))
        return [
            lease for key, lease in self.world.book.leases.items() if key not in known
        ]

    @rule(tenant=st.sampled_from(TENANTS[:2]), part=st.integers(0, 2_000))
    def end_two_and_pay_for_one(self, tenant: str, part: int) -> None:
        """Two leases of one channel are over, and the voucher covers one."""
        world = self.world
        for provider in PROVIDERS[:2]:
            self.say(OPERATOR, ProviderSeen(provider, 1, self.salt))
        wish = {"tenant": tenant, "total_max": 400_000, "avoid": (PROVIDERS[1],)}
        leases = self.order_two(tenant, **wish)
        for _ in range(3):
            for lease in leases:
                self.advance(world.lease(lease.id))
        world.now_s += 7
        for lease in leases:
            self.say(lease.provider, world.receipt(lease, 7_000))
        channel = leases and world.book.find_channel(leases[0].line)
        if channel:
            owed = channel_total(world.book, leases[0].id)
            self.say(tenant, Voucher(channel.id, owed + part))
        if part % 2:
            world.now_s += 60
            self.say(OPERATOR, Tick(1, self.salt))

    @rule(tenant=st.sampled_from(TENANTS[:2]), is_lost=st.booleans())
    def report_and_fall_silent(self, tenant: str, is_lost: bool) -> None:
        """A lease reports, nothing is secured, and nobody hears of it again."""
        self.say(OPERATOR, ProviderSeen(PROVIDERS[0], 1, self.salt))
        for lease in self.order_two(tenant, tenant=tenant, total_max=400_000):
            for _ in range(3):
                self.advance(self.world.lease(lease.id))
            self.world.now_s += 5
            self.advance(self.world.lease(lease.id))
            channel = self.world.book.find_channel(lease.line)
            if channel:
                owed = channel_total(self.world.book, lease.id)
                self.say(tenant, Voucher(channel.id, owed))
            if is_lost:
                self.say(OPERATOR, ProviderLost(lease.provider, 1, self.salt))
        self.world.now_s += 60
        self.say(OPERATOR, Tick(1, self.salt))

    @rule(tenant=st.sampled_from(TENANTS[:2]), end=st.sampled_from(["usage", "end"]))
    def claim_too_much(self, tenant: str, end: str) -> None:
        """A provider claims a minute that has not passed."""
        self.say(OPERATOR, ProviderSeen(PROVIDERS[0], 1, self.salt))
        for lease in self.order_two(tenant, tenant=tenant, total_max=400_000):
            for _ in range(3):
                self.advance(self.world.lease(lease.id))
            claims = {"usage": self.world.usage, "end": self.world.receipt}
            self.say(lease.provider, claims[end](lease, 60_000))

    @rule(tenant=st.sampled_from(TENANTS[:2]), price=st.sampled_from([20_000, 900_000]))
    def order_of_who_has_two(self, tenant: str, price: int) -> None:
        """One owner offers two machines; its dearer one is nobody's runner-up."""
        self.say(OPERATOR, ProviderSeen(PROVIDERS[2], 1, self.salt))
        for machine, asked in (("m1", 5_000), ("m2", price)):
            offer = make_offer(machine=machine, cpu_price_hour=asked, salt=self.salt)
            self.say(PROVIDERS[2], offer)
        self.order_two(tenant, tenant=tenant, total_max=50_000)

    @rule(
        tenant=st.sampled_from(TENANTS[:2]),
        bound=st.sampled_from(["name", "revoke", "expire"]),
    )
    def order_after_the_end(self, tenant: str, bound: str) -> None:
        """A delegate goes on after the end, or with whom it may not deal."""
        until_s = self.world.now_s + 100
        names = (PROVIDERS[2],) if bound == "name" else ()
        said = Delegation(DELEGATE, 500_000, 2, names, "", until_s, 1, self.salt)
        self.say(tenant, said)
        key = self.world.facts[-1].id
        if bound == "revoke":
            self.say(tenant, Revocation(key, 1, self.salt))
        if bound == "expire":
            self.world.now_s += 150
        self.order_two(DELEGATE, tenant=tenant, delegation=key, total_max=50_000)

    @rule(tenant=st.sampled_from(TENANTS[:2]), leases_max=st.sampled_from([1, 2]))
    def order_two_by_delegate(self, tenant: str, leases_max: int) -> None:
        """Two leases at once, where the budget or the count allows only one."""
        until_s = self.world.now_s + 100
        said = Delegation(DELEGATE, 60_000, leases_max, (), "", until_s, 1, self.salt)
        self.say(tenant, said)
        key = self.world.facts[-1].id
        wish = {"tenant": tenant, "delegation": key, "duration_s_max": 86_400}
        total = 50_000 if leases_max == 2 else 20_000
        self.order_two(DELEGATE, total_max=total, **wish)


# ---- the bugs ---------------------------------------------------------------------


def _owed_rounded_up(patch: pytest.MonkeyPatch) -> None:
    right = table.compute_owed
    patch.setattr(table, "compute_owed", lambda **given: right(**given) + 1)


def _claim_unchecked(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(table, "_check_claim", lambda *_: None)


def _given_back_billed_in_full(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(table, "GIVEN_BACK", "nothing is ever called so")


def _lost_seconds_billed(patch: pytest.MonkeyPatch) -> None:
    right = table.lose
    patch.setattr(
        table,
        "lose",
        lambda lease, at_s: replace(right(lease, at_s=at_s), owed=lease.owed),
    )


def _silence_billed(patch: pytest.MonkeyPatch) -> None:
    right = table.expire

    def expire(lease: Any, *, market: Any) -> Any:
        return replace(right(lease, market=market), owed=lease.owed)

    patch.setattr(table, "expire", expire)


def _anyone_stops(patch: pytest.MonkeyPatch) -> None:
    right = table.step

    def move(lease: Any, document: Any, *, signer: str, **rest: Any) -> Any:
        return right(lease, document, signer=_of(lease, document), **rest)

    def _of(lease: Any, document: Any) -> str:
        role = table.SIGNERS[type(document)]
        return str(lease.provider if role == "provider" else lease.tenant)

    patch.setattr(table, "step", move)


def _deadline_a_second_late(patch: pytest.MonkeyPatch) -> None:
    right = book.Book.next_deadline

    def next_deadline(self: book.Book) -> tuple[int, str] | None:
        due = right(self)
        return due and (due[0] + 1, due[1])

    patch.setattr(book.Book, "next_deadline", next_deadline)


def _slice_free_before_erased(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(book, "holds_slice", lambda lease: lease.phase in table.HOLDING)


def _voucher_by_anyone(patch: pytest.MonkeyPatch) -> None:
    def decide(all_: Any, fact: Fact, voucher: Voucher, now_s: int) -> Any:
        channel = all_.channels.get(voucher.channel_id)
        signer = fact.signer if channel is None else channel.authorizer
        fact = replace(fact, signer=signer)
        return by_tenant.decide_voucher(all_, fact, voucher, now_s)

    patch.setitem(step.HANDLERS, Voucher, decide)  # type: ignore[arg-type]


def _voucher_falls(patch: pytest.MonkeyPatch) -> None:
    def decide(all_: Any, fact: Fact, voucher: Voucher, now_s: int) -> Any:
        channel = all_.channels.get(voucher.channel_id)
        if channel is not None and fact.signer == channel.authorizer:
            return lambda: by_tenant._vouch(
                all_, channel, max(channel.paid, voucher.max_claimable_amount)
            )
        return by_tenant.decide_voucher(all_, fact, voucher, now_s)

    patch.setitem(step.HANDLERS, Voucher, decide)  # type: ignore[arg-type]


def _voucher_pays_twice(patch: pytest.MonkeyPatch) -> None:
    # What it says is taken for this lease alone, not for all of the channel.
    def due(all_: book.Book, lease: Any) -> int:
        known = all_.leases.get(lease.id)
        return 0 if known is None else known.owed

    patch.setattr(settlement, "total_due", due)


def _youngest_is_paid_first(patch: pytest.MonkeyPatch) -> None:
    right = book.Book.open_leases
    patch.setattr(
        book.Book, "open_leases", lambda self, index: list(reversed(right(self, index)))
    )


def _hold_is_kept(patch: pytest.MonkeyPatch) -> None:
    right = Ledger.settle

    def settle(self: Ledger, *, transfer_id: str, amount: int) -> None:
        # All that was held goes to the provider.
        held = self.pending[transfer_id].amount
        right(self, transfer_id=transfer_id, amount=held if amount else 0)

    patch.setattr(Ledger, "settle", settle)


def _not_the_second_price(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(
        quote._Auction, "_pay", lambda self, one, runner_up: self._ask(one.row)
    )


def _own_machine_as_runner_up(patch: pytest.MonkeyPatch) -> None:
    # An owner with two machines sets its own price.
    def find_two(offers: Any, blocks: Any, bounds: Any, judge: Any) -> Any:
        rows, scores = judge(offers.cells)
        order = np.lexsort((offers.cells[offer_table.Column.NUMBER, rows], scores))
        best = [search.Candidate(int(scores[n]), 0, 0, int(rows[n])) for n in order]
        return (*best[:2], None, None)[:2]

    patch.setattr(quote, "find_two", find_two)


def _withdrawn_offer_matches(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(offer_table.OfferTable, "withdraw", lambda self, offer_id: None)


def _budget_forgets_what_is_held(patch: pytest.MonkeyPatch) -> None:
    right = by_delegation.check_budget
    patch.setattr(
        by_tenant,
        "check_budget",
        lambda record, *, hold: right(replace(record, held=0), hold=hold),
    )


def _delegation_never_expires(patch: pytest.MonkeyPatch) -> None:
    right = by_delegation.find_delegation
    patch.setattr(
        by_tenant,
        "find_delegation",
        lambda all_, fact, order, now_s: right(all_, fact, order, 0),
    )


def _revoked_delegation_carries(patch: pytest.MonkeyPatch) -> None:
    def decide(all_: Any, fact: Fact, said: Revocation, now_s: int) -> Any:
        by_delegation.decide_revocation(all_, fact, said, now_s)
        return lambda: ()

    patch.setitem(step.HANDLERS, Revocation, decide)  # type: ignore[arg-type]


def _delegate_deals_with_anyone(patch: pytest.MonkeyPatch) -> None:
    def decide(all_: Any, fact: Fact, said: Delegation, now_s: int) -> Any:
        said = replace(said, providers=())
        return by_delegation.decide_delegation(all_, fact, said, now_s)

    patch.setitem(step.HANDLERS, Delegation, decide)  # type: ignore[arg-type]


def _delegate_leases_without_count(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(by_delegation, "_check_count", lambda *_: None)


def _stranger_orders(patch: pytest.MonkeyPatch) -> None:
    def decide(all_: Any, fact: Fact, order: Order, now_s: int) -> Any:
        if int(order.delegation, 16) == 0:
            fact = replace(fact, signer=order.tenant)
        return by_tenant.decide_order(all_, fact, order, now_s)

    patch.setitem(step.HANDLERS, Order, decide)  # type: ignore[arg-type]


PLANTS: list[Plant] = [
    _owed_rounded_up,
    _claim_unchecked,
    _given_back_billed_in_full,
    _lost_seconds_billed,
    _silence_billed,
    _anyone_stops,
    _deadline_a_second_late,
    _slice_free_before_erased,
    _voucher_by_anyone,
    _voucher_falls,
    _voucher_pays_twice,
    _youngest_is_paid_first,
    _hold_is_kept,
    _not_the_second_price,
    _own_machine_as_runner_up,
    _withdrawn_offer_matches,
    _budget_forgets_what_is_held,
    _delegation_never_expires,
    _revoked_delegation_carries,
    _delegate_deals_with_anyone,
    _delegate_leases_without_count,
    _stranger_orders,
]


@pytest.mark.timeout(600)
def test_book_without_planted_bug_passes() -> None:
    run(Judged, examples=80)


@pytest.mark.timeout(600)  # the rarest takes a while on a busy machine
@pytest.mark.parametrize("plant", PLANTS, ids=lambda plant: plant.__name__[1:])
def test_planted_bug_is_found(plant: Plant, monkeypatch: pytest.MonkeyPatch) -> None:
    plant(monkeypatch)
    find(Judged)
