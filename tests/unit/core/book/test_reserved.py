"""Tests of reserved orders: a slice from a time on, sold once, and kept."""

from typing import Any

import pytest

from sublet.core.book.open_order import OpenOrder, OrderPhase
from sublet.core.document import (
    Cancellation,
    OfferWithdrawal,
    ProviderLost,
    Resume,
    Start,
)
from sublet.core.lease.phase import Phase
from tests.unit.core.book.world import (
    OPERATOR,
    OTHER_PROVIDER,
    PROVIDER,
    START_S,
    TENANT,
    World,
    make_order,
)

BEGIN_S = START_S + 10_000


class Booked(World):
    """A market with one machine of 8 CPUs and a tenant with money."""

    def __init__(self) -> None:
        super().__init__()
        self.add_credit()
        self.offer_id = self.add_provider()

    def reserve(self, **changed: Any) -> OpenOrder:
        wish = {"mode": "reserved", "starts_at_s": BEGIN_S, "cpus_milli": 8_000}
        self.say(TENANT, make_order(salt=len(self.facts), **(wish | changed)))
        record = self.book.find_order(self.facts[-1].id)
        assert record is not None
        return record

    def refuse(self, **changed: Any) -> str:
        wish = {"mode": "reserved", "starts_at_s": BEGIN_S, "cpus_milli": 8_000}
        return self.refused(
            TENANT, make_order(salt=len(self.facts), **(wish | changed))
        )


def test_claims_a_slice_and_holds_its_price() -> None:
    world = Booked()
    record = world.reserve()
    assert record.phase is OrderPhase.RESERVED
    assert (record.hold, record.deadline_s) == (88_000, BEGIN_S)
    assert world.book.ledger.find(TENANT).balance == 10_000_000 - 88_000


def test_becomes_a_lease_at_its_time() -> None:
    world = Booked()
    record = world.reserve()
    world.wait(9_999)
    assert world.book.leases == {}
    world.wait(1)
    lease = world.lease(record.id)
    assert (lease.phase, lease.until_s) == (Phase.MATCHED, BEGIN_S + 3_600)
    assert lease.hold == 88_000


def test_ends_at_the_end_of_its_span_though_it_began_late() -> None:
    world = Booked()
    record = world.reserve()
    world.wait(10_000)
    lease = world.lease(record.id)
    world.say(PROVIDER, world.terms(lease))
    world.now_s += 30
    world.say(PROVIDER, world.delivery(lease))
    world.now_s += 200
    world.say(PROVIDER, Start(lease.id, 1, 1))
    assert world.lease(lease.id).ends_by_s == BEGIN_S + 3_600


def test_no_slice_is_booked_twice() -> None:
    world = Booked()
    world.reserve()
    close_s = world.book.rules.close_s
    assert world.refuse() == "no_match"
    assert world.refuse(starts_at_s=BEGIN_S + 3_599) == "no_match"
    assert world.refuse(starts_at_s=BEGIN_S - 3_600) == "no_match"  # it has to close
    world.reserve(starts_at_s=BEGIN_S + 3_600 + close_s)
    world.reserve(starts_at_s=BEGIN_S - 3_600 - close_s)


def test_two_halves_of_a_machine_are_booked_for_one_time() -> None:
    world = Booked()
    world.reserve(cpus_milli=4_000)
    world.reserve(cpus_milli=4_000)
    assert world.refuse(cpus_milli=1) == "no_match"


def test_instant_orders_are_matched_around_it() -> None:
    world = Booked()
    world.reserve()
    # One that is surely over by then fits; one that might not be does not.
    spare_s = 10_000 - 10 - 60 - 300 - 40
    late = make_order(cpus_milli=1, duration_s_max=spare_s + 1, salt=91)
    assert world.refused(TENANT, late) == "no_match"
    assert world.order(cpus_milli=8_000, duration_s_max=spare_s).hold


def test_reservation_is_made_around_leases() -> None:
    world = Booked()
    world.order(cpus_milli=1, duration_s_max=9_589)
    assert world.refuse(starts_at_s=BEGIN_S - 2) == "no_match"
    world.reserve(starts_at_s=BEGIN_S - 1)


def test_price_is_that_of_the_runner_up() -> None:
    world = Booked()
    world.add_provider(OTHER_PROVIDER, cpu_price_hour=20_000)
    record = world.reserve()
    assert record.booking is not None
    assert (record.booking.provider, record.booking.price_hour) == (PROVIDER, 168_000)


def test_cancelled_reservation_frees_slice_and_money() -> None:
    world = Booked()
    record = world.reserve()
    world.say(TENANT, Cancellation(record.id, 1, 1))
    assert world.book.ledger.find(TENANT).balance == 10_000_000
    world.reserve()


@pytest.mark.parametrize("is_lost", [True, False])
def test_provider_that_is_not_there_is_at_fault(is_lost: bool) -> None:
    world = Booked()
    record = world.reserve()
    if is_lost:
        world.say(OPERATOR, ProviderLost(PROVIDER, 1, 1))
    else:
        world.say(PROVIDER, OfferWithdrawal(world.offer_id, 1, 1))
    world.wait(10_000)
    assert world.book.orders[record.id].deadline_s == BEGIN_S + 10  # a little grace
    world.wait(10)
    assert world.book.ended[record.id].reason == "not_granted"
    assert world.book.find_provider(PROVIDER).leases_at_fault == 1
    assert world.book.ledger.find(TENANT).balance == 10_000_000


def test_provider_that_comes_back_in_time_keeps_its_word() -> None:
    world = Booked()
    record = world.reserve()
    world.say(OPERATOR, ProviderLost(PROVIDER, 1, 1))
    world.wait(10_001)
    world.add_provider()
    assert world.lease(record.id).provider == PROVIDER
    assert world.lease(record.id).until_s == BEGIN_S + 3_600


def test_offer_in_force_is_the_one_that_is_leased() -> None:
    world = Booked()
    record = world.reserve()
    renewed = world.add_provider(salt=2)
    world.wait(10_000)
    assert world.lease(record.id).offer_id == renewed


def test_total_has_to_pay_for_all_of_it() -> None:
    world = Booked()
    assert world.refuse(total_max=87_999) == "total_too_small"
    assert world.refuse(starts_at_s=START_S) == "order_expired"
    assert world.refuse(starts_at_s=0) == "bad_order"


def test_time_without_a_market_moves_it() -> None:
    world = Booked()
    record = world.reserve()
    world.now_s += 20_000
    world.say(OPERATOR, Resume(1, 1))
    assert world.book.orders[record.id].deadline_s == BEGIN_S + 20_000
    world.wait(10_000)
    assert world.lease(record.id).until_s == BEGIN_S + 20_000 + 3_600


def test_faster_machine_is_booked_though_dearer() -> None:
    """Twice as fast, at one and a half times the price of the other's."""
    world = Booked()
    world.add_provider(
        OTHER_PROVIDER, cpu_score=200, cpu_price_hour=15_000, memory_price_hour=3_000
    )
    record = world.reserve(work="cpu")
    assert record.booking is not None
    assert record.booking.provider == OTHER_PROVIDER
    assert record.booking.price_hour == 2 * 88_000
    assert world.reserve(work="cpu").booking.provider == PROVIDER  # type: ignore[union-attr]
    assert world.refuse() == "no_match"
