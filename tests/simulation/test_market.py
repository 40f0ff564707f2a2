"""Whole markets from a seed: who lies, vanishes or never pays harms only itself.

The agents act on what they see of the book, one after the other, while the clock
jumps. A seed that fails becomes a test of its own.
"""

from collections.abc import Iterator
from random import Random

import pytest

from sublet.core.book.book import Book
from sublet.core.book.snapshot import dump, load
from sublet.core.book.step import next_deadline_s, step
from sublet.core.book.view import account, channel_total, open_leases_of
from sublet.core.document import (
    AnyDocument,
    CheckpointKept,
    GiveBack,
    ProviderLost,
    ProviderSeen,
    Start,
    Stop,
    Tick,
    Voucher,
)
from sublet.core.lease.phase import Fault, Lease, Phase
from tests.unit.core.book.world import (
    GIB,
    OPERATOR,
    World,
    address,
    make_offer,
    make_order,
)

CREDIT = 50_000_000
TENANTS = {
    name: address(0x1000 + number)
    for number, name in enumerate(["pays", "never_pays", "cancels", "vanishes"])
}
PROVIDERS = {
    name: address(0x2000 + number)
    for number, name in enumerate(
        ["honest", "other", "sleeps", "lies", "vanishes", "gives_back", "silent"]
    )
}
OWNS = {owner: name for name, owner in PROVIDERS.items()}
RENTS = {tenant: name for name, tenant in TENANTS.items()}


class Simulation:
    """One market with all its people, and what each second really ran."""

    def __init__(self, seed: int) -> None:
        """Open the market; everybody comes up, with prices of the seed's choosing."""
        self.random = Random(seed)
        self.is_open = True  # tenants still order
        self.world = World()
        for tenant in TENANTS.values():
            self.world.add_credit(tenant, CREDIT)
            for provider in PROVIDERS.values():
                self.world.add_channel(tenant, provider)
        for provider in PROVIDERS.values():
            self.offer(provider)

    @property
    def book(self) -> Book:
        """The market's book."""
        return self.world.book

    def offer(self, provider: str) -> None:
        """Bring a provider up and let it offer its machine."""
        if not self.book.find_provider(provider).is_up:
            self.say(OPERATOR, ProviderSeen(provider, 1, self.salt))
        offer = make_offer(
            gpu_model="h200",
            gpu_memory_bytes=141 * GIB,
            gpu_uuids=(f"{provider}-0", f"{provider}-1"),
            gpu_price_hour=self.random.randrange(1_000_000, 9_000_000),
            expires_at_s=self.world.now_s + 600,
            salt=self.salt,
        )
        self.say(provider, offer)

    @property
    def salt(self) -> int:
        """Make the next document unlike all others."""
        return len(self.world.facts)

    def say(self, signer: str, document: AnyDocument) -> str:
        """Fold; give the refusal's code, or nothing."""
        refusal = self.world.fold(self.world.fact(signer, document)).refusal
        return refusal.code if refusal else ""

    def run(self, rounds: int) -> None:
        """Let everybody act in a shuffled order, and the clock jump, so many times."""
        for _ in range(rounds):
            actors = [*TENANTS.values(), *PROVIDERS.values()]
            self.random.shuffle(actors)
            for actor in actors:
                for signer, document in list(self.acts(actor)):
                    self.say(signer, document)
            # Never past accept_s at once: the honest must have had their chance.
            self.world.now_s += self.random.choice([1, 2, 5, 9])
            self.say(OPERATOR, Tick(1, self.salt))

    def finish(self) -> None:
        """Let nobody order any more, then all fall silent until all is over."""
        self.is_open = False
        self.run(30)
        for _ in range(1_000):
            due_s = next_deadline_s(self.book)
            if due_s is None:
                return
            self.world.now_s = due_s
            self.say(OPERATOR, Tick(1, self.salt))
        raise AssertionError("some lease never ends")

    def acts(self, actor: str) -> Iterator[tuple[str, AnyDocument]]:
        """What this one says now."""
        if actor in RENTS:
            yield from self.tenant_acts(actor, RENTS[actor])
        elif OWNS[actor] == "vanishes" and self.random.random() < 0.2:
            is_up = self.book.find_provider(actor).is_up
            said = ProviderLost if is_up else ProviderSeen
            yield OPERATOR, said(actor, 1, self.salt)
        else:
            yield from self.provider_acts(actor, OWNS[actor])

    # ---- tenants ------------------------------------------------------------------

    def tenant_acts(self, tenant: str, name: str) -> Iterator[tuple[str, AnyDocument]]:
        """Order now and then, keep checkpoints, pay, cancel: each as its name says."""
        leases = open_leases_of(self.book, tenant)
        if self.is_open and len(leases) < 3 and self.random.random() < 0.5:
            order = make_order(
                tenant=tenant,
                gpu_count=1,
                price_hour_max=20_000_000,
                duration_s_max=self.random.choice([30, 200]),
                salt=self.salt,
            )
            yield tenant, order
        if name == "vanishes" and len(self.book.settled) > 5:
            return
        for lease in leases:
            if name == "cancels" and self.random.random() < 0.1:
                yield tenant, Stop(lease.id, "cancelled", 1, self.salt)
            if lease.phase is Phase.RUNNING and self.random.random() < 0.2:
                kept = CheckpointKept(lease.id, lease.ran_ms, lease.id, 1, self.salt)
                yield tenant, kept
            if name != "never_pays" and lease.owed:
                channel = self.book.find_channel(lease.line)
                assert channel is not None
                total = channel_total(self.book, lease.id)
                if total > channel.vouched:
                    yield tenant, Voucher(channel.id, total)

    # ---- providers ----------------------------------------------------------------

    def provider_acts(
        self, provider: str, name: str
    ) -> Iterator[tuple[str, AnyDocument]]:
        """Renew the offer, run leases, report, give receipts: each in its own way."""
        if not any(
            record.is_live(self.world.now_s + 100)
            for record in self.book.offers.of_provider(provider)
        ):
            self.offer(provider)
        if name == "sleeps":
            return
        for lease in open_leases_of(self.book, provider):
            document = self.serve(lease, name)
            if document is not None:
                yield provider, document

    def serve(self, lease: Lease, name: str) -> AnyDocument | None:
        """What the provider says of this lease now."""
        world = self.world
        ran_ms = (world.now_s - lease.started_at_s) * 1_000
        match lease.phase:
            case Phase.MATCHED:
                return world.terms(lease)
            case Phase.ACCEPTED:
                return world.delivery(lease)
            case Phase.PREPARING:
                return Start(lease.id, 1, self.salt)
            case Phase.CLOSING:
                return None if name == "silent" else world.receipt(lease, ran_ms)
            case Phase.RUNNING:
                return self.run_lease(lease, name, ran_ms)
        return None

    def run_lease(self, lease: Lease, name: str, ran_ms: int) -> AnyDocument | None:
        """Report or end a lease that runs."""
        if name == "silent":
            return None
        if name == "lies":
            return self.world.usage(lease, ran_ms * 10 + 3_000)
        if name == "gives_back" and self.random.random() < 0.3:
            if lease.give_back_by_s:
                return self.world.receipt(lease, ran_ms, "given_back")
            return GiveBack(lease.id, 10, 1, self.salt)
        if self.random.random() < 0.2:
            return self.world.receipt(lease, ran_ms)
        return self.world.usage(lease, ran_ms)


@pytest.fixture(scope="module", params=[1, 2, 3])
def past(request: pytest.FixtureRequest) -> Simulation:
    simulation = Simulation(request.param)
    simulation.run(45)
    simulation.finish()
    return simulation


def settled(simulation: Simulation, party: str) -> list[Lease]:
    return [
        lease
        for lease in simulation.book.settled.values()
        if party in (lease.tenant, lease.provider)
    ]


def test_every_lease_ends(past: Simulation) -> None:
    assert not past.book.leases
    assert not past.book.ledger.pending
    assert len(past.book.settled) > 40
    assert all(not record.is_used() for record in past.book.offers.standing(0))


def test_money_is_conserved(past: Simulation) -> None:
    parties = [*TENANTS.values(), *PROVIDERS.values()]
    wallets = [account(past.book, party) for party in parties]
    assert sum(wallet.balance for wallet in wallets) == CREDIT * len(TENANTS)
    assert sum(wallet.earned for wallet in wallets) == sum(
        lease.paid for lease in past.book.settled.values()
    )
    assert sum(wallet.spent for wallet in wallets) > 0


def test_honest_are_never_at_fault(past: Simulation) -> None:
    leases = settled(past, PROVIDERS["honest"]) + settled(past, PROVIDERS["other"])
    assert leases
    assert all(lease.fault is not Fault.PROVIDER for lease in leases)
    paying = settled(past, TENANTS["pays"])
    assert paying
    assert all(lease.fault is not Fault.TENANT for lease in paying)


def test_honest_pair_is_paid_in_full(past: Simulation) -> None:
    pairs = [
        lease
        for lease in settled(past, PROVIDERS["honest"])
        if lease.tenant == TENANTS["pays"] and lease.reason == "exited"
    ]
    assert all(lease.paid == lease.owed for lease in pairs)


def test_the_bad_earn_little(past: Simulation) -> None:
    for name, reasons in (
        ("sleeps", {"not_accepted", "cancelled"}),
        ("silent", {"silent", "no_receipt", "timeout", "not_accepted", "cancelled"}),
    ):
        leases = settled(past, PROVIDERS[name])
        assert {lease.reason for lease in leases} <= reasons, name
        assert all(lease.paid == 0 for lease in leases), name
    for lease in settled(past, PROVIDERS["lies"]):
        # No record of its ever counted; an honest receipt after a stop may have.
        assert lease.paid == 0 or lease.reason in ("cancelled", "timeout")


def test_who_never_pays_is_named(past: Simulation) -> None:
    leases = settled(past, TENANTS["never_pays"])
    assert all(lease.paid == 0 for lease in leases)
    ran = [
        lease for lease in leases if lease.owed and lease.fault is not Fault.PROVIDER
    ]
    assert all(
        (lease.fault, lease.reason) == (Fault.TENANT, "not_paid") for lease in ran
    )


def test_nobody_pays_beyond_the_hold(past: Simulation) -> None:
    for lease in past.book.settled.values():
        assert 0 <= lease.paid <= lease.owed <= lease.hold
        elapsed_ms = (lease.ended_at_s - lease.started_at_s) * 1_000 + 2_000
        assert lease.paid <= lease.price_hour * elapsed_ms // 3_600_000


def test_replay_gives_the_same_bytes(past: Simulation) -> None:
    raw, facts = dump(past.book), past.world.facts
    book = Book()
    for index, fact in enumerate(facts):
        step(book, fact)
        if index == len(facts) // 2:
            book = load(dump(book))
    assert dump(book) == raw
