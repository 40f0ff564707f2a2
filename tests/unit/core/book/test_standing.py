"""Tests of standing orders: they wait, are filled piece by piece, and end in time."""

import pytest

from sublet.base import limits
from sublet.core.book.open_order import OpenOrder, OrderPhase
from sublet.core.document import (
    Cancellation,
    Delegation,
    ProviderLost,
    Resume,
    Revocation,
    Stop,
)
from sublet.core.lease.phase import Phase
from sublet.core.lease.piece import is_lease_of, piece_id
from tests.unit.core.book.world import (
    GIB,
    OPERATOR,
    OTHER_PROVIDER,
    OTHER_TENANT,
    PROVIDER,
    START_S,
    TENANT,
    World,
    address,
    make_order,
)


def place(world: World, **changed: object) -> OpenOrder:
    """Place a standing order; give it as the book has it then."""
    wish = {"mode": "standing", "open_until_s": START_S + 1_000} | changed
    order = make_order(salt=len(world.facts), **wish)
    world.say(order.tenant, order)
    record = world.book.find_order(world.facts[-1].id)
    assert record is not None
    return record


def free(world: World, party: str = TENANT) -> int:
    return world.book.ledger.find(party).balance


def test_waits_and_holds_its_money() -> None:
    world = World()
    world.add_credit(amount=10_000_000)
    record = place(world, price_hour_max=100_000)
    assert record.phase is OrderPhase.WAITING
    assert record.hold == 100_000  # an hour at its maximum
    assert free(world) == 9_900_000


def test_supply_that_appears_fills_it() -> None:
    world = World()
    world.add_credit()
    record = place(world, price_hour_max=100_000)
    world.add_provider(cpu_price_hour=60_000)  # 128,000 for the slice: too dear
    assert record.id in world.book.orders
    world.add_provider(machine="m2", cpu_price_hour=10_000, salt=2)
    lease = world.lease(record.id)
    assert (lease.machine, lease.price_hour, lease.order) == ("m2", 28_000, record.id)
    assert free(world) == 10_000_000 - lease.hold  # and nothing for the order
    ended = world.book.ended[record.id]
    assert (ended.reason, ended.leases) == ("filled", (record.id,))


def test_fits_at_once_and_never_waits() -> None:
    world = World()
    world.add_credit()
    world.add_provider()
    record = place(world)
    assert record.reason == "filled"
    assert world.lease(record.id).phase is Phase.MATCHED


def test_ends_by_itself_at_its_deadline() -> None:
    world = World()
    world.add_credit()
    record = place(world)
    world.wait(999)
    assert record.id in world.book.orders
    world.wait(1)
    assert world.book.ended[record.id].reason == "expired"
    assert free(world) == 10_000_000


def test_slice_that_comes_free_goes_to_the_oldest() -> None:
    world = World()
    world.add_credit()
    world.add_credit(OTHER_TENANT)
    world.add_provider(cpus_milli=2_000)
    lease = world.order()
    first = place(world, tenant=OTHER_TENANT, price_hour_max=100_000)
    second = place(world, price_hour_max=9_000_000)  # pays more: that gives no rank
    world.say(TENANT, Stop(lease.id, "cancelled", 1, 1))
    assert world.lease(first.id).tenant == OTHER_TENANT
    assert second.id in world.book.orders


def test_is_filled_piece_by_piece() -> None:
    world = World()
    world.add_credit()
    world.add_provider(cpus_milli=4_000)
    record = place(
        world,
        volume_s=3 * 3_600,
        open_until_s=START_S + 100_000,
        price_hour_max=100_000,
        total_max=250_000,
    )
    # Two fit at 28,000 an hour; of three hours, one is left, and so is its money.
    assert record.phase is OrderPhase.WAITING
    assert record.leases == (piece_id(record.id, 1), piece_id(record.id, 2))
    assert all(is_lease_of(key, record.id) for key in record.leases)
    assert not is_lease_of(record.leases[0], OPERATOR)
    assert (record.left_s, record.hold) == (3_600, 250_000 - 2 * 28_000)
    world.add_provider(OTHER_PROVIDER, cpu_price_hour=20_000)
    assert world.book.ended[record.id].reason == "filled"
    assert free(world) == 10_000_000 - 2 * 28_000 - 48_000
    [last] = [world.lease(key) for key in world.book.ended[record.id].leases[2:]]
    assert (last.provider, last.duration_s) == (OTHER_PROVIDER, 3_600)


def test_last_piece_is_what_is_left() -> None:
    world = World()
    world.add_credit()
    world.add_provider()
    record = place(world, volume_s=5_000, duration_s_max=3_600)
    spans = [world.lease(key).duration_s for key in record.leases]
    assert (record.reason, spans) == ("filled", [3_600, 1_400])


def test_what_a_provider_did_not_keep_comes_back() -> None:
    world = World()
    world.add_credit()
    world.add_provider()
    record = place(
        world,
        volume_s=90_000,
        duration_s_max=45_000,
        cpus_milli=5_000,
        open_until_s=START_S + 90_000,
        price_hour_max=200_000,
    )
    [piece] = record.leases
    hold = world.lease(piece).hold
    world.say(OPERATOR, ProviderLost(PROVIDER, 1, 1))
    again = world.book.orders[record.id]
    assert (again.left_s, again.hold) == (90_000, record.hold + hold)
    assert free(world) == 10_000_000 - again.hold


def test_what_the_tenant_ends_does_not_come_back() -> None:
    world = World()
    world.add_credit()
    world.add_provider(cpus_milli=2_000)
    record = place(world, volume_s=7_200, price_hour_max=100_000)
    world.say(TENANT, Stop(record.leases[0], "cancelled", 1, 1))
    # The slice is free again: the second hour is leased, and there is no third.
    assert world.book.ended[record.id].reason == "filled"


def test_tenant_cancels_and_has_its_money_back() -> None:
    world = World()
    world.add_credit()
    record = place(world)
    stranger = Cancellation(record.id, 1, 1)
    assert world.refused(OTHER_TENANT, stranger) == "wrong_signer"
    world.say(TENANT, Cancellation(record.id, 1, 1))
    assert world.book.ended[record.id].reason == "cancelled"
    assert free(world) == 10_000_000
    assert world.refused(TENANT, Cancellation(record.id, 1, 2)) == "unknown_order"


def test_leases_go_on_when_an_order_is_cancelled() -> None:
    world = World()
    world.add_credit()
    world.add_provider(cpus_milli=2_000)
    record = place(world, volume_s=7_200)
    world.say(TENANT, Cancellation(record.id, 1, 1))
    assert world.lease(record.leases[0]).phase is Phase.MATCHED


@pytest.mark.parametrize(
    ("changed", "code"),
    [
        ({"open_until_s": 0}, "bad_order"),  # it would wait for ever
        ({"open_until_s": START_S}, "order_expired"),
        ({"open_until_s": START_S + limits.WAIT_S_MAX + 1}, "bad_order"),
        ({"volume_s": 3_599}, "bad_order"),  # less than one lease
        ({"notice_s": 30}, "bad_order"),  # of another mode
        ({"mode": "later"}, "bad_mode"),
        ({"total_max": 0}, "total_too_small"),
        (
            {
                "price_hour_max": 9_000_000,
                "total_max": 20_000_000,
                "duration_s_max": 7_200,
            },
            "insufficient_funds",
        ),
    ],
)
def test_refuses_what_cannot_wait(changed: dict[str, object], code: str) -> None:
    world = World()
    world.add_credit()
    wish = {"mode": "standing", "open_until_s": START_S + 1_000} | changed
    assert world.refused(TENANT, make_order(**wish)) == code
    assert free(world) == 10_000_000


def test_one_key_cannot_fill_the_book(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sublet.core.book.waiting.ORDERS_PER_TENANT_MAX", 2)
    world = World()
    world.add_credit()
    for _ in range(2):
        place(world, price_hour_max=1_000)
    wish = {"mode": "standing", "open_until_s": START_S + 1_000, "salt": 99}
    assert world.refused(TENANT, make_order(**wish)) == "too_many_orders"
    world.add_credit(OTHER_TENANT)
    assert place(world, tenant=OTHER_TENANT, price_hour_max=1_000).hold == 1_000


def test_order_ends_with_its_delegation() -> None:
    world = World()
    world.add_credit()
    delegate = OTHER_TENANT
    said = Delegation(delegate, 500_000, 2, (), "", START_S + 500, 1, 1)
    world.say(TENANT, said)
    key = world.facts[-1].id
    wish = {
        "mode": "standing",
        "open_until_s": START_S + 1_000,
        "delegation": key,
        "price_hour_max": 100_000,
        "memory_bytes": 4 * GIB,
    }
    world.say(delegate, make_order(**wish, salt=1))
    first = world.facts[-1].id
    assert world.book.delegations[key].held == 100_000
    assert world.book.orders[first].deadline_s == START_S + 500
    world.say(delegate, make_order(**wish, salt=2))
    second = world.facts[-1].id
    world.say(delegate, Cancellation(first, 1, 1))  # who placed it may take it back
    world.say(TENANT, Revocation(key, 1, 1))
    assert world.book.ended[second].reason == "revoked"
    assert world.book.delegations[key].held == 0
    assert free(world) == 10_000_000


def test_resume_forgives_orders_too() -> None:
    world = World()
    world.add_credit()
    record = place(world)
    world.now_s += 5_000
    world.say(OPERATOR, Resume(1, 1))
    assert world.book.orders[record.id].deadline_s == START_S + 6_000


def test_many_keys_cannot_fill_the_book(monkeypatch: pytest.MonkeyPatch) -> None:
    """Orders that set nothing aside share a room; who pays is not in it."""
    monkeypatch.setattr("sublet.core.book.waiting.UNBACKED_ORDERS_MAX", 3)
    world = World()
    world.add_credit()
    free_wish = {"mode": "standing", "open_until_s": START_S + 1_000}
    free_wish |= {"price_hour_max": 0, "total_max": 0}
    for number in range(3):
        key = address(0x9000 + number)
        world.say(key, make_order(tenant=key, **free_wish))
    late = make_order(tenant=address(0x9999), **free_wish)
    assert world.refused(late.tenant, late) == "too_many_unbacked"
    tiny = make_order(**free_wish | {"price_hour_max": 9_999, "total_max": 9_999})
    assert world.refused(TENANT, tiny) == "too_many_unbacked"
    place(world, price_hour_max=10_000, total_max=10_000)
