"""How soon do things go on after a SIGKILL?

*node_failover_s*: two node processes serve one log in PostgreSQL; a client that asks
without pause has its node killed; from the signal to its next answer, a document's
acknowledgement by the other node. The client knows both; it is told nothing.

*seconds_p50*: a provider, its wardens and its job are killed while the job runs; from
the signal to the next attempt running on another machine, with the settings that a
node and a provider have by default. ``ROUNDS=1`` is a small one.
"""

import asyncio
import os
import secrets
import time
from pathlib import Path

from benchmarks.rig.frame import close, median, scratch, show
from benchmarks.rig.lost_machine import Recovery, lose_machine, open_market
from sublet.adapter.clock_system import SystemClock
from sublet.adapter.key_file import create_note_key, load_or_create_key
from sublet.cli.local_market import Program, read_ready, start
from sublet.core.document import Credit
from sublet.sdk.connection import Connection
from tests.postgres_server import run_server

ROUNDS = int(os.environ.get("ROUNDS", "5"))
BEFORE_S = 1.0  # of asking, before the node is killed


def make_homes(folder: Path) -> list[Path]:
    """Lay out two homes with the same keys."""
    homes = [folder / "a", folder / "b"]
    homes[0].mkdir(mode=0o700)
    load_or_create_key(homes[0] / "key")
    create_note_key(homes[0] / "note_key", name="sublet-market")
    homes[1].mkdir(mode=0o700)
    for name in ("key", "note_key"):
        copy = homes[1] / name
        copy.touch(mode=0o600)
        copy.write_bytes((homes[0] / name).read_bytes())
    for home in homes:
        (home / "config.toml").touch()
    return homes


async def fail_over(urls: list[str], first: Program, folder: Path) -> float:
    """Kill the first node under a client that writes; seconds to its next answer."""
    key = load_or_create_key(folder / "a" / "key")  # the operator's, who may say much
    async with Connection(*urls, key=key, clock=SystemClock()) as client:

        async def write() -> None:
            said = Credit(
                party=key.address,
                amount=1,
                memo="benchmark",
                signed_at_s=int(time.time()),
                salt=secrets.randbits(60),
            )
            (answer,) = await client.submit(said)
            if answer.fault is not None:
                raise SystemExit(answer.fault.message)

        end = time.monotonic() + BEFORE_S
        while time.monotonic() < end:
            await write()
        first.process.kill()
        killed = time.monotonic()
        await write()
        return time.monotonic() - killed


def measure_node_failover() -> float:
    """Give the median of some kills, in seconds."""
    times = []
    with run_server("shared_buffers = 64MB") as server:
        for _ in range(ROUNDS):
            with scratch() as folder:
                homes, log = make_homes(Path(folder)), server.create_database()
                listen = ("--listen", "127.0.0.1:0", "--log", log)
                programs: list[Program] = []
                urls: list[str] = []
                try:
                    for home in homes:
                        programs.append(start("node", home, *listen))
                        urls.append(read_ready(programs[-1])["url"])
                    times.append(
                        asyncio.run(fail_over(urls, programs[0], Path(folder)))
                    )
                finally:
                    for program in programs:
                        program.process.kill()
                        program.process.wait()
    return median(times)


def measure_lost_machines() -> list[Recovery]:
    """Kill a machine under a job, so often; give what each took."""
    with scratch() as folder, open_market(Path(folder)) as house:
        return [asyncio.run(lose_machine(house)) for _ in range(ROUNDS)]


def main() -> None:
    """Measure, and show it."""
    machines = measure_lost_machines()
    lost_s, matched_s, running_s = (
        median([getattr(each, name) for each in machines])
        for name in Recovery.__struct_fields__
    )
    failover_s = measure_node_failover()
    show(
        f"after a SIGKILL; medians of {ROUNDS}",
        ["", "seconds", "target"],
        [
            ("a provider: the market says that it is lost", f"{lost_s:.2f}", ""),
            ("a provider: the job has its next machine", f"{matched_s:.2f}", ""),
            ("a provider: the next attempt runs", f"{running_s:.2f}", "10"),
            ("a node: the client's next document", f"{failover_s:.2f}", "5"),
        ],
    )
    close("recovery", seconds_p50=running_s, node_failover_s=failover_s)


if __name__ == "__main__":
    main()
