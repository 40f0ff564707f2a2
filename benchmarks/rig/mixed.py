"""A log of mixed facts, drawn from a seed: a market at work, and hostile neighbours.

No signatures: the book takes facts whose signers were recovered before. The parties act
on what they see in the book; one entry in six is void: replayed, said by the wrong hand,
about nothing, or absurd.
"""

from collections.abc import Iterator
from random import Random

from msgspec.structs import replace

from benchmarks.rig.offers import NOW_S, LargeMarket, document_id, order_of, party
from sublet.base.ids import NO_DIGEST, Digest
from sublet.core.book.book import Book
from sublet.core.book.snapshot import book_hash
from sublet.core.book.step import Step, step
from sublet.core.book.view import channel_total
from sublet.core.document import (
    AnyDocument,
    Channel,
    CheckpointKept,
    Credit,
    Delivery,
    Fact,
    GiveBack,
    LeaseTerms,
    Market,
    OfferWithdrawal,
    ProviderLost,
    ProviderSeen,
    Receipt,
    Seal,
    Start,
    Stop,
    Tick,
    UsageRecord,
    Voucher,
)
from sublet.core.lease.phase import Lease, Phase

PROVIDERS = [party(f"provider {n}") for n in range(300)]
TENANTS = [party(f"tenant {n}") for n in range(60)]
OPERATOR = party("operator")
TOKEN = party("token")
REMEMBERED = 5_000  # facts that somebody may replay
RULES = Market(
    name="determinism",
    chain_id=31_337,
    contract=party("contract"),
    token=TOKEN,
    note_key="determinism+00000000+AAAA",
    accept_s=60,
    deliver_s=60,
    prepare_s=300,
    report_s=120,
    close_s=60,
    settle_s=60,
    withdraw_delay_s=86_400,
    signed_at_s=NOW_S,
    salt=1,
)
# How often each kind of entry is said, of a hundred and more.
KINDS = {
    "life": 50,
    "order": 14,
    "offer": 10,
    "hostile": 16,
    "voucher": 6,
    "link": 3,
    "withdrawal": 2,
    "credit": 1,
    "tick": 1,
}


class MixedLog:
    """Makes facts and folds them into a book of its own."""

    def __init__(self, seed: int) -> None:
        """Found the market."""
        self.draw = Random(seed)
        self.market = LargeMarket(seed)
        self.book = Book()
        self.now_s = NOW_S
        self.void = 0
        self._count = 0
        self._past: list[Fact] = []

    def facts(self, count: int) -> Iterator[Fact]:
        """Give so many facts, in the order of the log; each is folded when it comes."""
        said = self._said()
        for _ in range(count):
            signer, document = next(said)
            yield self._fold(signer, document)

    def _fold(self, signer: str, document: AnyDocument) -> Fact:
        self._count += 1
        fact = Fact(self.now_s, document_id(f"fact {self._count}"), signer, document)
        if self.draw.random() < 0.02 and self._past:
            # The very same entry once more, id and all.
            fact = replace(self.draw.choice(self._past), at_s=self.now_s)
        done: Step = step(self.book, fact)
        self.void += done.refusal is not None
        self._past.append(fact)
        if len(self._past) > REMEMBERED:
            self._past = self._past[REMEMBERED // 2 :]
        return fact

    def _said(self) -> Iterator[tuple[str, AnyDocument]]:
        yield OPERATOR, RULES
        for tenant in TENANTS:
            yield OPERATOR, Credit(tenant, 10_000_000_000, "", self.now_s, self._salt())
        for provider in PROVIDERS:
            yield OPERATOR, ProviderSeen(provider, self.now_s, self._salt())
        while True:
            if self.draw.random() < 0.05:
                self.now_s += self.draw.randrange(5)
            (kind,) = self.draw.choices(list(KINDS), list(KINDS.values()))
            yield getattr(self, f"_{kind}")()

    def _salt(self) -> int:
        return self._count

    def _lease(self) -> Lease | None:
        leases = self.book.leases
        if not leases:
            return None
        # One of the oldest or any of the few behind: a list of all would be slow.
        place = self.draw.randrange(min(40, len(leases)))
        for number, lease in enumerate(leases.values()):
            if number == place:
                return lease
        return None

    def _tick(self) -> tuple[str, AnyDocument]:
        if self.draw.random() < 0.1:
            book = self.book
            hash_ = "0x" + book_hash(book).hex()
            return OPERATOR, Seal(book.size, hash_, self.now_s, self._salt())
        self.now_s += self.draw.randrange(60)
        return OPERATOR, Tick(self.now_s, self._salt())

    def _credit(self) -> tuple[str, AnyDocument]:
        tenant = self.draw.choice(TENANTS)
        return OPERATOR, Credit(tenant, 1_000_000, "more", self.now_s, self._salt())

    def _link(self) -> tuple[str, AnyDocument]:
        provider = self.draw.choice(PROVIDERS)
        kind = ProviderLost if self.book.find_provider(provider).is_up else ProviderSeen
        return OPERATOR, kind(provider, self.now_s, self._salt())

    def _offer(self) -> tuple[str, AnyDocument]:
        draw, provider = self.draw, self.draw.choice(PROVIDERS)
        number = PROVIDERS.index(provider) * 4 + draw.randrange(4)  # four machines each
        offer = replace(
            self.market.offer(number),
            machine=f"m{number % 4}",
            expires_at_s=self.now_s + draw.randrange(10, 100_000),
            signed_at_s=self.now_s,
            salt=self._salt(),
        )
        return provider, offer

    def _withdrawal(self) -> tuple[str, AnyDocument]:
        offers = self.book.offers.of_provider(self.draw.choice(PROVIDERS))
        if not offers:
            return self._offer()
        record = self.draw.choice(offers)
        withdrawal = OfferWithdrawal(record.id, self.now_s, self._salt())
        return record.provider, withdrawal

    def _order(self) -> tuple[str, AnyDocument]:
        (wish,) = self.market.wishes(1)
        tenant = self.draw.choice(TENANTS)
        order = order_of(wish, self._salt())
        return tenant, replace(
            order,
            tenant=tenant,
            total_max=self.draw.choice((10_000, 1_000_000, 50_000_000)),
            duration_s_max=self.draw.choice((60, 600, 36_000)),
            avoid=tuple(self.draw.sample(PROVIDERS, self.draw.choice((0, 0, 3)))),
            signed_at_s=self.now_s,
        )

    def _voucher(self) -> tuple[str, AnyDocument]:
        lease = self._lease()
        if lease is None:
            return self._order()
        channel = self.book.find_channel(lease.line)
        if channel is None:
            return lease.tenant, Channel(
                payer=lease.tenant,
                payer_authorizer=lease.tenant,
                receiver=lease.provider,
                receiver_authorizer=lease.provider,
                token=TOKEN,
                withdraw_delay=RULES.withdraw_delay_s,
                salt=self.book.market_id,
            )
        return lease.tenant, Voucher(channel.id, channel_total(self.book, lease.id))

    def _life(self) -> tuple[str, AnyDocument]:
        """Say what comes next in the life of a lease."""
        lease = self._lease()
        if lease is None:
            return self._offer()
        at_s, salt, ended = self.now_s, self._salt(), self.draw.random() < 0.2
        if ended and lease.phase in (Phase.ACCEPTED, Phase.PREPARING, Phase.RUNNING):
            return lease.tenant, Stop(lease.id, "cancelled", at_s, salt)
        match lease.phase:
            case Phase.MATCHED:
                return lease.provider, LeaseTerms(
                    lease_id=lease.id,
                    offer_id=lease.offer_id,
                    tenant=lease.tenant,
                    provider=lease.provider,
                    price_hour=lease.price_hour,
                    duration_s=lease.duration_s,
                    signed_at_s=at_s,
                    salt=salt,
                )
            case Phase.ACCEPTED:
                delivery = Delivery(lease.id, lease.manifest, at_s, salt)
                return lease.provider, delivery
            case Phase.PREPARING:
                return lease.provider, Start(lease.id, at_s, salt)
            case Phase.RUNNING:
                return self._running(lease)
            case Phase.CLOSING:
                return lease.provider, self._receipt(lease)
        return self._voucher()

    def _running(self, lease: Lease) -> tuple[str, AnyDocument]:
        at_s, salt = self.now_s, self._salt()
        ran_ms = lease.ran_ms + self.draw.randrange(2_000)
        chance = self.draw.random()
        if chance < 0.7:
            reading = UsageRecord(lease.id, salt, ran_ms, ran_ms, 1, at_s, salt)
            return lease.provider, reading
        if chance < 0.8:
            kept = CheckpointKept(lease.id, lease.ran_ms, document_id("c"), at_s, salt)
            return lease.tenant, kept
        if chance < 0.83:
            return lease.provider, GiveBack(lease.id, 30, at_s, salt)
        return lease.provider, self._receipt(lease)

    def _receipt(self, lease: Lease) -> Receipt:
        return Receipt(
            lease_id=lease.id,
            ran_ms=lease.ran_ms,
            exit_code=0,
            reason="exited",
            outputs=NO_DIGEST,
            stdout=NO_DIGEST,
            stderr=NO_DIGEST,
            egress=NO_DIGEST,
            signed_at_s=self.now_s,
            salt=self._salt(),
        )

    def _hostile(self) -> tuple[str, AnyDocument]:
        """Say what nobody may say, or what there is no sense in."""
        draw, stranger = self.draw, party(f"stranger {self.draw.randrange(9)}")
        nothing: Digest = document_id(f"nothing {draw.randrange(99)}")
        at_s, salt = self.now_s, self._salt()
        signer, document = draw.choice((self._life, self._order, self._offer))()
        return draw.choice(
            (
                (stranger, document),
                (draw.choice(PROVIDERS), document),
                (signer, replace(draw.choice(self._past).document)),
                (stranger, Credit(stranger, 1 << 50, "mine", at_s, salt)),
                (stranger, Voucher(nothing, 1 << 50)),
                (stranger, Stop(nothing, "now", at_s, salt)),
                (stranger, OfferWithdrawal(nothing, at_s, salt)),
                (OPERATOR, RULES),
            )
        )
