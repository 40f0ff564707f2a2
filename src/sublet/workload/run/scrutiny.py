"""Does the market keep what it acknowledged, and one history only?

Looked at while the next job runs: what a job ended with is proven in the log only once
the market has settled it, and nobody is to wait for that. So a job leaves behind what
the market told it, and the next one has it proven; at the same time the newest
checkpoint is held against the last one that this home has seen of the market. A market
that does not answer is not accused.
"""

import asyncio
import contextlib
from collections.abc import Callable, Mapping
from pathlib import Path

import msgspec
from msgspec import Struct

from sublet.adapter.checkpoint_folder import CheckpointFolder
from sublet.base.errors import PeerFault, Refused, Unavailable
from sublet.base.ids import Digest
from sublet.core.lease.phase import Phase
from sublet.sdk.log_watch import LogLie, LogWatch
from sublet.wire.message import Signed
from sublet.wire.typed_data import Domain, digest
from sublet.workload.run import event
from sublet.workload.run.market_desk import MarketDesk
from sublet.workload.run.talk import Show
from sublet.workload.run.work import Tenant

LOOK_S = 8.0  # for all of it; a node that lags behind is looked at for half of that
TOLD_MAX = 64  # leases that are looked at at once; the rest is next
FOLDER = "logs"  # of the tenant's home


class Told(Struct, frozen=True):
    """What the market acknowledged of one lease."""

    order: Digest
    index: int  # of the order in the log
    receipt: Signed | None  # as the provider showed it


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
        self._home = tenant.home
        self._desk = desk
        self._now_ms = now_ms
        self._show = show

    async def look(self) -> None:
        """Look at what earlier jobs left; show a lie. Never raises."""
        try:
            async with asyncio.timeout(LOOK_S):
                await self._look()
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

    async def leave(self, receipts: Mapping[Digest, Signed | None]) -> None:
        """Leave behind what the market told this job, for the next one. Never raises.

        Args:
            receipts: what providers showed at the end of each lease.
        """
        with contextlib.suppress(Unavailable, Refused, PeerFault):
            domain = await self._connection.domain()
            folder = self._folder(domain)
            for lease_id, index in self._desk.indexes.items():
                told = Told(
                    order=digest(self._desk.orders[lease_id].document, domain),
                    index=index,
                    receipt=receipts.get(lease_id),
                )
                place = folder / f"{lease_id[2:]}.json"
                self._home.write_private(place, msgspec.json.encode(told))

    async def _look(self) -> None:
        market = await self._connection.learn_market()
        domain = await self._connection.domain()
        watch = LogWatch(
            self._connection.fetch_log,
            CheckpointFolder(self._home.path / FOLDER),
            market=domain.market,
            verifier_key=market.note_key,
        )
        acknowledged: dict[Digest, int] = {}
        looked_at: list[Path] = []
        for place in sorted(self._folder(domain).glob("*.json"))[:TOLD_MAX]:
            if (told := _read(place)) is None:
                place.unlink(missing_ok=True)
            elif await self._learn(told, "0x" + place.stem, acknowledged, domain):
                looked_at.append(place)
        try:
            await watch.look_for(acknowledged, domain=domain)
        except LogLie:
            _drop(looked_at)  # it is told once
            raise
        _drop(looked_at)

    async def _learn(
        self,
        told: Told,
        lease_id: Digest,
        acknowledged: dict[Digest, int],
        domain: Domain,
    ) -> bool:
        """Add what has to be in the log; False where it may not be there yet."""
        if told.receipt is not None:
            with contextlib.suppress(Refused):  # so old that the market forgot it
                lease = await self._connection.lease(lease_id)
                if lease.phase is not Phase.SETTLED:
                    return False
                # The same again is harmless; the answer says where the log has it.
                [said] = await self._connection.submit_signed(told.receipt)
                if said.fault is None and said.index >= 0:
                    acknowledged[digest(told.receipt.document, domain)] = said.index
        acknowledged[told.order] = told.index
        return True

    def _folder(self, domain: Domain) -> Path:
        return self._home.path / FOLDER / f"{domain.market[2:18]}.told"


def _read(place: Path) -> Told | None:
    try:
        return msgspec.json.decode(place.read_bytes(), type=Told)
    except (OSError, msgspec.MsgspecError):
        return None


def _drop(places: list[Path]) -> None:
    for place in places:
        place.unlink(missing_ok=True)
