"""A gang is leased whole or not at all, and kept only if each provider signs."""

from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    initialize,
    precondition,
    rule,
)

from sublet.base.limits import GANG_TRIES_MAX, LEASES_PER_TENANT_MAX
from sublet.core.book.open_order import OpenOrder, OrderPhase
from sublet.core.book.snapshot import dump, load
from sublet.core.document import (
    Cancellation,
    Delegation,
    ProviderLost,
    Resume,
    Start,
    Stop,
)
from sublet.core.lease.phase import Fault, Lease, Phase
from tests.unit.core.book.world import (
    OPERATOR,
    OTHER_TENANT,
    RULES,
    TENANT,
    World,
    address,
    make_order,
)

HOUR_COST = 28_000  # of the slice, where a CPU costs 10,000 and a GiB 2,000


def open_world(providers: int, *, credit: int = 10_000_000) -> World:
    """Open a market of so many providers, each with one machine."""
    world = World()
    world.add_credit(amount=credit)
    for number in range(providers):
        world.add_provider(address(0x3000 + number), salt=number, machine=f"m{number}")
    return world


def place(world: World, machines: int, **wish: Any) -> OpenOrder:
    order = make_order(salt=len(world.facts), machines=machines, **wish)
    world.say(order.tenant, order)
    return record_of(world, world.facts[-1].id)


def record_of(world: World, order_id: str) -> OpenOrder:
    record = world.book.find_order(order_id)
    assert record is not None
    return record


def leases_of(world: World, order_id: str) -> list[Lease]:
    return [world.lease(key) for key in record_of(world, order_id).leases]


def accept(world: World, lease: Lease) -> None:
    world.say(lease.provider, world.terms(lease))


def is_free(world: World) -> bool:
    return not any(record.is_used() for _, record in world.book.offers.records())


def test_all_are_leased_in_one_step() -> None:
    world = open_world(4)
    record = place(world, 3)
    leases = leases_of(world, record.id)
    assert [lease.phase for lease in leases] == [Phase.MATCHED] * 3
    assert len({lease.machine for lease in leases}) == 3
    assert {lease.order for lease in leases} == {record.id}
    held = world.book.ledger.find(TENANT).debits_pending
    assert held == sum(lease.hold for lease in leases) == 3 * HOUR_COST
    assert record.phase is OrderPhase.COMMITTING


def test_too_few_machines_lease_none() -> None:
    world = open_world(3)
    assert world.refused(TENANT, make_order(machines=4)) == "no_match"
    assert is_free(world)
    assert not world.book.leases


def test_too_little_money_leases_none() -> None:
    world = open_world(3, credit=3 * HOUR_COST - 1)
    order = make_order(machines=3)
    assert world.refused(TENANT, order) == "insufficient_funds"
    assert is_free(world)


def test_order_is_filled_once_all_have_signed() -> None:
    world = open_world(3)
    record = place(world, 3)
    for number, lease in enumerate(leases_of(world, record.id)):
        assert record.id in world.book.orders, number
        accept(world, lease)
    assert record_of(world, record.id).reason == "filled"
    world.wait(RULES.accept_s + 1)
    assert all(x.phase is Phase.ACCEPTED for x in leases_of(world, record.id))


def test_one_that_does_not_sign_is_replaced_with_all() -> None:
    world = open_world(4)
    record = place(world, 3)
    first = leases_of(world, record.id)
    for lease in first[:2]:
        accept(world, lease)
    world.wait(RULES.accept_s)
    again = record_of(world, record.id)
    assert (len(again.leases), again.phase) == (6, OrderPhase.COMMITTING)
    first, second = leases_of(world, record.id)[:3], leases_of(world, record.id)[3:]
    assert [lease.reason for lease in first] == ["gang_broken"] * 2 + ["not_accepted"]
    assert [lease.fault for lease in first] == [Fault.NOBODY] * 2 + [Fault.PROVIDER]
    assert all(lease.phase is Phase.MATCHED for lease in second)
    assert first[2].provider not in {lease.provider for lease in second}
    for lease in second:
        accept(world, lease)
    assert record_of(world, record.id).reason == "filled"


def test_lost_provider_breaks_the_gang_at_once() -> None:
    world = open_world(3)
    record = place(world, 3)
    lost = leases_of(world, record.id)[1]
    world.say(OPERATOR, ProviderLost(lost.provider, world.now_s, 1))
    assert record_of(world, record.id).reason == "no_match"
    assert not world.book.leases
    assert is_free(world)
    assert world.book.ledger.find(TENANT).debits_pending == 0


def test_who_is_lost_later_breaks_nothing() -> None:
    world = open_world(3)
    record = place(world, 3)
    for lease in leases_of(world, record.id):
        accept(world, lease)
    lost = leases_of(world, record.id)[0]
    world.say(OPERATOR, ProviderLost(lost.provider, world.now_s, 1))
    assert len(world.book.leases) == 2


def test_tries_come_to_an_end() -> None:
    world = open_world(2 * (GANG_TRIES_MAX + 2))
    record = place(world, 2)
    for number in range(1, GANG_TRIES_MAX + 1):
        assert len(record_of(world, record.id).leases) == 2 * number
        world.wait(RULES.accept_s)
    assert record_of(world, record.id).reason == "not_accepted"
    assert is_free(world)


def test_log_that_slept_does_no_harm() -> None:
    # One entry long after: the leases' deadlines and the order's pass in one go.
    world = open_world(4)
    record = place(world, 2)
    world.wait(100 * RULES.accept_s)
    again = record_of(world, record.id)
    assert (len(again.leases), again.phase) == (4, OrderPhase.COMMITTING)
    assert len(world.book.leases) == 2


def test_time_without_a_market_counts_for_nobody() -> None:
    world = open_world(2)
    record = place(world, 2)
    world.now_s += 1_000
    world.say(OPERATOR, Resume(world.now_s, 1))
    assert len(record_of(world, record.id).leases) == 2
    for lease in leases_of(world, record.id):
        accept(world, lease)
    assert record_of(world, record.id).reason == "filled"


def test_tenant_that_stops_one_ends_all() -> None:
    world = open_world(4)
    record = place(world, 3)
    one = leases_of(world, record.id)[0]
    accept(world, one)
    world.say(TENANT, Stop(one.id, "cancelled", world.now_s, 1))
    assert record_of(world, record.id).reason == "cancelled"
    assert is_free(world)


def test_cancelled_order_keeps_no_lease() -> None:
    world = open_world(3)
    record = place(world, 3)
    accept(world, leases_of(world, record.id)[0])
    world.say(TENANT, Cancellation(record.id, world.now_s, 1))
    assert record_of(world, record.id).reason == "cancelled"
    assert is_free(world)
    assert world.book.ledger.find(TENANT).debits_pending == 0


def test_member_that_ran_already_is_paid_for() -> None:
    world = open_world(2)
    record = place(world, 2)
    early, late = leases_of(world, record.id)
    accept(world, early)
    world.say(early.provider, world.delivery(early))
    world.say(early.provider, Start(early.id, world.now_s, 1))
    world.say(OPERATOR, ProviderLost(late.provider, world.now_s, 1))
    closing = world.lease(early.id)
    assert (closing.phase, closing.reason) == (Phase.CLOSING, "gang_broken")
    world.now_s += 5
    world.say(early.provider, world.receipt(early, 5_000))
    assert world.lease(early.id).owed > 0
    assert record_of(world, record.id).reason == "no_match"


def test_refuses_fields_that_mean_nothing() -> None:
    world = open_world(3)
    assert world.refused(TENANT, make_order(apart=("region",))) == "bad_order"
    assert world.refused(TENANT, make_order(together_ms=5)) == "bad_order"
    waiting = {"mode": "standing", "open_until_s": world.now_s + 100}
    assert world.refused(TENANT, make_order(machines=2, **waiting)) == "bad_order"
    odd = make_order(machines=2, apart=("rack",))
    assert world.refused(TENANT, odd) == "bad_wording"


def test_leases_of_a_tenant_have_a_limit() -> None:
    world = open_world(3)
    leases = dict.fromkeys(str(n) for n in range(LEASES_PER_TENANT_MAX - 2))
    world.book.open_of_tenant[OTHER_TENANT] = leases
    world.add_credit(OTHER_TENANT)
    order = make_order(machines=3, tenant=OTHER_TENANT)
    assert world.refused(OTHER_TENANT, order) == "too_many_leases"


def test_delegation_carries_all_or_none() -> None:
    world = open_world(3)
    delegate = address(0x5000)
    world.say(
        TENANT,
        Delegation(
            delegate=delegate,
            budget=5_000_000,
            leases_max=2,
            providers=(),
            scope="",
            expires_at_s=world.now_s + 10_000,
            signed_at_s=world.now_s,
            salt=1,
        ),
    )
    scope = world.facts[-1].id
    three = make_order(machines=3, delegation=scope)
    assert world.refused(delegate, three) == "too_many_leases"
    world.say(delegate, make_order(machines=2, delegation=scope))
    held = world.book.delegations[scope]
    assert (held.leases_open, held.held) == (2, 2 * HOUR_COST)


class Gangs(RuleBasedStateMachine):
    """Gangs among providers that sign, do not, are lost and come back."""

    orders = Bundle("orders")

    @initialize()
    def open(self) -> None:
        self.world = open_world(6)

    @rule(
        target=orders,
        machines=st.integers(2, 5),
        apart=st.sampled_from([(), ("provider",)]),
    )
    def order(self, machines: int, apart: tuple[str, ...]) -> str:
        world = self.world
        order = make_order(salt=len(world.facts), machines=machines, apart=apart)
        before = set(world.book.leases)
        done = world.fold(world.fact(TENANT, order))
        made = set(world.book.leases) - before
        assert len(made) == (0 if done.refusal else machines)
        return world.facts[-1].id

    @precondition(lambda self: self.world.book.leases)
    @rule(which=st.integers(0, 9), what=st.sampled_from(["accept", "lose", "stop"]))
    def go_on(self, which: int, what: str) -> None:
        world = self.world
        leases = list(world.book.leases.values())
        lease = leases[which % len(leases)]
        if what == "accept" and lease.phase is Phase.MATCHED:
            accept(world, lease)
        elif what == "lose":
            lost = ProviderLost(lease.provider, world.now_s, len(world.facts))
            world.say(OPERATOR, lost)
        elif what == "stop":
            stop = Stop(lease.id, "cancelled", world.now_s, len(world.facts))
            world.fold(world.fact(TENANT, stop))
        self.check()

    @rule(provider=st.integers(0, 5), salt=st.integers(0, 1 << 40))
    def come(self, provider: int, salt: int) -> None:
        self.world.add_provider(
            address(0x3000 + provider), machine=f"m{provider}", salt=salt
        )

    @rule(span_s=st.sampled_from([1, RULES.accept_s, 1_000]))
    def wait(self, span_s: int) -> None:
        self.world.wait(span_s)
        self.check()

    @rule(order=orders)
    def cancel(self, order: str) -> None:
        world = self.world
        document = Cancellation(order, world.now_s, len(world.facts))
        world.fold(world.fact(TENANT, document))
        self.check()

    def check(self) -> None:
        """No gang is half-placed: all of it is there, or nothing that could still run."""
        book = self.world.book
        for record in book.orders.values():
            last = record.leases[-record.order.machines :]
            assert len(last) == record.order.machines
            assert set(last) <= set(book.leases)
            older = set(record.leases) - set(last)
            assert all(
                book.leases[key].phase in (Phase.CLOSING, Phase.SETTLING)
                for key in older & set(book.leases)
            )
        for record in book.ended.values():
            if record.reason != "filled":
                assert not set(record.leases) & set(book.leases)
        assert dump(load(dump(book))) == dump(book)


Gangs.TestCase.settings = settings(
    max_examples=40, stateful_step_count=25, deadline=None
)
TestGangs = Gangs.TestCase
