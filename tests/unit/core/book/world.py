"""A small market to test the book in: facts are made, folded and remembered.

No signatures: the book takes facts whose signer was recovered before.
"""

from collections.abc import Callable
from typing import Any

from sublet.base.errors import Refused
from sublet.base.ids import NO_DIGEST
from sublet.core.book.book import Book
from sublet.core.book.invariant import check_invariants
from sublet.core.book.snapshot import dump
from sublet.core.book.step import Step, check, step
from sublet.core.document import (
    AnyDocument,
    Channel,
    Credit,
    Delivery,
    Erasure,
    Fact,
    LeaseTerms,
    Market,
    Offer,
    Order,
    ProviderSeen,
    Receipt,
    Start,
    Stop,
    Tick,
    UsageRecord,
    Voucher,
)
from sublet.core.lease.phase import Lease, Phase

GIB = 1 << 30
START_S = 1_800_000_000
TOKEN = "0x" + "70" * 20


def address(number: int) -> str:
    """Name party number so-and-so."""
    return f"0x{number:040x}"


def digest(number: int) -> str:
    """Name document number so-and-so."""
    return f"0x{number:064x}"


OPERATOR = address(0xA)
TENANT = address(0x1000)
OTHER_TENANT = address(0x1001)
PROVIDER = address(0x2000)
OTHER_PROVIDER = address(0x2001)

RULES = Market(
    name="test",
    chain_id=31_337,
    contract="0x" + "c0" * 20,
    token=TOKEN,
    note_key="test+00000000+AAAA",
    accept_s=10,
    deliver_s=60,
    prepare_s=300,
    report_s=30,
    close_s=40,
    settle_s=50,
    withdraw_delay_s=86_400,
    signed_at_s=START_S,
    salt=1,
)


def make_offer(**changed: Any) -> Offer:
    """Make an offer: 8 CPUs, 32 GiB, no GPU, $0.01 a CPU and $0.002 a GiB an hour."""
    fields: dict[str, Any] = {
        "machine": "m1",
        "cpus_milli": 8_000,
        "memory_bytes": 32 * GIB,
        "disk_bytes": 100 * GIB,
        "gpu_model": "",
        "gpu_memory_bytes": 0,
        "gpu_uuids": (),
        "region": "DE",
        "sandboxes": ("bubblewrap",),
        "features": (),
        "cpu_price_hour": 10_000,
        "memory_price_hour": 2_000,
        "gpu_price_hour": 500_000,
        "cpu_score": 100,
        "disk_score": 100,
        "gpu_score": 0,
        "ssh_host_key": "ssh-ed25519 HOST",
        "seal_key": "",
        "endpoint": "",
        "leases_max": 0,
        "refuses": (),
        "expires_at_s": START_S + 1_000_000,
        "signed_at_s": START_S,
        "salt": 1,
    }
    return Offer(**(fields | changed))


def make_order(**changed: Any) -> Order:
    """Make an order: 2 CPUs, 4 GiB, one hour, at most $9 an hour and in total."""
    fields: dict[str, Any] = {
        "tenant": TENANT,
        "cpus_milli": 2_000,
        "memory_bytes": 4 * GIB,
        "disk_bytes": GIB,
        "gpu_models": (),
        "gpu_count": 0,
        "gpu_memory_bytes": 0,
        "regions": (),
        "sandbox": "",
        "features": (),
        "avoid": (),
        "price_hour_max": 9_000_000,
        "total_max": 9_000_000,
        "duration_s_max": 3_600,
        "manifest": digest(0xABC),
        "ssh_key": "ssh-ed25519 TENANT",
        "delegation": NO_DIGEST,
        "signed_at_s": START_S,
        "salt": 1,
    }
    return Order(**(fields | changed))


class World:
    """A book, and every fact that went into it."""

    def __init__(self, rules: Market = RULES) -> None:
        """Open the market."""
        self.book = Book()
        self.now_s = START_S
        self.facts: list[Fact] = []
        self.say(OPERATOR, rules)

    def fact(self, signer: str, document: AnyDocument) -> Fact:
        """Make the fact that would come next."""
        return Fact(
            at_s=self.now_s,
            id=digest(1_000_000 + len(self.facts)),
            signer=signer,
            document=document,
        )

    def fold(self, fact: Fact) -> Step:
        """Fold a fact; the dry run must agree, and the invariants must hold."""
        foreseen = ""
        before = dump(self.book)
        try:
            check(self.book, fact)
        except Refused as refusal:
            foreseen = refusal.code
        assert dump(self.book) == before
        done = step(self.book, fact)
        self.facts.append(fact)
        assert foreseen == (done.refusal.code if done.refusal else "")
        check_invariants(self.book)
        return done

    def say(self, signer: str, document: AnyDocument) -> Step:
        """Fold what must not be refused."""
        done = self.fold(self.fact(signer, document))
        assert done.refusal is None, done.refusal
        return done

    def refused(self, signer: str, document: AnyDocument) -> str:
        """Fold what must be refused; give the code."""
        done = self.fold(self.fact(signer, document))
        assert done.refusal is not None
        return done.refusal.code

    def wait(self, span_s: int) -> Step:
        """Let time pass, and the market hear of it."""
        self.now_s += span_s
        return self.say(OPERATOR, Tick(self.now_s, len(self.facts)))

    # ---- whole scenes -------------------------------------------------------------

    def add_credit(self, party: str = TENANT, amount: int = 10_000_000) -> None:
        """Give a party credits."""
        self.say(OPERATOR, Credit(party, amount, "", self.now_s, len(self.facts)))

    def add_provider(self, provider: str = PROVIDER, **offer: Any) -> str:
        """Bring a provider up with one machine; give the offer's id."""
        if not self.book.find_provider(provider).is_up:
            self.say(OPERATOR, ProviderSeen(provider, self.now_s, len(self.facts)))
        self.say(provider, make_offer(**offer))
        return self.facts[-1].id

    def add_channel(
        self, tenant: str = TENANT, provider: str = PROVIDER, delegate: str = ""
    ) -> str:
        """Register the pair's channel; give its id."""
        self.say(tenant, self.channel(tenant, provider, delegate))
        return self.facts[-1].id

    def channel(
        self, tenant: str = TENANT, provider: str = PROVIDER, delegate: str = ""
    ) -> Channel:
        """Make the pair's channel in this market; a delegate signs its vouchers."""
        return Channel(
            payer=tenant,
            payer_authorizer=delegate or tenant,
            receiver=provider,
            receiver_authorizer=provider,
            token=TOKEN,
            withdraw_delay=86_400,
            salt=self.book.market_id,
        )

    def vouch(self, channel_id: str, amount: int, *, tenant: str = TENANT) -> Step:
        """Let the tenant say what it owes in all."""
        return self.say(tenant, Voucher(channel_id, amount))

    def order(self, **changed: Any) -> Lease:
        """Match an order; give the lease."""
        order = make_order(salt=len(self.facts), **changed)
        self.say(order.tenant, order)
        return self.lease(self.facts[-1].id)

    def lease(self, lease_id: str) -> Lease:
        """Give a lease as it is now."""
        lease = self.book.find_lease(lease_id)
        assert lease is not None
        return lease

    def terms(self, lease: Lease) -> LeaseTerms:
        """Make the terms as matched."""
        return LeaseTerms(
            lease.id,
            lease.offer_id,
            lease.tenant,
            lease.provider,
            lease.price_hour,
            lease.duration_s,
            self.now_s,
            1,
        )

    def receipt(self, lease: Lease, ran_ms: int, reason: str = "exited") -> Receipt:
        """Make the receipt of a lease."""
        return Receipt(
            lease_id=lease.id,
            ran_ms=ran_ms,
            exit_code=0,
            reason=reason,
            outputs=NO_DIGEST,
            stdout=NO_DIGEST,
            stderr=NO_DIGEST,
            egress=NO_DIGEST,
            signed_at_s=self.now_s,
            salt=len(self.facts),
        )

    def erasure(self, lease: Lease) -> Erasure:
        """Say that nothing of the lease's data is left."""
        return Erasure(lease.id, digest(7), "A1", self.now_s, len(self.facts))

    def usage(self, lease: Lease, ran_ms: int) -> UsageRecord:
        """Make a reading of the meter."""
        return UsageRecord(lease.id, 1, ran_ms, 1, 1, self.now_s, len(self.facts))

    def lease_in(self, phase: Phase, **order: Any) -> Lease:
        """Bring a new lease into a phase; where it ran, it ran 10 s."""
        lease = self.order(**order)
        signs = {PROVIDER: lease.provider, TENANT: lease.tenant}
        way: list[tuple[Phase, str, int, Callable[[], AnyDocument]]] = [
            (Phase.ACCEPTED, PROVIDER, 0, lambda: self.terms(lease)),
            (Phase.PREPARING, PROVIDER, 0, lambda: self.delivery(lease)),
            (Phase.RUNNING, PROVIDER, 0, lambda: Start(lease.id, self.now_s, 1)),
            (Phase.CLOSING, TENANT, 10, lambda: Stop(lease.id, "cancelled", 1, 1)),
            (Phase.SETTLING, PROVIDER, 0, lambda: self.receipt(lease, 10_000)),
            (Phase.SETTLED, OPERATOR, self.book.rules.settle_s, lambda: Tick(1, 1)),
        ]
        for reached, signer, span_s, document in way:
            if self.lease(lease.id).phase is phase:
                break
            self.now_s += span_s
            self.say(signs.get(signer, signer), document())
            assert self.lease(lease.id).phase is reached
        return self.lease(lease.id)

    def delivery(self, lease: Lease) -> Delivery:
        """Say that the manifest is there."""
        return Delivery(lease.id, lease.manifest, self.now_s, 1)
