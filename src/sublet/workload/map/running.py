"""A map under way: begun, or gone on with, from what its folder holds."""

import asyncio
import contextlib
import secrets
import shutil
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from blake3 import blake3
from msgspec import structs

from sublet.base.errors import Refused
from sublet.base.ids import Address
from sublet.base.units import format_money
from sublet.core.task.outlook import Outlook
from sublet.core.task.state import MapLimits
from sublet.workload.map import event
from sublet.workload.map.book import TaskBook
from sublet.workload.map.earlier import Earlier, read_earlier, settle_earlier
from sublet.workload.map.herald import Show
from sublet.workload.map.mapper import Mapper
from sublet.workload.map.plan import (
    MapWish,
    MapWork,
    add_volume,
    gather_work,
    parse_limits,
)
from sublet.workload.map.result import MapResult, TaskResult
from sublet.workload.map.store import Identity, Store
from sublet.workload.map.task import Task, TaskList, open_tasks, write_tasks
from sublet.workload.run import survey
from sublet.workload.run.term import parse_terms
from sublet.workload.run.wish import Wish
from sublet.workload.run.work import Tenant

RESULTS_MAX = 1_024  # that whoever iterates may be behind


class RunningMap:
    """A map under way: iterate over results, ask how far it is, stop it."""

    def __init__(
        self,
        mapper: Mapper,
        *,
        store: Store,
        book: TaskBook,
        earlier: Earlier,
        cost_before: int,
    ) -> None:
        """Take what runs; use ``begin_map``."""
        self._earlier = earlier
        self.folder = store.folder
        self._mapper = mapper
        self._store = store
        self._book = book
        self._cost_before = cost_before
        self._results: asyncio.Queue[TaskResult | None] = asyncio.Queue(RESULTS_MAX)
        self._is_heard = False
        self._task: asyncio.Task[MapResult] | None = None
        self._at_end = contextlib.ExitStack()

    def on_end(self, stack: contextlib.ExitStack) -> None:
        """Take what is to be let go of when the map is over."""
        self._at_end = stack

    async def close(self) -> None:
        """Stop what still runs, and settle it; twice is harmless."""
        if self._task is None:
            self._at_end.close()
        elif not self._task.done():
            self.stop()
            await asyncio.shield(self.result())

    async def __aiter__(self) -> AsyncIterator[TaskResult]:
        self._is_heard = True
        for line, result in enumerate(self._store.read(), 1):
            if self._earlier.lines[result.number] == line:
                yield result
        # Begun only now, so that no result is given twice.
        self.begin()
        while (one := await self._results.get()) is not None:
            yield one

    def look(self) -> Outlook:
        """Say how far it is and what it may come to."""
        return self._mapper.look()

    def workers(self) -> list[str]:
        """Say what each worker does, one line each."""
        return self._mapper.describe_workers()

    # ---- while it runs ----------------------------------------------------------------

    async def add(
        self,
        items: Iterable[Any],
        *,
        avoid: Sequence[Address] = (),
        is_urgent: bool = False,
    ) -> range:
        """Give it more tasks; give their numbers. They are durable when this returns.

        Where no other provider than those of ``avoid`` can be had, such a task ends as
        lost.

        Args:
            items: as ``start_map`` takes them.
            avoid: addresses of providers that must not get them, eight at most.
            is_urgent: they come before all that wait.

        Raises:
            Refused: something is no task, or the map takes none any more.
            Unavailable: the disk did not take them.
        """
        return await self._mapper.roll.add(
            items, avoid=tuple(avoid), is_urgent=is_urgent
        )

    def close_tasks(self) -> None:
        """Say that no more tasks will come: it ends when all have."""
        self._mapper.roll.close_tasks()

    def read_added(self) -> Iterator[tuple[int, str, Task]]:
        """Give the tasks that were ever added: number, id, content. Blocks."""
        for number in range(self._book.began_with, len(self._book)):
            yield number, *self._book.read(number)

    async def redo(self, numbers: Iterable[int]) -> None:
        """Take back results, durably, and have their tasks run by other providers.

        Raises:
            Refused: one has no result, or the map takes no tasks any more.
            Unavailable: the disk did not take it.
        """
        await self._mapper.roll.redo(numbers)

    async def dismiss(self, provider: Address, *, reason: str) -> None:
        """Leave a provider for good, now and when the map is gone on with.

        Its workers are stopped, what they were at goes to others, and nothing more is
        signed for their leases. Results of it that are kept stay: see ``redo``.

        Args:
            provider: its address.
            reason: a word for the log of events.

        Raises:
            Unavailable: the disk did not take it.
        """
        await self._mapper.roll.dismiss(provider, reason=reason)

    def stop(self) -> None:
        """Ask for all workers to be stopped and settled; results stay."""
        self._mapper.stop()

    def begin(self) -> None:
        """Start; the second time is harmless."""
        if self._task is None:
            self._task = asyncio.create_task(self._run())

    async def result(self) -> MapResult:
        """Wait for the end; results that nobody has taken are in the folder.

        Raises:
            Unavailable: this machine could not keep a result.
            Refused: the file of tasks changed meanwhile.
        """
        self._is_heard = False
        while not self._results.empty():
            self._results.get_nowait()
        self.begin()
        if self._task is None:
            raise AssertionError("begun just now")
        return await self._task

    async def hear(self, said: event.AnyEvent) -> None:
        """Take a result for whoever iterates; the map waits for a slow one."""
        if self._is_heard and isinstance(said, event.TaskKept):
            await self._results.put(said.result)

    async def _run(self) -> MapResult:
        try:
            state = await self._mapper.run()
        finally:
            self._at_end.close()
            if self._is_heard:
                await self._results.put(None)
        look = self.look()
        outcome, message = state.outcome, state.message
        if outcome in ("done", "failed") and not look.waiting:
            # Of this and earlier runs; what was taken back counts no more.
            outcome = "failed" if look.failed else "done"
            message = f"{look.failed} tasks failed" if look.failed else ""
        return MapResult(
            outcome=outcome,
            message=message,
            tasks=look.tasks,
            done=look.done,
            failed=look.failed,
            cost=state.spent,
            cost_before=self._cost_before,
            workers=state.workers_ever,
            folder=str(self.folder),
        )


async def begin_map(
    wish: Wish,
    map_wish: MapWish,
    tasks: str | Path | Iterable[Any],
    *,
    tenant: Tenant,
    environment: Mapping[str, str],
    results: Path | None,
    show: Show,
) -> RunningMap:
    """Make a map ready to run; nothing is bought yet.

    Args:
        wish: the program, and what each worker needs.
        map_wish: how many workers, how stubborn.
        tasks: a file of them, or the items themselves.
        tenant: who pays.
        environment: where variables without a value are taken from.
        results: the folder; None for one that goes with the map.
        show: takes events.

    Raises:
        Faults: something about wish or tasks.
        Refused: the folder holds another map, or its money is used up.
        Unavailable: the disk or the market did not answer.
    """
    terms = parse_terms(
        wish,
        environment=environment,
        read_secret=survey.read_secret,
        now_s=tenant.clock.now_s(),
    )
    terms = add_volume(map_wish, terms, max_price=wish.max_price)
    limits = parse_limits(map_wish, terms)
    scratch = tenant.home.path / "maps" / secrets.token_hex(6)
    store = Store(results if results is not None else scratch / "results")
    with contextlib.ExitStack() as undo:
        undo.callback(shutil.rmtree, scratch, ignore_errors=True)
        undo.callback(store.close)
        await asyncio.to_thread(scratch.mkdir, mode=0o700, parents=True)
        listed = await asyncio.to_thread(_list_tasks, tasks, scratch)
        work = await asyncio.to_thread(
            gather_work,
            wish,
            terms,
            folder=scratch / "blobs",
            is_warm=map_wish.is_warm,
        )
        await asyncio.to_thread(store.open, _identify(work, listed, wish))
        book = TaskBook(listed, store.folder)
        undo.callback(book.close)
        await asyncio.to_thread(book.open)
        earlier = await asyncio.to_thread(
            read_earlier, store, book, retry_failed=map_wish.retry_failed
        )
        cost = await settle_earlier(store, tenant)
        left = _find_left(limits, earlier, cost=cost)
        listeners: list[Show] = [show]

        async def tell(said: event.AnyEvent) -> None:
            for listener in listeners:
                await listener(said)

        mapper = Mapper(
            tenant=tenant,
            work=work,
            book=book,
            earlier=earlier,
            limits=structs.replace(limits, tasks=len(earlier.pending), total_max=left),
            store=store,
            show=tell,
        )
        running = RunningMap(
            mapper, store=store, book=book, earlier=earlier, cost_before=cost
        )
        listeners.append(running.hear)
        if earlier.done or earlier.failed:
            await show(
                event.Resumed(
                    at_ms=mapper.now_ms(),
                    done=earlier.done,
                    failed=earlier.failed,
                    cost=cost,
                )
            )
        kept = undo.pop_all()
    running.on_end(kept)
    return running


def _find_left(limits: MapLimits, earlier: Earlier, *, cost: int) -> int:
    left = limits.total_max - cost
    if left <= 0 and (earlier.pending or earlier.special):
        raise Refused(
            f"--max-total: earlier runs of this map cost {format_money(cost)}; name "
            "more than that to go on",
            code="budget_used_up",
            field="--max-total",
        )
    return max(left, 0)


def _list_tasks(tasks: str | Path | Iterable[Any], scratch: Path) -> TaskList:
    if isinstance(tasks, str | Path):
        return open_tasks(Path(tasks))
    write_tasks(tasks, scratch / "tasks.jsonl")
    return open_tasks(scratch / "tasks.jsonl")


def _identify(work: MapWork, tasks: TaskList, wish: Wish) -> Identity:
    both = f"{work.fingerprint} {tasks.fingerprint}".encode()
    return Identity(
        fingerprint=blake3(both).hexdigest(),
        command=work.work.program.command,
        tasks=len(tasks),
    )
