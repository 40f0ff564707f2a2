"""Two whole nodes on one log: links, leases, liveness and money across both."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import psycopg
import pytest

from sublet.adapter.log_postgres import PostgresLog
from sublet.adapter.presence_postgres import PostgresPresence
from sublet.base.errors import Broken, Refused
from sublet.core.lease.phase import Lease, Phase
from sublet.node.config import NodeConfig
from sublet.service.ports import Ground, Overtaken, Unattended
from sublet.wire.codec import DocumentCodec, decode
from sublet.wire.message import LeaseChanged
from tests.fakes.world import World
from tests.integration.node_house import (
    ANSWER_MAX,
    Guest,
    ProviderLink,
    make_config,
    read_message,
    running_node,
    stock,
)
from tests.postgres_server import Server

QUICK = {"lost_after_s": 4, "ping_s": 1}
WAIT_S = 60


@asynccontextmanager
async def two_nodes(
    folder: Path, url: str, **settings: Any
) -> AsyncIterator[tuple[Guest, Guest]]:
    world = World()
    settings = {"log": {"url": url}, "limits": QUICK, **settings}
    async with (
        running_node(folder / "a", world, **settings) as first,
        running_node(folder / "b", world, **settings) as second,
    ):
        yield first, second


async def order_lease(guest: Guest) -> Lease:
    (result,) = await guest.accept(guest.world.order())
    assert result.lease is not None
    return result.lease


async def read_lease(guest: Guest, lease: Lease) -> Lease:
    status, body = await guest.get(f"/v1/leases/{lease.id}", key=guest.world.tenant)
    assert status == 200, body
    return decode(body, Lease, size_max=ANSWER_MAX)


async def wait_settled(guest: Guest, lease: Lease) -> Lease:
    async with asyncio.timeout(WAIT_S):
        while True:
            now = await read_lease(guest, lease)
            if now.phase is Phase.SETTLED:
                return now
            await asyncio.sleep(0.1)


async def sleep_linked(link: ProviderLink, seconds: float) -> None:
    """Let time pass for a provider that answers its pings meanwhile."""
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            while True:
                await link.next_message()


def kinds(url: str, world: World) -> list[str]:
    log = PostgresLog(url)
    codec = DocumentCodec(world.domain)
    rows = log.read(first=0, limit=10_000)
    log.close()
    return [type(codec.read_entry(row.body).fact.document).__name__ for row in rows]


async def test_what_one_hears_the_other_tells(
    tmp_path: Path, postgres_url: str
) -> None:
    async with two_nodes(tmp_path, postgres_url) as (first, second):
        first.world.providers = first.world.providers[:1]
        (link,) = await stock(second)  # the provider knows the second node alone
        lease = await order_lease(first)
        assert await link.next_message() == LeaseChanged(lease=lease)
        path = f"/v1/leases/{lease.id}/events"
        events = await first.open_socket(path, key=first.world.tenant)
        assert await read_message(events, Lease) == lease
        (result,) = await second.accept(second.world.terms(lease))
        assert await read_message(events, Lease) == result.lease
        account = await second.account(second.world.tenant)
        assert account == await first.account(first.world.tenant)


async def test_two_nodes_found_one_market(tmp_path: Path, postgres_url: str) -> None:
    world = World()
    log = {"url": postgres_url}

    async def found(name: str) -> str:
        async with running_node(tmp_path / name, world, log=log) as guest:
            return (await guest.learn()).id

    assert len(set(await asyncio.gather(found("a"), found("b")))) == 1


async def test_provider_linked_to_one_is_lost_to_none(
    tmp_path: Path, postgres_url: str
) -> None:
    async with two_nodes(tmp_path, postgres_url) as (first, second):
        first.world.providers = first.world.providers[:1]
        (link,) = await stock(second)
        lease = await order_lease(first)
        await sleep_linked(link, 1.5 * QUICK["lost_after_s"])  # the first hears nothing
        assert (await first.learn()).providers_up == 1
        assert (await read_lease(first, lease)).phase is not Phase.SETTLED
    assert "ProviderLost" not in kinds(postgres_url, first.world)


async def test_provider_moves_with_its_lease(tmp_path: Path, postgres_url: str) -> None:
    world, settings = World(), {"log": {"url": postgres_url}, "limits": QUICK}
    async with running_node(tmp_path / "a", world, **settings) as first:
        async with running_node(tmp_path / "b", world, **settings) as second:
            world.providers = world.providers[:1]
            await stock(second)
            lease = await order_lease(second)
        # The node is gone, and with it the link; there is time to come here.
        link = await first.link(world.providers[0])
        assert [each.id for each in link.welcome.leases] == [lease.id]
        await sleep_linked(link, 1.5 * QUICK["lost_after_s"])
        assert (await read_lease(first, lease)).phase is Phase.MATCHED
    assert "ProviderLost" not in kinds(postgres_url, world)


async def test_provider_lost_to_all_is_lost(tmp_path: Path, postgres_url: str) -> None:
    async with two_nodes(tmp_path, postgres_url) as (first, second):
        first.world.providers = first.world.providers[:1]
        (link,) = await stock(second)
        both = await first.link(first.world.providers[0])
        lease = await order_lease(first)
        await link.socket.close()
        await both.socket.close()
        settled = await wait_settled(first, lease)
        assert settled.reason == "provider_lost"
        assert settled == await wait_settled(second, lease)
    # Both may have said it; the later word is void.
    assert "ProviderLost" in kinds(postgres_url, first.world)


async def test_faucet_gives_once_at_both(tmp_path: Path, postgres_url: str) -> None:
    async with two_nodes(tmp_path, postgres_url, faucet="5.00") as pair:
        tenant = pair[0].world.tenant
        await asyncio.gather(
            *(each.post("/v1/faucet", b"", key=tenant) for each in pair * 3)
        )
        assert (await pair[0].account(tenant)).balance == 5_000_000


async def test_nodes_outlive_their_database(
    tmp_path: Path, postgres_url: str, postgres_server: Server
) -> None:
    async with two_nodes(tmp_path, postgres_url) as pair:
        first, second = pair
        first.world.providers = first.world.providers[:1]
        (link,) = await stock(first)
        lease = await order_lease(first)
        postgres_server.kill()
        await sleep_linked(
            link, QUICK["lost_after_s"]
        )  # longer than nobody may be away
        await asyncio.to_thread(postgres_server.start)
        async with asyncio.timeout(WAIT_S):
            while "Resume" not in kinds(postgres_url, first.world):
                await sleep_linked(link, 0.1)
        (result,) = await second.accept(second.world.terms(lease))
        assert result.lease is not None
        assert (await read_lease(first, lease)).phase is Phase.ACCEPTED
    assert "ProviderLost" not in kinds(postgres_url, first.world)


def test_late_loss_of_a_heard_provider_is_refused(postgres_url: str) -> None:
    log = PostgresLog(postgres_url)
    presence = PostgresPresence(postgres_url, away_ms=60_000)
    log.append([], ground=Ground(is_resume=True))
    provider, row = "0x" + "a" * 40, ("0x" + "1" * 64, b"body", b"l" * 32)
    ground = Ground(silent=provider, silent_ms=60_000)
    with pytest.raises(Overtaken):  # nobody had the time to be silent so long
        log.append([row], ground=ground)
    assert presence.find_silent([provider], silent_ms=60_000) == frozenset()
    assert presence.find_silent([provider], silent_ms=0) == {provider}
    assert presence.beat([provider])
    with pytest.raises(Overtaken):
        log.append([row], ground=ground)
    assert log.append([row], ground=Ground(silent=provider)).indexes == [0]
    log.close()
    presence.close()


def test_nobody_there_wants_a_resume(postgres_url: str) -> None:
    log = PostgresLog(postgres_url)
    presence = PostgresPresence(postgres_url, away_ms=60_000)
    assert not presence.beat([])
    for rows in ([], [("0x" + "1" * 64, b"body", b"l" * 32)]):
        with pytest.raises(Unattended):
            log.append(rows)
    log.append([], ground=Ground(is_resume=True))
    assert presence.beat([])
    log.close()
    presence.close()


@pytest.mark.parametrize(
    ("url", "code"),
    [
        ("postgresql://me:secret@here/sublet", "password_in_url"),
        ("host=here password=secret", "password_in_url"),
        ("http://here", "bad_log_url"),
    ],
)
def test_address_with_a_password_is_refused(url: str, code: str) -> None:
    with pytest.raises(Refused) as caught:
        PostgresLog(url)
    assert caught.value.code == code
    assert "secret" not in str(caught.value)


async def test_older_copy_is_noticed(tmp_path: Path, postgres_url: str) -> None:
    world, settings = World(), {"log": {"url": postgres_url}}
    async with running_node(tmp_path / "a", world, **settings) as guest:
        await guest.accept(world.credit(world.tenant.address, 1))
    with psycopg.connect(postgres_url, autocommit=True) as session:
        # What a backup of before the last entries would bring back.
        session.execute("ALTER TABLE sublet.entry DISABLE TRIGGER USER")
        session.execute("DELETE FROM sublet.entry WHERE number > 0")
        session.execute("DELETE FROM sublet.checkpoint WHERE size > 1")
        session.execute("DELETE FROM sublet.snapshot")
    with pytest.raises(Broken, match="restore a newer backup"):
        async with running_node(tmp_path / "a", world, **settings):
            pass
    with psycopg.connect(postgres_url, autocommit=True) as session:
        session.execute("DROP SCHEMA sublet CASCADE")
    with pytest.raises(Refused, match="keeps a checkpoint"):
        async with running_node(tmp_path / "a", world, **settings):
            pass


def test_node_says_what_its_log_is(tmp_path: Path) -> None:
    config: NodeConfig = make_config(
        tmp_path, log={"url": "postgresql:///x"}, nodes=["http://a:1", "https://b"]
    )
    assert config.log_url == "postgresql:///x"
    assert config.nodes == ("http://a:1", "https://b")
