"""All leases of one provider: taken on, run side by side, let go, found again.

Not here: one lease's life (``runner``), links and connections (``agent``).
"""

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path

from sublet.base.errors import Broken, Refused, SubletError
from sublet.base.ids import Digest
from sublet.core.document import Offer, Receipt, Start
from sublet.core.lease.phase import Lease, Phase
from sublet.core.lease.table import ERASURE
from sublet.provider.account import Line, find_paid
from sublet.provider.bid_record import BidMade
from sublet.provider.commitment import NotOurs, check_match, choose_uid, make_terms
from sublet.provider.earnings import add_lease, read_earnings, write_earnings
from sublet.provider.lease_state import OCCUPYING, MarketSettled, Stage
from sublet.provider.promise_file import Promises
from sublet.provider.record import LeaseFolder, LeaseRecord
from sublet.provider.runner import LeaseRunner
from sublet.provider.surroundings import Surroundings, draw_salt
from sublet.wire.message import Appended, Signed

FIRST_UID = 66_000  # of the jobs; far from people and services
PAID_KEPT_MAX = 10_000  # channels
FREE_LOOK_S = 0.05  # between two looks whether the last lease has left its slice

FindOffer = Callable[[Digest], Offer | None]
FindBid = Callable[[Digest], BidMade | None]  # by the order
_TAKEN_ON = (Phase.MATCHED, Phase.ACCEPTED, Phase.PREPARING)


class Roster:
    """The leases of one agent."""

    def __init__(self, folder: Path) -> None:
        """Take the folder of the leases; ``attach`` and ``load`` come next."""
        self._folder = folder
        self._promises = Promises(folder.parent / "promises.json")
        self._runners: dict[Digest, LeaseRunner] = {}
        self._tasks: dict[Digest, asyncio.Task[None]] = {}
        self._coming: dict[
            Digest, asyncio.Task[None]
        ] = {}  # whose slice is left just now
        self._paid: dict[Line, int] = {}
        self._around: Surroundings | None = None
        self._find_offer: FindOffer = lambda _: None
        self._find_bid: FindBid = lambda _: None
        self._changed = asyncio.Event()
        self.is_closed = False  # takes on nothing more

    def attach(
        self, around: Surroundings, *, find_offer: FindOffer, find_bid: FindBid
    ) -> None:
        """Take what the leases share; it knows this roster in turn."""
        self._around = around
        self._find_bid = find_bid
        self._find_offer = find_offer

    def load(self) -> None:
        """Find the leases that an earlier agent has left, and go on with them."""
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        found: list[tuple[LeaseRecord, LeaseFolder]] = []
        for path in self._folder.iterdir():
            folder = LeaseFolder(path)
            try:
                record = folder.find_record()
            except Broken as fault:
                self._get_around().journal.warn("lease_damaged", why=fault.message)
                continue
            if record is not None:
                found.append((record, folder))
        for record, folder in sorted(
            found, key=lambda each: each[0].lease.matched_at_s
        ):
            self._run(LeaseRunner(record, folder, self._get_around()))

    # ---- asked --------------------------------------------------------------------

    def records(self) -> Sequence[LeaseRecord]:
        """Give the records of all leases, oldest first."""
        return [runner.record for runner in self._runners.values()]

    def runners(self) -> Sequence[LeaseRunner]:
        """Give all leases, oldest first."""
        return list(self._runners.values())

    def paid(self, lease: Lease) -> int:
        """Say what a lease's channel has paid for settled leases, micro-USD."""
        return self._paid.get(lease.line, 0)

    def environments(self) -> set[Path]:
        """Give the folders of dependencies that jobs have bound."""
        return {
            Path(record.environment)
            for record in self.records()
            if record.environment and record.stage in OCCUPYING
        }

    async def wait_lease(
        self, lease_id: Digest, *, timeout_s: float
    ) -> LeaseRunner | None:
        """Give a lease that may be just on its way here; None if it does not come."""
        try:
            async with asyncio.timeout(timeout_s):
                while lease_id not in self._runners:
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            return None
        return self._runners.get(lease_id)

    async def wait_all(self, is_enough: Callable[[LeaseRecord], bool]) -> None:
        """Wait until every lease that is left is as it should be."""
        while not all(is_enough(record) for record in self.records()):
            self._changed.clear()
            try:
                async with asyncio.timeout(1):
                    await self._changed.wait()
            except TimeoutError:
                continue

    # ---- told ---------------------------------------------------------------------

    def market_says(self, lease: Lease) -> None:
        """Take the market's word on a lease: take it on, or tell its runner."""
        self._note_paid(lease)
        runner = self._runners.get(lease.id)
        if runner is None:
            self._take_on(lease)
            return
        was_settled = runner.record.lease.phase is Phase.SETTLED
        runner.market_says(lease)
        if lease.phase is Phase.SETTLED and not was_settled:
            self._note_settled(lease)

    def forget(self, lease_id: Digest) -> None:
        """End and erase a lease that the market knows nothing about."""
        runner = self._runners.get(lease_id)
        if runner is not None:
            runner.desk.tell(MarketSettled())

    def heard(self, signed: Signed, answer: Appended) -> None:
        """Take the log's answer to a document of ours."""
        document = signed.document
        if answer.lease is not None:
            self.market_says(answer.lease)
        lease_id = getattr(document, "lease_id", "")
        runner = self._runners.get(lease_id)
        if runner is None:
            return
        if isinstance(document, Start) and answer.lease is not None:
            runner.start_heard(answer.lease)
        fault = answer.fault
        if isinstance(document, Receipt) and fault and fault.code == "claims_too_much":
            passed_ms = fault.detail.get("passed_ms", 0)
            if isinstance(passed_ms, int) and passed_ms < document.ran_ms:
                runner.receipt_refused(passed_ms=passed_ms)

    def _take_on(self, lease: Lease) -> None:
        around = self._get_around()
        if lease.phase not in _TAKEN_ON:
            if lease.phase is not Phase.SETTLED:
                around.journal.warn("lease_unknown", lease=lease.id[:12])
            return
        if lease.id in self._coming:
            return
        try:
            if self._is_left_just_now(lease):
                coming = asyncio.create_task(self._take_on_when_left(lease))
                self._coming[lease.id] = coming
                return
            self._check(lease, self.records())
            now_s = around.clock.now_s()
            self._promises.keep(lease, now_s=now_s, here=self._runners)
            folder = LeaseFolder(self._folder / lease.id)
            uid = choose_uid((r.uid for r in self.records()), first=FIRST_UID)
            offer = self._find_offer(lease.offer_id)
            record = LeaseRecord(lease=lease, uid=uid, offer=offer)
            folder.create()
            if ERASURE not in lease.features:
                folder.create_data()  # else once its scratch is open
            folder.write_record(record)
        except SubletError as fault:
            around.journal.warn(
                "lease_refused", lease=lease.id[:12], code=fault.code, why=fault.message
            )
            return
        if lease.phase is Phase.MATCHED:
            terms = make_terms(lease, now_s=now_s, salt=draw_salt())
            around.put(terms)
        self._run(LeaseRunner(record, folder, around))

    def _is_left_just_now(self, lease: Lease) -> bool:
        """Say whether only leases that the market has settled are in this one's way.

        It sells a slice anew in the step in which a lease ends that never ran; here that
        one has still to be told, and what it may have begun to be ended.
        """
        open_ = [one for one in self.records() if one.lease.phase is not Phase.SETTLED]
        try:
            self._check(lease, self.records())
        except NotOurs as fault:
            if fault.code not in ("machine_full", "gpu_promised"):
                return False
        else:
            return False
        try:
            self._check(lease, open_)
        except Refused:
            return False
        return True

    async def _take_on_when_left(self, lease: Lease) -> None:
        """Sign for a lease as soon as its slice is left, while it may still be signed."""
        clock = self._get_around().clock
        is_free = False
        while not is_free and clock.now_s() < lease.deadline_s:
            await asyncio.sleep(FREE_LOOK_S)
            is_free = not self._is_left_just_now(lease)
        del self._coming[lease.id]
        if is_free:
            self._take_on(lease)

    def _check(self, lease: Lease, records: Sequence[LeaseRecord]) -> None:
        if self.is_closed:
            raise Refused("the owner wants the machine back", code="draining")
        offer = self._find_offer(lease.offer_id)
        if offer is None:
            raise Refused("the lease names no offer of this agent", code="no_offer")
        check_match(
            lease,
            offer=offer,
            provider=self._get_around().address,
            records=records,
            bid=self._find_bid(lease.order),
        )

    def _note_paid(self, lease: Lease) -> None:
        others = [r.lease for r in self.records() if r.lease.id != lease.id]
        known = sorted([*others, lease], key=lambda each: each.matched_at_s)
        paid = find_paid(known, line=lease.line)
        if paid > self._paid.get(lease.line, 0):
            self._paid[lease.line] = paid
            if len(self._paid) > PAID_KEPT_MAX:
                del self._paid[next(iter(self._paid))]

    def _note_settled(self, lease: Lease) -> None:
        around = self._get_around()
        path = around.home / "earnings.json"
        around.journal.info(
            "lease_settled", lease=lease.id[:12], paid=lease.paid, reason=lease.reason
        )
        try:
            earnings = read_earnings(path)
            now_s = around.clock.now_s()
            write_earnings(path, add_lease(earnings, lease, at_s=now_s))
        except SubletError as fault:
            around.journal.warn("earnings_lost", why=fault.message)

    # ---- running ------------------------------------------------------------------

    def _run(self, runner: LeaseRunner) -> None:
        lease_id = runner.record.lease.id
        self._runners[lease_id] = runner
        self._tasks[lease_id] = asyncio.create_task(self._supervise(runner))
        self._changed.set()

    async def _supervise(self, runner: LeaseRunner) -> None:
        lease_id = runner.record.lease.id
        try:
            await runner.run()
        except Exception:  # noqa: BLE001
            # The supervisor: one lease that breaks does not take the others along.
            self._get_around().journal.error("lease_broke", lease=lease_id[:12])
        if runner.record.stage is Stage.GONE:
            self._keep_promise(runner.record.lease)
            del self._runners[lease_id]
            del self._tasks[lease_id]
        self._changed.set()

    def _keep_promise(self, lease: Lease) -> None:
        """Remember a lease that leaves: it may have been signed for until just now."""
        around = self._get_around()
        try:
            now_s = around.clock.now_s()
            self._promises.keep(lease, now_s=now_s, here=self._runners)
        except SubletError as fault:
            around.journal.warn("promise_lost", why=fault.message)

    async def close(self) -> None:
        """Let go of all leases; their jobs go on, for the next agent to find."""
        tasks = [*self._tasks.values(), *self._coming.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _get_around(self) -> Surroundings:
        if self._around is None:
            raise Broken("a roster is attached before it is used")
        return self._around
