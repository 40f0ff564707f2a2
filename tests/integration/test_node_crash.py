"""A node as a process of its own: killed at any moment, it loses nothing."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import msgspec

from sublet.adapter.log_sqlite import SqliteLogReader
from sublet.core.book.book import Book
from sublet.core.book.snapshot import book_hash
from sublet.core.book.step import step
from sublet.core.document import Offer, Seal
from sublet.service.submission import Candidate
from sublet.wire.codec import DocumentCodec, decode
from sublet.wire.message import Appendix, LogEntry
from tests.fakes.world import GIB, World
from tests.integration.node_house import (
    ANSWER_MAX,
    START_WAIT_S,
    Guest,
    RunningClock,
    make_home,
    submission,
)

ORDERS = 200
ACKNOWLEDGED_BEFORE_KILL = 40
PROGRAM = "from sublet.cli.node import app; app()"


@asynccontextmanager
async def node_process(
    home: Path, world: World
) -> AsyncIterator[tuple[Guest, asyncio.subprocess.Process]]:
    """Run ``sublet node start``; whatever is left of it at the end is killed."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-c", PROGRAM, "start", "--home", str(home)),
        *("--listen", "127.0.0.1:0", "--json"),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        assert process.stdout is not None
        line = await asyncio.wait_for(process.stdout.readline(), START_WAIT_S)
        async with aiohttp.ClientSession() as http:
            guest = Guest(json.loads(line)["url"], http, world)
            await guest.learn()
            yield guest, process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


def large_offer(world: World) -> Candidate:
    offer = world.offer(world.providers[0]).document
    assert isinstance(offer, Offer)
    large = msgspec.structs.replace(
        offer, cpus_milli=1_000_000, memory_bytes=1_000 * GIB, disk_bytes=1_000 * GIB
    )
    return world.say(large, world.providers[0])


async def submit_until_killed(
    guest: Guest, orders: list[Candidate], process: asyncio.subprocess.Process
) -> dict[str, int]:
    """Submit all at once, kill in the middle; give what was acknowledged."""
    acknowledged: dict[str, int] = {}

    async def submit(order: Candidate) -> None:
        try:
            status, body = await guest.post("/v1/documents", submission(order))
        except aiohttp.ClientError:
            return  # not acknowledged: nobody may count on it
        assert status == 200
        (result,) = decode(body, Appendix, size_max=ANSWER_MAX).results
        assert result.lease is not None
        acknowledged[result.id] = result.index
        if len(acknowledged) == ACKNOWLEDGED_BEFORE_KILL:
            os.kill(process.pid, signal.SIGKILL)

    await asyncio.gather(*(submit(order) for order in orders))
    return acknowledged


async def read_ids(guest: Guest) -> list[str]:
    ids: list[str] = []
    while True:
        _, body = await guest.get(f"/v1/log/entries?first={len(ids)}&limit=100")
        if not body:
            return ids
        ids += [
            decode(line, LogEntry, size_max=ANSWER_MAX).id for line in body.splitlines()
        ]


def replay_hashes(home: Path) -> tuple[str, str]:
    """Give the hash that the last Seal names, and that of the book behind it."""
    log = SqliteLogReader(home / "log.db")
    codec, book = DocumentCodec(), Book()
    facts = [codec.read_entry(row.body).fact for row in log.read(first=0, limit=1_000)]
    log.close()
    seal = facts.pop().document
    assert isinstance(seal, Seal)
    for fact in facts:
        step(book, fact)
    return seal.book, "0x" + book_hash(book).hex()


async def test_killed_node_keeps_what_it_said(tmp_path: Path) -> None:
    home, world = tmp_path / "node", World()
    world.clock = RunningClock()  # type: ignore[assignment] # only at_s is asked for
    make_home(home, world)
    (home / "config.toml").touch()
    async with node_process(home, world) as (guest, process):
        await guest.link(world.providers[0])
        await guest.accept(large_offer(world))
        await guest.accept(world.credit(world.tenant.address, 500_000_000))
        orders = [world.order() for _ in range(ORDERS)]
        acknowledged = await submit_until_killed(guest, orders, process)
        assert await process.wait() == -signal.SIGKILL
    assert ACKNOWLEDGED_BEFORE_KILL <= len(acknowledged) < ORDERS
    async with node_process(home, world) as (guest, process):
        ids = await read_ids(guest)
        assert {id_: ids.index(id_) for id_ in acknowledged} == acknowledged
        # The tenant, who does not know what became of the rest, simply asks again.
        results = await guest.accept(*orders)
        assert all(result.lease is not None for result in results)
        assert acknowledged.items() <= {r.id: r.index for r in results}.items()
        assert len(await read_ids(guest)) == len(set(ids) | {o.id for o in orders})
        process.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(process.wait(), 10) == 0
    sealed, replayed = replay_hashes(home)
    assert sealed == replayed


async def test_second_node_leaves_log_alone(tmp_path: Path) -> None:
    home, world = tmp_path / "node", World()
    make_home(home, world)
    (home / "config.toml").touch()
    async with node_process(home, world) as (guest, _):
        second = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-c", PROGRAM, "start", "--home", str(home)),
            *("--listen", "127.0.0.1:0"),
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
        )
        _, errors = await second.communicate()
        assert second.returncode != 0
        assert b"another process already writes the log" in errors
        assert (await guest.get("/readyz"))[0] == 200
