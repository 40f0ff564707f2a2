"""Stake: what binds it, what takes it, and that to slash oneself is no way out."""

from collections.abc import Iterator
from typing import Any

import pytest

from sublet.wire.typed_data import Domain
from tests.contracts.escrow_house import DOLLAR, key
from tests.contracts.stake_house import (
    DAY_S,
    ESCROW,
    EVIDENCE,
    NOW_S,
    STAKE,
    StakeHouse,
)


@pytest.fixture(scope="module")
def deployed() -> StakeHouse:
    house = StakeHouse()
    assert house.put(STAKE).ok
    return house


@pytest.fixture
def house(deployed: StakeHouse) -> Iterator[StakeHouse]:
    with deployed.evm.env.anchor():
        yield deployed


# ---- in and out -------------------------------------------------------------------


def test_unbonding_takes_seven_days(house: StakeHouse) -> None:
    me = house.provider.address
    assert house.call("withdraw(address)", me).fault == "not_unbonding"
    assert house.call("unbond(uint256)", STAKE + 1, by=me).fault == "over_balance"
    assert house.call("unbond(uint256)", STAKE, by=me).ok
    house.evm.pass_s(7 * DAY_S - 1)
    assert house.call("withdraw(address)", me).fault == "too_early"
    assert house.free() == STAKE  # at risk to the last second
    house.evm.pass_s(1)
    assert house.call("withdraw(address)", me).ok
    assert (house.balance(me), house.free()) == (STAKE, 0)


# ---- contradictions ---------------------------------------------------------------


def test_two_terms_of_one_lease_cost_the_stake(house: StakeHouse) -> None:
    assert house.call("unbond(uint256)", STAKE // 4, by=house.provider.address).ok
    other = house.terms(price_hour=9_000_000, signed_at_s=NOW_S + 300, salt=2)
    assert house.slash_terms(house.terms(), other).ok
    pay = ("payAward(uint256)", 0)
    assert house.call(*pay).fault == "too_early"
    house.evm.pass_s(7 * DAY_S)
    assert house.call(*pay).ok
    assert house.balance(house.tenant.address) == STAKE // 2
    assert house.call("burnt()").give("uint256") == STAKE // 2
    assert house.call("withdraw(address)", house.provider.address).fault
    assert house.free() == 0
    assert house.slash_terms(house.terms(), other).fault == "nothing_left"


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        # An agent that is started anew signs the same terms anew.
        ({"salt": 2, "signed_at_s": NOW_S + 9}, "no_contradiction"),
        ({"lease_id": "0x" + "2e" * 32, "price_hour": 1}, "no_contradiction"),
        # What it has forgotten, a lying market may sell it again.
        ({"price_hour": 1, "signed_at_s": NOW_S + 301}, "too_far_apart"),
        ({"price_hour": 1, "signed_at_s": NOW_S - 301}, "too_far_apart"),
        ({"price_hour": 1, "provider": "0x" + "77" * 20}, "bad_signature"),
    ],
)
def test_terms_that_do_not_contradict(
    house: StakeHouse, changes: dict[str, Any], fault: str
) -> None:
    done = house.slash_terms(house.terms(), house.terms(**changes))
    assert done.fault == fault
    assert house.free() == STAKE


def test_nobody_else_contradicts_a_provider(house: StakeHouse) -> None:
    other = house.terms(price_hour=1)
    assert house.slash_terms(house.terms(), other, second=key(9)).fault
    elsewhere = Domain("0x" + "99" * 32, 1, ESCROW)  # another market's documents
    house_domain, house.domain = house.domain, elsewhere
    try:
        assert house.slash_terms(house.terms(), other).fault == "bad_signature"
    finally:
        house.domain = house_domain
    assert house.free() == STAKE


def test_two_readings_of_one_sequence_cost_the_stake(house: StakeHouse) -> None:
    more = house.usage(ran_ms=60_001, salt=2)
    assert house.slash_usage(house.usage(), more).ok
    assert house.free() == STAKE // 2  # the award, which stays exposed


@pytest.mark.parametrize(
    ("changes", "more", "fault"),
    [
        # The same reading, signed again.
        ({"salt": 2, "signed_at_s": NOW_S + 1}, {}, "no_contradiction"),
        ({"sequence": NOW_S * 1_000 + 1, "ran_ms": 1}, {}, "no_contradiction"),
        ({"ran_ms": 1}, {"signer": key(9)}, "bad_signature"),
    ],
)
def test_readings_that_do_not_contradict(
    house: StakeHouse, changes: dict[str, Any], more: Any, fault: str
) -> None:
    assert (
        house.slash_usage(house.usage(), house.usage(**changes), **more).fault == fault
    )
    terms = house.terms(lease_id="0x" + "2e" * 32)
    done = house.slash_usage(house.usage(), house.usage(ran_ms=1), terms=terms)
    assert done.fault == "bad_terms"


def test_slashing_oneself_is_no_way_out(house: StakeHouse) -> None:
    """Not quicker than to unbond, not out of an open case, and half is lost."""
    friend = key(66).address
    one = house.terms(tenant=friend)
    opened, case_id = house.open_case(30 * DOLLAR)
    assert opened.ok
    assert house.slash_terms(one, house.terms(tenant=friend, price_hour=1)).ok
    award = 35 * DOLLAR  # half of what the case left free
    # A case that comes later still takes it, while the seven days run.
    assert house.open_case(50 * DOLLAR)[0].ok
    house.evm.pass_s(7 * DAY_S)
    assert house.call("payAward(uint256)", 0).fault == "case_open"
    assert house.execute(case_id).ok
    assert house.call("pay(address)", house.tenant.address).ok
    assert house.balance(house.tenant.address) == 30 * DOLLAR
    assert house.balance(friend) == 0
    assert house.free() == 0
    assert house.call("burnt()").give("uint256") == 70 * DOLLAR - award


def test_small_contradiction_gives_no_leave_for_a_large_one(house: StakeHouse) -> None:
    """Neither an award that cannot be paid nor the same two documents bring peace."""
    blocked = house.terms(tenant=key(67).address)
    other = house.terms(tenant=key(67).address, price_hour=1)
    banned = ("blacklist(address)", key(67).address)
    assert house.evm.call(house.token, *banned).ok
    assert house.slash_terms(blocked, other).ok
    assert house.put(STAKE).ok
    assert house.slash_terms(blocked, other).ok  # the same again
    assert house.slash_terms(blocked, other).fault == "nothing_left"
    assert house.put(STAKE).ok
    assert house.slash_terms(house.terms(), house.terms(price_hour=1)).ok
    assert house.call("burnt()").give("uint256") == 3 * STAKE // 2
    house.evm.pass_s(7 * DAY_S)
    assert house.call("payAward(uint256)", 0).fault == "blacklisted"
    assert house.call("payAward(uint256)", 2).ok
    assert house.call("payAward(uint256)", 2).fault == "nothing_left"
    assert house.balance(house.tenant.address) == STAKE // 2


# ---- cases ------------------------------------------------------------------------


def test_case_waits_three_days_then_pays_the_tenant(house: StakeHouse) -> None:
    done, case_id = house.open_case(10 * DOLLAR)
    assert done.ok
    assert done.logs[0].data[32:64] == EVIDENCE
    assert house.execute(case_id).fault == "too_early"
    house.evm.pass_s(3 * DAY_S)
    assert house.execute(case_id).ok
    assert house.execute(case_id).fault == "no_case"
    assert house.call("pay(address)", house.tenant.address).ok
    assert house.balance(house.tenant.address) == 10 * DOLLAR
    assert house.free() == STAKE - 10 * DOLLAR
    assert house.open_case(10 * DOLLAR)[0].fault == "case_known"


def test_appeal_needs_the_larger_quorum(house: StakeHouse) -> None:
    _, case_id = house.open_case(10 * DOLLAR)
    appeal = ("appeal(bytes32)", case_id)
    assert house.call(*appeal).fault == "not_provider"
    assert house.call(*appeal, by=house.provider.address).ok
    house.evm.pass_s(3 * DAY_S)
    assert house.execute(case_id).fault == "no_quorum"
    assert house.execute(case_id, by=house.arbiters[:3]).fault == "no_quorum"
    assert house.execute(case_id, by=house.arbiters[:4]).ok
    assert house.call("owed(address)", house.tenant.address).give("uint256")


def test_appeal_comes_in_time_or_not_at_all(house: StakeHouse) -> None:
    _, case_id = house.open_case(10 * DOLLAR)
    house.evm.pass_s(3 * DAY_S)
    by = house.provider.address
    assert house.call("appeal(bytes32)", case_id, by=by).fault == "too_late"


@pytest.mark.parametrize(
    ("pick", "fault"),
    [
        ([0, 1], "no_quorum"),
        ([0, 0, 1], "bad_order"),  # one arbiter is not two
        ([1, 0, 2], "bad_order"),
    ],
)
def test_case_needs_a_quorum(house: StakeHouse, pick: list[int], fault: str) -> None:
    done, _ = house.open_case(1, by=[house.arbiters[number] for number in pick])
    assert done.fault == fault
    strangers = sorted((key(n) for n in (40, 41, 42)), key=lambda k: k.address)
    assert house.open_case(1, by=strangers)[0].fault == "not_arbiter"


def test_case_holds_what_is_leaving(house: StakeHouse) -> None:
    me = house.provider.address
    assert house.call("unbond(uint256)", STAKE, by=me).ok
    house.evm.pass_s(7 * DAY_S - 1)
    assert house.open_case(40 * DOLLAR)[0].ok
    house.evm.pass_s(1)
    assert house.call("withdraw(address)", me).ok
    assert house.balance(me) == 60 * DOLLAR
    assert house.call("withdraw(address)", me).fault == "case_open"


def test_case_that_nobody_executes_is_void(house: StakeHouse) -> None:
    _, case_id = house.open_case(10 * DOLLAR)
    drop = ("dropCase(bytes32)", case_id)
    house.evm.pass_s(17 * DAY_S - 1)
    assert house.call(*drop).fault == "too_early"
    house.evm.pass_s(1)
    assert house.execute(case_id).fault == "too_late"
    assert house.call(*drop).ok
    assert house.free() == STAKE
