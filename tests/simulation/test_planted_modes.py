"""Bugs that are planted in the modes of the book are found, as in ``test_planted_bugs``.

Each breaks one rule of orders that wait: bids, bookings, displacing, deadlines, holds.
"""

from typing import Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import rule
from msgspec.structs import replace

from sublet.base.ids import NO_DIGEST
from sublet.core.book import (
    booking,
    by_tenant,
    grant,
    live,
    reserved,
    serve,
    spot,
    standing,
    step,
    waiting,
)
from sublet.core.book.book import Book
from sublet.core.document import (
    Bid,
    Cancellation,
    Choice,
    ProviderLost,
    ProviderSeen,
    Tick,
)
from sublet.core.lease import table
from tests.simulation.judge.planted import JudgedWorld, Plant, find, run
from tests.simulation.test_market_machine import PROVIDERS, TENANTS
from tests.simulation.test_mode_machine import Modes
from tests.unit.core.book.world import OPERATOR, World, make_offer, make_order


class JudgedModes(Modes):
    """Orders of every mode before a judge; and what seldom comes about."""

    def make_world(self) -> World:
        return JudgedWorld()

    def stock(self, **offer: Any) -> None:
        """All providers are there, with a machine that is free."""
        for number, provider in enumerate(PROVIDERS):
            self.say(OPERATOR, ProviderSeen(provider, 1, self.salt))
            price = 10_000 + 5_000 * number
            fields = {"machine": f"new-{self.salt}", "cpu_price_hour": price} | offer
            self.say(provider, make_offer(**fields, salt=self.salt))

    @rule(
        choose_s=st.sampled_from([0, 0, 20]),
        is_late=st.booleans(),
        total_max=st.sampled_from([10, 200_000, 200_000]),
    )
    def bid_twice_and_close(self, choose_s: int, is_late: bool, total_max: int) -> None:
        """Two bid, and one with what is another's; then it is over."""
        self.stock()
        tenant, known = TENANTS[0], set(self.world.book.offers.row_of)
        bound_s = self.world.now_s + 10 + choose_s
        mode = {"mode": "live", "window_s": 10, "choose_s": choose_s}
        wish = {"tenant": tenant, "total_max": total_max, "salt": self.salt}
        self.place(wish | mode, bound_s=bound_s)
        order_id = self.world.facts[-1].id
        bids = ((60_000, PROVIDERS[1]), (40_000, PROVIDERS[2]), (50_000, PROVIDERS[2]))
        for price, provider in bids:
            for key in sorted(known):
                record = self.world.book.offers.find(key)
                if record is not None and record.provider == provider:
                    self.say(provider, Bid(order_id, key, price, 1, self.salt))
                    self.say(PROVIDERS[0], Bid(order_id, key, price - 1, 1, self.salt))
        self.world.now_s += 11
        if choose_s:
            open_order = self.world.book.find_order(order_id)
            bids = open_order.bids if open_order else ()
            signer = TENANTS[1] if is_late else tenant
            bid_id = bids[-1].id if bids else NO_DIGEST
            self.say(signer, Choice(order_id, bid_id, 1, self.salt))
            self.world.now_s += 30
        self.say(OPERATOR, Tick(1, self.salt))

    @rule(gpus=st.sampled_from([0, 2]), span_s=st.sampled_from([10, 60]))
    def reserve_all_twice(self, gpus: int, span_s: int) -> None:
        """A whole machine is wanted by two for the same time."""
        starts_at_s = self.world.now_s + 30
        for tenant in TENANTS[:2]:
            mode = {"mode": "reserved", "starts_at_s": starts_at_s, "gpu_count": gpus}
            wish = {"tenant": tenant, "cpus_milli": 8_000, "duration_s_max": span_s}
            bound_s = starts_at_s + self.world.book.rules.accept_s
            self.place(wish | mode | {"salt": self.salt}, bound_s=bound_s)
        # And a third has it now, for longer than it is free.
        self.say(
            TENANTS[0], make_order(cpus_milli=8_000, gpu_count=gpus, salt=self.salt)
        )
        for lease in list(self.world.book.leases.values()):
            for _ in range(3):
                self.advance(self.world.book.leases.get(lease.id, lease))
        self.world.now_s = starts_at_s
        self.say(OPERATOR, Tick(1, self.salt))
        for _ in range(4):
            self.world.now_s += 10
            self.say(OPERATOR, Tick(1, self.salt))

    @rule(pieces=st.sampled_from([2, 12]))
    def let_in_pieces(self, pieces: int) -> None:
        """A standing order for more than there is room, and who it is for cancels."""
        self.stock(cpus_milli=4_000)
        until_s = self.world.now_s + 50
        mode = {"mode": "standing", "open_until_s": until_s, "cpus_milli": 4_000}
        sizes = {"duration_s_max": 100, "volume_s": 100 * pieces, "total_max": 20_000}
        wish = {"tenant": TENANTS[1], "price_hour_max": 200_000, "salt": self.salt}
        self.place(wish | mode | sizes, bound_s=until_s)
        order_id = self.world.facts[-1].id
        self.world.now_s += 5
        self.say(OPERATOR, Tick(1, self.salt))
        self.say(TENANTS[0], Cancellation(order_id, 1, self.salt))
        for provider in PROVIDERS[:2]:
            self.say(OPERATOR, ProviderLost(provider, 1, self.salt))
            self.say(OPERATOR, ProviderSeen(provider, 1, self.salt))

    @rule()
    def want_what_another_has(self) -> None:
        """All is let for as long as it takes, and somebody would pay more."""
        self.stock()
        for _ in range(6):
            wish = {"total_max": 50_000, "salt": self.salt}
            self.say(TENANTS[0], make_order(cpus_milli=8_000, **wish))
        until_s = self.world.now_s + 40
        mode = {"mode": "standing", "open_until_s": until_s, "cpus_milli": 8_000}
        wish = {"tenant": TENANTS[1], "total_max": 400_000, "salt": self.salt}
        self.place(wish | mode, bound_s=until_s)


# ---- the bugs ---------------------------------------------------------------------


def _displaced_without_notice(patch: pytest.MonkeyPatch) -> None:
    right = table.displace

    def displace(lease: Any, *, order_id: str, at_s: int, market: Any) -> Any:
        soon = replace(right(lease, order_id=order_id, at_s=at_s, market=market))
        return replace(soon, give_back_by_s=at_s + 1, deadline_s=at_s + 1)

    patch.setattr(table, "displace", displace)


def _displaced_by_who_pays_less(patch: pytest.MonkeyPatch) -> None:
    right = spot._choose

    def choose(book: Any, record: Any, offer: Any, spots: Any) -> Any:
        rich = replace(record, order=replace(record.order, price_hour_max=1 << 40))
        return right(book, rich, offer, spots)

    patch.setattr(spot, "_choose", choose)
    patch.setattr(
        spot,
        "_booking",
        lambda book, piece, offer, victims, *, floor: _book(piece, offer),
    )

    def _book(piece: Any, offer: Any) -> Any:
        return spot.Booking(
            offer.provider, offer.offer.machine, offer.id, 1, 10, 1, 0, 1 << 33
        )


def _anyone_is_displaced(patch: pytest.MonkeyPatch) -> None:
    right = grant.grant

    def make(book: Any, order: Any, *given: Any, **named: Any) -> Any:
        if order.mode == "instant":
            order = replace(order, mode="spot")
            order = replace(order, price_hour_max=max(1, order.price_hour_max // 100))
        return right(book, order, *given, **named)

    for module in (by_tenant, waiting):
        patch.setattr(module, "grant", make)


def _displaced_goes_at_once(patch: pytest.MonkeyPatch) -> None:
    # The slice is another's as soon as notice was given.
    def holds(lease: Any) -> bool:
        is_gone = lease.displaced_by != NO_DIGEST
        return not is_gone and table.holds_slice(lease)

    patch.setattr("sublet.core.book.book.holds_slice", holds)
    patch.setattr(booking, "holds_slice", holds)


def _gpus_are_only_counted(patch: pytest.MonkeyPatch) -> None:
    # The first ones of a machine, whoever has them.
    patch.setattr(
        "sublet.core.book.record.OfferRecord.gpus_free",
        lambda self: sorted(self.offer.gpu_uuids),
    )


def _booked_over_bookings(patch: pytest.MonkeyPatch) -> None:
    for module in (reserved, booking, spot):
        patch.setattr(module, "has_room", lambda *_, **__: True)


def _lease_runs_into_booking(patch: pytest.MonkeyPatch) -> None:
    for module in (booking,):
        patch.setattr(module, "find_full", lambda *_, **__: [])
    patch.setattr("sublet.core.book.fit.find_full", lambda *_, **__: [])


def _reserved_goes_on_for_ever(patch: pytest.MonkeyPatch) -> None:
    right = reserved.Award
    patch.setattr(
        reserved, "Award", lambda *given, until_s: right(*given, until_s=until_s + 60)
    )


def _reserved_begins_early(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(serve, "_has_come", lambda *_: True)


def _dearer_bid_wins(patch: pytest.MonkeyPatch) -> None:
    right = live.rank
    patch.setattr(live, "rank", lambda *given, **named: right(*given, **named)[::-1])


def _winner_is_paid_the_maximum(patch: pytest.MonkeyPatch) -> None:
    right = live._deal

    def deal(order: Any, bid: Any, *, price_hour: int) -> Any:
        return right(order, bid, price_hour=order.price_hour_max)

    patch.setattr(live, "_deal", deal)


def _winner_is_paid_more_than_the_maximum(patch: pytest.MonkeyPatch) -> None:
    right = standing.find_match

    def dear(book: Any, order: Any, *, now_s: int) -> Any:
        match = right(book, order, now_s=now_s)
        if match is None:
            return None
        price = order.price_hour_max + 1
        return replace(match, price_hour=price, duration_s=1, hold=1)

    patch.setattr(standing, "find_match", dear)


def _standing_below_the_floor(patch: pytest.MonkeyPatch) -> None:
    right = standing.find_match

    def cheap(book: Any, order: Any, *, now_s: int) -> Any:
        match = right(book, order, now_s=now_s)
        return match and replace(match, price_hour=match.price_hour // 2)

    patch.setattr(standing, "find_match", cheap)


def _bid_after_the_window(patch: pytest.MonkeyPatch) -> None:
    right = live.close

    def close(book: Any, record: Any) -> Any:
        late = replace(record, deadline_s=book.now_s + 20)
        if record.deadline_s + 60 > book.now_s:
            return waiting.go_on(book, late)
        return right(book, record)

    patch.setattr(live, "close", close)


def _bid_of_another(patch: pytest.MonkeyPatch) -> None:
    def decide(book: Any, fact: Any, bid: Bid, now_s: int) -> Any:
        offer = book.offers.find(bid.offer_id)
        signer = fact.signer if offer is None else offer.provider
        return live.decide_bid(book, replace(fact, signer=signer), bid, now_s)

    patch.setitem(step.HANDLERS, Bid, decide)  # type: ignore[arg-type]


def _bids_rise(patch: pytest.MonkeyPatch) -> None:
    right = live.find_open

    def find_open(book: Any, order_id: str) -> Any:
        record = right(book, order_id)
        dear = [replace(bid, price_hour=1 << 40) for bid in record.bids]
        return replace(record, bids=tuple(dear))

    def decide(book: Any, fact: Any, bid: Bid, now_s: int) -> Any:
        with pytest.MonkeyPatch.context() as for_now:
            for_now.setattr(live, "find_open", find_open)
            return live.decide_bid(book, fact, bid, now_s)

    patch.setitem(step.HANDLERS, Bid, decide)  # type: ignore[arg-type]


def _anyone_chooses(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(live, "check_owner", lambda *_: None)


def _order_outlives_its_deadline(patch: pytest.MonkeyPatch) -> None:
    right = waiting.end

    def end(book: Any, record: Any, *, reason: str) -> Any:
        if reason == waiting.EXPIRED and record.deadline_s < record.placed_at_s + 5_500:
            return waiting.go_on(book, replace(record, deadline_s=book.now_s + 5_500))
        return right(book, record, reason=reason)

    patch.setattr(waiting, "end", end)


def _hold_of_an_order_is_lost(patch: pytest.MonkeyPatch) -> None:
    # What an order that has ended set aside stays set aside.
    patch.setattr(waiting, "_release", lambda book, record: None)


def _more_is_let_than_ordered(patch: pytest.MonkeyPatch) -> None:
    right = waiting.fill

    def fill(book: Book, record: Any, award: Any) -> Any:
        if record.is_piecewise:
            record = replace(record, left_s=record.left_s + award.duration_s)
        return right(book, record, award)

    patch.setattr(waiting, "fill", fill)


def _not_kept_is_not_given_back(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(waiting, "take_back", lambda *_: ())


PLANTS: list[Plant] = [
    _displaced_without_notice,
    _displaced_by_who_pays_less,
    _anyone_is_displaced,
    _displaced_goes_at_once,
    _gpus_are_only_counted,
    _booked_over_bookings,
    _lease_runs_into_booking,
    _reserved_goes_on_for_ever,
    _reserved_begins_early,
    _dearer_bid_wins,
    _winner_is_paid_the_maximum,
    _winner_is_paid_more_than_the_maximum,
    _standing_below_the_floor,
    _bid_after_the_window,
    _bid_of_another,
    _bids_rise,
    _anyone_chooses,
    _order_outlives_its_deadline,
    _hold_of_an_order_is_lost,
    _more_is_let_than_ordered,
    _not_kept_is_not_given_back,
]


@pytest.mark.timeout(600)
def test_modes_without_planted_bug_pass() -> None:
    run(JudgedModes, examples=40)


@pytest.mark.timeout(600)  # the rarest takes a while on a busy machine
@pytest.mark.parametrize("plant", PLANTS, ids=lambda plant: plant.__name__[1:])
def test_planted_bug_is_found(plant: Plant, monkeypatch: pytest.MonkeyPatch) -> None:
    plant(monkeypatch)
    find(JudgedModes)
