"""The provider's eye on its market's log, while the agent runs.

At each welcome, and now and then, the newest checkpoint is held against the last one
that this home has seen, and what the market acknowledged has to be in the log. A market
that is caught gets no new work from here; leases that run are served to their end.
"""

import asyncio
from collections.abc import Callable
from pathlib import Path

from sublet.adapter.checkpoint_folder import CheckpointFolder
from sublet.base.errors import PeerFault, Refused, Unavailable
from sublet.base.ids import Digest
from sublet.provider.journal import Journal
from sublet.sdk.connection import Connection
from sublet.sdk.log_watch import LogLie, LogWatch
from sublet.wire.message import Appended

LOOK_EVERY_S = 600.0
ACKNOWLEDGED_MAX = 64  # documents, the newest, that the next look asks for
FOLDER = "logs"  # of the provider's home


class Scrutiny:
    """Looks at one market for as long as the agent lives."""

    def __init__(
        self,
        connection: Connection,
        *,
        home: Path,
        journal: Journal,
        caught: Callable[[str], None],
    ) -> None:
        """Take the market, and who is told once it was caught."""
        self.lie = ""  # in which the market was caught
        self._connection = connection
        self._folder = home / FOLDER
        self._journal = journal
        self._caught = caught
        self.acknowledged: dict[Digest, int] = {}  # what the next look asks for
        self._due = asyncio.Event()

    def note(self, answer: Appended) -> None:
        """Remember what the market says to have in its log."""
        if answer.fault is None and answer.index >= 0:
            self.acknowledged[answer.id] = answer.index
            while len(self.acknowledged) > ACKNOWLEDGED_MAX:
                del self.acknowledged[next(iter(self.acknowledged))]

    def look_soon(self) -> None:
        """Look at once; twice is harmless."""
        self._due.set()

    async def run(self) -> None:
        """Look whenever it is due, until the market was caught or this is cancelled."""
        while not self.lie:
            try:
                async with asyncio.timeout(LOOK_EVERY_S):
                    await self._due.wait()
            except TimeoutError:
                pass
            self._due.clear()
            try:
                await self._look()
            except LogLie as lie:
                self._take(lie)
            except (Unavailable, Refused, PeerFault) as fault:
                self._journal.info("log_not_seen", code=fault.code, why=fault.message)

    async def _look(self) -> None:
        market = await self._connection.learn_market()
        domain = await self._connection.domain()
        watch = LogWatch(
            self._connection.fetch_log,
            CheckpointFolder(self._folder),
            market=domain.market,
            verifier_key=market.note_key,
        )
        asked = dict(self.acknowledged)
        await watch.look_for(asked, domain=domain)
        for id_ in asked:
            self.acknowledged.pop(id_, None)

    def _take(self, lie: LogLie) -> None:
        self.lie = lie.message
        self._journal.warn(
            "market_lied",
            code=lie.code,
            why=lie.message,
            evidence=str(lie.place or ""),
            cure="nothing more is offered there; to trust it all the same, move "
            f"{self._folder} away and start again",
        )
        self._caught(lie.message)
