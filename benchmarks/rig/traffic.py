"""A market's traffic, signed in advance: real keys, real documents, the real mix.

Each lease is lived through from order to last voucher as its parties would: a book of
our own folds what was signed so far, so that the provider's terms are the match's own
and each voucher says what is due. The result can be submitted to any node that opens
the same market.
"""

import time
from collections.abc import Iterator
from hashlib import sha256

from sublet.base.ids import NO_DIGEST, Digest
from sublet.core.book.book import Book
from sublet.core.book.step import step
from sublet.core.book.view import channel_total, find_lease, vouched
from sublet.core.document import (
    AnyDocument,
    CheckpointKept,
    Credit,
    Delivery,
    Fact,
    LeaseTerms,
    Market,
    Offer,
    Order,
    ProviderSeen,
    Receipt,
    Start,
    UsageRecord,
    Voucher,
)
from sublet.core.lease.phase import Lease
from sublet.service.submission import Candidate
from sublet.wire.channel import channel_of
from sublet.wire.codec import encode, sign, verify
from sublet.wire.message import Signed
from sublet.wire.note import NoteKey
from sublet.wire.signature import Key
from sublet.wire.typed_data import Domain, digest, market_id

GIB = 1 << 30
DAY_S = 86_400
READINGS = 6  # of the meter, in one lease; each answered by a voucher
READING_MS = 300  # between two of them; the book lets 2 s pass without a clock


def key_of(name: str) -> Key:
    """Make a party's key; the same name gives the same key."""
    return Key.generate(sha256(f"benchmark {name}".encode()).digest())


def note_key_of(name: str) -> NoteKey:
    """Make a node's note key; the same name gives the same key."""
    return NoteKey.generate(sha256(f"benchmark note {name}".encode()).digest(), name)


class Traffic:
    """Makes documents and folds them; knows every party's key."""

    def __init__(
        self,
        *,
        providers: int,
        tenants: int,
        market: Market | None = None,
        operator: Key | None = None,
    ) -> None:
        """Draw the keys; nothing is said yet.

        Args:
            providers: how many, each with one machine.
            tenants: how many, each with credits.
            market: where it exists already; else a new one is made.
            operator: its operator, where it exists already.
        """
        self.now_s = int(time.time())
        self.operator = operator or key_of("operator")
        self.note_key = note_key_of("benchmark")
        self.providers = [key_of(f"provider {n}") for n in range(providers)]
        self.tenants = [key_of(f"tenant {n}") for n in range(tenants)]
        self._by_address = {k.address: k for k in [*self.providers, *self.tenants]}
        self._salt = 0
        self._book = Book()
        self.market = market or self._make_market()
        self.market_id = market_id(self.market)
        self.domain = Domain.of(self.market, self.market_id)

    def _make_market(self) -> Market:
        return Market(
            name="benchmark",
            chain_id=31_337,
            contract="0x" + "c0" * 20,
            token=self.operator.address,
            note_key=self.note_key.verifier_key,
            accept_s=600,
            deliver_s=600,
            prepare_s=600,
            report_s=600,
            close_s=600,
            settle_s=600,
            withdraw_delay_s=DAY_S,
            signed_at_s=self.now_s,
            salt=1,
        )

    def candidate(self, signed: Signed) -> Candidate:
        """Verify a document as a node does."""
        domain = None if isinstance(signed.document, Market) else self.domain
        id_, signer = verify(signed, domain=domain)
        return Candidate(
            id_, signer, signed.document, bytes.fromhex(signed.signature[2:])
        )

    def founding(self) -> Candidate:
        """Sign the market's own document: entry 0."""
        return self.candidate(sign(self.market, key=self.operator, domain=None))

    def opening(self) -> list[bytes]:
        """Sign what comes next: credits, providers, offers."""
        self._say(self.operator, self.market)
        said = []
        for tenant in self.tenants:
            credit = Credit(tenant.address, 1_000_000_000, "", self.now_s, self.salt())
            said.append(self._say(self.operator, credit))
        for number, provider in enumerate(self.providers):
            seen = ProviderSeen(provider.address, self.now_s, self.salt())
            said.append(self._say(self.operator, seen))
            said.append(self._say(provider, self.offer(number)))
        return said

    def leases(self, count: int, *, at_once: int) -> Iterator[bytes]:
        """Sign the lives of so many leases, so many at a time beside each other."""
        for _, said in self.numbered(count, at_once=at_once):
            yield said

    def numbered(self, count: int, *, at_once: int) -> Iterator[tuple[int, bytes]]:
        """Sign as ``leases``; each document comes after the number of its tenant."""
        for first in range(0, count, at_once):
            lives = {
                n: self._live(n) for n in range(first, min(first + at_once, count))
            }
            while lives:
                for number, life in list(lives.items()):
                    said = next(life, None)
                    if said is None:
                        del lives[number]
                    else:
                        yield number % len(self.tenants), said

    def offer(self, number: int) -> Offer:
        """Make one provider's offer: a large machine, at a price of its own."""
        return Offer(
            machine=f"machine-{number}",
            cpus_milli=1_024_000,
            memory_bytes=4_096 * GIB,
            disk_bytes=65_536 * GIB,
            gpu_model="",
            gpu_memory_bytes=0,
            gpu_uuids=(),
            region="DE",
            sandboxes=("bubblewrap",),
            features=(),
            cpu_price_hour=10_000 + number * 7 % 1_000,
            memory_price_hour=2_000,
            gpu_price_hour=0,
            cpu_score=1_000,
            disk_score=1_000,
            gpu_score=0,
            ssh_host_key="ssh-ed25519 AAAA",
            seal_key="",
            endpoint="",
            leases_max=0,
            refuses=(),
            expires_at_s=self.now_s + 7 * DAY_S,
            signed_at_s=self.now_s,
            salt=self.salt(),
        )

    def order(self, tenant: Key) -> Order:
        """Make an order for a small slice."""
        return Order(
            tenant=tenant.address,
            cpus_milli=1_000,
            memory_bytes=GIB,
            disk_bytes=GIB,
            gpu_models=(),
            gpu_count=0,
            gpu_memory_bytes=0,
            regions=("DE", "FR"),
            sandbox="bubblewrap",
            features=(),
            avoid=(),
            price_hour_max=1_000_000,
            total_max=1_000_000,
            duration_s_max=600,
            manifest="0x" + "ab" * 32,
            ssh_key="ssh-ed25519 AAAA",
            delegation=NO_DIGEST,
            signed_at_s=self.now_s,
            salt=self.salt(),
        )

    def salt(self) -> int:
        """Give a number that nothing else has."""
        self._salt += 1
        return self._salt

    def _live(self, number: int) -> Iterator[bytes]:
        """Sign one lease, document by document, as its parties would say them."""
        tenant = self.tenants[number % len(self.tenants)]
        order = self.order(tenant)
        lease_id = digest(order, self.domain)
        yield self._say(tenant, order)
        lease = self._lease(lease_id)
        provider, at_s = self._by_address[lease.provider], self.now_s
        terms = LeaseTerms(
            lease_id=lease_id,
            offer_id=lease.offer_id,
            tenant=lease.tenant,
            provider=lease.provider,
            price_hour=lease.price_hour,
            duration_s=lease.duration_s,
            signed_at_s=at_s,
            salt=self.salt(),
        )
        yield self._say(provider, terms)
        yield self._say(provider, Delivery(lease_id, order.manifest, at_s, self.salt()))
        yield self._say(provider, Start(lease_id, at_s, self.salt()))
        channel = channel_of(
            self.market, self.market_id, tenant=lease.tenant, provider=lease.provider
        )
        channel_id = digest(channel, self.domain)
        if channel_id not in self._book.channels:
            yield self._say(tenant, channel)
        ran_ms = 0
        for sequence in range(1, READINGS + 1):
            ran_ms += READING_MS
            reading = UsageRecord(
                lease_id, sequence, ran_ms, ran_ms, GIB, at_s, self.salt()
            )
            yield self._say(provider, reading)
            yield from self._vouch(tenant, channel_id, lease_id)
            if sequence % 3 == 0:
                kept = CheckpointKept(
                    lease_id, ran_ms, "0x" + "cd" * 32, at_s, self.salt()
                )
                yield self._say(tenant, kept)
        yield self._say(provider, self._receipt(lease_id, ran_ms + 20))
        yield from self._vouch(tenant, channel_id, lease_id)

    def _vouch(
        self, tenant: Key, channel_id: Digest, lease_id: Digest
    ) -> Iterator[bytes]:
        # A younger lease of the same two may have covered this one already.
        due = channel_total(self._book, lease_id)
        if due > vouched(self._book, channel_id):
            yield self._say(tenant, Voucher(channel_id, due))

    def _receipt(self, lease_id: Digest, ran_ms: int) -> Receipt:
        return Receipt(
            lease_id=lease_id,
            ran_ms=ran_ms,
            exit_code=0,
            reason="exited",
            outputs=NO_DIGEST,
            stdout=NO_DIGEST,
            stderr=NO_DIGEST,
            egress=NO_DIGEST,
            signed_at_s=self.now_s,
            salt=self.salt(),
        )

    def _lease(self, lease_id: Digest) -> Lease:
        lease = find_lease(self._book, lease_id)
        if lease is None:
            raise SystemExit(f"the benchmark's own market did not match {lease_id}")
        return lease

    def _say(self, key: Key, document: AnyDocument) -> bytes:
        domain = None if isinstance(document, Market) else self.domain
        signed = sign(document, key=key, domain=domain)
        fact = Fact(self.now_s, digest(document, domain), key.address, document)
        refusal = step(self._book, fact).refusal
        if refusal is not None:
            raise SystemExit(f"{type(document).__name__} is void: {refusal.message}")
        return encode(signed)
