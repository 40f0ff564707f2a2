"""What a delegate may do in a tenant's name, and what it may not."""

from typing import Any

from msgspec.structs import replace

from sublet.base.ids import NO_DIGEST
from sublet.base.limits import DELEGATIONS_PER_TENANT_MAX
from sublet.core.document import (
    CheckpointKept,
    Delegation,
    Revocation,
    Start,
    Stop,
    Voucher,
)
from sublet.core.lease.phase import Lease, Phase
from tests.unit.core.book.world import (
    OTHER_PROVIDER,
    OTHER_TENANT,
    PROVIDER,
    RULES,
    START_S,
    TENANT,
    World,
    address,
    digest,
    make_order,
)

DELEGATE = address(0x3000)


def make_world() -> World:
    world = World()
    world.add_credit()
    world.add_provider()
    return world


def delegate(
    world: World, budget: int = 60_000, span_s: int = 100, **changed: Any
) -> str:
    fields: dict[str, Any] = {
        "delegate": DELEGATE,
        "budget": budget,
        "leases_max": 9,
        "providers": (),
        "scope": "ci",
        "expires_at_s": world.now_s + span_s,
        "signed_at_s": 1,
        "salt": len(world.facts),
    }
    world.say(TENANT, Delegation(**(fields | changed)))
    return world.facts[-1].id


def running(world: World, delegation: str, **order: Any) -> Lease:
    world.say(DELEGATE, make_order(delegation=delegation, **order))
    lease = world.lease(world.facts[-1].id)
    world.say(lease.provider, world.terms(lease))
    world.say(lease.provider, world.delivery(lease))
    world.say(lease.provider, Start(lease.id, 1, 1))
    return world.lease(lease.id)


def test_delegate_orders_within_budget() -> None:
    world = make_world()
    delegation = delegate(world)
    orders = [make_order(delegation=delegation, salt=salt) for salt in range(3)]
    world.say(DELEGATE, orders[0])  # 28,000 each
    world.say(DELEGATE, orders[1])
    assert world.refused(DELEGATE, orders[2]) == "over_budget"
    assert all(lease.tenant == TENANT for lease in world.book.leases.values())
    world.wait(RULES.accept_s)  # nobody accepted: nothing was spent
    world.say(DELEGATE, orders[2])


def test_spent_budget_stays_spent() -> None:
    world = make_world()
    channel = world.add_channel(delegate=DELEGATE)
    delegation = delegate(world, budget=28_000)
    lease = running(world, delegation)
    world.now_s += 10
    world.say(DELEGATE, Voucher(channel, 1_000))
    world.say(PROVIDER, world.receipt(lease, 10_000))
    record = world.book.delegations[delegation]
    assert (record.spent, record.held, record.leases_open) == (77, 0, 0)
    order = make_order(delegation=delegation, salt=2)
    assert world.refused(DELEGATE, order) == "over_budget"


def test_refuses_orders_beyond_delegation() -> None:
    world = make_world()
    delegation = delegate(world)
    order = make_order(delegation=delegation)
    assert world.refused(OTHER_TENANT, order) == "wrong_signer"
    assert world.refused(TENANT, order) == "wrong_signer"
    unknown = replace(order, delegation=digest(7))
    assert world.refused(DELEGATE, unknown) == "unknown_delegation"
    of_other = replace(order, tenant=OTHER_TENANT)
    assert world.refused(DELEGATE, of_other) == "unknown_delegation"
    without = replace(order, delegation=NO_DIGEST)
    assert world.refused(DELEGATE, without) == "wrong_signer"
    world.wait(100)
    assert world.refused(DELEGATE, order) == "delegation_expired"


def test_refuses_an_expired_delegation() -> None:
    world = World()
    document = Delegation(DELEGATE, 1, 1, (), "", START_S, 1, 1)
    assert world.refused(TENANT, document) == "delegation_expired"
    own = Delegation(TENANT, 1, 1, (), "", START_S + 9, 1, 1)
    assert world.refused(TENANT, own) == "self_delegation"


def test_delegation_counts_once() -> None:
    world = World()
    delegate(world)
    again = world.facts[-1]
    assert world.fold(again).refusal.code == "duplicate_delegation"  # type: ignore[union-attr]


def test_delegations_are_bounded() -> None:
    world = make_world()
    busy = delegate(world, span_s=5)
    world.say(DELEGATE, make_order(delegation=busy))
    for _ in range(DELEGATIONS_PER_TENANT_MAX - 1):
        delegate(world, span_s=5)
    one_more = Delegation(DELEGATE, 1, 1, (), "", START_S + 900, 1, -1)
    assert world.refused(TENANT, one_more) == "too_many_delegations"
    world.wait(5)
    world.say(TENANT, one_more)  # those that are over are forgotten
    assert set(world.book.delegations) == {busy, world.facts[-1].id}


def test_deals_with_named_providers_alone() -> None:
    world = make_world()
    world.add_provider(OTHER_PROVIDER, cpu_price_hour=20_000)
    dear = delegate(world, providers=(OTHER_PROVIDER,))
    world.say(DELEGATE, make_order(delegation=dear))
    assert world.lease(world.facts[-1].id).provider == OTHER_PROVIDER
    nobody = delegate(world, providers=(address(0x2009),))
    assert world.refused(DELEGATE, make_order(delegation=nobody)) == "no_match"


def test_one_lease_at_a_time() -> None:
    world = make_world()
    delegation = delegate(world, leases_max=1)
    world.say(DELEGATE, make_order(delegation=delegation))
    lease = world.lease(world.facts[-1].id)
    again = make_order(delegation=delegation, salt=7)
    assert world.refused(DELEGATE, again) == "delegation_busy"
    world.say(DELEGATE, Stop(lease.id, "cancelled", 1, 1))
    world.say(DELEGATE, again)


def test_delegate_spends_nothing_else() -> None:
    world = make_world()
    own = world.add_channel()
    delegated = world.add_channel(delegate=DELEGATE)
    mine = world.lease_in(Phase.RUNNING)
    lease = running(world, delegate(world), salt=5)
    world.now_s += 10
    assert world.refused(DELEGATE, Voucher(own, 9)) == "wrong_signer"
    assert world.refused(TENANT, Voucher(delegated, 9)) == "wrong_signer"
    assert world.refused(DELEGATE, Stop(mine.id, "x", 1, 1)) == "wrong_signer"
    kept = CheckpointKept(mine.id, 1_000, digest(1), 1, 1)
    assert world.refused(DELEGATE, kept) == "wrong_signer"
    world.say(DELEGATE, replace(kept, lease_id=lease.id))
    world.say(DELEGATE, Voucher(delegated, 60_000))
    world.say(PROVIDER, world.receipt(mine, 10_000))
    assert world.lease(mine.id).phase is Phase.SETTLING  # the delegate's pays it not
    world.say(PROVIDER, world.receipt(lease, 10_000))
    assert world.lease(lease.id).paid == 77
    world.vouch(own, 77)
    assert world.lease(mine.id).paid == 77


def test_vouches_for_no_more_than_its_budget() -> None:
    world = make_world()
    channel = world.add_channel(delegate=DELEGATE)
    assert world.refused(DELEGATE, Voucher(channel, 1)) == "over_budget"
    delegation = delegate(world)
    lease = running(world, delegation)
    assert world.refused(DELEGATE, Voucher(channel, 60_001)) == "over_budget"
    world.now_s += 10
    world.say(PROVIDER, world.receipt(lease, 10_000))
    world.say(DELEGATE, Voucher(channel, 60_000))
    assert world.lease(lease.id).paid == 77
    assert world.refused(DELEGATE, Voucher(channel, 60_001)) == "over_budget"


def test_payer_alone_opens_a_delegates_channel() -> None:
    world = make_world()
    channel = world.channel(delegate=DELEGATE)
    assert world.refused(DELEGATE, channel) == "wrong_signer"
    world.say(TENANT, channel)
    assert world.refused(TENANT, channel) == "duplicate_channel"


def test_revocation_stops_what_runs() -> None:
    world = make_world()
    channel = world.add_channel(delegate=DELEGATE)
    delegation = delegate(world)
    ran = running(world, delegation, cpus_milli=1_000)
    world.say(DELEGATE, make_order(delegation=delegation, cpus_milli=500, salt=8))
    matched = world.facts[-1].id
    world.now_s += 10
    revocation = Revocation(delegation, 1, 1)
    assert world.refused(DELEGATE, revocation) == "wrong_signer"
    assert world.refused(TENANT, Revocation(digest(3), 1, 1)) == "unknown_delegation"
    world.say(TENANT, revocation)
    assert world.lease(matched).phase is Phase.SETTLED
    closing = world.lease(ran.id)
    assert (closing.phase, closing.reason) == (Phase.CLOSING, "revoked")
    order = make_order(delegation=delegation, salt=9)
    assert world.refused(DELEGATE, order) == "delegation_revoked"
    assert world.refused(TENANT, revocation) == "delegation_revoked"
    world.say(DELEGATE, Voucher(channel, 100))
    world.say(PROVIDER, world.receipt(closing, 10_000))
    assert world.lease(ran.id).paid > 0  # what ran is paid all the same
