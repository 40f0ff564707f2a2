"""Detached jobs over HTTP: handed over, looked at, stopped, fetched. Tenants only.

Everything is signed by the tenant whose job it is, and is found under its address:
there is no way to name another's. What is kept and given back is ciphertext.
"""

import asyncio
import re

from aiohttp import web
from blake3 import blake3
from msgspec.structs import replace

from sublet.base import limits
from sublet.base.errors import Refused
from sublet.base.ids import NO_DIGEST, Address, Digest
from sublet.core.document import Channel
from sublet.core.job.state import Job, JobPhase
from sublet.node.answer import answer_bytes, answer_json
from sublet.node.controller.ledger import read_state, read_statements
from sublet.node.intake import read_body, read_caller, read_count
from sublet.node.refusal import Conflict, Forbidden, NotFound
from sublet.node.state import Node
from sublet.service.vault_port import JobVault, Standing
from sublet.wire.codec import decode, encode, verify
from sublet.wire.detached import Delegate, DetachedPlan, JobView
from sublet.wire.manifest import check_manifest, count_bytes, size_chunks
from sublet.workload.run.log_copy import STREAMS

LOG_BYTES_MAX = 1 << 20  # of a stream, in one answer
JOBS_PER_TENANT_MAX = 16
INPUT_BYTES_MAX = 8 << 30  # of one job, ciphertext
_LEASE = re.compile(r"\A0x[0-9a-f]{64}\Z")


async def get_delegate(node: Node, request: web.Request) -> web.StreamResponse:
    """Say which key would order and pay for a job, for its delegation to name."""
    caller = await read_caller(node, request)
    job = request.match_info["id"]
    node.controllers.vault.find(caller, job)
    return answer_json(
        Delegate(address=node.controllers.keys.delegate(caller, job).address)
    )


async def put_job(node: Node, request: web.Request) -> web.StreamResponse:
    """Take a plan; the same again is harmless, another one is refused."""
    caller = await read_caller(node, request)
    plan = decode(
        await read_body(node, request), DetachedPlan, size_max=limits.REQUEST_BYTES_MAX
    )
    job = node.controllers.vault.find(caller, request.match_info["id"])
    if await asyncio.to_thread(job.stand) is None:
        _check_plan(node, plan, caller=caller, job=job.id)
        others = await asyncio.to_thread(node.controllers.vault.survey, caller)
        if len(others) >= JOBS_PER_TENANT_MAX:
            raise Conflict(
                f"a tenant may leave {JOBS_PER_TENANT_MAX} detached jobs with a market; "
                "fetch one first: sublet attach",
                code="too_many_jobs",
            )
        await node.controllers.check_room(count_bytes(plan.manifest.inputs))
    if await asyncio.to_thread(job.begin, encode(plan)) != encode(plan):
        raise Conflict("another job has this id", code="job_exists")
    return answer_json(await _view(job))


async def get_job(node: Node, request: web.Request) -> web.StreamResponse:
    """Tell how a job stands."""
    return answer_json(await _view(await _find(node, request)))


async def put_chunk(node: Node, request: web.Request) -> web.StreamResponse:
    """Take one sealed chunk of the job's inputs."""
    job = await _find(node, request)
    content = await read_body(node, request)
    key = "0x" + blake3(content).hexdigest()
    inputs = _inputs(await _read_plan(job))
    if key != request.match_info["chunk"] or key not in inputs:
        raise Refused("this is no chunk of the job's inputs", code="foreign_chunk")
    await node.controllers.check_room(len(content))
    await asyncio.to_thread(job.blobs.put, content)
    return web.json_response({})


async def get_chunk(node: Node, request: web.Request) -> web.StreamResponse:
    """Give one sealed chunk that the job left."""
    job = await _find(node, request)
    content = await asyncio.to_thread(job.blobs.get, request.match_info["chunk"])
    return answer_bytes(content, kind="application/octet-stream")


async def get_log(node: Node, request: web.Request) -> web.StreamResponse:
    """Give a piece of a sealed stream, from a byte on."""
    job = await _find(node, request)
    lease, stream = request.match_info["lease"], request.match_info["stream"]
    if _LEASE.match(lease) is None or stream not in STREAMS:
        raise NotFound("there is no such stream", code="no_stream")
    offset = read_count(request, "offset", default=0)
    content = await asyncio.to_thread(
        job.read_stream, lease, stream, offset=offset, limit=LOG_BYTES_MAX
    )
    return answer_bytes(content, kind="application/octet-stream")


async def start_job(node: Node, request: web.Request) -> web.StreamResponse:
    """Begin, once all chunks are there; twice is harmless."""
    job = await _find(node, request)
    if missing := await _find_missing(job):
        raise Conflict(f"{len(missing)} chunks are missing", code="chunks_missing")
    await asyncio.to_thread(job.start)
    node.controllers.wake()
    return answer_json(await _view(job))


async def stop_job(node: Node, request: web.Request) -> web.StreamResponse:
    """Stop a job; what it ran is paid, and its view says how it ended."""
    job = await _find(node, request)
    await asyncio.to_thread(job.stop)
    node.controllers.wake()
    return answer_json(await _view(job))


async def delete_job(node: Node, request: web.Request) -> web.StreamResponse:
    """Forget a job that is over, and everything of it."""
    job = await _find(node, request)
    stands = await _stand(job)
    if stands.started_at_s and not stands.ended_at_s:
        raise Conflict("the job goes on; stop it first", code="job_runs")
    await asyncio.to_thread(job.drop)
    return web.json_response({})


# ---- parts --------------------------------------------------------------------------


async def _find(node: Node, request: web.Request) -> JobVault:
    caller = await read_caller(node, request)
    job = node.controllers.vault.find(caller, request.match_info["id"])
    await _stand(job)
    return job


async def _stand(job: JobVault) -> Standing:
    stands = await asyncio.to_thread(job.stand)
    if stands is None:
        raise _unknown()
    return stands


async def _read_plan(job: JobVault) -> DetachedPlan:
    raw = await asyncio.to_thread(job.read_plan)
    if raw is None:
        raise _unknown()
    return decode(raw, DetachedPlan, size_max=limits.REQUEST_BYTES_MAX)


async def _find_missing(job: JobVault) -> tuple[Digest, ...]:
    plan = await _read_plan(job)
    known = await asyncio.to_thread(lambda: set(job.blobs.keys()))
    return tuple(sorted(_inputs(plan) - known))


async def _view(vault: JobVault) -> JobView:
    stands = await _stand(vault)
    state = await asyncio.to_thread(read_state, vault)
    job = state.job or Job()
    if job.phase is JobPhase.FINISHED and not stands.ended_at_s:
        # It is over when everything of it is written down.
        job = replace(job, phase=JobPhase.COLLECTING)
    statements: dict[Digest, str] = {}
    if stands.ended_at_s:
        statements = await asyncio.to_thread(read_statements, vault, state)
    return JobView(
        id=vault.id,
        is_started=bool(stands.started_at_s),
        job=job,
        contracts=state.contracts,
        checkpoint=state.checkpoint,
        outputs=state.outputs,
        statements=statements,
        missing=() if stands.started_at_s else await _find_missing(vault),
    )


def _unknown() -> NotFound:
    return NotFound(
        "you have left no such job with this market; one that is over is kept for seven "
        "days, or until it was fetched",
        code="unknown_job",
    )


def _check_plan(node: Node, plan: DetachedPlan, *, caller: Address, job: str) -> None:
    """Refuse what no order could come of; the book decides the rest."""
    check_manifest(plan.manifest)
    if plan.manifest.sealed is None or plan.manifest.resume.files:
        raise Refused("a node takes sealed jobs alone", code="not_sealed")
    if plan.id != job or plan.order.tenant != caller:
        raise Forbidden("the plan is another tenant's, or another job's")
    record = node.market.book.delegations.get(plan.order.delegation)
    delegate = node.controllers.keys.delegate(caller, job).address
    if record is None or (record.tenant, record.delegate) != (caller, delegate):
        raise Refused(
            "submit the delegation to this job's delegate first",
            code="unknown_delegation",
            field="plan.order.delegation",
        )
    for signed in plan.channels:
        _, signer = verify(signed, domain=node.domain)
        channel = signed.document
        if not isinstance(channel, Channel) or signer != caller:
            raise Refused("a channel is signed by its payer", code="wrong_signer")
        if channel.payer_authorizer != delegate or plan.order.delegation == NO_DIGEST:
            raise Refused("the channel is not this delegate's", code="foreign_channel")
    if count_bytes(plan.manifest.inputs) > INPUT_BYTES_MAX:
        raise Refused(
            f"a node keeps at most {INPUT_BYTES_MAX} bytes of a job's inputs",
            code="inputs_too_large",
        )


def _inputs(plan: DetachedPlan) -> set[Digest]:
    return set(size_chunks(plan.manifest.inputs))
