"""A job under way, on one machine or on several: what a program holds in its hands."""

import asyncio
from collections.abc import AsyncIterator, Sequence

from sublet.adapter.home_folder import Home
from sublet.core.job.record import JobRecord
from sublet.workload.run.event import AnyEvent
from sublet.workload.run.gang import Gang
from sublet.workload.run.result import JobResult, join_results, make_result
from sublet.workload.run.runner import Runner
from sublet.workload.run.talk import Show
from sublet.workload.run.work import Tenant, Work

EVENTS_MAX = 1_024  # that a listener may be behind


class RunningJob:
    """A job under way: iterate over what happens, ask for the result, stop it."""

    def __init__(self, runner: Runner, *, work: Work, home: Home) -> None:
        """Take what runs; use ``AsyncClient.start``."""
        self.id = work.id
        self.runner = runner
        self.work = work
        self._home = home
        self._events: asyncio.Queue[AnyEvent | None] = asyncio.Queue(EVENTS_MAX)
        self._is_heard = True
        self._task: asyncio.Task[JobResult] | None = None

    async def __aiter__(self) -> AsyncIterator[AnyEvent]:
        while (said := await self._events.get()) is not None:
            yield said

    async def result(self) -> JobResult:
        """Wait for the end; give what it came to. Events not yet heard are dropped.

        Raises:
            Broken: an invariant fell.
        """
        self._is_heard = False
        while not self._events.empty():
            self._events.get_nowait()
        if self._task is None:
            raise AssertionError("use AsyncClient.start")
        return await self._task

    def stop(self) -> None:
        """Ask for the job to be stopped and settled."""
        self.runner.stop()

    def begin(self) -> None:
        """Start; called once, by ``AsyncClient.start``."""
        self._task = asyncio.create_task(self._run())

    async def hear(self, said: AnyEvent) -> None:
        """Take an event for whoever iterates; the job waits for a slow listener."""
        if self._is_heard:
            await self._events.put(said)

    async def _run(self) -> JobResult:
        try:
            return await self._finish()
        finally:
            if self._is_heard:
                await self._events.put(None)

    async def _finish(self) -> JobResult:
        record = await self.runner.run()
        return _conclude(record, self.runner, self.work, self._home)


class RunningGang(RunningJob):
    """A job on several machines; its id is that of the first of them."""

    def __init__(self, gang: Gang, *, works: Sequence[Work], home: Home) -> None:
        """Take what runs; use ``AsyncClient.start``."""
        super().__init__(gang.members[0], work=works[0], home=home)
        self._gang = gang
        self._works = works

    def stop(self) -> None:
        """Ask for all to be stopped and settled."""
        self._gang.stop()

    async def _finish(self) -> JobResult:
        records = await self._gang.run()
        results = [
            _conclude(record, member, work, self._home)
            for record, member, work in zip(
                records, self._gang.members, self._works, strict=True
            )
        ]
        return join_results(results, first=self._gang.first)


def begin_job(
    tenant: Tenant, works: Sequence[Work], *, show: Show | None
) -> RunningJob:
    """Make a job, or a gang of one for each work; nothing is ordered yet.

    Args:
        tenant: who runs it.
        works: of each machine.
        show: takes events; None for whoever iterates.
    """

    async def tell(said: AnyEvent) -> None:
        await (show or job.hear)(said)

    job: RunningJob
    if len(works) == 1:
        runner = Runner(tenant=tenant, work=works[0], show=tell)
        job = RunningJob(runner, work=works[0], home=tenant.home)
    else:
        gang = Gang(tenant=tenant, works=works, show=tell)
        job = RunningGang(gang, works=works, home=tenant.home)
    return job


def _conclude(record: JobRecord, runner: Runner, work: Work, home: Home) -> JobResult:
    return make_result(
        record,
        outputs=tuple(one.local or one.remote for one in work.terms.outputs),
        folder=str(home.job_folder(work.id)),
        fault=runner.harvest.fault,
        checkpoint=runner.harvest.checkpoint,
        market_lie=runner.scrutiny.lie,
    )
