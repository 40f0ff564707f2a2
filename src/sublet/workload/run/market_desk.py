"""What a job says to the market and hears from it: orders, leases, stops."""

import asyncio
import contextlib
import secrets
from collections.abc import Callable

from msgspec import Struct

from sublet.base.errors import PeerFault, Refused, SubletError, Unavailable
from sublet.base.ids import Digest
from sublet.core.book.open_order import FILLED, OpenOrder, OrderPhase
from sublet.core.document import (
    Cancellation,
    CheckpointKept,
    Order,
    Replacement,
    Stop,
)
from sublet.core.job import fact, order
from sublet.core.job.move import CANCELLED
from sublet.core.job.state import Job, JobPhase
from sublet.core.lease.phase import Fault, Lease, Phase
from sublet.sdk.connection import Connection
from sublet.sdk.exchange import ask_order
from sublet.service.ports import Clock
from sublet.wire.manifest import commitment
from sublet.wire.message import Appended, Deliver, Manifest, Own, Paid, Signed, Tree
from sublet.wire.typed_data import Domain
from sublet.workload.run import event
from sublet.workload.run.contract import make_manifest, make_order
from sublet.workload.run.evidence import check_lease
from sublet.workload.run.exit_code import (
    EXIT_REFUSED,
    EXIT_UNAVAILABLE,
    exit_code_of,
)
from sublet.workload.run.talk import Show
from sublet.workload.run.wait_text import describe_wait
from sublet.workload.run.work import Work

WATCH_PAUSE_S = 2.0  # before a market that went away is watched again
LOOK_S = 1.0  # between two looks at an order that waits
SALT_BITS = 62


class Granted(Struct, frozen=True):
    """A lease that an order got."""

    lease: Lease
    manifest: Manifest
    order: Signed
    index: int  # of the order in the log


class MarketDesk:
    """One job's dealings with its market."""

    def __init__(
        self,
        *,
        connection: Connection,
        clock: Clock,
        work: Work,
        ssh_key: str,
        now_ms: Callable[[], int],
        say: Callable[[fact.Fact], None],
        show: Show,
        is_stopped: Callable[[], bool],
    ) -> None:
        """Take the market, the job, who hears of facts, who of waits; is it stopped?"""
        self.leases: dict[Digest, Lease] = {}
        self.manifests: dict[Digest, Manifest] = {}
        self.orders: dict[Digest, Signed] = {}
        self.indexes: dict[Digest, int] = {}  # of the orders in the log
        self.owns: dict[Digest, Own | None] = {}
        self._connection = connection
        self._clock = clock
        self.work = work  # what the next order is for
        self._ssh_key = ssh_key
        self._now_ms = now_ms
        self._say = say
        self._show = show
        self._is_stopped = is_stopped

    async def domain(self) -> Domain:
        """Give the domain that documents of this market are signed in."""
        return await self._connection.domain()

    async def place(self, one: order.PlaceOrder, *, resume: Tree) -> None:
        """Ask for a lease, and say how the market answered."""
        granted = await self.seek(one, resume)
        if not isinstance(granted, fact.Fact):
            granted = self.take(granted[0])
        self._say(granted)

    async def seek(
        self, one: order.PlaceOrder, resume: Tree
    ) -> tuple[Granted, ...] | fact.Fact:
        """Place an order, and wait: give each lease of it, or why there is none."""
        try:
            return await self._order_leases(one, resume)
        except SubletError as fault:
            return fact.OrderRefused(
                at_ms=self._now_ms(),
                code=fault.code,
                message=fault.message,
                exit_code=exit_code_of(fault),
            )

    async def make_contract(
        self, one: order.PlaceOrder, resume: Tree
    ) -> tuple[Signed, Manifest]:
        """Sign the order of one attempt; give it with what is to be run."""
        work, connection = self.work, self._connection
        manifest = make_manifest(
            work.program,
            work.terms,
            inputs=work.inputs,
            resume=resume,
            salt=secrets.token_hex(16),
        )
        document = make_order(
            work.terms.needs,
            tenant=connection.key.address,
            manifest=manifest,
            ssh_key=self._ssh_key,
            avoid=one.avoid,
            spent=one.spent,
            at_s=self._clock.now_s(),
            salt=secrets.randbits(SALT_BITS),
        )
        return await connection.sign(document), manifest

    async def make_replacement(
        self, lease_id: Digest, work: Work
    ) -> tuple[Manifest, Signed]:
        """Give the manifest of another program for a lease, and the word for it."""
        manifest = make_manifest(
            work.program,
            work.terms,
            inputs=work.inputs,
            resume=Tree(files=()),
            salt=secrets.token_hex(16),
        )
        document = Replacement(
            lease_id=lease_id,
            manifest=commitment(manifest),
            signed_at_s=self._clock.now_s(),
            salt=secrets.randbits(SALT_BITS),
        )
        return manifest, await self._connection.sign(document)

    async def _order_leases(
        self, one: order.PlaceOrder, resume: Tree
    ) -> tuple[Granted, ...] | fact.Fact:
        signed, manifest = await self.make_contract(one, resume)
        document = signed.document
        if not isinstance(document, Order):
            raise AssertionError("a contract is an order and its manifest")
        [result] = await self._connection.submit_signed(signed)
        if result.fault is not None:
            return self._refused(result)
        leases: tuple[Lease, ...] = (result.lease,) if result.lease else ()
        if result.lease is None and result.order is not None:
            waited = await self._wait_filled(result.order)
            if isinstance(waited, fact.Fact):
                return waited
            leases = waited
        if len(leases) != document.machines:
            raise PeerFault("the market took the order and names no lease")
        for lease in leases:
            check_lease(lease, order=document, order_id=result.id)
        return tuple(Granted(one, manifest, signed, result.index) for one in leases)

    def word(self, lease_id: Digest) -> Deliver:
        """Give what the provider of a lease is told."""
        own = self.owns.get(lease_id)
        return Deliver(self.manifests[lease_id], self.orders[lease_id], own=own)

    def take(self, one: Granted, own: Own | None = None) -> fact.LeaseGranted:
        """Look after a lease from now on; ``own`` is its member's of a gang."""
        lease = one.lease
        self.leases[lease.id] = lease
        self.manifests[lease.id] = one.manifest
        self.orders[lease.id] = one.order
        self.indexes[lease.id] = one.index
        self.owns[lease.id] = own
        return fact.LeaseGranted(
            at_ms=self._now_ms(),
            lease_id=lease.id,
            provider=lease.provider,
            machine=lease.machine,
            price_hour=lease.price_hour,
            hold=lease.hold,
            duration_s=lease.duration_s,
        )

    async def _wait_filled(self, order_: OpenOrder) -> tuple[Lease, ...] | fact.Fact:
        """Wait until an order has its leases or has ended; whoever leaves cancels it."""
        told = None
        try:
            while not _is_filled(order_) and order_.phase is not OrderPhase.ENDED:
                if self._is_stopped():
                    with contextlib.suppress(Unavailable):
                        await self.cancel(order_.id)
                state = (order_.phase, len(order_.bids), order_.booking is None)
                if state != told:
                    told = state
                    now_s = self._clock.now_s()
                    text = describe_wait(order_, now_s=now_s)
                    await self._show(event.Waiting(at_ms=self._now_ms(), message=text))
                await asyncio.sleep(LOOK_S)
                with contextlib.suppress(Unavailable):
                    order_ = await self._connection.ask(ask_order(order_.id))
        except asyncio.CancelledError:
            await self._forsake(order_.id)
            raise
        if _is_filled(order_):
            ids = order_.leases[-order_.order.machines :]
            return tuple([await self._connection.lease(key) for key in ids])
        return fact.NoMatch(
            at_ms=self._now_ms(),
            message=f"the order waited and found nothing: {order_.reason}",
            detail={"reason": order_.reason},
        )

    async def _forsake(self, order_id: Digest) -> None:
        """Whoever waited leaves at once: the order must not find anything any more."""
        with contextlib.suppress(Unavailable):
            await self.cancel(order_id)

    async def cancel(self, order_id: Digest) -> None:
        """Take back an order that waits; harmless where it has ended by itself.

        Raises:
            Unavailable: the market did not answer.
        """
        document = Cancellation(
            order_id=order_id,
            signed_at_s=self._clock.now_s(),
            salt=secrets.randbits(SALT_BITS),
        )
        with contextlib.suppress(Refused):
            await self._connection.submit(document)

    def _refused(self, result: Appended) -> fact.Fact:
        fault = result.fault
        if fault is None:
            raise AssertionError("only a refused document is explained")
        if fault.code in ("no_match", "delegation_busy"):
            return fact.NoMatch(
                at_ms=self._now_ms(), message=fault.message, detail=fault.detail
            )
        message = fault.message
        if fault.code == "insufficient_funds":
            message += "; where the market has a faucet: sublet wallet faucet"
        return fact.OrderRefused(
            at_ms=self._now_ms(),
            code=fault.code,
            message=message,
            exit_code=EXIT_UNAVAILABLE if fault.retry_after_s else EXIT_REFUSED,
        )

    async def watch(self, lease_id: Digest, *, delay_s: float) -> None:
        """Follow a lease until it is settled, and say so."""
        await asyncio.sleep(delay_s)
        while True:
            with contextlib.suppress(Unavailable, Refused, PeerFault):
                async for lease in self._connection.watch_lease(lease_id):
                    if self.note(lease):
                        return
            await asyncio.sleep(WATCH_PAUSE_S)

    def note(self, lease: Lease) -> bool:
        """Say so where a lease is settled."""
        if lease.phase is not Phase.SETTLED:
            return False
        self._say(
            fact.LeaseSettled(
                at_ms=self._now_ms(),
                lease_id=lease.id,
                reason=lease.reason,
                is_provider_fault=lease.fault is Fault.PROVIDER,
                ran_ms=lease.ran_ms,
                paid=lease.paid,
            )
        )
        return True

    async def hand_in(self, paid: Paid) -> None:
        """Give the market a voucher; it takes one from anyone. Never raises."""
        documents = [each for each in (paid.channel, paid.voucher) if each]
        with contextlib.suppress(Unavailable, Refused):
            await self._connection.submit_signed(*documents)

    async def keep(self, one: order.SignKept, paid: Paid) -> None:
        """Sign that a checkpoint is kept, and show the voucher that covers it."""
        document = CheckpointKept(
            lease_id=one.lease_id,
            ran_ms=one.ran_ms,
            checkpoint=one.tree_id,
            signed_at_s=self._clock.now_s(),
            salt=secrets.randbits(SALT_BITS),
        )
        kept = await self._connection.sign(document)
        vouched = [each for each in (paid.channel, paid.voucher) if each]
        await self._connection.submit_signed(*vouched, kept)

    async def stop(self, one: order.StopLease) -> None:
        """Sign that a lease is to end."""
        document = Stop(
            lease_id=one.lease_id,
            reason=one.reason,
            signed_at_s=self._clock.now_s(),
            salt=secrets.randbits(SALT_BITS),
        )
        with contextlib.suppress(Unavailable, Refused):
            [result] = await self._connection.submit(document)
            if result.lease is not None:
                self.note(result.lease)

    async def abandon(self, job: Job) -> None:
        """This machine cannot go on: leave no lease that nobody looks after."""
        if job.phase not in (JobPhase.SEEKING, JobPhase.FINISHED):
            lease_id = job.attempt.lease_id
            await self.stop(order.StopLease(lease_id=lease_id, reason=CANCELLED))

    async def settle_up(self, unknown: list[Digest], *, limit_s: float) -> None:
        """Ask what leases cost that did not end by a receipt."""
        with contextlib.suppress(SubletError, TimeoutError):
            async with asyncio.timeout(limit_s):
                for lease_id in unknown:
                    self.note(await self._connection.lease(lease_id))


def _is_filled(order_: OpenOrder) -> bool:
    """Say whether it has what was ordered: of a gang, once each provider has signed."""
    if order_.order.machines == 1:
        return bool(order_.leases)
    return order_.phase is OrderPhase.ENDED and order_.reason == FILLED
