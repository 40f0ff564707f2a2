"""Documents of leases in the book: found, moved, refused; the rest is the table's."""

import pytest

from sublet.base.limits import LEASES_KEPT_MAX
from sublet.core.book.outcome import LeaseMoved
from sublet.core.document import Stop, Tick
from sublet.core.lease.phase import Phase
from tests.unit.core.book.world import (
    OPERATOR,
    OTHER_TENANT,
    PROVIDER,
    RULES,
    TENANT,
    World,
    digest,
)


def make_world() -> World:
    world = World()
    world.add_credit()
    world.add_provider()
    return world


def test_lease_must_be_known() -> None:
    assert make_world().refused(TENANT, Stop(digest(3), "x", 1, 1)) == "unknown_lease"


def test_outcome_is_the_lease_now() -> None:
    world = make_world()
    lease = world.order()
    (outcome,) = world.say(PROVIDER, world.terms(lease)).outcomes
    assert outcome == LeaseMoved(world.lease(lease.id))
    assert world.lease(lease.id).phase is Phase.ACCEPTED


@pytest.mark.parametrize("signer", [OPERATOR, PROVIDER, OTHER_TENANT])
def test_only_parties_may_speak(signer: str) -> None:
    world = make_world()
    lease = world.order()
    assert world.refused(signer, Stop(lease.id, "x", 1, 1)) == "wrong_signer"
    assert world.lease(lease.id).phase is Phase.MATCHED


def test_settled_lease_refuses_everything() -> None:
    world = make_world()
    lease = world.lease_in(Phase.SETTLED)
    assert world.refused(TENANT, Stop(lease.id, "x", 1, 1)) == "illegal_step"
    assert world.refused(PROVIDER, world.usage(lease, 1)) == "illegal_step"


def test_too_late_is_refused() -> None:
    world = make_world()
    lease = world.order()
    world.now_s += RULES.accept_s  # nobody has ticked: the fact itself is late
    done = world.fold(world.fact(PROVIDER, world.terms(lease)))
    assert done.refusal is not None
    assert done.refusal.code == "illegal_step"
    assert len(done.outcomes) == 1  # but the deadline has passed all the same
    assert world.lease(lease.id).reason == "not_accepted"


def test_last_second_is_in_time() -> None:
    world = make_world()
    lease = world.order()
    world.now_s += RULES.accept_s - 1
    world.say(PROVIDER, world.terms(lease))


def test_time_never_goes_back() -> None:
    world = make_world()
    world.wait(5)
    world.now_s -= 100
    lease = world.order()
    assert lease.matched_at_s == world.book.now_s == world.now_s + 100


def test_oldest_settled_are_forgotten() -> None:
    world = make_world()
    first = world.lease_in(Phase.SETTLED)
    second = world.lease_in(Phase.SETTLED)
    for number in range(LEASES_KEPT_MAX - 2):
        world.book.settled[digest(number)] = world.lease(first.id)
    stopped = world.order()
    world.fold(world.fact(TENANT, Stop(stopped.id, "x", 1, 1)))
    assert first.id not in world.book.settled
    assert second.id in world.book.settled
    assert len(world.book.settled) == LEASES_KEPT_MAX


def test_deadlines_pass_in_order() -> None:
    world = make_world()
    leases = [world.order(cpus_milli=1_000) for _ in range(3)]
    world.now_s += 1
    later = world.order(cpus_milli=1_000)
    world.now_s += 1_000
    done = world.say(OPERATOR, Tick(1, 1))
    moved = [outcome.lease.id for outcome in done.outcomes]
    assert moved == [*sorted(lease.id for lease in leases), later.id]


def test_late_hearing_changes_nothing() -> None:
    early, late = make_world(), make_world()
    lease = early.lease_in(Phase.RUNNING, duration_s_max=20)
    late.lease_in(Phase.RUNNING, duration_s_max=20)
    for world, spans in ((early, [20, 10, 20, 10, 940]), (late, [1_000])):
        for span_s in spans:
            world.now_s += span_s
            world.say(OPERATOR, Tick(1, 1))
    assert early.lease(lease.id) == late.lease(lease.id)
    assert early.lease(lease.id).reason == "no_receipt"
