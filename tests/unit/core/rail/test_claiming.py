"""When a claim is made, and when it is not."""

import pytest

from sublet.base.units import MicroUsd
from sublet.core.document import Channel
from sublet.core.escrow.state import ChannelState, Earned
from sublet.core.rail.claiming import (
    BATCH_MAX,
    CLAIM_GAS,
    VOUCHER_GAS,
    GasPrice,
    Held,
    is_settling_worth,
    plan_batches,
)

# A million gas for a dollar: a voucher's place costs 17,000 micro-USD, a batch 36,000.
PRICE = GasPrice(fee_wei=10**12, ether_usd=MicroUsd(1_000_000))
ONE = PRICE.cost(CLAIM_GAS + VOUCHER_GAS)
EACH = PRICE.cost(VOUCHER_GAS)
DOLLAR = 1_000_000
PARTY = "0x" + "1" * 40


def hold(
    name: int = 1,
    *,
    most: int,
    balance: int = 10**12,
    claimed: int = 0,
    withdrawing: int = 0,
    confirmed: int | None = None,
    under_way: int = 0,
) -> Held:
    channel = Channel(
        payer=PARTY,
        payer_authorizer=PARTY,
        receiver=PARTY,
        receiver_authorizer=PARTY,
        token=PARTY,
        withdraw_delay=900,
        salt=f"0x{name:064x}",
    )
    newest = ChannelState(balance=balance, claimed=claimed, withdrawing=withdrawing)
    sure = ChannelState(balance=balance if confirmed is None else confirmed)
    return Held(f"0x{name:064x}", channel, sure, newest, most, b"", under_way)


def test_cost_is_a_figure_of_the_plan() -> None:
    assert (ONE, EACH) == (53_000, 17_000)


@pytest.mark.parametrize(
    ("held", "is_claimed"),
    [
        (hold(most=100 * ONE), True),  # a hundred times its cost
        (hold(most=100 * ONE - 1), False),  # one less
        (hold(most=100 * ONE, claimed=1), False),  # the rest is less
        (hold(most=100 * ONE, confirmed=0), False),  # not deposited for certain
        (hold(most=100 * ONE, balance=5), False),  # the deposit is the most there is
        (hold(most=100 * ONE, under_way=100 * ONE), False),  # claimed already
        (hold(most=EACH + 1, withdrawing=1), True),  # now or never
        (hold(most=EACH, withdrawing=1), False),  # it would cost what it brings
        (hold(most=0, withdrawing=1), False),
        (hold(most=EACH + 1, withdrawing=1, under_way=1), False),
    ],
)
def test_claims_when_it_is_worth_it(held: Held, is_claimed: bool) -> None:
    assert bool(plan_batches([held], gas_price=PRICE)) is is_claimed


def test_withdrawal_is_answered_whatever_nobody_knows() -> None:
    urgent = hold(most=2, withdrawing=5)
    (batch,) = plan_batches([urgent], gas_price=None)
    assert batch.is_urgent and batch.claims[0].total == 2
    assert plan_batches([hold(most=DOLLAR - 1)], gas_price=None) == ()
    assert plan_batches([hold(most=DOLLAR)], gas_price=None)


def test_many_small_ones_share_a_batch() -> None:
    alone = 100 * EACH + 100  # pays for its place, not for the batch
    assert plan_batches([hold(most=alone)], gas_price=PRICE) == ()
    # The batch's own gas, spread over enough vouchers with a little to spare.
    spare = 100 * PRICE.cost(CLAIM_GAS) // 10
    some = [hold(n, most=100 * EACH + spare) for n in range(1, 11)]
    (batch,) = plan_batches(some, gas_price=PRICE)
    assert len(batch.held) == 10 and not batch.is_urgent
    assert plan_batches(some[:9], gas_price=PRICE) == ()


def test_urgent_ones_come_first_and_take_others_along() -> None:
    worth = [hold(n, most=200 * ONE) for n in range(1, BATCH_MAX + 2)]
    urgent = hold(999, most=EACH + 1, withdrawing=1)
    first, second = plan_batches([*worth, urgent], gas_price=PRICE)
    assert first.held[0] == urgent and first.is_urgent
    assert len(first.held) == BATCH_MAX and len(second.held) == 2
    assert not second.is_urgent


def test_voucher_is_clamped_to_the_deposit_and_the_loss_named() -> None:
    held = hold(most=9 * DOLLAR, balance=2 * DOLLAR, withdrawing=1)
    (batch,) = plan_batches([held], gas_price=PRICE)
    assert (batch.claims[0].total, batch.claims[0].most) == (2 * DOLLAR, 9 * DOLLAR)
    assert held.lost == 7 * DOLLAR


def test_settles_when_it_is_worth_it() -> None:
    cost = 100 * 50_000
    assert is_settling_worth(Earned(claimed=cost), gas_price=PRICE)
    assert not is_settling_worth(Earned(claimed=cost, settled=1), gas_price=PRICE)
    assert not is_settling_worth(Earned(), gas_price=GasPrice(0, MicroUsd(1)))
    assert is_settling_worth(Earned(claimed=DOLLAR), gas_price=None)


def test_gas_that_costs_nothing_needs_no_bound() -> None:
    free = GasPrice(fee_wei=1, ether_usd=MicroUsd(0))
    [batch] = plan_batches([hold(most=5, withdrawing=1)], gas_price=free)
    assert batch.is_urgent and batch.fee_max_wei(free) == 0


def test_urgent_claim_may_cost_half_of_what_it_brings() -> None:
    (urgent,) = plan_batches([hold(most=DOLLAR, withdrawing=1)], gas_price=PRICE)
    dearer = GasPrice(urgent.fee_max_wei(PRICE), PRICE.ether_usd)
    assert dearer.cost(CLAIM_GAS + VOUCHER_GAS) == DOLLAR // 2
    assert urgent.fee_max_wei(None) == 0
    (calm,) = plan_batches([hold(most=100 * ONE)], gas_price=PRICE)
    assert calm.fee_max_wei(PRICE) == 0
