"""Tests of spot leases: sold cheaply, and left to who pays more, after a notice."""

from typing import Any

from sublet.core.book.open_order import OpenOrder, OrderPhase
from sublet.core.document import (
    Cancellation,
    CheckpointKept,
    GiveBack,
    ProviderLost,
    Start,
    Stop,
)
from sublet.core.lease.phase import Fault, Lease, Phase
from tests.unit.core.book.world import (
    OPERATOR,
    OTHER_PROVIDER,
    OTHER_TENANT,
    PROVIDER,
    START_S,
    TENANT,
    World,
    digest,
    make_order,
)


class Full(World):
    """A machine of 8 CPUs that spot leases fill, and a tenant who wants it."""

    def __init__(self, *, count: int = 1, price_hour_max: int = 200_000) -> None:
        super().__init__()
        self.add_credit()
        self.add_credit(OTHER_TENANT)
        self.add_provider()
        for number in range(count):
            self.spot(
                cpus_milli=8_000 // count,
                price_hour_max=price_hour_max + number * 10_000,
            )

    def spot(self, **changed: Any) -> Lease:
        return self.order(mode="spot", notice_s=60, **changed)

    def place(self, **changed: Any) -> OpenOrder:
        wish = {
            "tenant": OTHER_TENANT,
            "mode": "standing",
            "open_until_s": START_S + 5_000,
            "cpus_milli": 8_000,
            "price_hour_max": 500_000,
        } | changed
        self.say(OTHER_TENANT, make_order(salt=len(self.facts), **wish))
        record = self.book.find_order(self.facts[-1].id)
        assert record is not None
        return record

    def run(self, lease: Lease) -> Lease:
        self.say(lease.provider, self.terms(lease))
        self.say(lease.provider, self.delivery(lease))
        self.say(lease.provider, Start(lease.id, self.now_s, 1))
        return self.lease(lease.id)


def only(world: World) -> Lease:
    [lease] = world.book.leases.values()
    return lease


def test_spot_lease_is_matched_as_any_other() -> None:
    world = Full()
    lease = only(world)
    assert (lease.price_hour, lease.spot_max, lease.notice_s) == (88_000, 200_000, 60)


def test_spot_order_without_supply_is_refused_or_waits() -> None:
    world = Full()
    wish = {"mode": "spot", "notice_s": 60, "price_hour_max": 100_000}
    assert world.refused(TENANT, make_order(salt=7, **wish)) == "no_match"
    order = make_order(salt=8, open_until_s=START_S + 100, **wish)
    world.say(TENANT, order)
    key = world.facts[-1].id
    world.say(TENANT, Stop(only(world).id, "cancelled", 1, 1))
    assert world.lease(key).spot_max == 100_000


def test_who_pays_more_gives_notice_and_gets_the_slice() -> None:
    world = Full()
    spot = world.run(only(world))
    record = world.place()
    noticed = world.lease(spot.id)
    assert noticed.displaced_by == record.id
    assert noticed.give_back_by_s == START_S + 60 + world.book.rules.report_s
    assert record.phase is OrderPhase.WAITING  # until then it has nothing
    world.now_s += 20
    world.say(TENANT, CheckpointKept(spot.id, 15_000, digest(5), 1, 1))
    world.say(PROVIDER, GiveBack(spot.id, 40, 1, 1))  # the agent passes the notice on
    world.say(PROVIDER, world.receipt(spot, 20_000, "given_back"))
    ended = world.lease(spot.id)
    # Paid is what was secured; nobody is to blame, the provider neither.
    assert (ended.reason, ended.fault) == ("displaced", Fault.NOBODY)
    assert ended.owed == 88_000 * 15 // 3_600
    granted = world.lease(record.id)
    assert (granted.tenant, granted.phase) == (OTHER_TENANT, Phase.MATCHED)
    assert granted.price_hour == 200_000  # what the displaced would have paid


def test_notice_ends_by_force() -> None:
    world = Full()
    spot = world.run(only(world))
    record = world.place()
    for _ in range(4):
        world.now_s += 20
        ran_ms = (world.now_s - START_S) * 1_000
        world.say(PROVIDER, world.usage(spot, ran_ms))
    world.wait(10)
    assert world.lease(spot.id).reason == "displaced"
    assert world.lease(spot.id).fault is Fault.NOBODY
    assert world.lease(record.id).tenant == OTHER_TENANT


def test_lease_that_has_not_begun_is_displaced_too() -> None:
    world = Full()
    spot = only(world)
    world.say(PROVIDER, world.terms(spot))
    world.place()
    assert world.lease(spot.id).deadline_s == START_S + 60  # the earlier of the two
    world.say(PROVIDER, world.delivery(spot))
    assert world.lease(spot.id).deadline_s == START_S + 90


def test_who_pays_no_more_waits() -> None:
    world = Full()
    record = world.place(price_hour_max=200_000)
    assert record.booking is None
    assert only(world).displaced_by == digest(0)


def test_those_who_pay_least_go_and_no_more_than_needed() -> None:
    world = Full(count=4)
    record = world.place(cpus_milli=4_000)
    gone = [x.spot_max for x in world.book.leases.values() if int(x.displaced_by, 16)]
    assert gone == [200_000, 210_000]
    assert record.booking is not None
    assert record.booking.price_hour == 410_000


def test_sum_of_what_they_pay_counts() -> None:
    world = Full(count=4)
    assert world.place(cpus_milli=4_000, price_hour_max=410_000).booking is None
    assert world.place(cpus_milli=4_000, price_hour_max=410_001).booking is not None


def test_ordinary_leases_are_never_displaced() -> None:
    world = World()
    world.add_credit()
    world.add_credit(OTHER_TENANT)
    world.add_provider()
    lease = world.order(cpus_milli=8_000, price_hour_max=100_000)
    wish = {"mode": "standing", "open_until_s": START_S + 100, "salt": 9}
    world.say(OTHER_TENANT, make_order(tenant=OTHER_TENANT, **wish))
    assert world.lease(lease.id).displaced_by == digest(0)


def test_own_spot_lease_is_not_displaced_for_its_next_piece() -> None:
    world = Full()
    assert world.place().booking is not None
    assert world.place(price_hour_max=600_000).booking is None  # it is going already


def test_slice_that_is_claimed_goes_to_nobody_else() -> None:
    world = Full(count=2)
    first, second = world.book.leases.values()
    record = world.place()
    # One of the two ends early: half of the machine is free, and spoken for.
    world.say(TENANT, Stop(first.id, "cancelled", 1, 1))
    assert world.refused(TENANT, make_order(salt=77)) == "no_match"
    assert world.book.orders[record.id].booking is not None
    world.say(TENANT, Stop(second.id, "cancelled", 1, 1))
    assert world.lease(record.id).cpus_milli == 8_000


def test_booking_that_is_cancelled_frees_the_slice() -> None:
    world = Full()
    record = world.place()
    spot = only(world)
    world.say(OTHER_TENANT, Cancellation(record.id, 1, 1))
    world.say(TENANT, Stop(spot.id, "cancelled", 1, 1))
    assert world.order().provider == PROVIDER


def test_booking_on_a_lost_provider_looks_elsewhere() -> None:

    world = Full()
    record = world.place()
    world.say(OPERATOR, ProviderLost(PROVIDER, 1, 1))
    assert world.book.orders[record.id].booking is None
    world.add_provider(OTHER_PROVIDER)
    assert world.lease(record.id).provider == OTHER_PROVIDER


def test_spot_that_must_be_erased_is_refused() -> None:
    world = Full()
    order = make_order(mode="spot", features=("erasure",), salt=5)
    assert world.refused(TENANT, order) == "bad_order"


def test_notice_has_a_limit() -> None:
    world = Full()
    order = make_order(mode="spot", notice_s=3_601, salt=5)
    assert world.refused(TENANT, order) == "bad_order"
