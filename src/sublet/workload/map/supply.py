"""One standing order with a volume, whose pieces are the workers of a map.

It is placed when a worker wants a machine, and waits as long as one does: each lease
that it gets is the next worker's. Where nobody waits any more it is cancelled, and what
comes all the same is stopped before anything runs; where somebody waits again, an order
for the rest is placed.
"""

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any

from msgspec import Struct, structs

from sublet.base.errors import SubletError, Unavailable
from sublet.base.ids import NO_DIGEST, Address, Digest
from sublet.base.limits import LIST_LENGTH_MAX
from sublet.core.book.open_order import FILLED, OpenOrder, OrderPhase
from sublet.core.document import Order
from sublet.core.job import fact, order
from sublet.core.job.move import CANCELLED
from sublet.sdk.exchange import ask_order
from sublet.sdk.job_channel import ClientKey
from sublet.wire.message import Manifest, Signed, Tree
from sublet.wire.typed_data import digest
from sublet.workload.run import event
from sublet.workload.run.evidence import check_lease
from sublet.workload.run.exit_code import EXIT_REFUSED, exit_code_of
from sublet.workload.run.market_desk import LOOK_S, Granted, MarketDesk
from sublet.workload.run.runner import Runner
from sublet.workload.run.wait_text import describe_wait
from sublet.workload.run.work import Tenant, Work

CLOSE_S = 15.0  # for a market that may not answer


class Placed(Struct, frozen=True):
    """The order as it was sent."""

    id: Digest
    signed: Signed
    manifest: Manifest
    avoid: tuple[Address, ...]  # with whom a worker fared badly
    index: int  # in the log; -1: it may not have arrived


class PieceRunner(Runner):
    """Runs one worker's job; its lease is the next piece of the order."""

    def __init__(self, supply: "Supply", **rest: Any) -> None:
        """Take where pieces come from; the rest is as for any job."""
        super().__init__(key=supply.key, **rest)
        self._supply = supply

    @property
    def is_stopped(self) -> bool:
        """Say whether it does not want a machine any more."""
        return self._is_stop_asked()

    async def hear(self, said: event.AnyEvent) -> None:
        """Tell its owner what the order waits for."""
        await self._show_event(said)

    async def _place(self, one: order.PlaceOrder, resume: Tree) -> None:
        answer = await self._supply.take(self, avoid=one.avoid)
        if not isinstance(answer, fact.Fact):
            answer = self._desk.take(answer)
        self._say(answer)


Waiting = tuple[PieceRunner, "asyncio.Future[Granted | fact.Fact]", tuple[Address, ...]]


class Supply:
    """The pieces of one map."""

    def __init__(
        self,
        *,
        tenant: Tenant,
        work: Work,
        now_ms: Callable[[], int],
        tasks: int,
        total_max: int,
    ) -> None:
        """Take who orders, what each worker needs; nothing is ordered yet.

        Of the volume no more is asked for than a lease for each of ``tasks``.
        ``total_max`` is micro-USD for all pieces.
        """
        needs = work.terms.needs
        self.key = ClientKey.generate()
        self._connection, self._clock = tenant.connection, tenant.clock
        self._now_ms = now_ms
        self._work = work
        self._left_s = min(needs.volume_s, tasks * needs.timeout_s)
        self._money = total_max
        self._until_s = tenant.clock.now_s() + needs.mode_s
        self._waiting: list[Waiting] = []
        self._placed: Placed | None = None
        self._handed = 0  # leases of the order that were given out, or stopped
        self._told = ""
        self._over = ""  # why there are no more pieces
        self._woken = asyncio.Event()  # when it is over
        self._serving: asyncio.Task[None] | None = None
        self._desk = MarketDesk(
            connection=tenant.connection,
            clock=tenant.clock,
            work=work,
            ssh_key=self.key.public_line(),
            now_ms=now_ms,
            say=lambda _: None,
            show=_ignore,
            is_stopped=lambda: False,
        )

    async def take(
        self, runner: PieceRunner, *, avoid: tuple[Address, ...]
    ) -> Granted | fact.Fact:
        """Wait for the next piece; give it, or why there is none."""
        answer: asyncio.Future[Granted | fact.Fact]
        answer = asyncio.get_running_loop().create_future()
        self._waiting.append((runner, answer, avoid))
        if self._serving is None or self._serving.done():
            self._serving = asyncio.create_task(self._serve())
        return await answer

    async def close(self) -> None:
        """Cancel what still waits; harmless where nothing does. Never raises."""
        for runner, _, _ in self._waiting:
            runner.stop()
        self._over = "the map is over"
        self._woken.set()
        if self._serving is not None:
            # To the end: an order that is just being sent has to be cancelled, too.
            await asyncio.wait([self._serving], timeout=CLOSE_S)
        self._answer(self._say_none(self._over))
        with contextlib.suppress(SubletError, TimeoutError):
            async with asyncio.timeout(CLOSE_S):
                await self._cancel()

    async def _serve(self) -> None:
        """Look after the order for as long as somebody waits."""
        try:
            while True:
                if self._over:
                    self._answer(self._say_none(self._over))
                if not self._forget_stopped():
                    await self._cancel()
                if not self._waiting:
                    return  # nobody came meanwhile
                await self._look()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(LOOK_S):
                        await self._woken.wait()
        except SubletError as fault:
            self._refuse(fault.code, fault.message, exit_code_of(fault))

    async def _look(self) -> None:
        """Place the order, or hand out what it got since the last look."""
        if self._placed is None:
            await self._draft()
        if self._placed is not None and self._placed.index < 0:
            await self._send(self._placed)
        if (placed := self._placed) is None:
            return
        with contextlib.suppress(Unavailable):  # it waits there all the same
            await self._follow(placed)

    async def _follow(self, placed: Placed) -> None:
        now = await self._connection.ask(ask_order(placed.id))
        await self._hand_out(now)
        if now.phase is not OrderPhase.ENDED:
            await self._tell(describe_wait(now, now_s=self._clock.now_s()))
            if placed.avoid != self._list_avoided():
                await self._cancel()  # and placed anew without them
            return
        self._placed = None
        if now.reason != FILLED:
            self._over = f"the standing order has ended: {now.reason}"

    async def _draft(self) -> None:
        wait_s = self._until_s - self._clock.now_s()
        if self._left_s <= 0:
            self._over = "the volume of the standing order is used up"
            return
        needs = self._work.terms.needs
        needs = structs.replace(
            needs,
            timeout_s=min(needs.timeout_s, self._left_s),
            volume_s=self._left_s,
            mode_s=max(1, wait_s),
            total_max=self._money,
        )
        terms = structs.replace(self._work.terms, needs=needs)
        self._desk.work = structs.replace(self._work, terms=terms)
        avoid = self._list_avoided()
        wish = order.PlaceOrder(avoid=avoid, resume=NO_DIGEST, spent=0)
        signed, manifest = await self._desk.make_contract(wish, Tree(files=()))
        order_id = digest(signed.document, await self._desk.domain())
        self._placed = Placed(order_id, signed, manifest, avoid, -1)
        self._handed = 0

    async def _send(self, placed: Placed) -> None:
        """Send the order; where no answer comes, the same one again."""
        [result] = await self._connection.submit_signed(placed.signed)
        if result.fault is None:
            self._placed = structs.replace(placed, index=result.index)
            return
        self._placed = None
        self._refuse(result.fault.code, result.fault.message, EXIT_REFUSED)

    async def _hand_out(self, now: OpenOrder) -> None:
        """Give each new lease to who waits longest; stop it where nobody does."""
        placed = self._placed
        document = placed.signed.document if placed else None
        if placed is None or not isinstance(document, Order):
            return
        self._left_s = now.left_s
        self._money = now.hold or self._money
        for key in now.leases[self._handed :]:
            lease = await self._connection.lease(key)
            check_lease(lease, order=document, order_id=placed.id)
            self._handed += 1
            granted = Granted(lease, placed.manifest, placed.signed, placed.index)
            if self._forget_stopped():
                _, answer, _ = self._waiting.pop(0)
                answer.set_result(granted)
            else:
                stop = order.StopLease(lease_id=key, reason=CANCELLED)
                await self._desk.stop(stop)

    async def _cancel(self) -> None:
        """End the order, and what it got until then that nobody took."""
        if self._placed is None:
            return
        await self._desk.cancel(self._placed.id)
        await self._hand_out(await self._connection.ask(ask_order(self._placed.id)))
        self._placed = None

    # ---- who waits --------------------------------------------------------------------

    def _list_avoided(self) -> tuple[Address, ...]:
        """Name whom anybody who waits avoids: its next lease may be any one's."""
        names = (name for _, _, avoid in self._waiting for name in avoid)
        return tuple(dict.fromkeys(names))[-LIST_LENGTH_MAX:]

    def _forget_stopped(self) -> bool:
        """Answer those who want nothing any more; say whether anybody is left."""
        for runner, answer, _ in self._waiting:
            if runner.is_stopped and not answer.done():
                answer.set_result(self._say_none("stopped"))
        self._waiting = [one for one in self._waiting if not one[1].done()]
        return bool(self._waiting)

    async def _tell(self, text: str) -> None:
        if text != self._told:
            self._told = text
            for runner, _, _ in list(self._waiting):
                await runner.hear(event.Waiting(at_ms=self._now_ms(), message=text))

    def _refuse(self, code: str, message: str, exit_code: int) -> None:
        at_ms = self._now_ms()
        self._answer(
            fact.OrderRefused(
                at_ms=at_ms, code=code, message=message, exit_code=exit_code
            )
        )

    def _answer(self, said: fact.Fact) -> None:
        waiting, self._waiting = self._waiting, []
        for _, answer, _ in waiting:
            if not answer.done():
                answer.set_result(said)

    def _say_none(self, message: str) -> fact.NoMatch:
        return fact.NoMatch(at_ms=self._now_ms(), message=message, detail={})


async def _ignore(said: event.AnyEvent) -> None:
    """Workers tell what they wait for."""
