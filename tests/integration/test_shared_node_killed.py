"""Two node processes on one log: one is killed again and again, under load."""

import asyncio
import secrets
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
KILLS = 3
BETWEEN = 25  # acknowledgements before each kill
WAIT_S = 120


async def submit_until(
    ended: asyncio.Event, acknowledged: dict[str, int], urls: list[str], home: Path
) -> None:
    """Issue credits as the operator; note what was acknowledged."""
    key = load_or_create_key(home / "key")
    async with Connection(*urls, key=key, clock=SystemClock()) as client:
        while not ended.is_set():
            signed = await client.sign(
                Credit(
                    party=client.key.address,
                    amount=1,
                    memo="test",
                    signed_at_s=SystemClock().now_s(),
                    salt=secrets.randbits(60),
                )
            )
            try:
                (answer,) = await client.submit_signed(signed)
            except Unavailable:
                continue  # not acknowledged
            assert answer.fault is None, answer
            acknowledged[answer.id] = answer.index


async def test_killed_node_costs_nothing(tmp_path: Path, postgres_url: str) -> None:
    homes, programs = make_homes(tmp_path), dict[int, Program]()
    ports = [find_port(), find_port()]
    urls = [f"http://127.0.0.1:{port}" for port in ports]
    acknowledged: dict[str, int] = {}
    ended = asyncio.Event()

    async def begin(number: int) -> None:
        listen = ("--listen", f"127.0.0.1:{ports[number]}", "--log", postgres_url)
        programs[number] = start("node", homes[number], *listen)
        await asyncio.to_thread(read_ready, programs[number])

    async def wait_more() -> None:
        target = len(acknowledged) + BETWEEN
        while len(acknowledged) < target:  # noqa: ASYNC110
            await asyncio.sleep(0.02)

    try:
        await begin(0)
        await begin(1)
        clients = [
            asyncio.create_task(
                submit_until(
                    ended,
                    acknowledged,
                    urls if n % 2 else urls[::-1],
                    homes[0],
                )
            )
            for n in range(CLIENTS)
        ]
        async with asyncio.timeout(WAIT_S):
            for kill in range(KILLS):
                await wait_more()
                programs[kill % 2].process.kill()
                programs[kill % 2].process.wait()
                await wait_more()  # at the other node
                await begin(kill % 2)
            ended.set()
            await asyncio.gather(*clients)
    finally:
        for program in programs.values():
            program.process.kill()
            program.process.wait()
            if program.process.stdout is not None:
                program.process.stdout.close()
    log = PostgresLogReader(postgres_url)
    rows = log.read(first=0, limit=1_000_000)
    assert [row.index for row in rows] == list(range(len(rows)))
    assert acknowledged.items() <= {row.id: row.index for row in rows}.items()
    verdict = verify(log, DocumentCodec(), SystemClock(), read_note=read_checkpoint)
    assert verdict.is_good, verdict.finding
    log.close()
