"""After a job: does the market keep what it acknowledged, and one history only?

The newest checkpoint is held against the last one that this home has seen of the
market; this job's orders and receipts have to be in the log. What the job came to does
not depend on it, so it is short, and a market that does not answer is not accused.
"""

import asyncio
from collections.abc import Callable, Mapping

from sublet.adapter.checkpoint_folder import CheckpointFolder
from sublet.base.errors import PeerFault, Refused, Unavailable
from sublet.base.ids import Digest
from sublet.core.lease.phase import Phase
from sublet.sdk.log_watch import LogLie, LogWatch
from sublet.wire.message import Signed
from sublet.wire.typed_data import digest
from sublet.workload.run import event
from sublet.workload.run.market_desk import MarketDesk
from sublet.workload.run.talk import Show
from sublet.workload.run.work import Tenant

LOOK_S = 8.0  # for all of it; a node that lags behind is looked at for half of that
SETTLED_S = 1.5  # for the market to settle what has just ended
PAUSE_S = 0.02  # between two questions whether it has; doubled each time
FOLDER = "logs"  # of the tenant's home


class Scrutiny:
    """One job's look at its market."""

    def __init__(
        self,
        tenant: Tenant,
        desk: MarketDesk,
        *,
        now_ms: Callable[[], int],
        show: Show,
    ) -> None:
        """Take the market, what was said to it, and who is told of a lie."""
        self.lie = ""  # in which the market was caught
        self._connection = tenant.connection
        self._memory = CheckpointFolder(tenant.home.path / FOLDER)
        self._desk = desk
        self._now_ms = now_ms
        self._show = show

    async def look(self, receipts: Mapping[Digest, Signed | None]) -> None:
        """Look once; show a lie. Never raises.

        Args:
            receipts: what providers showed at the end of each lease.
        """
        if not self._desk.indexes:
            return  # nothing was acknowledged
        try:
            async with asyncio.timeout(LOOK_S):
                await self._look(receipts)
        except LogLie as lie:
            place = str(lie.place or "")
            self.lie = lie.message
            if place:
                self.lie += f"; proof for anyone is in {place} (sublet audit split)"
            await self._show(
                event.MarketLied(
                    at_ms=self._now_ms(),
                    code=lie.code,
                    message=self.lie,
                    evidence=place,
                )
            )
        except (Unavailable, Refused, PeerFault, TimeoutError):
            pass  # not told from an outage; the next job looks again

    async def _look(self, receipts: Mapping[Digest, Signed | None]) -> None:
        market = await self._connection.learn_market()
        domain = await self._connection.domain()
        watch = LogWatch(
            self._connection.fetch_log,
            self._memory,
            market=domain.market,
            verifier_key=market.note_key,
        )
        acknowledged: dict[Digest, int] = {}
        for lease_id, index in self._desk.indexes.items():
            acknowledged[digest(self._desk.orders[lease_id].document, domain)] = index
        for lease_id, receipt in receipts.items():
            if receipt is not None and await self._is_settled(lease_id):
                # The same again is harmless; the answer says where the log has it.
                [said] = await self._connection.submit_signed(receipt)
                if said.fault is None and said.index >= 0:
                    acknowledged[digest(receipt.document, domain)] = said.index
        await watch.look_for(acknowledged, domain=domain)

    async def _is_settled(self, lease_id: Digest) -> bool:
        pause_s = PAUSE_S
        while pause_s < SETTLED_S:
            lease = await self._connection.lease(lease_id)
            if lease.phase is Phase.SETTLED:
                return True
            await asyncio.sleep(pause_s)
            pause_s *= 2
        return False
