"""All modes of one book, mixed with anything that anybody may say: it stays right.

On top of what the market machine holds: no slice is sold or promised twice, an order
that waits has its money and nobody else's, and each is over by its deadline.
"""

from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import invariant, rule

from sublet.base.ids import NO_DIGEST
from sublet.core.book.open_order import OpenOrder, OrderPhase
from sublet.core.document import Bid, Cancellation, Choice, ProviderSeen, Resume, Tick
from tests.simulation.test_market_machine import PROVIDERS, TENANTS, Market
from tests.unit.core.book.world import GIB, OPERATOR, make_offer, make_order


class Modes(Market):
    """Orders of every mode, bids, choices and cancellations, honest and not."""

    def __init__(self) -> None:
        super().__init__()
        self.bound_s: dict[str, int] = {}  # by when each order has to be over
        self.away_s = 0  # that the market was not there

    def wish(self, tenant: str, data: st.DataObject, **mode: Any) -> dict[str, Any]:
        return {
            "tenant": tenant,
            "cpus_milli": data.draw(st.sampled_from([500, 2_000, 8_000])),
            "memory_bytes": data.draw(st.sampled_from([GIB, 16 * GIB])),
            "gpu_count": data.draw(st.sampled_from([0, 0, 1, 2])),
            "price_hour_max": data.draw(st.sampled_from([1_000, 90_000, 2_000_000])),
            "total_max": data.draw(st.sampled_from([10, 50_000, 900_000])),
            "duration_s_max": data.draw(st.sampled_from([10, 100, 3_600])),
            "salt": self.salt,
        } | mode

    def place(self, order: dict[str, Any], *, bound_s: int) -> None:
        self.say(order["tenant"], make_order(**order))
        key = self.world.facts[-1].id
        if key in self.world.book.orders:
            self.bound_s[key] = bound_s + self.away_s

    def draw_order(self, data: st.DataObject) -> OpenOrder | None:
        known = list(self.world.book.orders.values())
        return data.draw(st.sampled_from(known)) if known else None

    @rule(
        tenant=st.sampled_from(TENANTS[:2]),
        span_s=st.sampled_from([5, 100, 5_000]),
        pieces=st.sampled_from([0, 0, 1, 3]),
        data=st.data(),
    )
    def standing(
        self, tenant: str, span_s: int, pieces: int, data: st.DataObject
    ) -> None:
        until_s = self.world.now_s + span_s
        wish = self.wish(tenant, data, mode="standing", open_until_s=until_s)
        wish["volume_s"] = pieces * wish["duration_s_max"]
        self.place(wish, bound_s=until_s)

    @rule(
        tenant=st.sampled_from(TENANTS[:2]),
        span_s=st.sampled_from([0, 0, 100]),
        notice_s=st.sampled_from([0, 10, 60]),
        data=st.data(),
    )
    def spot(
        self, tenant: str, span_s: int, notice_s: int, data: st.DataObject
    ) -> None:
        until_s = self.world.now_s + span_s if span_s else 0
        mode = {"mode": "spot", "open_until_s": until_s, "notice_s": notice_s}
        self.place(self.wish(tenant, data, **mode), bound_s=until_s)

    @rule(tenant=st.sampled_from(TENANTS[:2]), notice_s=st.sampled_from([0, 10]))
    def displace(self, tenant: str, notice_s: int) -> None:
        """Fill a machine with spot leases, then want it for more."""
        self.say(OPERATOR, ProviderSeen(PROVIDERS[2], 1, self.salt))
        self.say(PROVIDERS[2], make_offer(salt=self.salt))
        for _ in range(2):
            wish = {"mode": "spot", "notice_s": notice_s, "cpus_milli": 4_000}
            spot = make_order(
                tenant=tenant, price_hour_max=100_000, salt=self.salt, **wish
            )
            self.say(tenant, spot)
        until_s = self.world.now_s + 500
        wish = {"mode": "standing", "open_until_s": until_s, "cpus_milli": 8_000}
        order = {"tenant": TENANTS[0], "salt": self.salt, "price_hour_max": 300_000}
        self.place(order | wish, bound_s=until_s)

    @rule(
        tenant=st.sampled_from(TENANTS[:2]),
        ahead_s=st.sampled_from([1, 30, 600, 4_000]),
        data=st.data(),
    )
    def reserve(self, tenant: str, ahead_s: int, data: st.DataObject) -> None:
        starts_at_s = self.world.now_s + ahead_s
        mode = {"mode": "reserved", "starts_at_s": starts_at_s, "total_max": 900_000}
        bound_s = starts_at_s + self.world.book.rules.accept_s
        self.place(self.wish(tenant, data, **mode), bound_s=bound_s)

    @rule(
        tenant=st.sampled_from(TENANTS[:2]),
        window_s=st.sampled_from([1, 10, 60]),
        choose_s=st.sampled_from([0, 20]),
        data=st.data(),
    )
    def live_order(
        self, tenant: str, window_s: int, choose_s: int, data: st.DataObject
    ) -> None:
        mode = {"mode": "live", "window_s": window_s, "choose_s": choose_s}
        bound_s = self.world.now_s + window_s + choose_s
        self.place(self.wish(tenant, data, **mode), bound_s=bound_s)

    @rule(
        provider=st.sampled_from(PROVIDERS),
        price=st.sampled_from([0, 10, 50_000, 60_000, 3_000_000]),
        data=st.data(),
    )
    def bid(self, provider: str, price: int, data: st.DataObject) -> None:
        """Bid with an offer of one's own, or of somebody else's."""
        bids = [
            record.id
            for record in self.world.book.orders.values()
            if record.phase is OrderPhase.BIDDING
        ]
        order_id = data.draw(st.sampled_from([*bids, *bids, NO_DIGEST]))
        offers = [*sorted(self.world.book.offers.row_of), NO_DIGEST]
        offer_id = data.draw(st.sampled_from(offers))
        self.say(provider, Bid(order_id, offer_id, price, 1, self.salt))

    @rule(data=st.data())
    def choose(self, data: st.DataObject) -> None:
        record = self.draw_order(data)
        if record is not None:
            bids = [*[bid.id for bid in record.bids], NO_DIGEST]
            bid_id = data.draw(st.sampled_from(bids))
            signer = data.draw(st.sampled_from(TENANTS))
            self.say(signer, Choice(record.id, bid_id, 1, self.salt))

    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        record = self.draw_order(data)
        if record is not None:
            signer = data.draw(st.sampled_from(TENANTS))
            self.say(signer, Cancellation(record.id, 1, self.salt))

    @rule(span_s=st.sampled_from([5, 300]))
    def be_away(self, span_s: int) -> None:
        """Nobody served the market for a while: all that is open moves."""
        gap_s = self.world.now_s + span_s - self.world.book.now_s
        self.world.now_s += span_s
        self.say(OPERATOR, Resume(1, self.salt))
        self.away_s += gap_s
        waits = self.world.book.orders
        self.bound_s = {
            key: bound_s + gap_s
            for key, bound_s in self.bound_s.items()
            if key in waits
        }

    @invariant()
    def every_order_ends_by_its_deadline(self) -> None:
        if hasattr(self, "world"):
            book = self.world.book
            for key, record in book.orders.items():
                assert record.deadline_s <= self.bound_s[key]
                assert book.now_s < self.bound_s[key], "an order waits too long"

    @invariant()
    def each_lease_is_of_an_order_that_allows_it(self) -> None:
        if not hasattr(self, "world"):
            return
        book = self.world.book
        for record in (*book.orders.values(), *book.ended.values()):
            leases = [book.find_lease(key) for key in record.leases]
            spent = sum(lease.hold for lease in leases if lease and not lease.paid)
            paid = sum(lease.paid for lease in leases if lease)
            failed = sum(
                lease.hold
                for lease in leases
                if lease and not lease.paid and lease.fault == "provider"
            )
            total = record.order.total_max
            assert record.hold + spent - failed + paid <= total, "over the total"

    def teardown(self) -> None:
        """At the very end all orders are over, and nothing is held for them."""
        if not hasattr(self, "world"):
            return
        self.world.now_s = max(self.world.now_s, *self.bound_s.values(), 0) + 1
        self.say(OPERATOR, Tick(1, self.salt))
        assert not self.world.book.orders
        super().teardown()


TestModes = Modes.TestCase
TestModes.settings = settings(
    max_examples=60, stateful_step_count=60, deadline=None, print_blob=True
)
