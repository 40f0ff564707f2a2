"""A market that lies about its log is caught by whoever deals with it.

Real node, real client, real agent; between them a man in the middle shows them another
history, an older one, or acknowledges what it never appended.
"""

import asyncio
import contextlib
import shutil
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from sublet.adapter.checkpoint_folder import CheckpointFolder
from sublet.provider.agent import Agent
from sublet.wire.note import read_text, split_note
from sublet.wire.split_view import check_split_view, read_split_view
from sublet.workload.client import AsyncClient
from sublet.workload.run.event import AnyEvent, MarketLied
from tests.fakes.world import World
from tests.integration.crooked import Crooked, Rewrite, crooked_door
from tests.integration.node_house import Guest, running_node
from tests.integration.provider_house import (
    running_agent,
    wait_offered,
    wait_settled,
    wait_true,
)
from tests.integration.tenant_house import Market

WAIT_S = 60
SETTINGS = {"limits": {"lost_after_s": 20, "ping_s": 1}, "faucet": "10.00"}


@contextlib.asynccontextmanager
async def lying_market(folder: Path) -> AsyncIterator[tuple[Guest, Guest, Crooked]]:
    """One market, one key, two logs that part after their beginning, and a door."""
    world = World()
    async with running_node(folder / "one", world, **SETTINGS) as guest:
        await grow(guest)
    shutil.copytree(folder / "one", folder / "two")
    async with (
        running_node(folder / "two", world, **SETTINGS) as two,
        running_node(folder / "one", world, **SETTINGS) as one,
        crooked_door(one.url) as door,
    ):
        yield one, two, door


async def grow(guest: Guest, count: int = 3) -> None:
    for _ in range(count):
        await guest.accept(guest.world.credit(guest.world.tenant.address, 1_000))


def size_of(note: bytes) -> int:
    return read_text(split_note(note)[0]).size


async def wait_signed(guest: Guest) -> None:
    """Wait until a checkpoint covers all that is in the log."""
    size = (await guest.learn()).size
    async with asyncio.timeout(WAIT_S):
        while True:
            _, note = await guest.get("/v1/log/checkpoint")
            if size_of(note) >= size:
                return
            await asyncio.sleep(0.02)


@pytest.fixture
async def tenant(tmp_path: Path) -> AsyncIterator[tuple[Market, Guest, Crooked]]:
    """A tenant, with a provider, that reaches its market through the door."""
    async with lying_market(tmp_path) as (one, two, door):
        market = Market(one, one.world, tmp_path)
        async with (
            market.stack,
            AsyncClient(door.url, home=tmp_path / "home", environment={}) as client,
        ):
            market.client = client
            await client.faucet()
            await market.provide()
            yield market, two, door


def acknowledge_at(index: Callable[[int], int], *, kind: str) -> Rewrite:
    """Say that documents of this kind stand elsewhere in the log than they do."""

    def rewrite(path: str, status: int, body: bytes) -> tuple[int, bytes]:
        if path != "/v1/documents" or status != 200:
            return status, body
        answer = msgspec.json.decode(body)
        for result in answer["results"]:
            lease: dict[str, Any] = result.get("lease") or {}
            if result["index"] >= 0 and lease.get("phase") == kind:
                result["index"] = index(result["index"])
        return status, msgspec.json.encode(answer)

    return rewrite


def proof_of(home: Path) -> tuple[int, int]:
    """Give the sizes in the one file of evidence; it must hold for anybody."""
    [content] = CheckpointFolder(home / "logs").read_evidence().values()
    older, newer = check_split_view(read_split_view(content))
    return older.size, newer.size


async def test_honest_market_proves_order_and_settlement(
    tenant: tuple[Market, Guest, Crooked], tmp_path: Path
) -> None:
    market, _, door = tenant
    asked: list[str] = []

    def listen(path: str, status: int, body: bytes) -> tuple[int, bytes]:
        asked.append(path)
        return status, body

    def proofs() -> list[str]:
        return [path for path in asked if path.startswith("/v1/log/proof/inclusion")]

    door.rewrite = listen
    result = await market.run("true", is_command=True)
    assert (result.exit_code, result.market_lie) == (0, "")
    assert not proofs(), "nobody waits for what has just ended to be settled"
    [lease] = await wait_settled(market.client)
    assert lease.reason == "exited"
    assert (await market.run("true", is_command=True)).market_lie == ""
    assert len(proofs()) == 2, (
        "of the first job: one for the order, one for the receipt"
    )
    await wait_settled(market.client)
    assert (await market.run("true", is_command=True)).market_lie == ""
    assert len(proofs()) == 4, "nothing is proven twice"
    kept = CheckpointFolder(tmp_path / "home" / "logs")
    assert kept.find(market.world.market_id) is not None
    assert not kept.read_evidence()


async def test_tenant_catches_two_histories(
    tenant: tuple[Market, Guest, Crooked], tmp_path: Path
) -> None:
    market, two, door = tenant
    heard: list[AnyEvent] = []
    assert (await market.run("true", is_command=True)).exit_code == 0
    await grow(two, 60)
    door.logs = two.url
    result = await market.run("true", is_command=True, on_event=heard.append)
    assert result.exit_code == 4, "the job is done, and its market lies"
    assert result.attempts[-1].outcome == "exited"
    [lie] = [each for each in heard if isinstance(each, MarketLied)]
    assert lie.code == "log_forked"
    assert lie.evidence in result.market_lie
    assert Path(lie.evidence).is_file()
    older, newer = proof_of(tmp_path / "home")
    assert older <= newer
    # A job's own failure is not hidden behind it.
    result = await market.run("sh", "-c", "exit 9", is_command=True)
    assert result.exit_code == 9
    assert result.market_lie


async def test_tenant_catches_a_cut_log(
    tenant: tuple[Market, Guest, Crooked], tmp_path: Path
) -> None:
    market, _, door = tenant
    _, old = await market.guest.get("/v1/log/checkpoint")
    for _ in range(2):  # the second one sees a newer checkpoint
        assert (await market.run("true", is_command=True)).exit_code == 0
    door.rewrite = lambda path, status, body: (
        (200, old) if path == "/v1/log/checkpoint" else (status, body)
    )
    result = await market.run("true", is_command=True)
    assert result.exit_code == 4
    assert "cut away" in result.market_lie
    assert len(CheckpointFolder(tmp_path / "home" / "logs").read_evidence()) == 1


@pytest.mark.parametrize("kind", ["matched", "settled"])
@pytest.mark.parametrize("index", [0, 1 << 30])
async def test_tenant_catches_what_was_never_appended(
    tenant: tuple[Market, Guest, Crooked], kind: str, index: int
) -> None:
    """Its order, or its receipt: acknowledged, and not in the log."""
    market, _, door = tenant
    heard: list[AnyEvent] = []
    door.rewrite = acknowledge_at(lambda _: index, kind=kind)
    assert (await market.run("true", is_command=True)).exit_code == 0
    await wait_settled(market.client)
    result = await market.run("true", is_command=True, on_event=heard.append)
    assert result.exit_code == 4, "the market lied about the job before"
    assert result.market_lie
    assert [e.code for e in heard if isinstance(e, MarketLied)] == ["log_withheld"]


async def test_outage_is_no_lie(tenant: tuple[Market, Guest, Crooked]) -> None:
    market, _, door = tenant
    door.rewrite = lambda path, status, body: (
        (503, b"") if path.startswith("/v1/log/") else (status, body)
    )
    result = await market.run("true", is_command=True)
    assert (result.exit_code, result.market_lie) == (0, "")


# ---- the provider --------------------------------------------------------------------


@contextlib.asynccontextmanager
async def watched_agent(
    folder: Path,
) -> AsyncIterator[tuple[Agent, Guest, Guest, Crooked]]:
    """An agent behind the door that offers and has looked at the log once."""
    async with (
        lying_market(folder) as (one, two, door),
        running_agent(folder / "provider", door.url) as (agent, _),
    ):
        await wait_offered(one)
        memory = CheckpointFolder(folder / "provider" / "logs")
        await wait_true(lambda: memory.find(one.world.market_id) is not None)
        yield agent, one, two, door


async def wait_caught(agent: Agent, guest: Guest) -> None:
    """Wait until it says so, and has taken its offer back."""
    async with asyncio.timeout(WAIT_S):
        while not agent.scrutiny.lie or (await guest.learn()).offers:  # noqa: ASYNC110 (others act)
            await asyncio.sleep(0.02)
    assert agent.offering.barred
    assert agent.offering.newest is None


async def test_provider_catches_two_histories(tmp_path: Path) -> None:
    async with watched_agent(tmp_path) as (agent, one, two, door):
        await grow(two, 60)
        door.logs = two.url
        await door.cut()  # it dials again, and looks
        await wait_caught(agent, one)
        assert "two histories" in agent.scrutiny.lie
        proof_of(tmp_path / "provider")


async def test_provider_catches_a_cut_log(tmp_path: Path) -> None:
    async with watched_agent(tmp_path) as (agent, one, _, door):
        _, old = await one.get("/v1/log/checkpoint")
        await grow(one)
        await wait_signed(one)
        kept = CheckpointFolder(tmp_path / "provider" / "logs")
        before = kept.find(one.world.market_id)
        agent.scrutiny.look_soon()
        await wait_true(lambda: kept.find(one.world.market_id) != before)
        assert size_of(old) < size_of(kept.find(one.world.market_id) or b"")
        door.rewrite = lambda path, status, body: (
            (200, old) if path == "/v1/log/checkpoint" else (status, body)
        )
        agent.scrutiny.look_soon()
        await wait_caught(agent, one)
        assert "cut away" in agent.scrutiny.lie


@pytest.mark.parametrize("index", [0, 1 << 30])
async def test_provider_catches_what_was_never_appended(
    tmp_path: Path, index: int
) -> None:
    """Its receipts: acknowledged, and not in the log."""
    async with watched_agent(tmp_path) as (agent, one, _, door):
        door.rewrite = acknowledge_at(lambda _: index, kind="settled")
        async with AsyncClient(one.url, home=tmp_path / "home") as client:
            await client.faucet()
            await client.run("true", is_command=True, max_total="5", timeout="5m")
        await wait_true(lambda: index in agent.scrutiny.acknowledged.values())
        agent.scrutiny.look_soon()
        await wait_caught(agent, one)
