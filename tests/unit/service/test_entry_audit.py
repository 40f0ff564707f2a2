"""Pages of entries: checked apart from each other, heard of in the log's order."""

import asyncio
import multiprocessing
import os
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor

import msgspec
import pytest

from sublet.base.errors import Broken, Unavailable
from sublet.core.document import Entry
from sublet.service.entry_audit import PAGES_AHEAD, EntryAudit, check_page
from sublet.service.ports import Row
from sublet.service.verdict import Finding
from sublet.wire.codec import DocumentCodec
from tests.fakes.tampered_log import TamperedLog, build_log
from tests.fakes.world import World

WORLD = World()
LOG = asyncio.run(build_log(WORLD))
SIZE = len(LOG.rows)
PAGE = 4  # entries


@pytest.fixture(scope="module")
def processes() -> Iterator[Executor]:
    context = multiprocessing.get_context("forkserver")
    with ProcessPoolExecutor(2, mp_context=context) as executor:
        yield executor


class Source:
    """Counts the pages that are read, and fails from one of them on."""

    def __init__(self, log: TamperedLog, *, fails_at: int = SIZE + 1) -> None:
        self.log = log
        self.fails_at = fails_at
        self.reads = 0

    def read(self, *, first: int, limit: int) -> list[Row]:
        self.reads += 1
        if first >= self.fails_at:
            raise Broken("the file is damaged")
        return self.log.read(first=first, limit=limit)


def make_audit(source: Source, executor: Executor | None) -> EntryAudit:
    return EntryAudit(
        source,
        DocumentCodec(WORLD.domain),
        market=WORLD.market_id,
        executor=executor,
        page_entries=PAGE,
    )


def spoil(log: TamperedLog, number: int) -> None:
    """Break the signature of an entry and mend its leaf."""
    log.put(
        number, log.rows[number].body.replace(b'"signature":"0x', b'"signature":"0X')
    )


def test_page_ends_with_its_first_finding() -> None:
    log = LOG.copy()
    for number in (3, 5):
        spoil(log, number)
    codec = DocumentCodec(WORLD.domain)
    *true, last = check_page(log.rows[:8], codec, market=WORLD.market_id)
    assert [type(each) for each in true] == [Entry] * 3
    assert isinstance(last, Finding)
    assert (last.what, last.first, last.code) == ("entry", 3, "bad_field")


@pytest.mark.parametrize("makes", [lambda: None, lambda: ThreadPoolExecutor(3)])
def test_pages_come_in_order(makes: Callable[[], Executor | None]) -> None:
    pages = list(make_audit(Source(LOG), makes()).pages(2))
    rows = [row for page in pages for row, _ in page]
    assert [row.index for row in rows] == list(range(2, SIZE))
    assert all(isinstance(each, Entry) for page in pages for _, each in page)
    assert {len(page) for page in pages[:-1]} == {PAGE}


def test_processes_find_the_same(processes: Executor) -> None:
    log = LOG.copy()
    spoil(log, SIZE - 2)
    alone = list(make_audit(Source(log), None).pages(0))
    assert list(make_audit(Source(log), processes).pages(0)) == alone
    assert isinstance(alone[-1][-1][1], Finding)


@pytest.mark.parametrize("number", [0, PAGE - 1, PAGE, SIZE - 1])
def test_verdict_is_that_of_one_process(number: int, processes: Executor) -> None:
    for spoils in (True, False):
        log = LOG.copy()
        if spoils:
            spoil(log, number)
        # A later entry that is worse must not be told first.
        later = (number + SIZE) // 2
        log.rows[later] = msgspec.structs.replace(log.rows[later], leaf=bytes(32))
        alone = log.audit(page_entries=PAGE)
        assert log.audit(page_entries=PAGE, executor=processes) == alone
        assert alone.finding is not None
        assert alone.finding.first == (number if spoils else later)


def test_true_log_is_true_for_processes(processes: Executor) -> None:
    verdict = LOG.audit(page_entries=PAGE, executor=processes)
    assert verdict.is_good
    assert verdict == LOG.audit()


def test_reads_only_some_pages_ahead() -> None:
    with ThreadPoolExecutor(1) as executor:
        source = Source(LOG)
        pages = make_audit(source, executor).pages(0)
        assert source.reads == 0
        next(pages)
        assert source.reads == PAGES_AHEAD + 1 < SIZE // PAGE
        next(pages)
        assert source.reads == PAGES_AHEAD + 2
    source = Source(LOG)
    next(make_audit(source, None).pages(0))
    assert source.reads == 1


def test_failure_comes_behind_earlier_pages() -> None:
    with ThreadPoolExecutor(1) as executor:
        for executor_or_none in (executor, None):
            source = Source(LOG, fails_at=2 * PAGE)
            pages = make_audit(source, executor_or_none).pages(0)
            assert [row.index for row, _ in next(pages)] == list(range(PAGE))
            assert len(next(pages)) == PAGE
            with pytest.raises(Broken, match="damaged"):
                next(pages)


def test_process_that_dies_is_told() -> None:
    context = multiprocessing.get_context("forkserver")
    with ProcessPoolExecutor(1, mp_context=context) as executor:
        assert executor.submit(os._exit, 1).exception() is not None
        with pytest.raises(Unavailable) as caught:
            list(make_audit(Source(LOG), executor).pages(0))
    assert caught.value.code == "audit_interrupted"
