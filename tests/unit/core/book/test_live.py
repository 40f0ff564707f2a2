"""Tests of live orders: a window for bids, the best one, the tenant's choice."""

from typing import Any

import pytest

from sublet.core.book.live import find_calls, find_takers
from sublet.core.book.open_order import OpenOrder, OrderPhase
from sublet.core.document import Bid, Choice, OfferWithdrawal, Resume
from sublet.core.lease.phase import Lease
from tests.unit.core.book.world import (
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

THIRD = address(0x2002)


class Auction(World):
    """A market with three providers, and a tenant with money."""

    def __init__(self) -> None:
        super().__init__()
        self.add_credit()
        self.offers = {
            provider: self.add_provider(provider)
            for provider in (PROVIDER, OTHER_PROVIDER, THIRD)
        }

    def place(self, **changed: Any) -> str:
        wish: dict[str, Any] = {"mode": "live", "window_s": 10} | changed
        self.say(TENANT, make_order(salt=len(self.facts), **wish))
        return self.facts[-1].id

    def bid(self, order_id: str, provider: str, price_hour: int) -> Bid:
        offer_id = self.offers[provider]
        return Bid(order_id, offer_id, price_hour, 1, len(self.facts))

    def say_bid(self, order_id: str, provider: str, price_hour: int) -> str:
        self.say(provider, self.bid(order_id, provider, price_hour))
        return self.facts[-1].id

    def record(self, order_id: str) -> OpenOrder:
        record = self.book.find_order(order_id)
        assert record is not None
        return record

    def won(self, order_id: str) -> Lease:
        assert self.record(order_id).reason == "filled"
        return self.lease(order_id)


def test_total_that_pays_for_no_second_ends_the_order() -> None:
    market = Auction()
    order_id = market.place(total_max=10)  # micro-USD; a second comes to 13 or 16
    market.say_bid(order_id, PROVIDER, 50_000)
    market.say_bid(order_id, OTHER_PROVIDER, 60_000)
    market.wait(11)
    assert market.record(order_id).reason == "total_too_small"
    assert not market.book.leases
    chosen = market.place(total_max=10, choose_s=60)
    bid_id = market.say_bid(chosen, PROVIDER, 50_000)
    market.wait(11)
    choice = Choice(chosen, bid_id, 1, 7)
    assert market.refused(TENANT, choice) == "total_too_small"


def test_best_bid_wins_at_the_price_of_the_next() -> None:
    world = Auction()
    key = world.place(price_hour_max=100_000)
    world.say_bid(key, PROVIDER, 50_000)
    world.say_bid(key, OTHER_PROVIDER, 20_000)  # below its own floor: its own business
    world.say_bid(key, THIRD, 40_000)
    world.wait(9)
    assert world.record(key).phase is OrderPhase.BIDDING
    world.wait(1)
    lease = world.won(key)
    assert (lease.provider, lease.price_hour) == (OTHER_PROVIDER, 40_000)
    assert world.book.ledger.find(TENANT).balance == 10_000_000 - 40_000


def test_only_bid_is_paid_as_it_was_made() -> None:
    world = Auction()
    key = world.place()
    world.say_bid(key, PROVIDER, 50_000)
    world.wait(10)
    assert world.won(key).price_hour == 50_000


def test_older_offer_of_two_equal_bids_wins() -> None:
    world = Auction()
    key = world.place()
    world.say_bid(key, THIRD, 30_000)
    world.say_bid(key, PROVIDER, 30_000)
    world.wait(10)
    assert world.won(key).provider == PROVIDER


def test_faster_machine_wins_with_a_dearer_bid() -> None:
    """Twice as fast at one and a half times the price; paid what just ties the other."""
    world = Auction()
    fast = {"cpu_score": 200, "salt": 9}
    world.offers[THIRD] = world.add_provider(THIRD, **fast)
    key = world.place(work="cpu")
    world.say_bid(key, PROVIDER, 40_000)
    world.say_bid(key, THIRD, 60_000)
    world.wait(10)
    lease = world.won(key)
    assert (lease.provider, lease.price_hour) == (THIRD, 80_000)


def test_pay_as_bid_is_what_it_says() -> None:
    world = Auction()
    key = world.place(pricing="pay_as_bid")
    world.say_bid(key, PROVIDER, 40_000)
    world.say_bid(key, THIRD, 60_000)
    world.wait(10)
    assert world.won(key).price_hour == 40_000


def test_those_who_could_serve_are_found() -> None:
    world = Auction()
    key = world.place(cpus_milli=8_000)
    wanted = world.record(key).order
    now_s = world.now_s
    assert find_takers(world.book, wanted, now_s=now_s) == [*world.offers]
    world.add_provider(THIRD, cpu_price_hour=1)  # once: its cheapest offer counts
    world.say(OTHER_PROVIDER, OfferWithdrawal(world.offers[OTHER_PROVIDER], 1, 1))
    assert find_takers(world.book, wanted, now_s=now_s) == [THIRD, PROVIDER]
    assert [one.id for one in find_calls(world.book, PROVIDER, now_s=now_s)] == [key]
    assert find_calls(world.book, OTHER_PROVIDER, now_s=now_s) == []
    world.wait(10)
    assert find_calls(world.book, PROVIDER, now_s=world.now_s) == []


def test_order_without_bids_ends() -> None:
    world = Auction()
    key = world.place()
    world.wait(10)
    assert world.record(key).reason == "no_bids"
    assert world.book.ledger.find(TENANT).balance == 10_000_000


def test_bidder_who_has_sold_its_slice_is_passed_over() -> None:
    world = Auction()
    key = world.place(cpus_milli=8_000)
    world.say_bid(key, PROVIDER, 20_000)
    world.say_bid(key, THIRD, 30_000)
    world.say(PROVIDER, OfferWithdrawal(world.offers[PROVIDER], 1, 1))
    world.wait(10)
    assert world.won(key).provider == THIRD


def test_order_whose_bidders_are_all_gone_ends() -> None:
    world = Auction()
    key = world.place()
    world.say_bid(key, PROVIDER, 20_000)
    world.say(PROVIDER, OfferWithdrawal(world.offers[PROVIDER], 1, 1))
    world.wait(10)
    assert world.record(key).reason == "bids_gone"


def test_bid_outlives_the_offer_that_it_was_made_with() -> None:
    """Agents renew their offers all the time: dearer ones too, and the bid stands."""
    world = Auction()
    key = world.place()
    world.say_bid(key, PROVIDER, 20_000)
    renewed = world.add_provider(PROVIDER, cpu_price_hour=90_000, salt=9)
    world.wait(10)
    lease = world.won(key)
    assert (lease.offer_id, lease.price_hour) == (renewed, 20_000)


def test_bid_ends_where_the_renewed_offer_does_not_fit() -> None:
    world = Auction()
    key = world.place()
    world.say_bid(key, PROVIDER, 20_000)
    world.say_bid(key, THIRD, 30_000)
    world.add_provider(PROVIDER, cpus_milli=1_000, salt=9)
    world.wait(10)
    assert world.won(key).provider == THIRD


def test_tenant_may_choose_a_bid_whose_offer_was_renewed() -> None:
    world = Auction()
    key = world.place(choose_s=20)
    bid = world.say_bid(key, PROVIDER, 20_000)
    renewed = world.add_provider(PROVIDER, salt=9)
    world.say(TENANT, Choice(key, bid, 1, 1))
    assert world.won(key).offer_id == renewed


def test_own_bid_only_goes_down() -> None:
    world = Auction()
    key = world.place()
    world.say_bid(key, PROVIDER, 30_000)
    again = world.bid(key, PROVIDER, 30_000)
    assert world.refused(PROVIDER, again) == "bid_not_lower"
    world.say_bid(key, PROVIDER, 29_999)
    assert [bid.price_hour for bid in world.record(key).bids] == [29_999]


def test_refuses_bids_that_nobody_may_make() -> None:
    world = Auction()
    key = world.place(price_hour_max=100_000)
    on_behalf = world.bid(key, PROVIDER, 1)
    assert world.refused(THIRD, on_behalf) == "wrong_signer"
    assert world.refused(TENANT, on_behalf) == "wrong_signer"
    too_high = world.bid(key, PROVIDER, 100_001)
    assert world.refused(PROVIDER, too_high) == "bid_too_high"
    unknown = Bid(world.offers[PROVIDER], world.offers[PROVIDER], 1, 1, 1)
    assert world.refused(PROVIDER, unknown) == "unknown_order"
    large = world.place(cpus_milli=9_000, price_hour_max=100_000)
    assert world.refused(PROVIDER, world.bid(large, PROVIDER, 1)) == "does_not_fit"


def test_refuses_bids_where_no_window_is_open() -> None:
    world = Auction()
    wish = {"mode": "standing", "open_until_s": START_S + 500, "price_hour_max": 1}
    world.say(TENANT, make_order(**wish))
    waits = world.facts[-1].id
    assert world.refused(PROVIDER, world.bid(waits, PROVIDER, 1)) == "bidding_closed"
    key = world.place()
    world.now_s += 10  # nobody told the market: the window is closed all the same
    assert world.refused(PROVIDER, world.bid(key, PROVIDER, 1)) == "unknown_order"


def test_worse_bids_cannot_keep_a_better_one_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("sublet.core.book.live.BIDS_PER_ORDER_MAX", 2)
    world = Auction()
    key = world.place()
    world.say_bid(key, PROVIDER, 80_000)
    world.say_bid(key, OTHER_PROVIDER, 90_000)
    late = world.bid(key, THIRD, 90_000)
    assert world.refused(THIRD, late) == "too_many_bids"
    world.say_bid(key, THIRD, 10_000)
    assert [bid.provider for bid in world.record(key).bids] == [THIRD, PROVIDER]


# ---- the tenant's choice ------------------------------------------------------------


def test_tenant_chooses_and_pays_the_bid() -> None:
    world = Auction()
    key = world.place(choose_s=20)
    world.say_bid(key, PROVIDER, 20_000)
    dearer = world.say_bid(key, THIRD, 70_000)
    world.wait(10)
    assert world.record(key).phase is OrderPhase.CHOOSING
    late = world.bid(key, OTHER_PROVIDER, 1)
    assert world.refused(OTHER_PROVIDER, late) == "bidding_closed"
    stranger = Choice(key, dearer, 1, 1)
    assert world.refused(OTHER_TENANT, stranger) == "wrong_signer"
    world.say(TENANT, Choice(key, dearer, 1, 1))
    lease = world.won(key)
    assert (lease.provider, lease.price_hour) == (THIRD, 70_000)


def test_tenant_may_choose_before_the_window_closes() -> None:
    world = Auction()
    key = world.place(choose_s=20)
    bid = world.say_bid(key, PROVIDER, 20_000)
    world.say(TENANT, Choice(key, bid, 1, 1))
    assert world.won(key).price_hour == 20_000


def test_silence_is_no_choice() -> None:
    world = Auction()
    key = world.place(choose_s=20)
    world.say_bid(key, PROVIDER, 20_000)
    world.wait(10)
    world.wait(20)
    assert world.record(key).reason == "not_chosen"
    assert world.book.ledger.find(TENANT).balance == 10_000_000


def test_refuses_choices_that_cannot_be_had() -> None:
    world = Auction()
    automatic = world.place(price_hour_max=100_000)
    bid = world.say_bid(automatic, PROVIDER, 20_000)
    choice = Choice(automatic, bid, 1, 1)
    assert world.refused(TENANT, choice) == "nothing_to_choose"
    key = world.place(choose_s=20)
    assert world.refused(TENANT, Choice(key, bid, 1, 1)) == "unknown_bid"
    own = world.say_bid(key, THIRD, 20_000)
    world.say(THIRD, OfferWithdrawal(world.offers[THIRD], 1, 1))
    assert world.refused(TENANT, Choice(key, own, 1, 1)) == "bid_gone"


def test_window_closes_as_late_as_the_market_was_away() -> None:

    world = Auction()
    key = world.place()
    world.now_s += 100
    world.say(OPERATOR, Resume(1, 1))
    assert world.record(key).deadline_s == START_S + 110
