"""The relay: bytes both ways, for one tenant and one provider, once."""

import asyncio
import hashlib
import secrets
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import pytest

from sublet.core.document import Stop
from sublet.core.lease.phase import Lease, Phase
from sublet.wire.signature import Key
from tests.fakes.world import World
from tests.integration.node_house import (
    STRANGER,
    Guest,
    ProviderLink,
    running_node,
    stock,
)

LIMITS = {"relay_join_s": 1, "relays_per_lease_max": 2, "relay_idle_s": 2}
FRAME_BYTES = 65_536


@dataclass
class Scene:
    """A lease whose provider is linked."""

    guest: Guest
    lease: Lease
    link: ProviderLink

    @property
    def path(self) -> str:
        return f"/v1/leases/{self.lease.id}/dial"

    @property
    def provider(self) -> Key:
        return self.guest.world.key_of(self.lease.provider)

    async def connect(
        self,
    ) -> tuple[aiohttp.ClientWebSocketResponse, aiohttp.ClientWebSocketResponse, str]:
        """Dial and dial back; give both ends and the session's path."""
        dialing = asyncio.ensure_future(
            self.guest.open_socket(self.path, key=self.guest.world.tenant)
        )
        dial = await self.link.wait_dial()
        assert dial.lease_id == self.lease.id
        session = f"/v1/relay/{dial.session}"
        provider = await self.guest.open_socket(session, key=self.provider)
        tenant = await dialing
        assert await tenant.receive_str() == '{"type":"open"}'
        return tenant, provider, session


@pytest.fixture
async def scene(tmp_path: Path) -> AsyncIterator[Scene]:
    async with running_node(tmp_path / "node", World(), limits=LIMITS) as guest:
        guest.world.providers = guest.world.providers[:1]
        (link,) = await stock(guest)
        (result,) = await guest.accept(guest.world.order())
        assert result.lease is not None
        yield Scene(guest, result.lease, link)


async def refusal_of(scene: Scene, path: str, key: Key) -> tuple[int, str]:
    """Try to open a socket and give the status and code that it was refused with."""
    with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
        await scene.guest.open_socket(path, key=key)
    headers = caught.value.headers
    assert headers is not None
    return caught.value.status, headers["Sublet-Fault"]


async def send_all(socket: aiohttp.ClientWebSocketResponse, content: bytes) -> None:
    for start in range(0, len(content), FRAME_BYTES):
        await socket.send_bytes(content[start : start + FRAME_BYTES])


async def read_hash(socket: aiohttp.ClientWebSocketResponse, size: int) -> str:
    digest = hashlib.sha256()
    while size > 0:
        frame = await socket.receive_bytes(timeout=20)
        digest.update(frame)
        size -= len(frame)
    return digest.hexdigest()


async def test_relay_carries_bytes_both_ways(scene: Scene) -> None:
    tenant, provider, _ = await scene.connect()
    up, down = secrets.token_bytes(20_000_000), secrets.token_bytes(20_000_000)
    _, _, up_hash, down_hash = await asyncio.gather(
        send_all(tenant, up),
        send_all(provider, down),
        read_hash(provider, len(up)),
        read_hash(tenant, len(down)),
    )
    assert up_hash == hashlib.sha256(up).hexdigest()
    assert down_hash == hashlib.sha256(down).hexdigest()
    _, metrics = await scene.guest.get("/metrics")
    assert b"sublet_relay_bytes_total 4e+07" in metrics
    assert b"sublet_relays_open 1.0" in metrics


async def test_slow_reader_slows_the_writer(scene: Scene) -> None:
    tenant, provider, _ = await scene.connect()
    sent = 0

    async def flood() -> None:
        nonlocal sent
        while True:
            await tenant.send_bytes(bytes(FRAME_BYTES))
            sent += FRAME_BYTES

    with pytest.raises(TimeoutError):
        await asyncio.wait_for(flood(), 2)
    # Kernel buffers and a few frames, not whatever a tenant can send in two seconds.
    assert sent < 30_000_000
    assert len(await provider.receive_bytes(timeout=5)) == FRAME_BYTES


async def test_end_of_one_side_ends_both(scene: Scene) -> None:
    tenant, provider, _ = await scene.connect()
    await tenant.send_bytes(b"last words")
    await tenant.close()
    assert await provider.receive_bytes(timeout=5) == b"last words"
    assert (await provider.receive(timeout=5)).type is aiohttp.WSMsgType.CLOSE


async def test_session_is_good_once(scene: Scene) -> None:
    _, _, session = await scene.connect()
    refusal = await refusal_of(scene, session, scene.provider)
    assert refusal == (404, "unknown_session")


async def test_session_is_for_its_provider(scene: Scene) -> None:
    dialing = asyncio.ensure_future(
        scene.guest.open_socket(scene.path, key=scene.guest.world.tenant)
    )
    session = f"/v1/relay/{(await scene.link.wait_dial()).session}"
    assert await refusal_of(scene, session, STRANGER) == (403, "not_yours")
    # A stranger's try does not use the session up.
    await scene.guest.open_socket(session, key=scene.provider)
    await dialing


async def test_guessed_session_is_refused(scene: Scene) -> None:
    refusal = await refusal_of(scene, "/v1/relay/" + "0" * 32, scene.provider)
    assert refusal == (404, "unknown_session")


async def test_only_tenant_dials(scene: Scene) -> None:
    for key in (STRANGER, scene.provider):
        assert await refusal_of(scene, scene.path, key) == (403, "not_yours")


async def test_dial_ends_without_answer(scene: Scene) -> None:
    tenant = scene.guest.world.tenant
    refusal = await refusal_of(scene, scene.path, tenant)
    assert refusal == (503, "provider_unreachable")
    session = f"/v1/relay/{(await scene.link.wait_dial()).session}"
    late = await refusal_of(scene, session, scene.provider)
    assert late == (404, "unknown_session")


async def test_dial_needs_linked_provider(scene: Scene) -> None:
    await scene.link.socket.close()
    refusal = await refusal_of(scene, scene.path, scene.guest.world.tenant)
    assert refusal == (503, "provider_unreachable")


async def test_lease_has_few_connections(scene: Scene) -> None:
    first = await scene.connect()
    await scene.connect()
    tenant = scene.guest.world.tenant
    refusal = await refusal_of(scene, scene.path, tenant)
    assert refusal == (429, "too_many_connections")
    await first[0].close()
    await first[1].receive(timeout=5)
    await scene.connect()


async def test_too_large_frame_ends_it(scene: Scene) -> None:
    tenant, provider, _ = await scene.connect()
    await tenant.send_bytes(bytes(300_000))
    assert (await provider.receive(timeout=5)).type is aiohttp.WSMsgType.CLOSE


async def test_settled_lease_can_be_dialed(scene: Scene) -> None:
    # Outputs may still have to be fetched.
    world = scene.guest.world
    stop = Stop(lease_id=scene.lease.id, reason="cancelled", **world.stamp())
    (result,) = await scene.guest.accept(world.say(stop, world.tenant))
    assert result.lease is not None
    assert result.lease.phase is Phase.SETTLED
    await scene.connect()


async def test_idle_connection_is_ended(scene: Scene) -> None:
    tenant, provider, _ = await scene.connect()
    for end in (tenant, provider):
        assert (await end.receive(timeout=10)).type is aiohttp.WSMsgType.CLOSE
