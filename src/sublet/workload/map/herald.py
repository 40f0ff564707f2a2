"""What is said of a map to whoever looks on: events, and a line for each worker."""

from collections.abc import Awaitable, Callable

from sublet.core.task import fact, state
from sublet.workload.map import event
from sublet.workload.map.result import TaskResult
from sublet.workload.map.worker import PPM, Worker
from sublet.workload.run.evidence import printable

Show = Callable[[event.AnyEvent], Awaitable[None]]
Name = Callable[[int], tuple[int, str]]  # of a task of this run: its number, its id


class Herald:
    """Tells events; waits for a slow listener."""

    def __init__(self, show: Show, *, now_ms: Callable[[], int], name: Name) -> None:
        """Take who hears, the time, and how tasks are called."""
        self._show = show
        self._now_ms = now_ms
        self._name = name

    async def tell_move(self, at_ms: int) -> None:
        """Tell that something moved."""
        await self._show(event.Moved(at_ms=at_ms))

    async def tell_result(self, result: TaskResult) -> None:
        """Tell that a task has ended, and its result is on the disk."""
        await self._show(event.TaskKept(at_ms=self._now_ms(), result=result))

    async def tell_progress(
        self, said: fact.TaskProgressed | fact.TaskEnded, worker: Worker | None
    ) -> None:
        """Tell how far a task is, or that it got no further."""
        if worker is None:
            return
        if isinstance(said, fact.TaskEnded):
            if said.outcome == "stalled":
                await self.tell_delay(said.task, worker, reason="stalled")
            return
        number, name = self._name(said.task)
        await self._show(
            event.TaskProgressed(
                at_ms=said.at_ms,
                task=name,
                number=number,
                worker=said.worker,
                provider=worker.provider,
                share=said.share_ppm / PPM,
                text=worker.words,
            )
        )

    async def tell_delay(self, place: int, worker: Worker, *, reason: str) -> None:
        """Tell that a task is run elsewhere, or is there too, and why."""
        number, name = self._name(place)
        await self._show(
            event.TaskDelayed(
                at_ms=self._now_ms(),
                task=name,
                number=number,
                worker=worker.number,
                provider=worker.provider,
                reason=reason,
            )
        )

    async def tell_blame(self, worker: Worker, reason: str) -> None:
        """Tell that a worker is left for what it did."""
        await self._show(
            event.WorkerBlamed(
                at_ms=self._now_ms(),
                worker=worker.number,
                provider=worker.provider,
                reason=reason,
            )
        )

    async def tell_left(self, said: fact.WorkerEnded, worker: Worker) -> None:
        """Tell that a worker's lease is over."""
        await self._show(
            event.WorkerLeft(
                at_ms=said.at_ms,
                worker=said.worker,
                provider=worker.provider,
                outcome=said.outcome,
                note=said.note,
                cost=said.cost,
            )
        )


def describe_worker(one: state.Worker, worker: Worker, name: Name) -> str:
    """Say in a line what a worker does."""
    if not worker.provider:
        what = worker.note or "looking for a machine"
        return f"worker {one.number}: {printable(what)}"
    what = f"{one.done} done"
    if one.is_leaving:
        what += ", stopping"
    elif not one.is_ready:
        what = worker.note or "starting"
    elif one.runs:
        run = one.runs[0]
        what += f", at task {name(run.task)[1]}"
        if run.moved_at_ms:
            what += f" ({_describe_progress(run.share_ppm, worker.words)})"
    where = f"{worker.machine} of {worker.provider[:10]}…"
    return f"worker {one.number}: {where}: {printable(what)}"


def _describe_progress(share_ppm: int, words: str) -> str:
    share = f"{share_ppm * 100 // PPM} %" if share_ppm else ""
    return ", ".join(filter(None, (share, words))) or "0 %"
