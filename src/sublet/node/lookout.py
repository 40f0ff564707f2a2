"""Questions that take their time, answered beside the book: the market goes on meanwhile.

On the event loop a few columns are copied, or what some leases hold; a thread does the
rest. Offers are surveyed at most once in ``FRESH_MS``, whoever asks how often; waits are
looked for one at a time, and few may stand in line.
"""

import asyncio

from sublet.base.errors import Unavailable
from sublet.core.book.excerpt import pick
from sublet.core.book.look_ahead import Unmet, choose_leases, look_later, look_now
from sublet.core.book.prices import Survey, survey, take_stock
from sublet.core.document import Order
from sublet.core.outlook import Outlook
from sublet.service.market import MarketService
from sublet.service.ports import Clock

FRESH_MS = 5_000  # as old may an answer be, here and with whoever keeps it
WAITING_MAX = 64  # orders without a machine, whose wait is looked for


class Lookout:
    """One per node."""

    def __init__(self, market: MarketService, *, clock: Clock) -> None:
        """Begin without a survey."""
        self._market = market
        self._clock = clock
        self._seen: Survey | None = None
        self._at_ms = 0
        self._surveying = asyncio.Lock()
        self._looking = asyncio.Lock()
        self._waiting = 0

    async def survey(self) -> Survey:
        """Give what a look at all offers showed, at most ``FRESH_MS`` ago."""
        async with self._surveying:
            now_ms = self._clock.monotonic_ms()
            if self._seen is None or now_ms - self._at_ms > FRESH_MS:
                stock = take_stock(self._market.book)
                self._seen = await asyncio.to_thread(survey, stock)
                self._at_ms = now_ms
            return self._seen

    async def look_ahead(self, order: Order) -> Outlook:
        """Say when this order would begin, and when its work would be done.

        Raises:
            Refused: ``bad_order`` or ``total_too_small``, as a quote.
            Unavailable: ``lookout_busy``.
        """
        seen = await self.survey()
        now_s = self._clock.now_s()
        found = look_now(self._market.book, seen, order=order, now_s=now_s)
        if isinstance(found, Outlook):
            return found
        if self._waiting >= WAITING_MAX:
            raise Unavailable(
                "too many orders that nothing fits are asked about; try again in a minute",
                code="lookout_busy",
            )
        self._waiting += 1
        try:
            async with self._looking:
                return await self._look_later(found)
        finally:
            self._waiting -= 1

    async def _look_later(self, unmet: Unmet) -> Outlook:
        leases = await asyncio.to_thread(choose_leases, unmet)
        excerpt = pick(self._market.book, unmet.order, leases, now_s=unmet.now_s)
        return await asyncio.to_thread(look_later, unmet, excerpt)
