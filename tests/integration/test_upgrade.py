"""Old and new programs on one log: node by node, under load, without a loss.

The old program is the real one. The new one is simulated (``newer_program``).
"""

import asyncio
import json
import secrets
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from benchmarks.recovery import make_homes
from sublet.adapter.clock_system import SystemClock
from sublet.adapter.key_file import load_or_create_key
from sublet.adapter.log_postgres import PostgresLogReader
from sublet.cli.local_market import SUBLET
from sublet.cli.root import EXIT_OUTDATED
from sublet.core.document import Upgrade
from sublet.sdk.connection import Connection
from tests.integration.two_nodes import submit_until
from tests.postgres_server import find_port

OLD = (*SUBLET,)
NEW = (sys.executable, str(Path(__file__).parents[1] / "newer_program"))
BETWEEN = 15  # acknowledgements between two steps
WAIT_S = 240


class House:
    """Two nodes on one log, each of an old or a new program, and clients at work."""

    def __init__(self, folder: Path, log: str) -> None:
        self.homes = make_homes(folder)
        self.log = log
        self.ports = [find_port(), find_port()]
        self.urls = [f"http://127.0.0.1:{port}" for port in self.ports]
        self.programs: dict[int, subprocess.Popen[bytes]] = {}
        self.acknowledged: dict[str, int] = {}
        self.ended = asyncio.Event()

    async def begin(self, number: int, program: tuple[str, ...]) -> None:
        process = self.programs[number] = self._launch(number, program)
        assert process.stdout is not None
        line = await asyncio.to_thread(process.stdout.readline)
        assert line, self.journal(number)

    def _launch(self, number: int, program: tuple[str, ...]) -> subprocess.Popen[bytes]:
        home, listen = self.homes[number], f"127.0.0.1:{self.ports[number]}"
        flags = ("--home", str(home), "--json", "--listen", listen, "--log", self.log)
        with (home / "journal.log").open("ab") as journal:
            return subprocess.Popen(
                [*program, "node", "start", *flags],
                stdout=subprocess.PIPE,
                stderr=journal,
            )

    async def stop(self, number: int) -> None:
        self.programs[number].send_signal(signal.SIGTERM)
        assert await self.wait_ended(number) == 0, self.journal(number)

    async def wait_ended(self, number: int) -> int:
        return await asyncio.to_thread(self.programs[number].wait, WAIT_S)

    def journal(self, number: int) -> str:
        return (self.homes[number] / "journal.log").read_text()[-3_000:]

    async def wait_more(self) -> None:
        target = len(self.acknowledged) + BETWEEN
        while len(self.acknowledged) < target:  # noqa: ASYNC110
            await asyncio.sleep(0.02)

    async def run(self, *command: str) -> tuple[int, str, str]:
        done = await asyncio.to_thread(
            subprocess.run, command, capture_output=True, text=True, check=False
        )
        return done.returncode, done.stdout, done.stderr

    async def greet(self) -> dict[str, Any]:
        key = str(self.homes[0] / "guest_key")
        code, said, why = await self.run(*NEW, "greet", self.urls[0], key)
        assert code == 0, why
        answer: dict[str, Any] = json.loads(said)
        return answer

    async def upgrade(self) -> tuple[int, str, str]:
        return await self.run(
            *(*NEW, "node", "upgrade", "--json", "--home", str(self.homes[0])),
            *("--market", ",".join(self.urls)),
        )

    async def audit(self, program: tuple[str, ...]) -> tuple[int, str, str]:
        return await self.run(*program, "audit", "verify", "--log", self.log, "--json")

    def check_acknowledged(self) -> None:
        log = PostgresLogReader(self.log)
        rows = log.read(first=0, limit=1_000_000)
        log.close()
        assert [row.index for row in rows] == list(range(len(rows)))
        assert self.acknowledged.items() <= {r.id: r.index for r in rows}.items()


@asynccontextmanager
async def open_house(folder: Path, log: str) -> AsyncIterator[House]:
    """Two nodes of the old program, and clients that go on at either of them."""
    house = House(folder, log)
    clients: list[asyncio.Task[None]] = []
    try:
        await house.begin(0, OLD)
        await house.begin(1, OLD)
        clients = [
            asyncio.create_task(
                submit_until(house.ended, house.acknowledged, urls, home=house.homes[0])
            )
            for urls in (house.urls, house.urls[::-1])
        ]
        async with asyncio.timeout(WAIT_S):
            await house.wait_more()
            yield house
            house.ended.set()
            await asyncio.gather(*clients)
    finally:
        for task in clients:
            task.cancel()
        await asyncio.gather(*clients, return_exceptions=True)
        for process in house.programs.values():
            process.kill()
            process.wait()
            if process.stdout is not None:
                process.stdout.close()


@pytest.mark.timeout(300)
async def test_nodes_are_upgraded_one_by_one(tmp_path: Path, postgres_url: str) -> None:
    async with open_house(tmp_path, postgres_url) as house:
        await house.stop(0)
        await house.wait_more()
        await house.begin(0, NEW)
        await house.wait_more()
        # The new program keeps to the old rules as long as an old one serves.
        assert (await house.greet())["code"] == "not_upgraded"
        code, _, why = await house.upgrade()
        assert (code, house.urls[1] in why) == (2, True), why
        await house.stop(1)
        await house.begin(1, NEW)
        await house.wait_more()
        code, said, why = await house.upgrade()
        assert code == 0, why
        assert json.loads(said)["version"] == 2
        assert json.loads(said)["away"] == []
        assert await house.greet() | {"index": 0} == {
            "index": 0,
            "code": "",
            "balance": 1,
        }
        await house.wait_more()
        for number in (0, 1):  # what they sealed behind the upgrade is read again
            await house.stop(number)
            await house.begin(number, NEW)
        code, said, why = await house.upgrade()
        assert (code, json.loads(said)["index"]) == (0, -1), why
    house.check_acknowledged()
    code, said, why = await house.audit(NEW)
    assert (code, json.loads(said)["is_good"]) == (0, True), why


@pytest.mark.timeout(300)
async def test_old_node_stops_at_the_upgrade(tmp_path: Path, postgres_url: str) -> None:
    async with open_house(tmp_path, postgres_url) as house:
        await house.stop(0)
        await house.begin(0, NEW)
        key = load_or_create_key(house.homes[0] / "key")
        clock = SystemClock()
        upgrade = Upgrade(2, clock.now_s(), secrets.randbits(60))
        async with Connection(house.urls[1], key=key, clock=clock) as at_old:
            (answer,) = await at_old.submit(upgrade)
            assert answer.fault is not None and answer.fault.code == "outdated"
        await house.wait_more()
        async with Connection(house.urls[0], key=key, clock=clock) as at_new:
            (answer,) = await at_new.submit(upgrade)
            assert answer.fault is None
        assert await house.wait_ended(1) == EXIT_OUTDATED
        assert "update sublet" in house.journal(1)
        await house.wait_more()  # the clients are with the new node now
        assert (await house.greet())["code"] == ""
        with pytest.raises(AssertionError, match="update sublet"):
            await house.begin(1, OLD)
        assert await house.wait_ended(1) == EXIT_OUTDATED
        await house.begin(1, NEW)
        await house.wait_more()
    house.check_acknowledged()
    code, said, why = await house.audit(NEW)
    assert (code, json.loads(said)["is_good"]) == (0, True), why
    # An old auditor accuses nobody of what it cannot read.
    code, said, why = await house.audit(OLD)
    assert (code, said) == (EXIT_OUTDATED, "")
    assert "update sublet" in why
