"""Control links, liveness, lease events: who is there, and who is told what."""

import asyncio
from pathlib import Path
from socket import SHUT_RDWR

import aiohttp
import pytest

from sublet.core.lease.phase import Fault, Lease, Phase
from sublet.node.link import DENIED_CLOSE, REPLACED_CLOSE
from sublet.wire.codec import encode
from sublet.wire.message import Challenge, Hello, LeaseChanged
from tests.fakes.world import World, make_key
from tests.integration.node_house import (
    STRANGER,
    Guest,
    read_message,
    running_node,
    stock,
)

QUICK = {"lost_after_s": 2, "ping_s": 1}


async def order_lease(guest: Guest) -> Lease:
    (result,) = await guest.accept(guest.world.order())
    assert result.lease is not None
    return result.lease


async def wait_until_lost(
    guest: Guest, socket: aiohttp.ClientWebSocketResponse
) -> Lease:
    while True:
        lease: Lease = await read_message(socket, Lease)
        if lease.phase is Phase.SETTLED:
            return lease


async def test_provider_is_up_while_linked(tmp_path: Path) -> None:
    async with running_node(tmp_path / "node", World()) as guest:
        assert (await guest.learn()).providers_up == 0
        link = await guest.link(guest.world.providers[0])
        assert link.welcome.leases == ()
        assert (await guest.learn()).providers_up == 1


async def test_link_tells_lease_changes(tmp_path: Path) -> None:
    async with running_node(tmp_path / "node", World()) as guest:
        guest.world.providers = guest.world.providers[:1]
        (link,) = await stock(guest)
        lease = await order_lease(guest)
        assert await link.next_message() == LeaseChanged(lease=lease)
        (result,) = await guest.accept(guest.world.terms(lease))
        assert result.lease is not None
        assert await link.next_message() == LeaseChanged(lease=result.lease)
        again = await guest.link(guest.world.providers[0])
        assert again.welcome.leases == (result.lease,)


async def test_newer_link_replaces_older(tmp_path: Path) -> None:
    async with running_node(tmp_path / "node", World(), limits=QUICK) as guest:
        provider = guest.world.providers[0]
        older = await guest.link(provider)
        newer = await guest.link(provider)
        assert (await older.socket.receive(timeout=5)).type is aiohttp.WSMsgType.CLOSE
        assert older.socket.close_code == REPLACED_CLOSE
        await guest.accept(guest.world.offer(provider))
        await guest.accept(guest.world.credit(guest.world.tenant.address, 5_000_000))
        lease = await order_lease(guest)
        assert await newer.next_message() == LeaseChanged(lease=lease)


async def test_hello_with_wrong_key_denied(tmp_path: Path) -> None:
    async with running_node(tmp_path / "node", World()) as guest:
        provider = guest.world.providers[0].address
        old = "0" * 32
        for signer, nonce, claimed in (
            (STRANGER, None, provider),  # another's name
            (STRANGER, old, STRANGER.address),  # an answer to another challenge
        ):
            socket = await guest.http.ws_connect(guest.url + "/v1/link")
            challenge = await read_message(socket, Challenge)
            path = f"/v1/link?nonce={nonce or challenge.nonce}"
            header = guest.authorize(signer, path)["Authorization"]
            hello = Hello(provider=claimed, authorization=header, instance="0" * 32)
            await socket.send_str(encode(hello).decode())
            await socket.receive(timeout=5)
            assert socket.close_code == DENIED_CLOSE
        assert (await guest.learn()).providers_up == 0


async def test_lost_provider_settles_its_leases(tmp_path: Path) -> None:
    async with running_node(tmp_path / "node", World(), limits=QUICK) as guest:
        links = await stock(guest)
        lease = await order_lease(guest)
        path = f"/v1/leases/{lease.id}/events"
        events = await guest.open_socket(path, key=guest.world.tenant)
        for link in links:
            await link.socket.close()
        settled = await wait_until_lost(guest, events)
        assert (settled.fault, settled.reason) == (Fault.PROVIDER, "provider_lost")
        assert (await events.receive(timeout=5)).type is aiohttp.WSMsgType.CLOSE


async def test_silent_provider_is_lost_too(tmp_path: Path) -> None:
    async with running_node(tmp_path / "node", World(), limits=QUICK) as guest:
        guest.world.providers = guest.world.providers[:1]
        await guest.accept(guest.world.credit(guest.world.tenant.address, 5_000_000))
        provider = guest.world.providers[0]
        socket = await guest.http.ws_connect(guest.url + "/v1/link", autoping=False)
        challenge = await read_message(socket, Challenge)
        header = guest.authorize(provider, f"/v1/link?nonce={challenge.nonce}")
        hello = Hello(
            provider=provider.address,
            authorization=header["Authorization"],
            instance="0" * 32,
        )
        await socket.send_str(encode(hello).decode())
        await guest.accept(guest.world.offer(provider))
        lease = await order_lease(guest)
        path = f"/v1/leases/{lease.id}/events"
        events = await guest.open_socket(path, key=guest.world.tenant)
        # Connected, but no ping is answered: a machine that hangs.
        settled = await wait_until_lost(guest, events)
        assert settled.reason == "provider_lost"


@pytest.mark.parametrize("says_goodbye", [True, False])
async def test_broken_link_is_given_less_time(
    tmp_path: Path, says_goodbye: bool
) -> None:
    limits = {"lost_after_s": 600, "gone_after_s": 2, "ping_s": 1}
    async with running_node(tmp_path / "node", World(), limits=limits) as guest:
        guest.world.providers = guest.world.providers[:1]
        (link,) = await stock(guest)
        lease = await order_lease(guest)
        path = f"/v1/leases/{lease.id}/events"
        events = await guest.open_socket(path, key=guest.world.tenant)
        if not says_goodbye:
            # As the kernel does for a process that was killed.
            link.socket.get_extra_info("socket").shutdown(SHUT_RDWR)
            settled = await wait_until_lost(guest, events)
            assert settled.reason == "provider_lost"
        else:
            await link.socket.close()
            await asyncio.sleep(4)  # twice the shorter grace
            assert (await guest.learn()).providers_up == 1


async def test_returning_provider_keeps_its_lease(tmp_path: Path) -> None:
    limits = {"lost_after_s": 30}
    async with running_node(tmp_path / "node", World(), limits=limits) as guest:
        guest.world.providers = guest.world.providers[:1]
        (link,) = await stock(guest)
        lease = await order_lease(guest)
        await link.socket.close()
        again = await guest.link(guest.world.providers[0])
        assert again.welcome.leases == (lease,)


async def test_restart_gives_providers_grace(tmp_path: Path) -> None:
    world = World()
    async with running_node(tmp_path / "node", world) as guest:
        await stock(guest)
        lease = await order_lease(guest)
    async with running_node(tmp_path / "node", world, limits=QUICK) as guest:
        assert (await guest.learn()).providers_up == len(world.providers)
        path = f"/v1/leases/{lease.id}/events"
        events = await guest.open_socket(path, key=world.tenant)
        assert (await read_message(events, Lease)).id == lease.id
        settled = await wait_until_lost(guest, events)
        assert settled.reason == "provider_lost"
        assert (await guest.learn()).providers_up == 0


async def test_unkept_deadline_settles_lease(tmp_path: Path) -> None:
    market = {"accept_s": 1}
    async with running_node(tmp_path / "node", World(), market=market) as guest:
        await stock(guest)
        lease = await order_lease(guest)
        path = f"/v1/leases/{lease.id}/events"
        events = await guest.open_socket(path, key=guest.world.tenant)
        settled = await wait_until_lost(guest, events)
        assert (settled.fault, settled.reason) == (Fault.PROVIDER, "not_accepted")


async def test_events_are_for_their_parties(tmp_path: Path) -> None:
    async with running_node(tmp_path / "node", World()) as guest:
        await stock(guest)
        lease = await order_lease(guest)
        path = f"/v1/leases/{lease.id}/events"
        with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
            await guest.open_socket(path, key=make_key("curious"))
        assert caught.value.status == 403
        assert caught.value.headers is not None
        assert caught.value.headers["Sublet-Fault"] == "not_yours"


async def test_many_listeners_hear_each_change(tmp_path: Path) -> None:
    async with running_node(tmp_path / "node", World()) as guest:
        await stock(guest)
        lease = await order_lease(guest)
        path = f"/v1/leases/{lease.id}/events"
        sockets = [
            await guest.open_socket(path, key=guest.world.tenant) for _ in "12345"
        ]
        (result,) = await guest.accept(guest.world.terms(lease))
        for socket in sockets:
            assert await read_message(socket, Lease) == lease
            assert await read_message(socket, Lease) == result.lease


async def test_node_going_down_says_so(tmp_path: Path) -> None:
    async with running_node(tmp_path / "node", World()) as guest:
        link = await guest.link(guest.world.providers[0])
        waiting = asyncio.ensure_future(link.socket.receive(timeout=10))
    assert link.socket.close_code == aiohttp.WSCloseCode.GOING_AWAY or (
        (await waiting).type is aiohttp.WSMsgType.CLOSED
    )


async def test_sockets_have_a_limit(tmp_path: Path) -> None:
    limits = {"websockets_max": 1}
    async with running_node(tmp_path / "node", World(), limits=limits) as guest:
        link = await guest.link(guest.world.providers[0])
        with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
            await guest.link(guest.world.providers[1])
        assert caught.value.status == 503
        await link.socket.close()
        await guest.link(guest.world.providers[1])
