"""Detached jobs for programs: leave one, follow it, take its budget back.

``Client`` has them as methods.

>>> record = await detach(client, "train.py", max_total="5.00")         # doctest: +SKIP
>>> result = await attach(client, record.id)                            # doctest: +SKIP
"""

import secrets
from contextlib import ExitStack
from typing import Unpack

from sublet.base.errors import Refused
from sublet.core.document import Revocation
from sublet.core.job.record import JobRecord
from sublet.core.job.state import JobPhase
from sublet.workload.client import (
    JOB_ID_BYTES,
    AsyncClient,
    OnEvent,
    listen_with,
    make_wish,
)
from sublet.workload.detached import hand_over
from sublet.workload.detached.attach import get_detached, open_attachment
from sublet.workload.detached.keepsake import read_keepsake
from sublet.workload.option import Options
from sublet.workload.run.result import JobResult

SALT_BITS = 62


async def detach(
    client: AsyncClient,
    *target: str,
    expires_s: int = hand_over.EXPIRES_S,
    **options: Unpack[Options],
) -> JobRecord:
    """Leave a job with the market: it goes on whatever becomes of this machine.

    Args:
        client: the tenant's, open.
        target: as for ``AsyncClient.run``, as are the ``options``.
        expires_s: how long the market may order for it, in seconds.
        options: ``max_total`` is the most that it can spend.

    Raises:
        Faults: something about the wish; nothing was bought.
        Unavailable: the market does not answer, or has no such machine.
    """
    if (options.get("machines") or 1) > 1:
        raise Refused(
            "--machines: nobody looks after several machines in your place; run it "
            "without --detach, or each as a job of its own",
            code="gang_detached",
            field="--machines",
        )
    job_id = secrets.token_hex(JOB_ID_BYTES)
    with ExitStack() as undo:
        undo.callback(client.home.drop_job, job_id)  # unless it is begun
        work = await client.prepare(job_id, make_wish(target, options))
        await client.pin()
        await client.learn_nodes()  # whoever comes back may find this one gone
        record = await hand_over.hand_over(
            client.as_tenant(), work, expires_s=expires_s
        )
        undo.pop_all()
    return record


async def attach(
    client: AsyncClient, job: str, *, on_event: OnEvent | None = None
) -> JobResult:
    """Follow a detached job from where it was left to its end; fetch its outputs.

    Raises:
        Refused: there is no such job here, or its key is lost.
        Unavailable: the market does not answer.
    """
    await client.pin()
    show = None if on_event is None else listen_with(on_event)
    attachment = open_attachment(client.as_tenant(), job, show=show)
    try:
        return await attachment.follow()
    except Refused as fault:
        record = attachment.record
        if fault.code != "unknown_job" or record.job.phase is not JobPhase.FINISHED:
            raise
        raise Refused(
            f"job {record.id} is over, and was fetched already; what it wrote is shown "
            f"by: sublet logs {record.id}",
            code="job_over",
        ) from fault


async def revoke(client: AsyncClient, job: str) -> str:
    """Take a detached job's budget back, in the log; say what comes of it.

    Raises:
        Refused: there is no such job here, or its delegation is over or revoked.
        Unavailable: the market does not answer; the budget stands.
    """
    record = get_detached(client.home, job)
    await client.pin()
    document = Revocation(
        delegation_id=read_keepsake(client.home, record).delegation,
        signed_at_s=client.now_s(),
        salt=secrets.randbits(SALT_BITS),
    )
    [result] = await client.connection.submit(document)
    if result.fault is not None:
        raise Refused(result.fault.message, code=result.fault.code)
    done = f"nobody spends anything more for job {record.id}; what it ran is paid"
    if record.job.phase is JobPhase.FINISHED:
        return done
    return f"{done}. Fetch what there is with: sublet attach {record.id}"
