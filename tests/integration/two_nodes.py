"""Two node processes on one log, and clients that write without a pause."""

import asyncio
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.recovery import make_homes
from sublet.adapter.clock_system import SystemClock
from sublet.adapter.key_file import load_or_create_key
from sublet.adapter.log_postgres import PostgresLogReader
from sublet.base.errors import Unavailable
from sublet.cli.local_market import Program, read_ready, start
from sublet.core.document import Credit
from sublet.sdk.connection import Connection
from sublet.service.audit import verify
from sublet.wire.codec import DocumentCodec
from sublet.wire.note import read_checkpoint
from tests.postgres_server import find_port

CLIENTS = 4


async def submit_until(
    ended: asyncio.Event, acknowledged: dict[str, int], urls: list[str], home: Path
) -> None:
    """Issue credits with the operator's key of that home; note what was acknowledged."""
    key = load_or_create_key(home / "key")
    async with Connection(*urls, key=key, clock=SystemClock()) as client:
        while not ended.is_set():
            credit = Credit(
                party=key.address,
                amount=1,
                memo="test",
                signed_at_s=SystemClock().now_s(),
                salt=secrets.randbits(60),
            )
            try:
                signed = await client.sign(credit)
                (answer,) = await client.submit_signed(signed)
            except Unavailable:
                continue  # not acknowledged
            assert answer.fault is None, answer
            acknowledged[answer.id] = answer.index


class TwoNodes:
    """Both are killed and started again at will; use ``two_nodes``."""

    def __init__(self, folder: Path, log_url: str) -> None:
        self.homes = make_homes(folder)
        self.log_url = log_url
        self._ports = [find_port(), find_port()]
        self.urls = [f"http://127.0.0.1:{port}" for port in self._ports]
        self.acknowledged: dict[str, int] = {}
        self.programs: dict[int, Program] = {}
        self._ended = asyncio.Event()
        self._clients: list[asyncio.Task[None]] = []

    async def begin(self, number: int) -> None:
        """Start one of them, and wait until it serves."""
        listen = f"127.0.0.1:{self._ports[number]}"
        flags = ("--listen", listen, "--log", self.log_url)
        self.programs[number] = start("node", self.homes[number], *flags)
        await asyncio.to_thread(read_ready, self.programs[number])

    def kill(self, number: int) -> None:
        program = self.programs.pop(number, None)
        if program is not None:
            program.process.kill()
            program.process.wait()
            if program.process.stdout is not None:
                program.process.stdout.close()

    def check_alive(self) -> None:
        """Whoever was not killed runs."""
        for program in self.programs.values():
            program.check()

    def load(self) -> None:
        """Let clients write, half of them to each node first."""
        orders = [self.urls, self.urls[::-1]]
        self._clients = [
            asyncio.create_task(
                submit_until(
                    self._ended, self.acknowledged, orders[n % 2], self.homes[0]
                )
            )
            for n in range(CLIENTS)
        ]

    async def wait_more(self, count: int) -> None:
        """Wait until so many more were acknowledged."""
        target = len(self.acknowledged) + count
        while len(self.acknowledged) < target:
            for client in self._clients:
                if client.done():
                    client.result()
            await asyncio.sleep(0.02)

    async def end(self) -> None:
        """End the clients."""
        self._ended.set()
        await asyncio.gather(*self._clients)

    def check_log(self) -> None:
        """No gap, all that was acknowledged is there, and the audit agrees."""
        log = PostgresLogReader(self.log_url)
        rows = log.read(first=0, limit=1_000_000)
        assert [row.index for row in rows] == list(range(len(rows)))
        assert self.acknowledged.items() <= {row.id: row.index for row in rows}.items()
        verdict = verify(log, DocumentCodec(), SystemClock(), read_note=read_checkpoint)
        assert verdict.is_good, verdict.finding
        log.close()


@contextmanager
def two_nodes(folder: Path, log_url: str) -> Iterator[TwoNodes]:
    """Lay out two nodes; none runs yet."""
    nodes = TwoNodes(folder, log_url)
    try:
        yield nodes
    finally:
        nodes.kill(0)
        nodes.kill(1)
