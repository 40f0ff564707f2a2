"""The agent itself: starts, links, comes back, drains, and says how it is doing."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest

from sublet.adapter.clock_system import SystemClock
from sublet.base.errors import Refused, Unavailable
from sublet.core.lease.phase import Phase
from sublet.provider import control
from sublet.provider.compose import serve
from sublet.provider.journal import Journal
from sublet.provider.lease_state import Stage
from sublet.provider.status import Status, read_status, read_status_at_rest
from sublet.sdk.job_channel import JobChannel, find_direct
from sublet.service.ports import Probe
from sublet.wire.message import Close, Ended, Metered
from tests.fakes.sandbox_fake import FakeSandbox
from tests.fakes.scratch_fake import FakeScratch
from tests.fakes.world import World
from tests.integration.node_house import Guest, running_node
from tests.integration.provider_house import (
    RawTenant,
    hear,
    make_home,
    make_manifest,
    running_agent,
    running_house,
    tenant_of,
    wait_offered,
    wait_true,
)


class _BrokenSandbox(FakeSandbox):
    """A sandbox that finds that it protects nobody."""

    def probe(self, *, gpu_uuids: Sequence[str] = ()) -> Probe:
        return Probe(is_ok=False, reason="bubblewrap is not installed")


async def test_serves_nobody_without_sandbox(tmp_path: Path) -> None:
    make_home(tmp_path / "home", "http://127.0.0.1:9")
    with pytest.raises(Refused, match="not installed") as error:
        await serve(tmp_path / "home", sandboxes=(_BrokenSandbox(),), journal=Journal())
    assert error.value.code == "no_sandbox"


async def test_refuses_a_second_agent(tmp_path: Path) -> None:
    async with running_house(tmp_path) as house:
        with pytest.raises(Refused) as error:
            await serve(house.home, sandboxes=(FakeSandbox(),), journal=Journal())
        assert error.value.code == "agent_runs"


async def test_says_how_it_does(tmp_path: Path) -> None:
    async with (
        running_house(tmp_path) as house,
        tenant_of(tmp_path, house.guest) as client,
    ):
        raw = await asyncio.to_thread(control.ask, house.home, "status")
        said = msgspec.json.decode(raw, type=Status)
        assert said.is_running
        assert said.is_linked
        assert said.offer_id is not None
        assert (said.leases, said.earned_total) == ((), 0)
        await client.run("sleep", "0.3", is_command=True, max_total="50", timeout="5m")
        await wait_true(lambda: not house.agent.roster.records())
        raw = await asyncio.to_thread(control.ask, house.home, "status")
        said = msgspec.json.decode(raw, type=Status)
        assert said.earned_today == said.earned_total > 0
        assert said.leases_settled == 1
        assert (house.home / control.SOCKET_NAME).stat().st_mode & 0o077 == 0
        raw = await asyncio.to_thread(control.ask, house.home, "nonsense")
        assert b"unknown word" in raw
    with pytest.raises(Unavailable):
        control.ask(house.home, "status")
    rest = read_status_at_rest(house.home)
    assert not rest.is_running
    assert rest.earned_total == said.earned_total


async def test_drains_by_control_socket(tmp_path: Path) -> None:
    async with running_house(tmp_path) as house:
        await asyncio.to_thread(control.ask, house.home, "drain")
        await asyncio.wait_for(asyncio.shield(house.task), 10)
        assert (await house.guest.learn()).offers == 0


@asynccontextmanager
async def _node_at(tmp_path: Path, port: int) -> AsyncIterator[Guest]:
    async with running_node(
        tmp_path / "node", World(), listen=f"127.0.0.1:{port}"
    ) as guest:
        yield guest


async def test_goes_on_without_node(tmp_path: Path, unused_tcp_port: int) -> None:
    """The node goes away in the middle of a job, and comes back when it is over."""
    manifest = make_manifest("sh", "-c", "sleep 1.5; echo done")
    home = tmp_path / "provider"
    async with _node_at(tmp_path, unused_tcp_port) as guest:
        url = guest.url
        agent_context = running_agent(home, url)
        agent, _ = await agent_context.__aenter__()
        await wait_offered(guest)
        async with tenant_of(tmp_path, guest) as client:
            tenant = RawTenant(client)
            lease = await tenant.rent(manifest)
            async with tenant.dial(lease) as channel:
                await tenant.begin(channel, manifest)
                await hear(channel, Metered)
    try:
        await wait_true(
            lambda: [r.stage for r in agent.roster.records()] == [Stage.ENDED]
        )
        assert agent.around.outbox.size() > 0
        async with (
            _node_at(tmp_path, unused_tcp_port) as guest,
            tenant_of(tmp_path, guest) as client,
        ):
            await wait_true(lambda: agent.around.outbox.size() == 0)
            tenant.connection = client.connection
            over = await client.connection.lease(lease.id)
            assert over.phase is Phase.SETTLING
            assert over.owed > 0
    finally:
        await agent_context.__aexit__(None, None, None)


async def test_serves_tenants_directly(tmp_path: Path) -> None:
    manifest = make_manifest("echo", "direct")
    async with running_node(tmp_path / "node", World()) as guest:
        home = tmp_path / "provider"
        async with running_agent(
            home, guest.url, listen=("127.0.0.1", 0), endpoint="127.0.0.1:1"
        ) as (agent, _):
            await wait_offered(guest)
            port = agent.data_plane._listener.get_port()  # type: ignore[union-attr]
            async with tenant_of(tmp_path, guest) as client:
                tenant = RawTenant(client)
                lease = await tenant.rent(manifest)
                assert lease.endpoint == "127.0.0.1:1"
                sock = await find_direct(f"127.0.0.1:{port}")
                assert sock is not None
                channel = await JobChannel.connect(sock, lease=lease, key=tenant.key)
                await tenant.begin(channel, manifest)
                ended = await hear(channel, Ended)
                parts = [part async for part in channel.follow_log("stdout", offset=0)]
                assert b"".join(parts) == b"direct\n"
                await tenant.pay(channel, lease, ended.channel_total)
                await channel.say(Close(reason="done"))
                await tenant.wait_phase(lease, Phase.SETTLED)
                await channel.close()


async def test_erases_what_was_settled_meanwhile(tmp_path: Path) -> None:
    """Killed while a job runs, it comes back when the market has given up on it."""
    sandbox = FakeSandbox()
    manifest = make_manifest("sleep", "60")
    async with (
        running_house(
            tmp_path, sandbox=sandbox, node={"limits": {"lost_after_s": 2, "ping_s": 1}}
        ) as house,
        tenant_of(tmp_path, house.guest) as client,
    ):
        tenant = RawTenant(client)
        lease = await tenant.rent(manifest)
        async with tenant.dial(lease) as channel:
            await tenant.begin(channel, manifest)
            await hear(channel, Metered)
        house.task.cancel()
        await asyncio.gather(house.task, return_exceptions=True)
        over = await tenant.wait_phase(lease, Phase.SETTLED)
        assert over.reason == "provider_lost"
        job = house.home / "leases" / lease.id / "job"
        assert sandbox.read_state(job).phase == "running"
        async with running_agent(house.home, house.url, sandbox=sandbox) as (
            again,
            _,
        ):
            await wait_true(lambda: not again.roster.records())
        assert not job.exists()


class _FastClock(SystemClock):
    """A clock that is wrong by an hour until somebody sets it."""

    wrong_s = 3_600

    def now_s(self) -> int:
        return super().now_s() + self.wrong_s


async def test_says_that_clock_is_wrong(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    clock = _FastClock()
    caplog.set_level("INFO", logger="sublet.provider")

    def said(event: str) -> list[dict[str, object]]:
        return [
            getattr(record, "values", {})
            for record in caplog.records
            if record.message == event
        ]

    async with (
        running_node(tmp_path / "node", World()) as guest,
        running_agent(tmp_path / "home", guest.url, clock=clock) as (agent, _),
    ):
        await wait_true(lambda: bool(said("clock_wrong")))
        assert 3_590 < agent.clock_ahead_s < 3_610
        assert not agent.is_linked
        assert not said("document_refused"), "nothing was posted without a link"
        clock.wrong_s = 0
        await wait_offered(guest)
        # It goes wrong while the link stands: the next document is refused.
        clock.wrong_s = 3_600
        agent.offering.release(clock.now_s() + 5_000)
        await wait_true(lambda: bool(said("document_refused")))
        for event in ("clock_wrong", "document_refused"):
            assert "timedatectl" in str(said(event)[0]["cure"])


async def test_takes_one_lease_per_slice(tmp_path: Path) -> None:
    """Two orders for the whole machine: the second finds nothing, and nobody dies."""
    async with (
        running_house(tmp_path) as house,
        tenant_of(tmp_path, house.guest) as client,
    ):
        tenant = RawTenant(client)
        await tenant.rent(make_manifest("true", cpus_milli=4_000))
        with pytest.raises((AssertionError, Refused)):
            await tenant.rent(make_manifest("true", cpus_milli=4_000, salt="1" * 32))
        await wait_true(lambda: len(house.agent.roster.records()) == 1)


@pytest.mark.parametrize("scratches", [(), (FakeScratch(),)], ids=["none", "one"])
async def test_status_says_whether_erasure_is_offered_and_why_not(
    tmp_path: Path, scratches: tuple[FakeScratch, ...]
) -> None:
    async with running_house(tmp_path, scratches=scratches) as house:
        said = read_status(house.agent).erasure
    assert said is not None
    assert said.is_ok == bool(scratches)
    assert ("there is no gocryptfs here" in said.reason) != said.is_ok
