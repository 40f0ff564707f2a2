"""Backups taken under load, and restored: what the operator's tutorial says, done."""

import asyncio
import shutil
import signal
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from benchmarks.recovery import make_homes
from sublet.adapter.log_sqlite import SqliteLogReader
from sublet.cli.local_market import SUBLET, Program, read_ready, start
from sublet.cli.root import EXIT_BROKEN, EXIT_REFUSED
from tests.integration.two_nodes import submit_until
from tests.postgres_server import Server, find_port, run_server

BETWEEN = 20  # acknowledgements between two steps
WAIT_S = 120


def call(*command: str) -> tuple[int, str]:
    """Run ``sublet`` to its end; give its exit code and all that it said."""
    done = subprocess.run(
        [*SUBLET, *command],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=WAIT_S,
    )
    return done.returncode, done.stdout


@asynccontextmanager
async def serving(home: Path, *flags: str) -> AsyncIterator[dict[str, int]]:
    """Run a node, and a client that submits all the time; give what it was told."""
    port, ended = find_port(), asyncio.Event()
    program: Program = start("node", home, "--listen", f"127.0.0.1:{port}", *flags)
    acknowledged: dict[str, int] = {}
    client = None
    try:
        await asyncio.to_thread(read_ready, program)
        urls = [f"http://127.0.0.1:{port}"]
        client = asyncio.create_task(submit_until(ended, acknowledged, urls, home))
        await wait_more(acknowledged)
        yield acknowledged
        ended.set()
        await client
        program.process.send_signal(signal.SIGTERM)
        await asyncio.to_thread(program.process.wait, WAIT_S)
    finally:
        if client is not None:
            client.cancel()
            await asyncio.gather(client, return_exceptions=True)
        program.process.kill()
        program.process.wait()
        if program.process.stdout is not None:
            program.process.stdout.close()


async def wait_more(acknowledged: dict[str, int]) -> None:
    target = len(acknowledged) + BETWEEN
    async with asyncio.timeout(WAIT_S):
        while len(acknowledged) < target:  # noqa: ASYNC110
            await asyncio.sleep(0.02)


@pytest.mark.timeout(300)
async def test_file_is_backed_up_under_load(tmp_path: Path) -> None:
    home, fresh = make_homes(tmp_path)
    copy = tmp_path / "copy.db"
    async with serving(home) as acknowledged:
        before = dict(acknowledged)
        code, said = await asyncio.to_thread(
            call, "node", "backup", str(copy), "--home", str(home)
        )
        assert code == 0, said
        await wait_more(acknowledged)
    code, said = call("node", "backup", str(copy), "--home", str(home))
    assert (code, "is there already" in said) == (EXIT_REFUSED, True), said
    assert [path.name for path in tmp_path.glob("copy.db*")] == ["copy.db"]

    code, said = call("audit", "verify", "--log", str(copy))
    assert code == 0, said
    shutil.copy(copy, fresh / "log.db")
    async with serving(fresh):
        pass  # it takes documents again
    log = SqliteLogReader(fresh / "log.db")
    assert (
        before.items()
        <= {r.id: r.index for r in log.read(first=0, limit=10**6)}.items()
    )
    log.close()
    assert call("audit", "verify", "--log", str(fresh / "log.db"))[0] == 0

    # Into the home that knows of more, it is refused, and the cure is named.
    for name in ("log.db", "log.db-wal", "log.db-shm"):
        (home / name).unlink(missing_ok=True)
    shutil.copy(copy, home / "log.db")
    code, said = call("node", "start", "--home", str(home), "--listen", "127.0.0.1:0")
    assert (code, "restore a newer backup" in said) == (EXIT_BROKEN, True), said
    (home / "checkpoint").rename(tmp_path / "checkpoint")
    async with serving(home):
        pass


@pytest.mark.timeout(400)
async def test_database_is_backed_up_under_load(
    tmp_path: Path, postgres_url: str, postgres_server: Server
) -> None:
    home, fresh = make_homes(tmp_path)
    dump = postgres_server.folder / f"{postgres_url.rpartition('/')[2]}.dump"
    async with serving(home, "--log", postgres_url) as acknowledged:
        before = dict(acknowledged)
        await asyncio.to_thread(
            postgres_server.call,
            *("pg_dump", "-Fc", "-n", "sublet", "-f", dump, "-d", postgres_url),
        )
        await wait_more(acknowledged)
    with run_server() as other:
        url = other.create_database()
        other.call("pg_restore", "-d", url, dump)
        code, said = call("audit", "verify", "--log", url)
        assert code == 0, said
        # The home that knows of more refuses it; a fresh one goes on from it.
        listen = ("--listen", "127.0.0.1:0", "--log", url)
        code, said = call("node", "start", "--home", str(home), *listen)
        assert (code, "restore a newer backup" in said) == (EXIT_BROKEN, True), said
        async with serving(fresh, "--log", url):
            pass
        code, said = call("audit", "verify", "--log", url)
        assert code == 0, said
        rows = other.execute(
            "SELECT '0x' || encode(id, 'hex'), number FROM sublet.entry",
            database=url.rpartition("/")[2],
        )
        assert before.items() <= dict(rows).items()  # type: ignore[arg-type]
