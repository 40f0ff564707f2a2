"""What an audit can say of an entry without any other: bytes, id, signer, signature.

It is most of the work and needs no order. So pages of entries may be checked beside
each other, in other processes, while the fold takes them in the order of the log: what
is found wrong is the same, however many there are.

Not here: what entries do to the book and to the tree (``audit``).
"""

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import BrokenExecutor, Executor
from functools import partial
from typing import Protocol

from sublet.base.errors import PeerFault, Refused, SubletError, Unavailable
from sublet.base.ids import Digest
from sublet.core.document import Entry
from sublet.core.merkle import leaf_hash
from sublet.service.ports import Codec, Row
from sublet.service.verdict import Finding, Wrong, say_wrong

PAGES_AHEAD = 8  # under way to the fold: more processes than this have no work

Checked = Entry | Finding
Page = list[tuple[Row, Checked]]


class RowSource(Protocol):
    """Where entries come from."""

    def read(self, *, first: int, limit: int) -> list[Row]:
        """Give up to ``limit`` rows from index ``first`` on, in order."""
        ...


def check_entry(row: Row, codec: Codec, *, market: Digest | None) -> Entry:
    """Check bytes, leaf, id, signer and signature of one entry.

    Args:
        row: nothing in it is believed.
        codec: of the market; it learns the market from an entry 0.
        market: whose log this is; None where this very entry founds it.

    Raises:
        Wrong: with the finding.
    """
    number = row.index
    if leaf_hash(row.body) != row.leaf:
        why = f"the bytes of entry {number} do not hash to the leaf stored for it"
        say_wrong("leaf", why, number, id=row.id)
    try:
        if market is None:
            market = codec.read_entry(row.body).fact.id
        entry = codec.verify_entry(row.body, market=market)
    except (PeerFault, Refused) as error:
        why = f"entry {number}: {error.message}"
        say_wrong("entry", why, number, id=row.id, code=error.code)
    if row.id and row.id != entry.fact.id:
        why = f"entry {number} is filed under {row.id}, its id is {entry.fact.id}"
        say_wrong("stored_id", why, number, id=entry.fact.id)
    return entry


def check_page(rows: list[Row], codec: Codec, *, market: Digest) -> list[Checked]:
    """Check entries one by one, up to the first that is wrong: its finding is the last.

    Pure, and of values that travel, so that any process can do it.
    """
    checked: list[Checked] = []
    for row in rows:
        try:
            checked.append(check_entry(row, codec, market=market))
        except Wrong as wrong:
            checked.append(wrong.finding)
            break
    return checked


class EntryAudit:
    """Reads pages and has them checked: here, or ahead of the fold by an executor."""

    def __init__(
        self,
        source: RowSource,
        codec: Codec,
        *,
        market: Digest,
        executor: Executor | None,
        page_entries: int,
    ) -> None:
        """Take where rows come from and who checks them; None is this very process."""
        self._source = source
        self._check = partial(check_page, codec=codec, market=market)
        self._executor = executor
        self._page_entries = page_entries

    def pages(self, first: int) -> Iterator[Page]:
        """Give all pages from entry ``first`` on, in order, until the source has none.

        What fails on a page is raised where that page would come, after those before.

        Raises:
            SubletError: what the source raises.
            Unavailable: a process of the executor died.
        """
        try:
            yield from self._pages(first)
        except BrokenExecutor as error:
            raise Unavailable(
                "a process that checked signatures died; try again with --jobs 1",
                code="audit_interrupted",
            ) from error

    def _pages(self, first: int) -> Iterator[Page]:
        waiting: deque[Callable[[], Page]] = deque()
        failure: SubletError | None = None
        ahead = 0 if self._executor is None else PAGES_AHEAD
        is_more = True
        while is_more or waiting:
            while is_more and len(waiting) <= ahead:
                try:
                    rows = self._source.read(first=first, limit=self._page_entries)
                except SubletError as error:
                    failure, rows = error, []
                is_more = bool(rows)
                first += len(rows)
                if rows:
                    waiting.append(self._begin(rows))
            if waiting:
                yield waiting.popleft()()
        if failure is not None:
            raise failure

    def _begin(self, rows: list[Row]) -> Callable[[], Page]:
        """Have a page checked; give what waits for it."""
        if self._executor is None:
            return lambda: list(zip(rows, self._check(rows), strict=False))
        checking = self._executor.submit(self._check, rows)
        return lambda: list(zip(rows, checking.result(), strict=False))
