"""A copy of the book, a few seconds old, for questions that take their time.

Copied at most once in ``FRESH_MS``; one question at a time, in a thread: whoever asks how
often, the market goes on.
"""

import asyncio
from collections.abc import Callable
from typing import TypeVar

from sublet.core.book.book import Book
from sublet.core.book.prices import Survey, survey
from sublet.service.market import MarketService
from sublet.service.ports import Clock

FRESH_MS = 5_000  # as old may an answer be, here and with whoever keeps it

T = TypeVar("T")


class Twin:
    """The copy, and what one look at all of its offers showed."""

    def __init__(self, market: MarketService, *, clock: Clock) -> None:
        """Begin without a copy."""
        self._market = market
        self._clock = clock
        self._book = Book()
        self._seen: Survey | None = None
        self._at_ms = 0
        self._lock = asyncio.Lock()

    async def ask(self, question: Callable[[Book, Survey], T]) -> T:
        """Put a question to a book that is at most ``FRESH_MS`` old, and its offers."""
        async with self._lock:
            now_ms = self._clock.monotonic_ms()
            if self._seen is None or now_ms - self._at_ms > FRESH_MS:
                self._book, self._at_ms = self._market.book.copy(), now_ms
                self._seen = await asyncio.to_thread(survey, self._book)
            return await asyncio.to_thread(question, self._book, self._seen)
