"""The offers sorted by price, for a few seconds, whoever asks how often."""

import asyncio

from sublet.core.book.book import Book
from sublet.core.book.prices import Depth, list_offered, sort_asks

FRESH_MS = 5_000  # as old may prices be, here and with whoever keeps the answer


class DepthDesk:
    """Keeps the offers sorted by price for a few seconds."""

    def __init__(self) -> None:
        """Begin with nothing."""
        self._depth: Depth = {}
        self._at_ms = -FRESH_MS - 1
        self._lock = asyncio.Lock()

    async def read(self, book: Book, *, now_ms: int) -> Depth:
        """Give how much is offered at which price, at most ``FRESH_MS`` old."""
        async with self._lock:
            if now_ms - self._at_ms > FRESH_MS:
                self._depth = await asyncio.to_thread(sort_asks, list_offered(book))
                self._at_ms = now_ms
            return self._depth
