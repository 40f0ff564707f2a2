"""The provider's agent: one process that ties link, leases and offers together.

It dials out, takes what the node says to the roster and what the roster signs to the
log, and answers dials. ``compose`` builds it; here is what it does while it lives.
"""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import aclosing

import msgspec

from sublet.base import limits
from sublet.base.errors import Refused, SubletError, Unavailable
from sublet.core.book.open_order import OpenOrder
from sublet.core.document import Offer
from sublet.core.lease.phase import Lease, Phase
from sublet.provider.bidder import Bidder
from sublet.provider.data_plane import DataPlane
from sublet.provider.lease_state import OCCUPYING, Stage
from sublet.provider.link import KeyInUse, MarketLink
from sublet.provider.nodes import NodeLinks
from sublet.provider.offering import Offering
from sublet.provider.owner_watch import OwnerWatch
from sublet.provider.record import LeaseRecord, write_atomic
from sublet.provider.roster import Roster
from sublet.provider.scrutiny import Scrutiny
from sublet.provider.surroundings import Surroundings
from sublet.sdk.connection import Connection
from sublet.wire.message import (
    Appended,
    Dial,
    LeaseChanged,
    OrderOpened,
    Signed,
    Welcome,
)

FLUSH_S = 5.0  # for the last documents, when the agent stops
COUNTDOWN_S = 5  # between two reminders that the machine is wanted back
FETCH_S = 60  # a tenant's time to fetch its outputs from an agent that drains
NODES_FILE = "nodes.json"  # what the market announced last
IN_USE_TRIES = 4  # to be admitted where another process with this key is linked
_CLOCK_CODES = frozenset({"signed_ahead", "signed_long_ago"})
_CLOCK_CURE = "set this machine's clock: timedatectl set-ntp true"


class Agent:
    """Everything that one provider does while it runs."""

    def __init__(
        self,
        around: Surroundings,
        *,
        connection: Connection,
        links: NodeLinks,
        roster: Roster,
        offering: Offering,
        bidder: Bidder,
        data_plane: DataPlane,
    ) -> None:
        """Take the parts; nothing is started yet."""
        self.around = around
        self.roster = roster
        self.offering = offering
        self._bidder = bidder
        self.owner_watch = OwnerWatch(
            around, runners=roster.runners, hold=self._hold, release=self._release
        )
        self.scrutiny = Scrutiny(
            connection,
            home=around.home,
            journal=around.journal,
            caught=lambda lie: offering.bar(f"the market lies: {lie}"),
        )
        self.clock_ahead_s = 0  # of this machine, against the node's
        self._connection = connection
        self._links = links
        self.data_plane = data_plane
        self._draining = asyncio.Event()
        self._stopping = asyncio.Event()
        self._refused: Refused | None = None  # why it cannot go on
        self._in_use = 0  # times in a row that a link was refused for it
        self._asking: asyncio.Task[None] | None = None
        self._counting: asyncio.Task[None] | None = None

    async def run(self) -> None:
        """Serve until it has drained or was stopped; jobs of a stop go on.

        Raises:
            KeyInUse: another process with this key has the link, and keeps it.
        """
        self.around.outbox.load()
        self.offering.load()
        self.roster.load()
        tasks = [
            asyncio.create_task(self._supervise("link", self._keep_link)),
            asyncio.create_task(self._supervise("outbox", self.around.outbox.run)),
            asyncio.create_task(self._supervise("offering", self.offering.run)),
            asyncio.create_task(self._supervise("owner_watch", self.owner_watch.run)),
            asyncio.create_task(self._supervise("scrutiny", self.scrutiny.run)),
        ]
        if self.around.cashier is not None:
            work = self.around.cashier.run
            tasks.append(asyncio.create_task(self._supervise("cashier", work)))
        done = asyncio.create_task(self._wait_done())
        try:
            await done
            await self.around.outbox.wait_drained(timeout_s=FLUSH_S)
        finally:
            extra = [each for each in (self._asking, self._counting) if each]
            for task in (*tasks, done, *extra):
                task.cancel()
            await asyncio.gather(*tasks, done, *extra, return_exceptions=True)
            await self._bidder.close()
            await self.data_plane.close()
            await self.roster.close()
        if self._refused is not None:
            raise self._refused

    # ---- the owner ----------------------------------------------------------------

    @property
    def is_draining(self) -> bool:
        """Say whether it takes on nothing more and ends when it is idle."""
        return self._draining.is_set()

    def drain(self) -> None:
        """Withdraw the offer, finish what runs, then end. Twice is harmless."""
        if not self._draining.is_set():
            self._draining.set()
            self.around.journal.info("draining", leases=self._count_open())
            self.offering.withdraw()

    def give_back(self, *, notice_s: int) -> None:
        """Drain, and give every tenant notice: after it their jobs are stopped."""
        self.drain()
        self.roster.is_closed = True
        if self._counting is None:
            self._counting = asyncio.create_task(self._count_down(notice_s))
        for runner in self.roster.runners():
            runner.give_back(notice_s=notice_s)

    def _hold(self, reasons: tuple[str, ...]) -> None:
        """The owner's rules fail: no offer, and the machine back within the notice."""
        if not self._draining.is_set():
            self.around.journal.warn("not_offered", why="; ".join(reasons))
            self.roster.is_closed = True
            self.offering.hold()
            for runner in self.roster.runners():
                runner.give_back(notice_s=self.around.config.notice_s)

    def _release(self, until_s: int) -> None:
        """The owner's rules hold: on offer, until then (0: for good)."""
        if not self._draining.is_set():
            if self.roster.is_closed:
                self.around.journal.info("offered_again")
            self.roster.is_closed = False
            self.offering.release(until_s)

    async def stop_now(self) -> None:
        """End every job at once, send the receipts that can be sent, and end."""
        self.give_back(notice_s=0)
        for runner in self.roster.runners():
            runner.kill()
        try:
            async with asyncio.timeout(FLUSH_S):
                await self.roster.wait_all(lambda each: each.stage not in OCCUPYING)
        except TimeoutError:
            self.around.journal.warn("stopped_in_a_hurry", leases=self._count_open())
        self.stop()

    def stop(self) -> None:
        """End this agent; its jobs go on, for the next one to find."""
        self._stopping.set()

    async def _count_down(self, notice_s: int) -> None:
        for left_s in range(notice_s, 0, -COUNTDOWN_S):
            if not self._count_open():
                return
            self.around.journal.warn(
                "giving_back",
                leases=self._count_open(),
                in_s=left_s,
                hint="Ctrl-C again stops now",
            )
            await asyncio.sleep(min(COUNTDOWN_S, left_s))

    async def _wait_done(self) -> None:
        stopping = asyncio.create_task(self._stopping.wait())
        drained = asyncio.create_task(self._wait_drained())
        try:
            await asyncio.wait((stopping, drained), return_when=asyncio.FIRST_COMPLETED)
        finally:
            stopping.cancel()
            drained.cancel()

    async def _wait_drained(self) -> None:
        await self._draining.wait()
        await self.roster.wait_all(self._is_over)

    def _is_over(self, record: LeaseRecord) -> bool:
        passed_s = max(0, self.around.clock.now_s() - record.ended_at_s)
        return record.stage is Stage.GONE or (
            record.stage is Stage.SETTLED and passed_s > FETCH_S
        )

    def _count_open(self) -> int:
        return sum(record.stage in OCCUPYING for record in self.roster.records())

    # ---- the node -----------------------------------------------------------------

    def heard(self, signed: Signed, answer: Appended) -> None:
        """Take the log's answer to a document, for the outbox."""
        fault = answer.fault
        if fault is not None:
            kind = type(signed.document).__name__
            cure = {}
            if fault.code in _CLOCK_CODES:
                self.around.clock.set_anew()
                cure = {"cure": _CLOCK_CURE}
            self.around.journal.warn(
                "document_refused",
                document=kind,
                code=fault.code,
                why=fault.message,
                **cure,
            )
            if isinstance(signed.document, Offer):
                self.offering.note_refused()
        self.scrutiny.note(answer)
        self.roster.heard(signed, answer)

    @property
    def is_linked(self) -> bool:
        """Say whether a node can reach this agent."""
        return self._links.is_linked

    async def _keep_link(self) -> None:
        async with aclosing(self._links.listen()) as messages:
            async for link, message in messages:
                await self._take(link, message)

    def _give_way(self, fault: KeyInUse) -> None:
        """Another process has the link: end, unless it is about to be gone."""
        if self.is_linked:
            return  # to another node; whoever offers there is this agent
        self._in_use += 1
        self.around.journal.warn("key_in_use", why=fault.message, tries=self._in_use)
        if self._in_use >= IN_USE_TRIES:
            self.offering.bar(fault.message)
            self._refused = fault
            self.stop()

    async def _take(self, link: MarketLink, message: object) -> None:
        if message is None:
            self._ask_later([])  # the reason may be a clock that is wrong
        elif isinstance(message, KeyInUse):
            self._give_way(message)
        elif isinstance(message, LeaseChanged):
            self.roster.market_says(message.lease)
        elif isinstance(message, OrderOpened):
            self._bid((message.order,))
        elif isinstance(message, Dial):
            self.data_plane.answer(link, message.session)
        elif isinstance(message, Welcome):
            self._in_use = 0
            self.offering.admit()
            self.scrutiny.look_soon()
            self.around.journal.info("link_up", leases=len(message.leases))
            self._catch_up(message.leases)
            self._bid(message.orders)

    def _bid(self, orders: tuple[OpenOrder, ...]) -> None:
        if not self.roster.is_closed:
            for order in orders:
                self._bidder.hear(order)

    def _catch_up(self, leases: tuple[Lease, ...]) -> None:
        """Take over what happened while there was no link."""
        for lease in sorted(leases, key=lambda each: each.matched_at_s):
            self.roster.market_says(lease)
        still_open = {lease.id for lease in leases}
        missing = [
            record
            for record in self.roster.records()
            if record.lease.id not in still_open
            and record.lease.phase is not Phase.SETTLED
        ]
        self._ask_later(missing)

    def _ask_later(self, records: list[LeaseRecord]) -> None:
        if self._asking is not None:
            self._asking.cancel()
        self._asking = asyncio.create_task(self._ask_about(records))

    async def _ask_about(self, records: list[LeaseRecord]) -> None:
        for record in records:
            await self._ask(record)
        await self._check_clock()

    async def _ask(self, record: LeaseRecord) -> None:
        try:
            lease = await self._connection.lease(record.lease.id)
        except SubletError as fault:
            if fault.code == "unknown_lease":
                self.roster.forget(record.lease.id)  # of another market, of before
            self.around.journal.warn(
                "lease_not_told", lease=record.lease.id[:12], why=fault.message
            )
        else:
            self.roster.market_says(lease)

    async def _check_clock(self) -> None:
        try:
            info = await self._connection.market()
        except SubletError:
            return  # the link says so, too
        self._remember_nodes(self._links.learn(info.nodes))
        self.clock_ahead_s = self.around.clock.now_s() - info.now_s
        if abs(self.clock_ahead_s) > limits.CLOCK_SKEW_S_MAX:
            self.around.clock.set_anew()  # it may have been set since we began
            self.clock_ahead_s = self.around.clock.now_s() - info.now_s
        if abs(self.clock_ahead_s) > limits.CLOCK_SKEW_S_MAX:
            self.around.journal.warn(
                "clock_wrong", ahead_s=self.clock_ahead_s, cure=_CLOCK_CURE
            )

    def _remember_nodes(self, urls: tuple[str, ...]) -> None:
        try:
            write_atomic(self.around.home / NODES_FILE, msgspec.json.encode(urls))
        except OSError as exc:
            self.around.journal.warn("nodes_not_kept", why=exc.strerror or "")

    # ---- supervision --------------------------------------------------------------

    async def _supervise(self, name: str, work: Callable[[], Awaitable[None]]) -> None:
        while True:
            try:
                await work()
                return
            except Unavailable as fault:
                self.around.journal.warn(f"{name}_failed", why=fault.message)
            except Exception:  # noqa: BLE001
                # The supervisor: logged, and begun anew; leases must not suffer.
                self.around.journal.error(f"{name}_broke")
            await asyncio.sleep(1)
