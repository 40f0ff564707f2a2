"""Bids for live orders: what the owner's program names, or the listed prices.

The node tells of an order that this machine could take; the answer is a signed bid, or
nothing and a line for the owner that says why.
"""

import asyncio
from pathlib import Path

import msgspec

from sublet.adapter.pricing_program import PricingProgram
from sublet.base.errors import Refused, Unavailable
from sublet.base.ids import Digest
from sublet.base.units import format_money
from sublet.core.book.open_order import OpenOrder
from sublet.core.document import Bid, Offer
from sublet.core.pricing.question import find_environment, read_price, write_question
from sublet.provider.bid_record import BidMade, BidsMade
from sublet.provider.bids_file import BidRules
from sublet.provider.commitment import compute_floor_of_slice
from sublet.provider.offering import Offering
from sublet.provider.surroundings import Surroundings, draw_salt
from sublet.wire.typed_data import digest

HEARD_MAX = 4_096  # orders that are recognised when another node tells of them, too
WAITING_MAX = 256  # orders that are being priced or wait for that


class Bidder:
    """Answers live orders for one agent."""

    def __init__(
        self,
        around: Surroundings,
        *,
        offering: Offering,
        made: BidsMade,
        program: PricingProgram | None,
    ) -> None:
        """Take what it bids with; without a program, the listed prices are bid."""
        self._around = around
        self._offering = offering
        self._made = made
        self._program = program
        self._heard: dict[Digest, None] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def hear(self, order: OpenOrder) -> None:
        """Take an order that is open for bids; the same one again is harmless."""
        if order.id in self._heard or self._made.find(order.id) is not None:
            return
        self._heard[order.id] = None
        if len(self._heard) > HEARD_MAX:
            del self._heard[next(iter(self._heard))]
        if len(self._tasks) >= WAITING_MAX:
            self._tell_none(order, f"{WAITING_MAX} others are being priced already")
            return
        task = asyncio.create_task(self._answer(order))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def find(self, order_id: Digest) -> BidMade | None:
        """Give the bid that was made for an order, or None."""
        return self._made.find(order_id)

    async def close(self) -> None:
        """Let go of all that is being priced, and of the programs that do it."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _answer(self, order: OpenOrder) -> None:
        around, standing = self._around, self._offering.newest
        if standing is None or digest(order.order, around.domain) != order.id:
            return  # nothing is on offer; or it is not the order that was signed
        offer_id, offer = standing
        try:
            price_hour = await self._price(order, offer)
            if price_hour > order.order.price_hour_max:
                self._tell_none(
                    order,
                    f"the price is {format_money(price_hour)} an hour, and the order "
                    f"allows {format_money(order.order.price_hour_max)}",
                )
                return
            made = BidMade.of(order.order, machine=offer.machine, price_hour=price_hour)
            self._made.keep(order.id, made)
        except (Refused, Unavailable) as fault:
            self._tell_none(order, fault.message)
            return
        bid = Bid(
            order_id=order.id,
            offer_id=offer_id,
            price_hour=price_hour,
            signed_at_s=around.clock.now_s(),
            salt=draw_salt(),
        )
        around.put(bid)
        around.journal.info(
            "bid", order=order.id[:12], price_hour=format_money(price_hour)
        )

    async def _price(self, order: OpenOrder, offer: Offer) -> int:
        wanted = order.order
        floor_hour = compute_floor_of_slice(
            offer,
            cpus_milli=wanted.cpus_milli,
            memory_bytes=wanted.memory_bytes,
            gpus=wanted.gpu_count,
        )
        if self._program is None:
            return floor_hour
        style = self._around.config.bids.style
        question = write_question(style, wanted, offer, floor_hour=floor_hour)
        said = await self._program.ask(
            msgspec.json.encode(question), env=find_environment(style, wanted)
        )
        return read_price(style, said)

    def _tell_none(self, order: OpenOrder, why: str) -> None:
        self._around.journal.warn("no_bid", order=order.id[:12], why=why)


def make_program(rules: BidRules) -> PricingProgram | None:
    """Make what names the prices; None where the listed ones are bid.

    Raises:
        Refused: there is no such program or user.
    """
    if not rules.program:
        return None
    pairs = (line.partition("=") for line in rules.env)
    return PricingProgram(
        Path(rules.program),
        timeout_s=rules.timeout_s,
        processes_max=rules.processes,
        env={name: value for name, _, value in pairs},
        user=rules.user,
    )
