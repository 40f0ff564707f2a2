"""Reaches a job that another process has started: its provider, its market."""

import secrets
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from sublet.base.errors import Refused
from sublet.base.ids import Digest
from sublet.core.document import Stop
from sublet.core.job.move import CANCELLED
from sublet.core.job.record import JobRecord
from sublet.core.lease.phase import Phase
from sublet.sdk.detached_jobs import DetachedJobs
from sublet.sdk.job_channel import ClientKey, JobChannel, find_direct
from sublet.workload.client import AsyncClient
from sublet.workload.run.checked import check_known
from sublet.workload.run.line import open_line
from sublet.workload.run.state import find_state
from sublet.workload.ssh_config import Host, name_host

SALT_BITS = 62


@asynccontextmanager
async def reach_job(
    client: AsyncClient, record: JobRecord
) -> AsyncIterator[JobChannel]:
    """Open a connection to the provider that runs the job now.

    Raises:
        Refused: nothing of it runs.
        Unavailable: the provider is not reached.
    """
    lease_id = _get_lease(record)
    pem = (client.home.job_folder(record.id) / "ssh_key").read_bytes()
    lease = await client.connection.lease(lease_id)
    check_known(client.home.job_folder(record.id), lease)
    key = ClientKey.from_pem(pem)
    line = await open_line(client.connection, lease=lease, key=key)
    try:
        yield line.channel
    finally:
        await line.close()


@asynccontextmanager
async def reach_bytes(
    client: AsyncClient, record: JobRecord
) -> AsyncIterator[socket.socket]:
    """Open a byte stream to the provider that runs the job now, for another's SSH.

    Raises:
        Refused: nothing of it runs.
        Unavailable: the provider is not reached.
    """
    lease = await client.connection.lease(_get_lease(record))
    direct = await find_direct(lease.endpoint) if lease.endpoint else None
    if direct is not None:
        with direct:
            yield direct
        return
    tunnel = await client.connection.dial(lease.id)
    try:
        yield tunnel.socket
    finally:
        tunnel.socket.close()
        await tunnel.close()


async def find_hosts(client: AsyncClient) -> tuple[Host, ...]:
    """Give all jobs of this market that run now, as hosts for OpenSSH, newest first."""
    hosts: dict[str, Host] = {}
    for record in client.home.read_jobs():
        attempts = record.job.attempts
        if find_state(record) in ("over", "detached"):
            continue  # a detached one is sealed: nobody is let in
        if not attempts or attempts[-1].ended_at_ms:
            continue
        try:
            lease = await client.connection.lease(attempts[-1].lease_id)
        except Refused:
            continue  # a job in another market
        name = name_host(record)
        if name in hosts:  # the newest job of a name is meant
            name = f"sublet-{record.id}"
        key_path = str(client.home.job_folder(record.id) / "ssh_key")
        hosts[name] = Host(name, record, lease, key_path)
    return tuple(hosts.values())


async def stop_job(client: AsyncClient, record: JobRecord) -> str:
    """Stop a job, whoever looks after it; say what came of it.

    Raises:
        Refused: it is over, or belongs to another market.
    """
    if find_state(record) == "over":
        raise Refused(f"job {record.id} is over already", code="job_over")
    if record.is_detached:
        await DetachedJobs(client.connection).stop(record.id)
        return f"job {record.id} stops; fetch what there is with: sublet attach {record.id}"
    client.home.ask_stop(record.id)
    if not record.job.attempts or record.job.attempts[-1].ended_at_ms:
        return f"job {record.id} waits for a machine; it ends now"
    document = Stop(
        lease_id=_get_lease(record),
        reason=CANCELLED,
        signed_at_s=client.now_s(),
        salt=secrets.randbits(SALT_BITS),
    )
    [result] = await client.connection.submit(document)
    if result.fault is not None:
        raise Refused(result.fault.message, code=result.fault.code)
    if result.lease is not None and result.lease.phase is Phase.SETTLED:
        return f"job {record.id} is stopped; nothing is owed"
    return f"job {record.id} stops; its provider settles what it ran"


def _get_lease(record: JobRecord) -> Digest:
    if record.is_detached:
        raise Refused(
            f"job {record.id} is detached, and sealed: its machine lets nobody in but "
            "the market's node, and shows that nothing but ciphertext. See its output "
            f"with: sublet logs -f {record.id}; for a shell, files or ports while it "
            "runs, run it without --detach",
            code="job_sealed",
        )
    if not record.job.attempts or record.job.attempts[-1].ended_at_ms:
        raise Refused(
            f"nothing of job {record.id} runs now; what it wrote is shown by: "
            f"sublet logs {record.id}",
            code="not_running",
        )
    return record.job.attempts[-1].lease_id
