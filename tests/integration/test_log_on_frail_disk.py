"""A node whose disk runs full, fails to sync, or loses its power: at every single call.

For each document of a market's life the disk fails at its first write (fsync), then,
when the document is said again, at the second, and so on until there are no more. What
was acknowledged stays, whatever comes; what was not is said again and counts once.
"""

import itertools
import random
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest

from sublet.adapter.log_sqlite import SqliteLog
from sublet.base.errors import Broken, Refused, SubletError, Unavailable
from sublet.service.market import MarketService
from sublet.service.submission import Candidate, Result
from tests.fakes.world import World
from tests.rig.disk import Disk, mounted_disk
from tests.rig.market_script import Script

SEAL_EVERY = 7  # often, so that seals and snapshots meet the faults, too
TRIES_MAX = 60  # no document takes so many writes


@pytest.fixture
def disk() -> Iterator[Disk]:
    with mounted_disk() as mounted:
        yield mounted


class FrailNode:
    """A market's service on the disk; it is ended and opened again as need be."""

    def __init__(self, disk: Disk) -> None:
        self.disk = disk
        self.world = World()
        self.script = Script(self.world, self.say)
        self.faults = 0
        self.restarts = 0
        self._log: SqliteLog | None = None
        self._market: MarketService

    @property
    def path(self) -> Path:
        return self.disk.folder / "log.db"

    async def open(self) -> None:
        """Start on what the disk has."""
        self._log = SqliteLog(self.path)
        self._market = self.world.make_service(self._log, seal_every=SEAL_EVERY)
        await self._market.open()

    async def close(self) -> None:
        """End it; what it still wanted to say may be lost."""
        with suppress(SubletError):
            await self._market.close()
            await self._market.wait_stopped()  # hear why, so that nobody else is told
        if self._log is not None:
            with suppress(Exception):
                self._log.close()
            self._log = None

    async def try_once(self, candidate: Candidate) -> Result | None:
        """Submit; None where it was not acknowledged."""
        try:
            (result,) = await self._market.submit([candidate])
        except Unavailable:
            return None
        return result

    async def say(self, candidate: Candidate) -> Result:
        """Replaced by each test: how a document gets through its faults."""
        raise NotImplementedError

    async def restart(self) -> None:
        """Power is back, or the node's keeper starts it again: look at everything."""
        await self.close()
        self.disk.heal()
        self.disk.turn_on()
        await self.open()
        self.restarts += 1
        assert self._log is not None
        self.script.check(self._log)

    async def is_stopped(self) -> bool:
        """Say whether it gave up by itself, as it must where nothing is sure."""
        try:
            await self._market.submit([])
        except Unavailable as error:
            return error.code == "market_closed"
        return False


@asynccontextmanager
async def running(node: FrailNode) -> AsyncIterator[FrailNode]:
    await node.open()
    try:
        yield node
        await node.restart()
    finally:
        await node.close()


@pytest.mark.parametrize("stays", [False, True])
async def test_full_at_every_write(disk: Disk, stays: bool) -> None:
    """It says Unavailable and goes on, the same process, when there is room again."""
    node = FrailNode(disk)

    async def say(candidate: Candidate) -> Result:
        for at in range(1, TRIES_MAX):
            disk.plan("write", at, "full", stays=stays)
            result = await node.try_once(candidate)
            has_fired = disk.has_fired
            node.faults += has_fired
            disk.heal()
            if result is not None and not has_fired:
                return result
            if result is not None:  # what failed was not the entry: it is kept later
                candidate_again = await node.try_once(candidate)
                assert candidate_again is not None
                assert candidate_again.index == result.index
        raise AssertionError("there was always one more write")

    node.say = say  # type: ignore[method-assign]
    node.script = Script(node.world, say)
    async with running(node):
        async for _ in node.script.play(leases=3):
            assert not await node.is_stopped()
    assert node.faults > 100
    assert node.restarts == 1


async def test_failed_fsync_is_not_trusted(disk: Disk) -> None:
    """Pages of a failed fsync may be lost though they are read: stop and replay."""
    node = FrailNode(disk)

    async def say(candidate: Candidate) -> Result:
        for at in range(1, TRIES_MAX):
            disk.plan("fsync", at, "error")
            result = await node.try_once(candidate)
            has_fired = disk.has_fired
            node.faults += has_fired
            disk.heal()
            if await node.is_stopped():
                await node.restart()
            elif not has_fired:
                assert result is not None
                return result
        raise AssertionError("there was always one more fsync")

    node.script = Script(node.world, say)
    async with running(node):
        async for number in node.script.play(leases=4):
            # Only now is seen what had been lost.
            disk.cut_power(seed=number if number % 2 else None)
            await node.restart()
    assert node.faults > 40


@pytest.mark.parametrize("what", ["write", "fsync"])
@pytest.mark.parametrize("is_by_chance", [False, True])
async def test_power_cut_loses_nothing_acknowledged(
    disk: Disk, what: str, is_by_chance: bool
) -> None:
    """The power fails at every fsync, and at some of the writes; what stays varies."""
    node, chance = FrailNode(disk), random.Random(7)

    async def say(candidate: Candidate) -> Result:
        for at in itertools.count(1):
            if what == "write" and at > 1 and chance.random() < 0.85:
                continue  # a seventh would do: the next document has such a write, too
            seed = chance.randrange(1 << 30) if is_by_chance else None
            if disk.is_off:  # by what was planned last, after its document counted
                await node.restart()
            disk.plan(what, at, "cut", seed=seed)
            result = await node.try_once(candidate)
            if not disk.is_off:
                assert result is not None
                return result
            node.faults += 1
            if result is not None:
                node.script.acknowledged[result.id] = result.index
            await node.restart()
        raise AssertionError

    node.script = Script(node.world, say)
    async with running(node):
        async for _ in node.script.play(leases=2):
            pass
    assert node.faults > 20
    assert node.restarts > node.faults


@pytest.mark.parametrize("what", ["write", "fsync"])
async def test_beginning_on_frail_disk(disk: Disk, what: str) -> None:
    """Making the log meets a full disk, or a cut, at every call; then it is made."""
    for at in itertools.count(1):
        path = disk.folder / f"log-{at}.db"
        disk.plan(what, at, "full" if what == "write" else "cut", stays=True)
        with suppress(Unavailable, Refused, Broken):
            SqliteLog(path).close()
        has_fired = disk.has_fired
        disk.heal()
        disk.turn_on()
        log = SqliteLog(path)
        assert log.size() == 0
        log.close()
        if not has_fired:
            break
    assert at > 3
