"""Anything that anybody may say, in any order, at any time: the book stays right.

After each step everything is counted anew. At the end of each run the facts are
folded again, in one go and from a snapshot in their middle: the same bytes.
"""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from sublet.base.ids import NO_DIGEST
from sublet.core.book.book import Book
from sublet.core.book.invariant import check_invariants
from sublet.core.book.snapshot import book_hash, dump, load
from sublet.core.book.step import step
from sublet.core.book.view import channel_total
from sublet.core.document import (
    AnyDocument,
    CheckpointKept,
    Credit,
    GiveBack,
    OfferWithdrawal,
    ProviderLost,
    ProviderSeen,
    Seal,
    Start,
    Stop,
    Tick,
    Voucher,
)
from sublet.core.lease.phase import Lease
from tests.unit.core.book.world import (
    GIB,
    OPERATOR,
    World,
    address,
    make_offer,
    make_order,
)

TENANTS = [address(0x1000 + number) for number in range(3)]
PROVIDERS = [address(0x2000 + number) for number in range(3)]
DELEGATE = address(0x3000)
PARTIES = [*TENANTS, *PROVIDERS, OPERATOR, DELEGATE]
UUIDS = ["gpu-a", "gpu-b", "gpu-c"]


class Market(RuleBasedStateMachine):
    """Hostile and honest parties alike; refusals are allowed, wrong books are not."""

    @initialize()
    def open(self) -> None:
        self.world = self.make_world()
        self.middle: tuple[int, bytes] | None = None
        for party in TENANTS[:2]:
            self.world.add_credit(party, 3_000_000)
        for provider in PROVIDERS[:2]:
            self.world.add_provider(
                provider,
                gpu_model="h200",
                gpu_memory_bytes=141 * GIB,
                gpu_uuids=tuple(UUIDS[:2]),
                features=("erasure",),
            )
            for tenant in TENANTS[:2]:
                self.world.add_channel(tenant, provider)

    def make_world(self) -> World:
        return World()

    def say(self, signer: str, document: AnyDocument) -> None:
        self.world.fold(self.world.fact(signer, document))

    @property
    def salt(self) -> int:
        return len(self.world.facts)

    def draw_lease_id(self, data: st.DataObject) -> str:
        book = self.world.book
        # Mostly open ones, now and then one that is over or never was.
        known = [*book.leases, *book.leases, *list(book.settled)[-1:]]
        known += [*list(book.unerased)[-2:], NO_DIGEST]
        return data.draw(st.sampled_from(known))

    @rule(span_s=st.sampled_from([1, 2, 3, 5, 12]))
    def wait(self, span_s: int) -> None:
        self.world.now_s += span_s

    @rule(span_s=st.sampled_from([45, 400, 4_000]))
    def tick_much_later(self, span_s: int) -> None:
        self.world.now_s += span_s
        self.say(OPERATOR, Tick(1, self.salt))

    @rule(party=st.sampled_from(PARTIES), amount=st.integers(0, 2_000_000))
    def credit(self, party: str, amount: int) -> None:
        self.say(OPERATOR, Credit(party, amount, "", 1, self.salt))

    @rule(provider=st.sampled_from(PROVIDERS), is_lost=st.sampled_from([0, 0, 0, 1]))
    def come_or_go(self, provider: str, is_lost: int) -> None:
        said = ProviderLost if is_lost else ProviderSeen
        self.say(OPERATOR, said(provider, 1, self.salt))

    @rule(
        provider=st.sampled_from(PROVIDERS),
        machine=st.sampled_from(["m1", "m2"]),
        cpus=st.sampled_from([1, 4, 8]),
        uuids=st.lists(st.sampled_from(UUIDS), max_size=3, unique=True),
        price=st.sampled_from([0, 10_000, 1_800_000]),
        span_s=st.sampled_from([20, 500, 5_000]),
    )
    def offer(
        self,
        provider: str,
        machine: str,
        cpus: int,
        uuids: list[str],
        price: int,
        span_s: int,
    ) -> None:
        offer = make_offer(
            machine=machine,
            cpus_milli=cpus * 1_000,
            gpu_model="h200" if uuids else "",
            gpu_memory_bytes=141 * GIB,
            gpu_uuids=tuple(uuids),
            features=("erasure",) if price else (),
            cpu_price_hour=price,
            expires_at_s=self.world.now_s + span_s,
            salt=self.salt,
        )
        self.say(provider, offer)

    @rule(provider=st.sampled_from(PROVIDERS), data=st.data())
    def withdraw(self, provider: str, data: st.DataObject) -> None:
        known = [*sorted(self.world.book.offers.row_of), NO_DIGEST]
        offer_id = data.draw(st.sampled_from(known))
        self.say(provider, OfferWithdrawal(offer_id, 1, self.salt))

    @rule(
        tenant=st.sampled_from(TENANTS),
        cpus_milli=st.sampled_from([500, 2_000, 8_000]),
        gpu_count=st.sampled_from([0, 0, 1, 2]),
        total_max=st.sampled_from([10, 50_000, 2_000_000]),
        duration_s_max=st.sampled_from([10, 100, 3_600]),
        features=st.sampled_from([(), ("erasure",)]),
    )
    def order(
        self,
        tenant: str,
        cpus_milli: int,
        gpu_count: int,
        total_max: int,
        duration_s_max: int,
        features: tuple[str, ...],
    ) -> None:
        order = make_order(
            tenant=tenant,
            features=features,
            cpus_milli=cpus_milli,
            gpu_count=gpu_count,
            total_max=total_max,
            duration_s_max=duration_s_max,
            salt=self.salt,
        )
        self.say(tenant, order)

    @rule(data=st.data(), count=st.integers(1, 5), span_s=st.integers(0, 9))
    def go_on(self, data: st.DataObject, count: int, span_s: int) -> None:
        """Say what brings open leases forward; without it few would ever run."""
        for _ in range(count):
            if not self.world.book.leases:
                break
            key = data.draw(st.sampled_from(list(self.world.book.leases)))
            self.advance(self.world.book.leases[key])
        self.world.now_s += span_s

    @rule(span_s=st.integers(0, 20), end=st.sampled_from(["", "exited", "given_back"]))
    def live(self, span_s: int, end: str) -> None:
        """Order, and run at once; perhaps to the end."""
        world, known = self.world, set(self.world.book.leases)
        tenant, gpu_count = TENANTS[self.salt % 2], self.salt % 3 % 2
        order = make_order(
            tenant=tenant,
            cpus_milli=500,
            gpu_count=gpu_count,
            total_max=400_000,
            features=("erasure",) if self.salt % 2 else (),
            salt=self.salt,
        )
        self.say(tenant, order)
        for key in [key for key in world.book.leases if key not in known]:
            for _ in range(3):
                # Time passes with the lease before it: this one may be over by now.
                if key in world.book.leases:
                    self.advance(world.book.leases[key])
            world.now_s += span_s
            lease = world.book.leases.get(key)
            if end and lease is not None:
                self.say(lease.provider, world.receipt(lease, span_s * 1_000, end))

    def advance(self, lease: Lease) -> None:
        world = self.world
        passed_ms = (world.now_s - lease.started_at_s) * 1_000
        documents: dict[str, AnyDocument] = {
            "matched": world.terms(lease),
            "accepted": world.delivery(lease),
            "preparing": Start(lease.id, 1, self.salt),
            "running": world.usage(lease, passed_ms),
            "closing": world.receipt(lease, passed_ms),
        }
        document = documents.get(lease.phase.value)
        if document is not None:
            self.say(lease.provider, document)

    @rule(data=st.data(), ran_ms=st.sampled_from([0, 500, 2_000, 9_000, 40_000]))
    def claim(self, data: st.DataObject, ran_ms: int) -> None:
        """Report, keep, give a receipt: honest, too much, or at the wrong time."""
        lease_id = self.draw_lease_id(data)
        book = self.world.book
        lease = book.find_lease(lease_id)
        if lease is None:
            return
        reason = data.draw(st.sampled_from(["exited", "given_back", "failed"]))
        said = data.draw(st.sampled_from(["usage", "keep", "receipt"]))
        documents: dict[str, AnyDocument] = {
            "usage": self.world.usage(lease, ran_ms),
            "keep": CheckpointKept(lease.id, ran_ms, lease.manifest, 1, self.salt),
            "receipt": self.world.receipt(lease, ran_ms, reason),
        }
        signer = lease.tenant if said == "keep" else lease.provider
        self.say(signer, documents[said])

    @rule(data=st.data(), notice_s=st.sampled_from([0, 10, 100]))
    def give_back(self, data: st.DataObject, notice_s: int) -> None:
        lease_id = self.draw_lease_id(data)
        signer = data.draw(st.sampled_from(PROVIDERS))
        self.say(signer, GiveBack(lease_id, notice_s, 1, self.salt))

    @rule(data=st.data())
    def erase(self, data: st.DataObject) -> None:
        """Say that a lease is erased: in time, too early, twice, or of another's."""
        known = [*self.world.book.unerased, *self.world.book.leases]
        if known:
            lease = self.world.lease(data.draw(st.sampled_from(known)))
            signer = data.draw(st.sampled_from([lease.provider, *PROVIDERS]))
            self.say(signer, self.world.erasure(lease))

    @rule(data=st.data())
    def stop(self, data: st.DataObject) -> None:
        lease_id = self.draw_lease_id(data)
        signer = data.draw(st.sampled_from(TENANTS))
        self.say(signer, Stop(lease_id, "cancelled", 1, self.salt))

    @rule(tenant=st.sampled_from(TENANTS), provider=st.sampled_from(PROVIDERS))
    def open_channel(self, tenant: str, provider: str) -> None:
        self.say(tenant, self.world.channel(tenant, provider))

    @rule(data=st.data(), more=st.integers(-5, 60_000))
    def vouch(self, data: st.DataObject, more: int) -> None:
        channels = list(self.world.book.channels.values())
        channel = data.draw(st.sampled_from(channels))
        parties = [channel.payer, channel.receiver, channel.authorizer]
        signer = data.draw(st.sampled_from(parties))
        self.say(signer, Voucher(channel.id, max(0, channel.vouched + more)))

    @rule(data=st.data())
    def pay_up(self, data: st.DataObject) -> None:
        """Vouch for exactly what one lease needs."""
        leases = list(self.world.book.leases.values())
        if leases:
            self.pay(data.draw(st.sampled_from(leases)))

    def pay(self, lease: Lease) -> None:
        channel = self.world.book.find_channel(lease.line)
        if channel is not None:
            total = channel_total(self.world.book, lease.id)
            self.say(lease.authorizer, Voucher(channel.id, total))

    @rule()
    def seal(self) -> None:
        book = self.world.book
        sealed = "0x" + book_hash(book).hex()
        self.world.say(OPERATOR, Seal(book.size, sealed, 1, self.salt))

    @rule()
    def save(self) -> None:
        self.middle = (len(self.world.facts), dump(self.world.book))

    @invariant()
    def book_is_right(self) -> None:
        if hasattr(self, "world"):
            check_invariants(self.world.book)
            issued = self.world.book.ledger.issued_total
            find = self.world.book.ledger.find
            held = sum(find(party).debits_pending for party in PARTIES)
            assert issued == held + sum(find(party).balance for party in PARTIES)

    def teardown(self) -> None:
        if not hasattr(self, "world"):
            return
        raw = dump(self.world.book)
        replayed = Book()
        for fact in self.world.facts:
            step(replayed, fact)
        assert dump(replayed) == raw
        if self.middle is not None:
            first, saved = self.middle
            resumed = load(saved)
            assert dump(resumed) == saved
            check_invariants(resumed)
            for fact in self.world.facts[first:]:
                step(resumed, fact)
            assert dump(resumed) == raw


TestMarket = Market.TestCase
TestMarket.settings = settings(
    max_examples=50, stateful_step_count=80, deadline=None, print_blob=True
)
