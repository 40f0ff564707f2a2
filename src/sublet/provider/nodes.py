"""A control link to each node of the market, so that none of them has to be there.

Every node tells the same: a lease change comes once from each, and the same again is
harmless. A tenant may dial through any of them.
"""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable, Iterable
from typing import Any

from sublet.provider.journal import Journal
from sublet.provider.link import (
    KeyInUse,
    LinkReplaced,
    MarketLink,
    listen_for_ever,
)
from sublet.sdk.nodes import Nodes

WAITING_MAX = 1_024  # messages that the agent may be behind
SETTLE_S = 2.0  # for the link that replaced another to be welcomed

Heard = tuple[MarketLink, Any]


class NodeLinks:
    """The links of one agent; ``learn`` adds to them while it runs."""

    def __init__(
        self,
        urls: Iterable[str],
        *,
        make: Callable[[str], MarketLink],
        journal: Journal,
    ) -> None:
        """Take the addresses; nothing is dialled yet.

        Args:
            urls: of the nodes that are known at first.
            make: gives the link to one of them, not opened.
            journal: is told what breaks.
        """
        self.nodes = Nodes(urls)
        self._make = make
        self._journal = journal
        self._messages: asyncio.Queue[Heard] = asyncio.Queue(WAITING_MAX)
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._up: set[str] = set()

    @property
    def is_linked(self) -> bool:
        """Whether any link stands."""
        return bool(self._up)

    async def listen(self) -> AsyncGenerator[Heard, None]:
        """Give each message with the link that it came by; a None is a break.

        A ``KeyInUse`` says that another process has the link to that node.
        """
        try:
            self.learn(())
            while True:
                yield await self._messages.get()
        finally:
            tasks = list(self._tasks.values())
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            self._tasks.clear()
            self._up.clear()

    def learn(self, urls: Iterable[str]) -> tuple[str, ...]:
        """Dial these nodes, too; give all that are known."""
        known = self.nodes.learn(urls)
        for url in known:
            if url not in self._tasks:
                self._tasks[url] = asyncio.create_task(self._keep(url))
        return known

    async def _keep(self, url: str) -> None:
        async with self._make(url) as link:
            while True:
                is_replaced = False
                try:
                    await self._pass_on(url, link)
                except LinkReplaced:
                    is_replaced = True
                except KeyInUse as fault:
                    self._up.discard(url)
                    await self._messages.put((link, fault))
                self._up.discard(url)
                await asyncio.sleep(SETTLE_S)
                if self._up and is_replaced:
                    # Two addresses of one node: the other one's link stands.
                    self._journal.info("same_node", url=url)
                    return

    async def _pass_on(self, url: str, link: MarketLink) -> None:
        messages = listen_for_ever(link, journal=self._journal)
        async with contextlib.aclosing(messages):
            async for message in messages:
                if message is None:
                    self._up.discard(url)
                else:
                    self._up.add(url)
                await self._messages.put((link, message))
