"""Does once, to nobody, what every command does: so that the real one finds it done.

Parses a command line, signs, speaks SSH with itself. Nothing of it leaves the process.
"""

import asyncio
import socket
from contextlib import suppress

import aiohttp
import asyncssh

from sublet.base.ids import NO_DIGEST
from sublet.cli.root import find_command
from sublet.core.lease.phase import Lease, Phase
from sublet.sdk.job_channel import ClientKey, JobChannel
from sublet.wire import codec
from sublet.wire.message import Deliver, Manifest, Tree
from sublet.wire.signature import Key
from sublet.wire.typed_data import Domain
from sublet.workload.run.contract import make_manifest, make_order
from sublet.workload.run.plan import parse_program
from sublet.workload.run.term import parse_terms
from sublet.workload.run.wish import Wish

REHEARSAL_S = 5.0
_NOBODY = "0x" + "0" * 40
_NOWHERE = "http://127.0.0.1:9"  # nothing listens on "discard"


def rehearse() -> None:
    """Do it all once. What goes wrong goes wrong for the real command, with words."""
    command = find_command("run")
    if command is not None:
        command.make_context("run", ["-q", "--", "true"])
    with suppress(Exception):
        asyncio.run(asyncio.wait_for(_rehearse(), REHEARSAL_S))


async def _rehearse() -> None:
    wish = Wish(target=("true",), is_command=True)
    terms = parse_terms(wish, environment={}, read_secret=str, now_s=0)
    program = parse_program(wish, {})
    nothing = Tree(files=())
    manifest = make_manifest(
        program, terms, inputs=nothing, resume=nothing, salt="0" * 32
    )
    key, host_key = ClientKey.generate(), asyncssh.generate_private_key("ssh-ed25519")
    order = make_order(
        terms.needs,
        tenant=_NOBODY,
        manifest=manifest,
        ssh_key=key.public_line(),
        avoid=(),
        spent=0,
        at_s=0,
        salt=0,
    )
    domain = Domain(NO_DIGEST, 1, _NOBODY)
    signed = codec.sign(order, key=Key.generate(b"\1" * 32), domain=domain)
    codec.verify(signed, domain=domain)
    async with aiohttp.ClientSession() as http:
        with suppress(aiohttp.ClientError):
            await http.post(_NOWHERE, data=codec.encode(signed))
    await _talk_to_itself(key, host_key, manifest)


async def _talk_to_itself(
    key: ClientKey, host_key: asyncssh.SSHKey, manifest: Manifest
) -> None:
    near, far = socket.socketpair()
    near.setblocking(False)
    far.setblocking(False)
    lease = _make_lease(host_key)
    admitted = asyncssh.import_authorized_keys(key.public_line())
    serving = asyncio.create_task(_serve(far, host_key, admitted))
    channel = await JobChannel.connect(near, lease=lease, key=key)
    await channel.open_job()
    await channel.say(Deliver(manifest=manifest))
    await channel.close()
    (await serving).abort()


async def _serve(
    sock: socket.socket, host_key: asyncssh.SSHKey, admitted: asyncssh.SSHAuthorizedKeys
) -> asyncssh.SSHServerConnection:
    return await asyncssh.run_server(
        sock,
        config=None,
        server_host_keys=[host_key],
        authorized_client_keys=admitted,
        process_factory=lambda process: process.exit(0),
        encoding=None,
    )


def _make_lease(host_key: asyncssh.SSHKey) -> Lease:
    return Lease(
        id=NO_DIGEST,
        offer_id=NO_DIGEST,
        tenant=_NOBODY,
        provider=_NOBODY,
        machine="",
        phase=Phase.MATCHED,
        price_hour=0,
        duration_s=0,
        hold=0,
        cpus_milli=0,
        memory_bytes=0,
        disk_bytes=0,
        gpu_uuids=(),
        manifest=NO_DIGEST,
        sandbox="",
        features=(),
        ssh_key="",
        ssh_host_key=host_key.export_public_key().decode().strip(),
        endpoint="",
        matched_at_s=0,
        deadline_s=0,
    )
