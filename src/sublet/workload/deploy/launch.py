"""Starts what a plan says, and keeps it together: all copies, or none.

A copy is a job like any other, named ``NAME.SERVICE.NUMBER``: ``sublet ps``, ``logs``,
``port``, ``cp`` and ``stop`` know it. Nothing else remembers a deployment; it is what
its jobs' names say. Not here: the plan (``plan``).
"""

import asyncio
import contextlib
import re
from collections.abc import Awaitable, Callable
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from sublet.base.errors import Faults, Refused, SubletError
from sublet.core.job.record import JobRecord
from sublet.core.job.state import JobPhase
from sublet.sdk.detached_jobs import DetachedJobs
from sublet.workload.client import AsyncClient
from sublet.workload.deploy.plan import DeployPlan, make_options
from sublet.workload.deploy.update import find_plan, heed, note_plan
from sublet.workload.detached.client import attach, detach
from sublet.workload.reach import stop_job
from sublet.workload.run.event import AnyEvent
from sublet.workload.run.result import JobResult
from sublet.workload.run.running import RunningJob
from sublet.workload.run.state import find_state

HEAR_S = 10  # for the market to say how a copy stands
STOPPED_S = 60  # for copies that were left with it to end and be settled
LOOK_S = 0.5
_COPY = re.compile(r"\A([A-Za-z0-9-]+)\.([A-Za-z0-9-]+)\.([0-9]+)\Z")

OnCopyEvent = Callable[[str, AnyEvent], Awaitable[None]]


class Copy(Struct, frozen=True):
    """One job of a deployment, and how it stands."""

    deployment: str
    service: str
    number: int
    record: JobRecord
    state: str
    ports: tuple[int, ...] = ()  # that it listens on, by its file


def check_plan(plan: DeployPlan) -> None:
    """Say what a plan asks for that cannot be had here.

    Raises:
        Faults: there is something; nothing of the plan is started.
    """
    unmet = [
        Refused(
            f"{one.name} asks for what cannot be had here: {text}",
            code="unmet",
            field=f"services.{one.name}",
        )
        for one in plan.services
        for text in one.unmet
    ]
    if unmet:
        raise Faults(list(unmet))


async def check_absent(client: AsyncClient, name: str) -> None:
    """Say whether a deployment of this name goes on already.

    Raises:
        Refused: it does.
    """
    if await find_going(client, name):
        raise Refused(
            f"the deployment {name} goes on already; change it with --update, stop it "
            f"with: sublet deployments --stop {name}, or take another --name",
            code="deployment_exists",
            field="--name",
        )


def find_copies(client: AsyncClient, name: str = "") -> list[Copy]:
    """Give the jobs of a deployment, or of all: of each copy the newest."""
    found: dict[str, Copy] = {}
    for record in client.home.read_jobs():  # newest first
        match = _COPY.match(record.name)
        if match is not None and name in ("", match[1]):
            plan = find_plan(client, record)
            ports = tuple(port.number for port in plan.ports) if plan else ()
            state = find_state(record)
            copy = Copy(match[1], match[2], int(match[3]), record, state, ports)
            found.setdefault(record.name, copy)
    return sorted(found.values(), key=lambda c: (c.deployment, c.service, c.number))


async def hear_copies(client: AsyncClient, name: str = "") -> list[Copy]:
    """Give the same, with what the market says now of those that were left with it.

    Those that are over are brought home, as ``sublet attach`` does. Where the market
    does not say, a copy stands as it was last heard of.
    """
    copies = find_copies(client, name)
    return await asyncio.gather(*(_hear(client, one) for one in copies))


async def _hear(client: AsyncClient, copy: Copy) -> Copy:
    record = copy.record
    if copy.state != "detached":
        return copy
    try:
        async with asyncio.timeout(HEAR_S):
            view = await DetachedJobs(client.connection).view(record.id)
            record = replace(record, job=view.job)
            if view.job.phase is JobPhase.FINISHED:
                await attach(client, record.id)
    except (SubletError, TimeoutError):
        return copy
    return replace(copy, record=record, state=find_state(record))


class Deployment:
    """The copies of a plan under way, looked after by this process."""

    def __init__(self) -> None:
        """Nothing runs yet; use ``start``."""
        self._jobs: dict[str, RunningJob] = {}
        self._heeding: list[asyncio.Task[None]] = []

    async def start(
        self,
        client: AsyncClient,
        plan: DeployPlan,
        *,
        on_event: OnCopyEvent,
        **options: Any,
    ) -> None:
        """Begin every copy, in the order of the plan.

        Raises:
            Faults: something about a copy; what had begun is stopped and settled.
            Unavailable: the market does not answer; likewise.
        """
        check_plan(plan)
        await check_absent(client, plan.name)
        try:
            for name, service in plan.copies():
                job = await client.start(
                    *service.command,
                    on_event=_name_events(name, on_event),
                    **(options | dict(make_options(service, name))),
                )
                self._jobs[name] = job
                note_plan(client, job.id, service)
                self._heeding.append(asyncio.create_task(heed(client, job)))
        except BaseException:
            self.stop()
            await asyncio.shield(self.result())
            raise

    def stop(self) -> None:
        """Ask for every copy to be stopped and settled."""
        for job in self._jobs.values():
            job.stop()

    async def result(self) -> dict[str, JobResult]:
        """Wait until all copies are over; give what each came to, by its name."""
        try:
            done = await asyncio.gather(*(job.result() for job in self._jobs.values()))
        finally:
            for task in self._heeding:
                task.cancel()
        return dict(zip(self._jobs, done, strict=True))


def _name_events(
    name: str, on_event: OnCopyEvent
) -> Callable[[AnyEvent], Awaitable[None]]:
    async def hear(said: AnyEvent) -> None:
        await on_event(name, said)

    return hear


async def leave(
    client: AsyncClient, plan: DeployPlan, *, expires_s: int, **options: Any
) -> list[JobRecord]:
    """Leave every copy with the market, sealed; this machine may go.

    Raises:
        Faults: something about a copy; what was left before is stopped.
        Unavailable: the market does not answer, or has no machine; likewise.
    """
    check_plan(plan)
    await check_absent(client, plan.name)
    records: list[JobRecord] = []
    try:
        for name, service in plan.copies():
            records.append(
                await detach(
                    client,
                    *service.command,
                    expires_s=expires_s,
                    **(options | dict(make_options(service, name))),
                )
            )
            note_plan(client, records[-1].id, service)
    except BaseException:
        for record in records:
            await asyncio.shield(stop_job(client, record))
        raise
    return records


async def find_going(client: AsyncClient, name: str) -> list[JobRecord]:
    """Give the copies of a deployment that are not over."""
    copies = await hear_copies(client, name)
    return [one.record for one in copies if one.state != "over"]


async def stop(client: AsyncClient, name: str) -> list[str]:
    """Stop every copy of a deployment; give a line about each.

    Waits a while for those that were left with the market: what they wrote and what
    they cost is known here then.

    Raises:
        Refused: nothing of that name goes on.
    """
    going = await find_going(client, name)
    if not going:
        raise Refused(
            f"no deployment {name!r} goes on; list them with: sublet deployments",
            code="unknown_deployment",
            field="--stop",
        )
    lines = {one.id: await stop_job(client, one) for one in going}
    left = {one.id for one in going if one.is_detached}
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(STOPPED_S):
            while left & {one.id for one in await find_going(client, name)}:  # noqa: ASYNC110
                await asyncio.sleep(LOOK_S)
    for one in going:
        if one.is_detached and find_state(client.home.get_job(one.id)) == "over":
            lines[one.id] = f"stopped; what it wrote is shown by: sublet logs {one.id}"
    return [f"{one.name}: {lines[one.id]}" for one in going]
