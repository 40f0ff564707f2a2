"""A map under way: begun, or gone on with, from what its folder holds."""

import asyncio
import contextlib
import secrets
import shutil
from array import array
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from blake3 import blake3
from msgspec import Struct, structs

from sublet.base.errors import Refused, SubletError
from sublet.base.units import format_money
from sublet.core.document import Stop
from sublet.core.job.move import CANCELLED
from sublet.core.job.record import JobRecord
from sublet.core.job.state import JobPhase
from sublet.core.lease.phase import Lease, Phase
from sublet.core.task.outlook import Outlook
from sublet.workload.map import event
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
from sublet.workload.map.task import TaskList, open_tasks, write_tasks
from sublet.workload.run import survey
from sublet.workload.run.term import parse_terms
from sublet.workload.run.wish import Wish
from sublet.workload.run.work import Tenant

RESULTS_MAX = 1_024  # that whoever iterates may be behind
SALT_BITS = 62
OPEN, DONE, FAILED = 0, 1, 2
Show = Callable[[event.AnyEvent], Awaitable[None]]


class Earlier(Struct, frozen=True):
    """What the folder holds of earlier runs."""

    pending: "array[int]"
    ends: bytearray  # of each task: still to be run, done, failed
    done: int
    failed: int


class RunningMap:
    """A map under way: iterate over results, ask how far it is, stop it."""

    def __init__(
        self, mapper: Mapper, *, store: Store, earlier: Earlier, cost_before: int
    ) -> None:
        """Take what runs; use ``begin_map``."""
        self._earlier = earlier
        self.folder = store.folder
        self._mapper = mapper
        self._store = store
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
        given = bytearray(len(self._earlier.ends))
        for result in self._store.read():
            # A task that failed and was tried again has two lines; one counts.
            if self._earlier.ends[result.number] == _find_end(result):
                if not given[result.number]:
                    yield result
                given[result.number] = 1
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
        is_whole = state.outcome in ("done", "failed") and not look.waiting
        outcome = "failed" if is_whole and look.failed else state.outcome
        return MapResult(
            outcome=outcome,
            message=state.message,
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
        earlier = await asyncio.to_thread(
            _read_earlier, store, len(listed), retry_failed=map_wish.retry_failed
        )
        cost = await _settle_earlier(store, tenant)
        left = limits.total_max - cost
        if left <= 0 and earlier.pending:
            raise Refused(
                f"--max-total: earlier runs of this map cost {format_money(cost)}; name "
                "more than that to go on",
                code="budget_used_up",
                field="--max-total",
            )
        listeners: list[Show] = [show]

        async def tell(said: event.AnyEvent) -> None:
            for listener in listeners:
                await listener(said)

        mapper = Mapper(
            tenant=tenant,
            work=work,
            tasks=listed,
            pending=earlier.pending,
            limits=structs.replace(
                limits, tasks=len(earlier.pending), total_max=max(left, 0)
            ),
            store=store,
            show=tell,
            earlier=(earlier.done, earlier.failed),
        )
        running = RunningMap(mapper, store=store, earlier=earlier, cost_before=cost)
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


def _read_earlier(store: Store, tasks: int, *, retry_failed: bool) -> Earlier:
    ends = bytearray(tasks)
    for result in store.read():
        if not 0 <= result.number < tasks:
            raise Refused(
                f"{store.folder}/results.jsonl names a task that there is not; name "
                "another folder with --results",
                code="results_damaged",
                field="--results",
            )
        if ends[result.number] != DONE:
            ends[result.number] = _find_end(result)
    if retry_failed:
        ends = ends.replace(bytes([FAILED]), bytes([OPEN]))
    pending = array("Q", (number for number, end in enumerate(ends) if end == OPEN))
    return Earlier(
        pending=pending,
        ends=ends,
        done=ends.count(DONE),
        failed=ends.count(FAILED),
    )


def _find_end(result: TaskResult) -> int:
    return DONE if result.is_done else FAILED


async def _settle_earlier(store: Store, tenant: Tenant) -> int:
    """Stop what an interrupted run has left running; give what all runs have cost."""
    wanted = set(store.read_jobs())
    records = [one for one in tenant.home.read_jobs() if one.id in wanted]
    if not records:
        return 0
    leases = {one.id: one for one in await tenant.connection.leases(is_all=True)}
    cost = 0
    for record in records:
        if record.job.phase is not JobPhase.FINISHED:
            await _stop(record, leases, tenant)
        for attempt in record.job.attempts:
            lease = leases.get(attempt.lease_id)
            signed = attempt.authorized if attempt.paid < 0 else attempt.paid
            if lease is None:
                cost += signed
            elif lease.phase is Phase.SETTLED:
                cost += lease.paid
            else:
                cost += max(signed, lease.paid)
    return cost


async def _stop(record: JobRecord, leases: dict[str, Lease], tenant: Tenant) -> None:
    for attempt in record.job.attempts:
        lease = leases.get(attempt.lease_id)
        if lease is None or lease.phase is Phase.SETTLED:
            continue
        document = Stop(
            lease_id=attempt.lease_id,
            reason=CANCELLED,
            signed_at_s=tenant.clock.now_s(),
            salt=secrets.randbits(SALT_BITS),
        )
        # One that has ended meanwhile needs no stopping.
        with contextlib.suppress(SubletError):
            await tenant.connection.submit(document)
