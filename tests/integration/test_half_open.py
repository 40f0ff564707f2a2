"""Peers that vanish without a word: no FIN, no RST, only silence.

Nobody waits for ever, what they held is given back, and the job goes on. How long each
waits is shortened here, so that waiting for it is affordable.
"""

import asyncio
import time
from pathlib import Path

import pytest

from sublet.adapter.checkpoint_folder import CheckpointFolder
from sublet.base.errors import Unavailable
from sublet.core.lease.phase import Phase
from sublet.provider import ssh_server
from sublet.sdk import connection as connection_module
from sublet.sdk import job_channel
from sublet.wire.cosignature import WitnessKey
from sublet.witness import follow
from sublet.witness.config import Pin
from sublet.witness.cosigner import Cosigner
from sublet.witness.follow import Follower
from sublet.workload.client import AsyncClient
from sublet.workload.run.event import AnyEvent, Running
from tests.fakes.world import HandClock, World
from tests.integration.node_house import Guest, running_node
from tests.integration.provider_house import (
    RawTenant,
    make_manifest,
    running_agent,
    running_house,
    tenant_of,
    wait_offered,
    wait_true,
)
from tests.integration.silent_proxy import silent_proxy
from tests.integration.tenant_house import running_market

WAIT_S = 90
QUICK = {"limits": {"lost_after_s": 3, "ping_s": 1}}


async def wait_up(guest: Guest, count: int) -> None:
    """Wait until the market calls so many providers up."""
    async with asyncio.timeout(WAIT_S):
        while (await guest.learn()).providers_up != count:  # noqa: ASYNC110
            await asyncio.sleep(0.05)


async def test_control_link_is_given_up_by_both_and_dialled_again(
    tmp_path: Path,
) -> None:
    async with (
        running_node(tmp_path / "node", World(), **QUICK) as guest,
        silent_proxy(guest.url) as proxy,
        running_agent(tmp_path / "provider", proxy.url) as (agent, _),
    ):
        await wait_offered(guest)
        proxy.go_silent()
        await wait_true(lambda: not agent.is_linked)
        await wait_up(guest, 0)
        proxy.come_back()
        await wait_up(guest, 1)
        await wait_true(lambda: agent.is_linked)


async def test_event_stream_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection_module, "HEARTBEAT_S", 1.0)
    async with (
        running_house(tmp_path) as house,
        silent_proxy(house.url) as proxy,
        tenant_of(tmp_path, house.guest) as direct,
        AsyncClient(proxy.url, home=tmp_path / "tenant") as client,
    ):
        await client.pin()
        lease = await RawTenant(direct).rent(make_manifest("true"))
        async with asyncio.timeout(WAIT_S):
            with pytest.raises(Unavailable):
                async for _ in client.connection.watch_lease(lease.id):
                    proxy.go_silent()


async def test_doubly_dead_relay_is_dropped(tmp_path: Path) -> None:
    """Tenant and provider both vanish: the lease's one connection becomes free."""
    limits = {"relay_idle_s": 2, "relays_per_lease_max": 1, "lost_after_s": 60}
    async with (
        running_node(tmp_path / "node", World(), limits=limits) as guest,
        silent_proxy(guest.url) as near,
        silent_proxy(guest.url) as far,
        running_agent(tmp_path / "provider", far.url),
        tenant_of(tmp_path, guest) as client,
        AsyncClient(near.url, home=tmp_path / "tenant") as vanishing,
    ):
        await wait_offered(guest)
        await vanishing.pin()
        lease = await RawTenant(client).rent(make_manifest("true"))
        tunnel = await vanishing.connection.dial(lease.id)
        assert await count_relays(guest) == 1
        near.go_silent()
        far.go_silent()
        async with asyncio.timeout(WAIT_S):
            while await count_relays(guest):  # noqa: ASYNC110 (the node acts)
                await asyncio.sleep(0.05)
        await tunnel.close()


async def count_relays(guest: Guest) -> int:
    """Ask the node how many relayed connections it carries."""
    _, body = await guest.get("/metrics")
    lines = body.decode().splitlines()
    [line] = [each for each in lines if each.startswith("sublet_relays_open ")]
    return int(float(line.split()[-1]))


async def test_job_goes_on_over_a_new_channel(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The tenant's network vanishes while the job runs, and comes back."""
    monkeypatch.setattr(job_channel, "KEEPALIVE_S", 0.5)
    async with running_market(tmp_path) as market, silent_proxy(market.guest.url) as p:
        await market.provide()
        async with AsyncClient(p.url, home=tmp_path / "home", environment={}) as client:
            market.client = client  # same home, same money, by way of the proxy
            flag = tmp_path / "go"

            def hear(said: AnyEvent) -> None:
                if isinstance(said, Running):
                    p.go_silent()
                if type(said).__name__ == "Disconnected":
                    flag.touch()
                    p.come_back()

            result = await market.run(
                "sh",
                "-c",
                f"while [ ! -e {flag} ]; do sleep 0.1; done; echo done",
                is_command=True,
                on_event=hear,
            )
            assert result.exit_code == 0, result
            assert len(result.attempts) == 1
            assert Path(result.stdout).read_bytes() == b"done\n"


async def test_provider_frees_the_slot_of_a_tenant_that_vanished(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ssh_server, "KEEPALIVE_S", 0.5)
    async with (
        running_house(tmp_path) as house,
        silent_proxy(house.url) as proxy,
        tenant_of(tmp_path, house.guest) as client,
        AsyncClient(proxy.url, home=tmp_path / "tenant") as vanishing,
    ):
        await vanishing.pin()
        plane = house.agent.data_plane
        tenant = RawTenant(client)
        lease = await tenant.rent(make_manifest("true"))
        tenant.connection = vanishing.connection
        async with tenant.dial(lease) as channel:
            await channel.open_job()
            assert plane.count() == 1
            proxy.go_silent()
            await wait_true(lambda: plane.count() == 0)
        told = await client.connection.lease(lease.id)
        assert told.phase is not Phase.SETTLED, "a silence ends no lease"


async def test_witness_does_not_wait_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(follow, "TIMEOUT_S", 1.0)
    world = World()
    async with (
        running_node(tmp_path / "node", world) as guest,
        silent_proxy(guest.url) as proxy,
    ):
        pin = Pin(proxy.url, world.market_id, world.note_key.verifier_key, "test")
        memory = CheckpointFolder(tmp_path / "witness")
        key = WitnessKey.generate(b"\x08" * 32, "w")
        cosigner = Cosigner(key, memory, clock=HandClock(), pins=[pin])
        await guest.accept(world.credit(world.tenant.address, 1_000))
        async with Follower(cosigner, memory) as follower, asyncio.timeout(WAIT_S):
            proxy.go_silent()
            with pytest.raises(Unavailable):
                await follower.look(pin)
            proxy.come_back()
            assert await follower.look(pin)


async def test_silent_market_is_named_and_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Connections are taken and never answered: a client says so, and ends."""
    monkeypatch.setattr(connection_module, "TIMEOUT_S", 0.5)
    async with (
        running_node(tmp_path / "node", World()) as guest,
        silent_proxy(guest.url) as proxy,
    ):
        proxy.go_silent()
        async with AsyncClient(proxy.url, home=tmp_path / "tenant") as client:
            begun_s = time.monotonic()
            with pytest.raises(Unavailable, match="no market answers"):
                await client.market()
            assert time.monotonic() - begun_s < WAIT_S
