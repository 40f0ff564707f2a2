"""What is believed about a provider, and what is not."""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import asyncssh
import pytest
from blake3 import blake3
from msgspec import structs

from sublet.base.errors import PeerFault, Refused
from sublet.cli.rehearsal import _make_lease
from sublet.core.lease.phase import Lease
from sublet.sdk.chunk_files import check_chunk
from sublet.sdk.job_channel import (
    ChannelLost,
    ClientKey,
    JobChannel,
    find_direct,
)
from sublet.wire import codec
from sublet.wire.message import Kept, Progress

Serve = Callable[[Any], Any]


@asynccontextmanager
async def talking(
    serve: Serve, *, lease: Lease | None = None, key: ClientKey | None = None
) -> AsyncIterator[JobChannel]:
    """Connect to a provider that does what ``serve`` does."""
    host_key = asyncssh.generate_private_key("ssh-ed25519")
    admitted = ClientKey.generate()
    near, far = socket.socketpair()
    near.setblocking(False)
    far.setblocking(False)

    async def answer() -> None:
        connection = await asyncssh.run_server(
            far,
            config=None,
            server_host_keys=[host_key],
            authorized_client_keys=asyncssh.import_authorized_keys(
                admitted.public_line()
            ),
            process_factory=serve,
            encoding=None,
        )
        await connection.wait_closed()

    serving = asyncio.create_task(answer())
    try:
        channel = await JobChannel.connect(
            near, lease=lease or _make_lease(host_key), key=key or admitted
        )
        yield channel
        await channel.close()
    finally:
        serving.cancel()
        await asyncio.gather(serving, return_exceptions=True)


async def echo(process: Any) -> None:
    async for line in process.stdin:
        process.stdout.write(line)
        process.stdout.write(codec.encode(Progress(phase="running", text="on")) + b"\n")
    process.exit(0)


async def test_messages_go_both_ways() -> None:
    async def serve(process: Any) -> None:
        line = await process.stdin.readline()
        assert line == b'{"type":"kept","number":7}\n'
        process.stdout.write(codec.encode(Progress(phase="ended", text="x")) + b"\n")
        process.exit(0)

    async with talking(serve) as channel:
        await channel.open_job()
        await channel.say(Kept(number=7))
        assert await channel.hear() == Progress(phase="ended", text="x")
        with pytest.raises(ChannelLost):
            await channel.hear()


async def test_nonsense_is_the_provider_s_fault() -> None:
    async def serve(process: Any) -> None:
        process.stdout.write(b'{"type":"launch_missiles"}\n')
        process.exit(0)

    async with talking(serve) as channel:
        await channel.open_job()
        with pytest.raises(PeerFault):
            await channel.hear()


async def test_other_host_key_is_nobody() -> None:
    other = asyncssh.generate_private_key("ssh-ed25519")
    with pytest.raises(PeerFault) as caught:
        async with talking(echo, lease=_make_lease(other)):
            pass
    assert caught.value.code == "wrong_host_key"


async def test_other_client_key_is_not_admitted() -> None:
    with pytest.raises(PeerFault) as caught:
        async with talking(echo, key=ClientKey.generate()):
            pass
    assert caught.value.code == "not_admitted"


async def test_lease_without_a_key_is_refused() -> None:
    host_key = asyncssh.generate_private_key("ssh-ed25519")
    lease = structs.replace(_make_lease(host_key), ssh_host_key="ssh-ed25519 nonsense")
    with pytest.raises(PeerFault) as caught:
        async with talking(echo, lease=lease):
            pass
    assert caught.value.code == "bad_host_key"


async def test_log_that_breaks_off_is_lost() -> None:
    async def serve(process: Any) -> None:
        assert process.command == "sublet logs stdout 3"
        process.stdout.write(b"lo")
        process.exit(1)

    got = b""
    async with talking(serve) as channel:
        with pytest.raises(ChannelLost):
            async for content in channel.follow_log("stdout", offset=3):
                got += content
    assert got == b"lo"


def test_key_survives_its_file() -> None:
    key = ClientKey.generate()
    again = ClientKey.from_pem(key.to_pem())
    assert again.public_line() == key.public_line()
    assert key.public_line().startswith("ssh-ed25519 ")
    assert len(key.public_line().split()) == 2
    with pytest.raises(Refused):
        ClientKey.from_pem(b"not a key")


def test_chunk_must_be_what_its_name_says() -> None:
    check_chunk(b"x", "0x" + blake3(b"x").hexdigest())
    with pytest.raises(PeerFault):
        check_chunk(b"y", "0x" + blake3(b"x").hexdigest())


@pytest.mark.parametrize("endpoint", ["", "nowhere", "127.0.0.1:9", "[::1]:x", ":1"])
async def test_unreachable_endpoint_is_none(endpoint: str) -> None:
    assert await find_direct(endpoint) is None
