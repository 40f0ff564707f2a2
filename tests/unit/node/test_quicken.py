"""A large market's search is compiled beside the node's work; a small one's is not."""

import asyncio
from contextlib import suppress
from random import Random

import pytest

from sublet.core.book.book import Book
from sublet.core.book.compiled import is_large
from sublet.node import quicken as module
from sublet.node.journal import Journal
from sublet.node.quicken import quicken
from tests.unit.core.book.test_compiled import put_offer


async def test_loads_it_once_the_market_is_large(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pytest.importorskip("numba")
    monkeypatch.setattr(module, "LOOK_S", 0.01)
    book, draw = Book(), Random(1)
    looked, loaded = asyncio.Event(), asyncio.Event()

    def find_book() -> Book:
        looked.set()
        return book

    class Heard(Journal):
        def info(self, event: str, **values: str | int | float) -> None:
            assert event == "search_compiled"
            loaded.set()

    task = asyncio.create_task(quicken(find_book, journal=Heard()))
    try:
        async with asyncio.timeout(90):
            await looked.wait()
            assert book.kernel is None
            for number in range(10_000):
                put_offer(book, draw, number)
                if is_large(book.offers):
                    break
            await loaded.wait()
        assert book.kernel is not None
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
