"""A small market for tests: real keys, real signatures, a clock that is set by hand."""

import asyncio
from collections.abc import Sequence
from hashlib import sha256

from sublet.base.ids import NO_DIGEST, Address, Digest
from sublet.core.document import (
    AnyDocument,
    Channel,
    CheckpointKept,
    Credit,
    Delivery,
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
from sublet.service.market import MarketService
from sublet.service.ports import Log
from sublet.service.submission import Candidate, Result
from sublet.wire.codec import DocumentCodec, sign, verify
from sublet.wire.note import NoteKey, read_checkpoint
from sublet.wire.signature import Key
from sublet.wire.typed_data import Domain, digest, market_id
from tests.fakes.log_memory import FakeLog

START_S = 1_800_000_000
GIB = 1 << 30
CONTRACT = "0x4020074e9df2ce1dee5a9c1b5c3f541d02a10003"
TOKEN = "0x833589fcd6edb6e08f4c7c32d4f71b54bda02913"


class HandClock:
    """Stands still until somebody moves it."""

    def __init__(self, at_s: int = START_S) -> None:
        self.at_s = at_s

    def now_s(self) -> int:
        return self.at_s

    def monotonic_ms(self) -> int:
        return self.at_s * 1_000

    def set_anew(self) -> None:
        """It is always what the hand says."""


def make_key(name: str) -> Key:
    return Key.generate(sha256(name.encode()).digest())


class World:
    """One operator, some parties, and what they say. Each document differs by salt."""

    def __init__(self, *, chain_id: int = 8_453, contract: Address = CONTRACT) -> None:
        self.clock = HandClock()
        self.note_key = NoteKey.generate(sha256(b"note").digest(), "market.test")
        self.operator = make_key("operator")
        self.tenant = make_key("tenant")
        self.providers = [make_key(f"provider {number}") for number in range(3)]
        self.market = Market(
            name="test",
            chain_id=chain_id,
            contract=contract,
            token=TOKEN,
            note_key=self.note_key.verifier_key,
            accept_s=10,
            deliver_s=60,
            prepare_s=120,
            report_s=15,
            close_s=30,
            settle_s=60,
            withdraw_delay_s=900,
            signed_at_s=START_S,
            salt=1,
        )
        self.market_id: Digest = market_id(self.market)
        self.domain = Domain.of(self.market, self.market_id)
        self._salt = 0

    # ---- ties ---------------------------------------------------------------------

    def make_codec(self) -> DocumentCodec:
        return DocumentCodec(self.domain, self.note_key)

    def make_service(self, log: Log, *, seal_every: int = 4_096) -> MarketService:
        return MarketService(
            log,
            self.make_codec(),
            self.clock,
            sign=lambda document: self.say(document, self.operator),
            read_note=read_checkpoint,
            seal_every=seal_every,
        )

    def say(self, document: AnyDocument, key: Key) -> Candidate:
        signed = sign(document, key=key, domain=self.domain)
        id_, signer = verify(signed, domain=self.domain)
        signature = bytes.fromhex(signed.signature[2:])
        return Candidate(id_, signer, document, signature)

    def stamp(self) -> dict[str, int]:
        self._salt += 1
        return {"signed_at_s": self.clock.at_s, "salt": self._salt}

    # ---- what parties say ---------------------------------------------------------

    def found(self) -> Candidate:
        return self.say(self.market, self.operator)

    def credit(self, party: Address, amount: int) -> Candidate:
        return self.say(
            Credit(party=party, amount=amount, memo="test", **self.stamp()),
            self.operator,
        )

    def seen(self, provider: Key) -> Candidate:
        return self.say(
            ProviderSeen(provider=provider.address, **self.stamp()), self.operator
        )

    def offer(
        self, provider: Key, *, gpus: int = 0, gpu_price: int = 400_000
    ) -> Candidate:
        offer = Offer(
            machine="box",
            cpus_milli=8_000,
            memory_bytes=32 * GIB,
            disk_bytes=100 * GIB,
            gpu_model="h200" if gpus else "",
            gpu_memory_bytes=141 * GIB if gpus else 0,
            gpu_uuids=tuple(f"GPU-{number}" for number in range(gpus)),
            region="DE",
            sandboxes=("bubblewrap",),
            features=(),
            cpu_price_hour=20_000,
            memory_price_hour=2_000,
            gpu_price_hour=gpu_price,
            cpu_score=1_000,
            disk_score=1_000,
            gpu_score=0,
            ssh_host_key="ssh-ed25519 AAAAhost",
            seal_key="",
            endpoint="",
            leases_max=0,
            refuses=(),
            expires_at_s=self.clock.at_s + 86_400,
            **self.stamp(),
        )
        return self.say(offer, provider)

    def order(self, tenant: Key | None = None, *, gpus: int = 0) -> Candidate:
        tenant = tenant or self.tenant
        order = Order(
            tenant=tenant.address,
            cpus_milli=1_000,
            memory_bytes=GIB,
            disk_bytes=GIB,
            gpu_models=(),
            gpu_count=gpus,
            gpu_memory_bytes=0,
            regions=(),
            sandbox="",
            features=(),
            avoid=(),
            price_hour_max=1_000_000,
            total_max=1_000_000,
            duration_s_max=3_600,
            manifest="0x" + "11" * 32,
            ssh_key="ssh-ed25519 AAAAtenant",
            delegation=NO_DIGEST,
            **self.stamp(),
        )
        return self.say(order, tenant)

    def terms(self, lease: Lease) -> Candidate:
        terms = LeaseTerms(
            lease_id=lease.id,
            offer_id=lease.offer_id,
            tenant=lease.tenant,
            provider=lease.provider,
            price_hour=lease.price_hour,
            duration_s=lease.duration_s,
            **self.stamp(),
        )
        return self.say(terms, self.key_of(lease.provider))

    def delivery(self, lease: Lease) -> Candidate:
        return self.say(
            Delivery(lease_id=lease.id, manifest=lease.manifest, **self.stamp()),
            self.key_of(lease.provider),
        )

    def start(self, lease: Lease) -> Candidate:
        return self.say(
            Start(lease_id=lease.id, **self.stamp()), self.key_of(lease.provider)
        )

    def usage(self, lease: Lease, *, ran_ms: int, sequence: int = 0) -> Candidate:
        record = UsageRecord(
            lease_id=lease.id,
            sequence=sequence,
            ran_ms=ran_ms,
            cpu_ms=ran_ms,
            memory_bytes_max=GIB,
            **self.stamp(),
        )
        return self.say(record, self.key_of(lease.provider))

    def kept(self, lease: Lease, *, ran_ms: int) -> Candidate:
        kept = CheckpointKept(
            lease_id=lease.id,
            ran_ms=ran_ms,
            checkpoint="0x" + "22" * 32,
            **self.stamp(),
        )
        return self.say(kept, self.tenant)

    def receipt(
        self,
        lease: Lease,
        *,
        ran_ms: int,
        reason: str = "exited",
        stdout: Digest = NO_DIGEST,
    ) -> Candidate:
        receipt = Receipt(
            lease_id=lease.id,
            ran_ms=ran_ms,
            exit_code=0,
            reason=reason,
            outputs="0x" + "33" * 32,
            stdout=stdout,
            stderr=NO_DIGEST,
            egress=NO_DIGEST,
            **self.stamp(),
        )
        return self.say(receipt, self.key_of(lease.provider))

    def channel(self, lease: Lease) -> Candidate:
        channel = Channel(
            payer=lease.tenant,
            payer_authorizer=lease.tenant,
            receiver=lease.provider,
            receiver_authorizer=lease.provider,
            token=self.market.token,
            withdraw_delay=self.market.withdraw_delay_s,
            salt=self.market_id,
        )
        return self.say(channel, self.tenant)

    def voucher(self, lease: Lease, *, amount: int) -> Candidate:
        channel_id = digest(self.channel(lease).document, self.domain)
        voucher = Voucher(channel_id=channel_id, max_claimable_amount=amount)
        return self.say(voucher, self.tenant)

    def key_of(self, address: Address) -> Key:
        keys = [self.operator, self.tenant, *self.providers]
        return next(key for key in keys if key.address == address)

    # ---- whole scenes -------------------------------------------------------------

    async def set_up(self, service: MarketService, *, gpus: int = 0) -> None:
        """Found the market, fill the tenant's wallet, bring the providers up."""
        await submit(service, self.found())
        await submit(service, self.credit(self.tenant.address, 50_000_000))
        for number, provider in enumerate(self.providers):
            await submit(service, self.seen(provider))
            await submit(
                service,
                self.offer(provider, gpus=gpus, gpu_price=400_000 + 10_000 * number),
            )

    async def play_lease(self, service: MarketService) -> Lease:
        """One lease from the order to the last voucher: it runs 25 seconds."""
        lease = await move(service, self.order())
        await move(service, self.terms(lease))
        await move(service, self.delivery(lease))
        await move(service, self.start(lease))
        for sequence in (1, 2):
            self.clock.at_s += 10
            await move(
                service, self.usage(lease, ran_ms=sequence * 10_000, sequence=sequence)
            )
        await move(service, self.kept(lease, ran_ms=15_000))
        self.clock.at_s += 5
        lease = await move(service, self.receipt(lease, ran_ms=25_000))
        channel = self.channel(lease)
        if channel.id not in service.book.channels:
            await submit(service, channel)
        due = self.voucher(lease, amount=lease.channel_total)
        return await move(service, due)


async def submit(service: MarketService, *candidates: Candidate) -> list[Result]:
    """Submit, and have all of it accepted."""
    results = await service.submit(candidates)
    refusals: Sequence[object] = [r.refusal for r in results if r.refusal]
    assert not refusals, refusals
    return results


async def move(service: MarketService, candidate: Candidate) -> Lease:
    """Submit a document that makes or moves a lease; give that lease."""
    (result,) = await submit(service, candidate)
    assert result.lease is not None
    return result.lease


async def hold_store(
    log: FakeLog, service: MarketService, world: World
) -> asyncio.Task[list[Result]]:
    """Stop the store with one document in flight; all that follows waits together."""
    log.gate.clear()
    first = asyncio.create_task(service.submit([world.credit(world.tenant.address, 1)]))
    await asyncio.to_thread(log.held.wait)
    return first
