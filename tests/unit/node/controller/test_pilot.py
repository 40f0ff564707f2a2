"""What a pilot without a claim cannot do: order, and pay. No market is there to ask."""

import pytest
from msgspec.structs import replace

from sublet.adapter.clock_system import SystemClock
from sublet.base.ids import NO_DIGEST
from sublet.core.document import Order
from sublet.core.job import order
from sublet.core.lease.phase import Lease
from sublet.node.controller.ledger import EMPTY, Ledger, read_state
from sublet.node.controller.pilot import DelegatedDesk, _ignore, _make_work
from sublet.sdk.connection import Connection
from sublet.sdk.job_channel import ClientKey
from sublet.service.vault_port import ClaimLost
from sublet.wire.channel import channel_of
from sublet.wire.codec import sign
from sublet.wire.detached import DetachedPlan
from sublet.wire.manifest import commitment
from sublet.wire.message import Manifest
from sublet.workload.run.purse import Purse
from tests.fakes.world import World, make_key
from tests.unit.node.controller.test_ledger import make_job, take_over
from tests.unit.node.lease import make_lease

NOBODY = "http://127.0.0.1:9"
DELEGATE = make_key("delegate")
PLACE = order.PlaceOrder(avoid=(), resume=NO_DIGEST, spent=0)


class Place:
    """A job's plan in a world, and a way to a market that is not there."""

    def __init__(self) -> None:
        self.world = World()
        document = self.world.order().document
        assert isinstance(document, Order)
        channel = channel_of(
            self.world.market,
            self.world.market_id,
            tenant=self.world.tenant.address,
            provider=self.world.providers[0].address,
            authorizer=DELEGATE.address,
        )
        self.plan = DetachedPlan(
            v=1,
            id="0123456789ab",
            order=document,
            manifest=Manifest(
                v=1, salt="0" * 32, kind="sealed", argv=(), env={}, secrets={},
                inputs=EMPTY, outputs=(), checkpoint="", resume=EMPTY,
                cpus_milli=1_000, memory_bytes=1 << 30, disk_bytes=1 << 30,
                timeout_s=3_600,
            ),
            channels=(
                sign(channel, key=self.world.tenant, domain=self.world.domain),
            ),
            retries=1,
            retries_own=False,
            wait_ms=0,
            expires_at_s=SystemClock().now_s() + 3_600,
        )  # fmt: skip
        self.connection = Connection(
            NOBODY, key=DELEGATE, clock=SystemClock(), market=self.world.market
        )

    def make_desk(self, ledger: Ledger) -> DelegatedDesk:
        return DelegatedDesk(
            self.plan,
            ledger,
            clock=SystemClock(),
            connection=self.connection,
            work=_make_work(self.plan, ledger.job.blobs),
            ssh_key=ClientKey.generate().public_line(),
            now_ms=lambda: 0,
            say=print,
            show=_ignore,
            is_stopped=lambda: False,
        )

    def make_purse(self, ledger: Ledger) -> Purse:
        work = _make_work(self.plan, ledger.job.blobs)
        return Purse(channels=ledger, connection=self.connection, mandate=work.mandate)

    def make_lease(self) -> Lease:
        return replace(make_lease(), provider=self.world.providers[0].address)


async def test_order_is_in_the_vault_before_it_is_sent() -> None:
    place, job = Place(), make_job()
    signed, manifest = await place.make_desk(take_over(job)).make_contract(
        PLACE, resume=EMPTY
    )
    state = read_state(job)
    assert state.order == signed
    assert isinstance(signed.document, Order)
    assert signed.document.manifest == commitment(manifest)
    [contract] = state.contracts.values()
    assert contract.salt == manifest.salt


async def test_frozen_pilot_makes_no_order() -> None:
    place, job = Place(), make_job()
    frozen = place.make_desk(take_over(job))
    later, _ = await place.make_desk(take_over(job)).make_contract(PLACE, resume=EMPTY)
    with pytest.raises(ClaimLost):
        await frozen.make_contract(PLACE, resume=EMPTY)
    assert read_state(job).order == later, "one order for one attempt"


async def test_frozen_pilot_does_not_send_again() -> None:
    place, job = Place(), make_job()
    await place.make_desk(take_over(job)).make_contract(PLACE, resume=EMPTY)
    frozen = place.make_desk(take_over(job))
    take_over(job)
    with pytest.raises(ClaimLost):  # and not: that no market answers
        await frozen.make_contract(PLACE, resume=EMPTY)


async def test_frozen_pilot_signs_no_voucher() -> None:
    place, job = Place(), make_job()
    lease = place.make_lease()
    frozen = take_over(job)
    paid = await place.make_purse(frozen).pay(lease, owed=5)
    assert paid.voucher.document.max_claimable_amount == 5  # type: ignore[union-attr]
    later = take_over(job)
    with pytest.raises(ClaimLost):
        await place.make_purse(frozen).pay(lease, owed=9)
    paid = await place.make_purse(later).pay(lease, owed=7)
    assert paid.voucher.document.max_claimable_amount == 7  # type: ignore[union-attr]
