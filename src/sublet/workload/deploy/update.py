"""Puts a file's changes on services that run: copy by copy, on the leases that they have.

Who looks after a copy is the process that started it: it alone talks to the provider. So
whoever updates leaves word in the job's folder, and finds the answer there; both files
are readable by this user alone. Not here: what may change (``change``).
"""

import asyncio
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from sublet.base.errors import Faults, Refused, SubletError, Unavailable
from sublet.core.job.record import JobRecord
from sublet.wire.message import Tree
from sublet.workload.client import AsyncClient, make_wish
from sublet.workload.deploy.change import Running, find_changes
from sublet.workload.deploy.plan import DeployPlan, ServicePlan, make_options
from sublet.workload.run.plan import Program
from sublet.workload.run.running import RunningJob
from sublet.workload.run.state import find_state

LOOK_S = 0.5  # between two looks for word, or for an answer
ANSWER_S = 900  # for an image to be fetched, and a program to end and another to start
_PLAN, _WORD, _ANSWER = "service.json", "change.json", "changed.json"


class Word(Struct, frozen=True):
    """What is to run from now on; its files are in the job's folder."""

    token: str
    program: Program
    env: dict[str, str]
    inputs: Tree


class Answer(Struct, frozen=True):
    """What came of it."""

    token: str
    code: str = ""
    message: str = ""


# ---- who looks after copies -------------------------------------------------------


def note_plan(client: AsyncClient, job_id: str, service: ServicePlan) -> None:
    """Write down by which plan a copy runs."""
    place = client.home.job_folder(job_id) / _PLAN
    client.home.write_private(place, msgspec.json.encode(service))


async def heed(client: AsyncClient, job: RunningJob) -> None:
    """Do for a copy what is left word to do, until this is cancelled."""
    folder = client.home.job_folder(job.id)
    while True:
        await asyncio.sleep(LOOK_S)
        word = _take(folder / _WORD)
        if word is None:
            continue
        answer = Answer(word.token)
        try:
            await _obey(job, word)
        except SubletError as fault:
            answer = Answer(word.token, fault.code, fault.message)
        client.home.write_private(folder / _ANSWER, msgspec.json.encode(answer))


async def _obey(job: RunningJob, word: Word) -> None:
    terms = replace(job.work.terms, env=word.env)
    work = replace(job.work, program=word.program, terms=terms, inputs=word.inputs)
    await job.runner.replace(work)
    job.work = work


def _take(place: Path) -> Word | None:
    try:
        raw = place.read_bytes()
        place.unlink()
        return msgspec.json.decode(raw, type=Word)
    except (OSError, msgspec.MsgspecError):
        return None


# ---- who wants it changed ---------------------------------------------------------


def find_plan(client: AsyncClient, record: JobRecord) -> ServicePlan | None:
    """Give the plan by which a copy runs; None where it was never written down."""
    try:
        raw = (client.home.job_folder(record.id) / _PLAN).read_bytes()
        return msgspec.json.decode(raw, type=ServicePlan)
    except (OSError, msgspec.MsgspecError):
        return None


def look(
    client: AsyncClient, plan: DeployPlan, records: list[JobRecord]
) -> dict[str, tuple[str, ...]]:
    """Say what an update would change, copy by copy; nothing is done yet.

    Args:
        client: the tenant's.
        plan: as the file has it now.
        records: of the copies of this deployment that go on.

    Raises:
        Refused: nothing of that name goes on, or nobody looks after it.
        Faults: what cannot change in place.
    """
    if not records:
        raise Refused(
            f"no deployment {plan.name!r} goes on; start it without --update",
            code="unknown_deployment",
            field="--update",
        )
    faults: list[SubletError] = []
    running = []
    for record in records:
        service = find_plan(client, record)
        if fault := _find_fault(record, service):
            faults.append(Refused(f"{record.name}: {fault}", code="not_in_place"))
        elif service is not None:
            running.append(Running(record.name, service))
    if faults:
        raise Faults(faults)
    return find_changes(plan, running)


def _find_fault(record: JobRecord, service: ServicePlan | None) -> str:
    state = find_state(record)
    if state == "detached":
        return (
            "it was left with the market, sealed, and nobody there can read what is to "
            "change; stop it with: sublet deployments --stop "
            f"{record.name.partition('.')[0]}, and deploy it again"
        )
    if state != "running" or service is None:
        return (
            f"it is {state}: the process that looked after it is gone; stop it and "
            "deploy it again"
        )
    return ""


async def update(
    client: AsyncClient,
    plan: DeployPlan,
    records: list[JobRecord],
    *,
    tell: Callable[[str], None],
) -> list[str]:
    """Change what differs, one copy after the other; give the names of those changed.

    Args:
        client: the tenant's, open.
        plan: as the file has it now.
        records: of the copies that go on.
        tell: takes a line about each copy.

    Raises:
        Refused: a copy goes on as it was, and says why; those after it do, too.
        Unavailable: nobody answered for too long.
        Faults: what cannot change in place; nothing was changed.
    """
    changes = look(client, plan, records)
    by_name = {record.name: record for record in records}
    wanted = dict(plan.copies())
    done: list[str] = []
    for name, parts in changes.items():
        if not parts:
            note_plan(client, by_name[name].id, wanted[name])
            continue
        tell(f"{name}: changing {', '.join(parts)}")
        try:
            await _change(client, by_name[name], wanted[name])
        except SubletError as fault:
            so_far = f"; changed before it: {', '.join(done)}" if done else ""
            raise Refused(
                f"{name} goes on as it was: {fault.message}{so_far}",
                code=fault.code,
            ) from fault
        done.append(name)
        tell(f"{name}: runs what the file says")
    return done


async def _change(client: AsyncClient, record: JobRecord, service: ServicePlan) -> None:
    options: Any = make_options(service, record.name)
    wish = make_wish(service.command, options)
    work = await client.prepare(record.id, wish)
    word = Word(secrets.token_hex(8), work.program, work.terms.env, inputs=work.inputs)
    folder = client.home.job_folder(record.id)
    client.home.write_private(folder / _WORD, msgspec.json.encode(word))
    try:
        async with asyncio.timeout(ANSWER_S):
            answer = await _wait_answer(client, record, word.token)
    except TimeoutError:
        raise Unavailable(
            f"no answer within {ANSWER_S} s; see what it does with: sublet logs -f "
            f"{record.name}",
            code="no_answer",
        ) from None
    if answer.code:
        raise Refused(answer.message, code=answer.code)
    note_plan(client, record.id, service)


async def _wait_answer(client: AsyncClient, record: JobRecord, token: str) -> Answer:
    place = client.home.job_folder(record.id) / _ANSWER
    while True:
        try:
            answer = msgspec.json.decode(place.read_bytes(), type=Answer)
        except (OSError, msgspec.MsgspecError):
            answer = Answer("")
        if answer.token == token:
            return answer
        if find_state(client.home.get_job(record.id)) != "running":
            raise Refused("it is over", code="job_over")
        await asyncio.sleep(LOOK_S / 2)
