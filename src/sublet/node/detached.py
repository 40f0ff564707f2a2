"""Detached jobs over HTTP: handed over, looked at, stopped, fetched. Tenants only.

Everything is signed by the tenant whose job it is, and is found under its address:
there is no way to name another's. What is kept and given back is ciphertext.
"""

import asyncio
import re

from aiohttp import web
from blake3 import blake3
from msgspec.structs import replace

from sublet.adapter.vault_folder import JobVault
from sublet.base import limits
from sublet.base.errors import Refused
from sublet.base.ids import NO_DIGEST, Address, Digest
from sublet.core.document import Channel
from sublet.core.job.state import Job, JobPhase
from sublet.node.answer import answer_bytes, answer_json
from sublet.node.controller.pilot import PLAN_FILE
from sublet.node.intake import read_body, read_caller, read_count
from sublet.node.refusal import Conflict, Forbidden, NotFound
from sublet.node.state import Node
from sublet.wire.codec import decode, encode, verify
from sublet.wire.detached import Delegate, DetachedPlan, JobView
from sublet.wire.manifest import check_manifest, count_bytes, size_chunks

LOG_BYTES_MAX = 1 << 20  # of a stream, in one answer
JOBS_PER_TENANT_MAX = 16
INPUT_BYTES_MAX = 8 << 30  # of one job, ciphertext
_STREAMS = ("stdout", "stderr")
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
    vault = node.controllers.vault.find(caller, request.match_info["id"])
    known = await asyncio.to_thread(vault.read, PLAN_FILE, DetachedPlan)
    if known is None:
        _check_plan(node, plan, caller=caller, job=request.match_info["id"])
        count = sum(1 for _ in node.controllers.vault.jobs(caller))
        if count >= JOBS_PER_TENANT_MAX:
            raise Conflict(
                f"a tenant may leave {JOBS_PER_TENANT_MAX} detached jobs with a node; "
                "fetch one first: sublet attach",
                code="too_many_jobs",
            )
        await asyncio.to_thread(vault.write, PLAN_FILE, plan)
    elif known != plan:
        raise Conflict("another job has this id", code="job_exists")
    return answer_json(await _view(node, vault))


async def get_job(node: Node, request: web.Request) -> web.StreamResponse:
    """Tell how a job stands."""
    return answer_json(await _view(node, (await _find(node, request))[1]))


async def put_chunk(node: Node, request: web.Request) -> web.StreamResponse:
    """Take one sealed chunk of the job's inputs."""
    plan, vault = await _find(node, request)
    content = await read_body(node, request)
    key = "0x" + blake3(content).hexdigest()
    if key != request.match_info["chunk"] or key not in _inputs(plan):
        raise Refused("this is no chunk of the job's inputs", code="foreign_chunk")
    await asyncio.to_thread(vault.blobs.put, content)
    return web.json_response({})


async def get_chunk(node: Node, request: web.Request) -> web.StreamResponse:
    """Give one sealed chunk that the job left."""
    _, vault = await _find(node, request)
    content = await asyncio.to_thread(vault.blobs.get, request.match_info["chunk"])
    return answer_bytes(content, kind="application/octet-stream")


async def get_log(node: Node, request: web.Request) -> web.StreamResponse:
    """Give a piece of a sealed stream, from a byte on."""
    _, vault = await _find(node, request)
    lease, stream = request.match_info["lease"], request.match_info["stream"]
    if _LEASE.match(lease) is None or stream not in _STREAMS:
        raise NotFound("there is no such stream", code="no_stream")
    offset = read_count(request, "offset", default=0)
    content = await asyncio.to_thread(
        vault.read_log, lease, stream, offset=offset, limit=LOG_BYTES_MAX
    )
    return answer_bytes(content, kind="application/octet-stream")


async def start_job(node: Node, request: web.Request) -> web.StreamResponse:
    """Begin, once all chunks are there; twice is harmless."""
    plan, vault = await _find(node, request)
    if missing := await asyncio.to_thread(_missing, plan, vault):
        raise Conflict(f"{len(missing)} chunks are missing", code="chunks_missing")
    ledger = node.controllers.ledger(vault)
    if not ledger.state.is_started:
        await ledger.change(is_started=True)
    node.controllers.wake()
    return answer_json(await _view(node, vault))


async def stop_job(node: Node, request: web.Request) -> web.StreamResponse:
    """Stop a job; what it ran is paid, and its view says how it ended."""
    plan, vault = await _find(node, request)
    node.controllers.ask_stop(vault, plan.id)
    return answer_json(await _view(node, vault))


async def delete_job(node: Node, request: web.Request) -> web.StreamResponse:
    """Forget a job that is over, and everything of it."""
    _, vault = await _find(node, request)
    state = node.controllers.ledger(vault).state
    is_running = state.job is None or state.job.phase is not JobPhase.FINISHED
    if state.is_started and is_running:
        raise Conflict("the job goes on; stop it first", code="job_runs")
    await node.controllers.forget(vault)
    return web.json_response({})


# ---- parts --------------------------------------------------------------------------


async def _find(node: Node, request: web.Request) -> tuple[DetachedPlan, JobVault]:
    caller = await read_caller(node, request)
    vault = node.controllers.vault.find(caller, request.match_info["id"])
    plan = await asyncio.to_thread(vault.read, PLAN_FILE, DetachedPlan)
    if plan is None:
        raise NotFound("you have left no such job here", code="unknown_job")
    return plan, vault


async def _view(node: Node, vault: JobVault) -> JobView:
    plan = await asyncio.to_thread(vault.read, PLAN_FILE, DetachedPlan)
    if plan is None:
        raise NotFound("you have left no such job here", code="unknown_job")
    state = node.controllers.ledger(vault).state
    missing: tuple[Digest, ...] = ()
    if not state.is_started:
        missing = await asyncio.to_thread(_missing, plan, vault)
    job = state.job or Job()
    if job.phase is JobPhase.FINISHED and not state.ended_at_s:
        # It is over when everything of it is written down.
        job = replace(job, phase=JobPhase.COLLECTING)
    return JobView(
        id=plan.id,
        is_started=state.is_started,
        job=job,
        contracts=state.contracts,
        checkpoint=state.checkpoint,
        outputs=state.outputs,
        missing=missing,
        plan="0x" + blake3(encode(plan)).hexdigest(),
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


def _missing(plan: DetachedPlan, vault: JobVault) -> tuple[Digest, ...]:
    return tuple(sorted(key for key in _inputs(plan) if not vault.blobs.has(key)))
