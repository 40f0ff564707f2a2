"""A large market is searched by compiled code, which is loaded beside the node's work.

Decisions are the same with it and without; compiling takes seconds of another thread.
"""

import asyncio
from collections.abc import Callable

from sublet.core.book.book import Book
from sublet.core.book.compiled import is_large, load_kernel
from sublet.node.journal import Journal

LOOK_S = 5.0  # between two looks at how large the market is


async def quicken(find_book: Callable[[], Book], *, journal: Journal) -> None:
    """Load the compiled search once the market is large; run until cancelled."""
    while True:
        book = find_book()
        if is_large(book.offers):
            await _load(book, journal=journal)
            await asyncio.Event().wait()
        await asyncio.sleep(LOOK_S)


async def _load(book: Book, *, journal: Journal) -> None:
    book.kernel = await asyncio.to_thread(load_kernel)
    if book.kernel is None:
        journal.info("search_not_compiled", cure="pip install 'sublet[fast]'")
    else:
        journal.info("search_compiled")
