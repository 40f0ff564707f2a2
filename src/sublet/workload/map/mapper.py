"""The shell around the task core: carries out its orders, brings it facts.

One loop takes facts in the order in which they come, lets the core step, and obeys. A
result is on this disk before its worker hears that it may forget it.

Not here: what follows from what (``core.task``), one worker (``worker``), the folder of
results (``store``).
"""

import asyncio
import base64
import contextlib
import time
from pathlib import Path
from typing import Any

from sublet.base.errors import Refused, Unavailable
from sublet.base.limits import TASKS_MAX
from sublet.base.units import compute_owed
from sublet.core.task import fact, order
from sublet.core.task.outlook import Outlook, look_ahead
from sublet.core.task.state import Map, MapLimits, MapPhase, find_copies
from sublet.core.task.task import start, step
from sublet.workload.map.book import TaskBook
from sublet.workload.map.earlier import Earlier
from sublet.workload.map.herald import Herald, Show, describe_worker
from sublet.workload.map.plan import MapWork
from sublet.workload.map.result import TaskResult
from sublet.workload.map.roll import Roll
from sublet.workload.map.store import Store
from sublet.workload.map.supply import Supply
from sublet.workload.map.task import read_data, read_stdin
from sublet.workload.map.worker import Worker
from sublet.workload.run.work import Tenant

TICK_S = 0.25


class Mapper:
    """Runs one map to its end."""

    def __init__(
        self,
        *,
        tenant: Tenant,
        work: MapWork,
        book: TaskBook,
        earlier: Earlier,
        limits: MapLimits,
        store: Store,
        show: Show,
    ) -> None:
        """Take who, what, and where results go; nothing is started yet.

        Args:
            tenant: who rents.
            work: what all workers have in common.
            book: all tasks of the map.
            earlier: what earlier runs have left.
            limits: of what is pending.
            store: open; takes the results.
            show: takes events.
        """
        self._tenant = tenant
        self._work = work
        self._store = store
        self._state = start(limits, dismissed=tuple(store.read_dismissed()))
        self._workers: dict[int, Worker] = {}
        self._inbox: asyncio.Queue[fact.Fact] = asyncio.Queue()
        self._offset_ms = int(time.time() * 1_000) - tenant.clock.monotonic_ms()
        self.roll = Roll(
            book,
            store=store,
            earlier=earlier,
            is_open=limits.is_open,
            now_ms=self.now_ms,
            say=self._say,
        )
        self._herald = Herald(show, now_ms=self.now_ms, name=self.roll.name)
        self._group = asyncio.TaskGroup()
        self._fault: Unavailable | Refused | None = None
        self._supply = (
            Supply(
                tenant=tenant,
                work=work.work,
                now_ms=self.now_ms,
                tasks=TASKS_MAX if limits.is_open else limits.tasks,
                total_max=limits.total_max,
            )
            if work.work.terms.needs.volume_s
            else None
        )

    @property
    def state(self) -> Map:
        """How the map stands."""
        return self._state

    def now_ms(self) -> int:
        """Milliseconds since the epoch, by a clock that never goes back."""
        return self._offset_ms + self._tenant.clock.monotonic_ms()

    def stop(self) -> None:
        """Ask for all workers to be stopped and settled; twice is harmless."""
        self._say(fact.StopAsked(at_ms=self.now_ms()))

    def look(self) -> Outlook:
        """Say how far it is and what it may come to."""
        return look_ahead(
            self._state,
            tasks=len(self.roll.book),
            done=self.roll.done,
            failed=self.roll.failed,
        )

    def describe_workers(self) -> list[str]:
        """Say what each worker does, one line each."""
        return [
            describe_worker(one, self._workers[one.number], self.roll.name)
            for one in self._state.workers
            if one.number in self._workers
        ]

    async def run(self) -> Map:
        """Run the map to its end; give how it stands then.

        Raises:
            Unavailable: this machine could not keep a result; all that was kept stays.
            Refused: the tasks' file changed, or a task's input is not there.
            Broken: an invariant fell.
        """
        try:
            async with self._group:
                ticking = self._group.create_task(self._tick())
                await self._live()
                ticking.cancel()
        except BaseExceptionGroup as group:
            found: BaseException = group
            while isinstance(found, BaseExceptionGroup):
                found = found.exceptions[0]
            raise found from None
        finally:
            if self._supply is not None:
                await self._supply.close()
        if self._fault is not None:
            raise self._fault
        return self._state

    async def _live(self) -> None:
        for added in self.roll.opening:
            await self._take(added)
        await self._take(fact.Begun(at_ms=self.now_ms()))
        while self._state.phase is not MapPhase.FINISHED:
            await self._take(await self._inbox.get())

    async def _take(self, said: fact.Fact) -> None:
        self._state, orders = step(self._state, said)
        if self._state.phase is not MapPhase.RUNNING:
            self.roll.is_open = False
        if isinstance(said, fact.WorkerEnded):
            await self._bury(said)
        if isinstance(said, fact.TaskProgressed | fact.TaskEnded):
            await self._herald.tell_progress(said, self._workers.get(said.worker))
        for one in orders:
            await self._obey(one)
        await self._herald.tell_move(said.at_ms)

    async def _obey(self, one: order.Order) -> None:
        match one:
            case order.StartWorker():
                self._start(one)
            case order.StopWorker():
                if self._supply and self._state.phase is MapPhase.STOPPING:
                    await self._supply.close()  # else it rents what is left just now
                worker = self._workers[one.worker]
                if one.reason != "cancelled":
                    await self._herald.tell_blame(worker, one.reason)
                worker.stop() if one.is_paid else worker.dismiss(one.reason)
            case order.SendTask():
                await self._send(one)
            case order.CancelTask():
                self._workers[one.worker].session.cancel(one.task)
            case order.AckTask():
                worker = self._workers[one.worker]
                worker.answers.pop(one.task, None)
                worker.session.ack(one.task)
            case order.KeepResult():
                await self._keep(one)
            case order.KeepLoss():
                await self._keep_loss(one)
            case order.Finish():
                pass
            case _:
                raise AssertionError(f"nobody obeys {type(one).__name__}")

    # ---- workers ----------------------------------------------------------------------

    def _start(self, one: order.StartWorker) -> None:
        worker = Worker(
            one.worker,
            tenant=self._tenant,
            work=self._work.work,
            cap=one.cap,
            avoid=one.avoid,
            scratch=self._store.folder / ".scratch",
            say=self._say,
            supply=self._supply,
        )
        self._workers[one.worker] = worker
        self._group.create_task(self._run(worker))

    async def _run(self, worker: Worker) -> None:
        # Noted before it is rented: whoever goes on after us can stop it.
        await asyncio.to_thread(self._store.note_job, worker.work.id)
        await worker.run()

    async def _bury(self, said: fact.WorkerEnded) -> None:
        worker = self._workers.pop(said.worker, None)
        if worker is None:
            return
        self._fault = self._fault or worker.local_fault
        await self._herald.tell_left(said, worker)

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(TICK_S)
            costs = {number: one.cost for number, one in self._workers.items()}
            self._say(fact.Ticked(at_ms=self.now_ms(), costs=costs))

    # ---- tasks ------------------------------------------------------------------------

    async def _send(self, one: order.SendTask) -> None:
        for other, _ in find_copies(self._state).get(one.task, ()):
            if other.number != one.worker:
                holder = self._workers[other.number]
                await self._herald.tell_delay(one.task, holder, reason="slow")
        try:
            task_id, message = await asyncio.to_thread(self._read, one.task)
        except Refused as fault:
            self._fault = self._fault or fault
            self.stop()
            return
        message["id"] = task_id
        self._workers[one.worker].session.send(one.task, message)

    def _read(self, place: int) -> tuple[str, dict[str, Any]]:
        task_id, task = self.roll.read(place)
        message: dict[str, Any] = {
            "head": self._work.head,
            "timeout_s": self._state.limits.timeout_ms / 1_000,
            "stall_s": self._state.limits.stall_ms / 1_000,
        }
        if self._work.is_warm:
            own = {"args": task.words, "env": task.env, "data": read_data(task)}
            return task_id, {**message, "args": self._work.args, "warm": own}
        return task_id, {
            **message,
            "args": (*self._work.args, *task.words),
            "env": task.env,
            "stdin": base64.b64encode(read_stdin(task)).decode(),
        }

    async def _keep(self, one: order.KeepResult) -> None:
        worker = self._workers[one.worker]
        said, files = worker.answers[one.task]
        number, task_id = await asyncio.to_thread(self.roll.name, one.task)
        result = TaskResult(
            id=task_id,
            number=number,
            outcome=said.outcome,
            exit_code=said.exit_code,
            stdout=said.stdout.decode(errors="replace"),
            stderr=said.stderr.decode(errors="replace"),
            is_cut=said.stdout_bytes > len(said.stdout),
            files=_count(files),
            attempts=one.attempts,
            ran_ms=one.ran_ms,
            cost=compute_owed(price_hour=worker.price_hour, ran_ms=one.ran_ms),
            provider=worker.provider,
            lease=worker.lease_id,
            job=worker.work.id,
        )
        await self._store_result(result, files)

    async def _keep_loss(self, one: order.KeepLoss) -> None:
        number, task_id = await asyncio.to_thread(self.roll.name, one.task)
        lost = f"{one.attempts} attempts, and each time its machine was lost or full"
        await self._store_result(
            TaskResult(
                id=task_id,
                number=number,
                outcome="lost",
                exit_code=255,
                attempts=one.attempts,
                note=one.note or lost,
            ),
            None,
        )

    async def _store_result(self, result: TaskResult, files: Path | None) -> None:
        try:
            await self.roll.keep(result, files)
        except Unavailable as fault:
            # What cannot be kept must not be paid for any longer.
            self._fault = self._fault or fault
            self.stop()
            return
        await self._herald.tell_result(result)

    def _say(self, said: fact.Fact) -> None:
        self._inbox.put_nowait(said)


def _count(files: Path | None) -> int:
    if files is None:
        return 0
    with contextlib.suppress(OSError):
        return sum(path.is_file() for path in files.rglob("*"))
    return 0
