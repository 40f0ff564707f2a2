"""Hands a job over to a node: sealed for the providers that may run it, and bounded.

The tenant draws a key, seals everything under it, seals the key to the providers whose
offers fit now (each key as its provider signed it, whatever the node says), signs a
delegation over the budget and a channel to each of them, and leaves the ciphertext.
"""

import asyncio
import secrets

from msgspec.structs import replace

from sublet.adapter.blobs_folder import FolderBlobs
from sublet.adapter.seal import KEY_BYTES, JobSeal, seal_to
from sublet.base import limits
from sublet.base.errors import PeerFault, Refused, Unavailable
from sublet.base.ids import Address
from sublet.core.book.mode import RESERVED
from sublet.core.document import Delegation, Market, Offer
from sublet.core.gpu_kind import fits_any
from sublet.core.job.record import JobRecord
from sublet.core.job.state import Job
from sublet.core.mirror import ESCROW
from sublet.sdk.connection import Connection
from sublet.sdk.detached_jobs import DetachedJobs
from sublet.wire import codec, seal_kind
from sublet.wire.channel import channel_of
from sublet.wire.detached import DetachedPlan
from sublet.wire.manifest import has_checkpoint
from sublet.wire.message import (
    PROTOCOL_VERSION,
    Envelope,
    Manifest,
    OfferRow,
    SealedJob,
    Signed,
    Tree,
)
from sublet.workload.detached.keepsake import Keepsake, job_name, write_keepsake
from sublet.workload.run.contract import make_manifest, make_order
from sublet.workload.run.wish import Needs, refuse
from sublet.workload.run.work import Tenant, Work

EXPIRES_S = 24 * 3_600
SALT_BITS = 62
SEALED = "sealed"
EMPTY = Tree(files=())
NO_KEY_LINE = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAA"  # each attempt brings its own


async def hand_over(tenant: Tenant, work: Work, *, expires_s: int) -> JobRecord:
    """Leave a job with the market; give what this home remembers of it.

    Raises:
        Refused: a mode or a rail that wants the tenant there, no provider that fits and takes
            sealed jobs, or the market will not have it.
        Unavailable: the market does not answer. Nothing runs yet.
        PeerFault: the market shows an offer that its provider did not sign.
    """
    connection, home = tenant.connection, tenant.home
    _check_mode(work.terms.needs, await connection.learn_market())
    jobs, own = DetachedJobs(connection), connection.key.address
    keys = await find_seal_keys(connection, jobs, work.terms.needs)
    key = secrets.token_bytes(KEY_BYTES)
    manifest, blobs = await asyncio.to_thread(
        seal_work, work, key=key, tenant=own, seal_keys=keys, home=tenant
    )
    delegate = (await jobs.delegate(work.id)).address
    now_s = tenant.clock.now_s()
    delegation = Delegation(
        delegate=delegate,
        budget=work.terms.needs.total_max,
        leases_max=1,
        providers=tuple(keys),
        scope=f"job {work.id}",
        expires_at_s=now_s + expires_s,
        signed_at_s=now_s,
        salt=secrets.randbits(SALT_BITS),
    )
    [result] = await connection.submit(delegation)
    if result.fault is not None:
        raise Refused(result.fault.message, code=result.fault.code)
    order = make_order(
        work.terms.needs,
        tenant=own,
        manifest=manifest,
        ssh_key=NO_KEY_LINE,
        avoid=(),
        spent=0,
        at_s=now_s,
        salt=0,
    )
    plan = DetachedPlan(
        v=PROTOCOL_VERSION,
        id=work.id,
        order=replace(order, delegation=result.id),
        manifest=manifest,
        channels=await _sign_channels(connection, keys, delegate),
        retries=work.terms.limits.retries,
        retries_own=work.terms.limits.retries_own,
        wait_ms=work.terms.limits.wait_ms,
        expires_at_s=delegation.expires_at_s,
    )
    record = JobRecord(
        id=work.id,
        name=work.terms.name,
        command=work.program.command,
        market=connection.url,
        tenant=own,
        created_at_ms=now_s * 1_000,
        pid=0,
        job=Job(),
        disk_bytes=work.terms.needs.disk_bytes,
        is_detached=True,
    )
    keepsake = Keepsake(key, own, result.id, manifest, work.terms.outputs)
    write_keepsake(home, work.id, keepsake)  # before anything is left that needs it
    home.write_job(record)
    view = await jobs.put(plan)
    for chunk in view.missing:
        await jobs.put_chunk(work.id, chunk, await asyncio.to_thread(blobs.get, chunk))
    await jobs.start(work.id)
    home.drop_job_blobs(work.id)
    return record


def _check_mode(needs: Needs, market: Market) -> None:
    """Refuse what a node cannot do for a tenant who is not there."""
    if needs.choose_s:
        raise refuse(
            "--mode",
            "nobody is there to choose a bid for a detached job; leave the second span "
            "out, as in live:10s, and the best bid wins",
            code="bad_mode",
        )
    if needs.mode == RESERVED:
        raise refuse(
            "--mode",
            "a detached job may have to begin again elsewhere, when the reserved time is "
            "over; use instant, standing, live or spot",
            code="bad_mode",
        )
    if market.rail == ESCROW:
        raise Refused(
            "this market's money lies on a chain, and nobody but you can sign deposits; "
            "run the job without --detach",
            code="no_deposit",
            field="--detach",
        )


def seal_work(
    work: Work,
    *,
    key: bytes,
    tenant: Address,
    seal_keys: dict[Address, str],
    home: Tenant,
) -> tuple[Manifest, FolderBlobs]:
    """Seal what a job is, and its inputs; give what is handed over, and the chunks.

    Raises:
        Faults: more than a manifest holds.
        Unavailable: the disk is full or did not answer.
    """
    name = job_name(tenant, work.id)
    seal = JobSeal(key, job=name)
    whole = make_manifest(
        work.program,
        work.terms,
        inputs=work.inputs,
        resume=EMPTY,
        salt=secrets.token_hex(16),
    )
    blobs = FolderBlobs(
        home.home.job_folder(work.id) / "blobs" / SEALED, is_durable=False
    )
    inputs = EMPTY
    if work.inputs.files:
        inputs = seal.seal_tree(
            work.inputs, kind=seal_kind.INPUTS, source=work.blobs, into=blobs
        )
    inner = codec.encode(replace(whole, inputs=EMPTY))
    sealed = SealedJob(
        job=name,
        envelopes=tuple(
            Envelope(provider=provider, key=seal_to(line, key, about=name))
            for provider, line in seal_keys.items()
        ),
        manifest=seal.seal(inner, kind=seal_kind.MANIFEST),
    )
    outer = replace(
        whole,
        kind=SEALED,
        argv=(),
        image="",
        env={},
        secrets={},
        inputs=inputs,
        outputs=(SEALED,) if whole.outputs else (),
        checkpoint=SEALED if has_checkpoint(whole) else "",
        volumes=(),
        sealed=sealed,
    )
    return outer, blobs


async def find_seal_keys(
    connection: Connection, jobs: DetachedJobs, needs: Needs
) -> dict[Address, str]:
    """Find providers that fit now, cheapest first, each with the key that it signed.

    Raises:
        Unavailable: there is none.
        PeerFault: the market shows what no provider signed.
    """
    domain = await connection.domain()
    rows = [row for row in await connection.offers() if _fits(row, needs)]
    rows.sort(key=lambda row: (row.cpu_price_hour, row.memory_price_hour))
    found: dict[Address, str] = {}
    for row in rows:
        if len(found) == limits.LIST_LENGTH_MAX:
            break
        entry = await jobs.offer(row.offer_id)
        signed = Signed(v=entry.v, document=entry.document, signature=entry.signature)
        id_, signer = codec.verify(signed, domain=domain)
        offer = signed.document
        if not isinstance(offer, Offer) or (id_, signer) != (
            row.offer_id,
            row.provider,
        ):
            raise PeerFault(
                f"the market shows an offer that {row.provider} did not sign",
                code="forged_offer",
                detail={"offer": row.offer_id},
            )
        if offer.seal_key:
            found.setdefault(row.provider, offer.seal_key)
    if not found:
        raise Unavailable(
            "no provider that takes sealed jobs has such a machine now; ask for less, "
            "or try again later",
            code="no_match",
        )
    return found


def _fits(row: OfferRow, needs: Needs) -> bool:
    return (
        row.is_up
        and row.cpus_milli >= needs.cpus_milli
        and row.memory_bytes >= needs.memory_bytes
        and row.gpus >= needs.gpu_count
        and (not needs.gpu_count or row.gpu_memory_bytes >= needs.gpu_memory_bytes)
        and fits_any(row, needs.gpu_models)
        and (not needs.regions or _is_in(row.region, needs.regions))
    )


def _is_in(region: str, regions: tuple[str, ...]) -> bool:
    return region in regions or region.partition("-")[0] in regions


async def _sign_channels(
    connection: Connection, providers: dict[Address, str], delegate: Address
) -> tuple[Signed, ...]:
    market, domain = await connection.learn_market(), await connection.domain()
    return tuple(
        [
            await connection.sign(
                channel_of(
                    market,
                    domain.market,
                    tenant=connection.key.address,
                    provider=provider,
                    authorizer=delegate,
                )
            )
            for provider in providers
        ]
    )
