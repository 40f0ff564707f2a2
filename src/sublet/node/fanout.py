"""What changed, handed from the commit path to whoever listens.

``publish`` never waits and never fails: a listener that does not keep up is dropped
and told so. Not here: what listeners do with a change (``link``, ``event``).
"""

import asyncio
from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Generic, TypeVar

T = TypeVar("T")

WAITING_MAX = 1_024  # changes that one listener may be behind


class FellBehind(Exception):
    """The listener did not take its changes in time; it has to begin anew."""


class Subscription(Generic[T]):
    """The changes of one topic for one listener, in the order of the log."""

    def __init__(self, *, waiting_max: int) -> None:
        """Begin empty."""
        self._changes: asyncio.Queue[T] = asyncio.Queue(waiting_max)
        self._is_dropped = False

    def offer_nowait(self, change: T) -> bool:
        """Queue a change; False, from then on for good, when there is no room."""
        if not self._is_dropped:
            try:
                self._changes.put_nowait(change)
            except asyncio.QueueFull:
                self._is_dropped = True
        return not self._is_dropped

    async def wait_change(self) -> T:
        """Wait for the next change.

        Raises:
            FellBehind: the listener was too slow; some changes are gone.
        """
        if self._is_dropped:
            raise FellBehind
        return await self._changes.get()


class Fanout(Generic[T]):
    """Who listens to what; a topic is a lease's id or a provider's address."""

    def __init__(self) -> None:
        """Begin with no listener."""
        self._topics: defaultdict[str, set[Subscription[T]]] = defaultdict(set)

    @contextmanager
    def subscribe(
        self, topic: str, *, waiting_max: int = WAITING_MAX
    ) -> Iterator[Subscription[T]]:
        """Listen to a topic for as long as the context lasts."""
        subscription: Subscription[T] = Subscription(waiting_max=waiting_max)
        self._topics[topic].add(subscription)
        try:
            yield subscription
        finally:
            self._topics[topic].discard(subscription)
            if not self._topics[topic]:
                del self._topics[topic]

    def publish(self, change: T, topics: Iterable[str]) -> int:
        """Tell all who listen to any of these topics; count the dropped."""
        dropped = 0
        for topic in topics:
            for subscription in tuple(self._topics.get(topic, ())):
                if not subscription.offer_nowait(change):
                    self._topics[topic].discard(subscription)
                    dropped += 1
        return dropped
