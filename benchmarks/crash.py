"""Thousands of kills under load: is anything lost, made from nothing, or done twice?

Real programs, each a process that is forked from one that has everything imported: the
node with its SQLite file and its sockets, clients that say signed documents without a
pause and remember what was acknowledged, PostgreSQL with a node on it, whose backends
and whole server are killed; providers with jobs in real sandboxes, of which the agent,
a warden or everything is killed, and comes back at once or after it was called lost.
SIGKILL comes at a random instant. Then the books are opened: each acknowledged
document has to stand where it was said to, the audit to pass with all signatures, the
money to add up to what was issued, each lease to be paid once, to have run once (its
program says so, in a file outside of the system), and no result to come from a lease
that was lost before.

Of 100 kills 6 meet a provider, one half PostgreSQL, the others a node.
``KILLS=300 SEED=7 make bench NAME=crash`` is a small one.
"""

import gc
import os
import random
import select
import signal
import socket
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path

import msgspec
import psutil

from benchmarks.rig import crash_machines as machines
from benchmarks.rig import crash_market as rig
from benchmarks.rig.frame import close, console, scratch, show
from benchmarks.rig.zygote import Fork
from sublet.adapter.log_postgres import PostgresLog
from sublet.adapter.log_sqlite import SqliteLog
from sublet.node.openapi import compute_openapi
from sublet.node.route import ROUTES
from sublet.service.ports import Log
from tests.postgres_server import run_server

KILLS = int(os.environ.get("KILLS", "10000"))
SEED = int(os.environ.get("SEED", "1"))
OF_DATABASE = 0.005  # the share of kills that meet PostgreSQL, which recovers slowly
OF_MACHINE = 0.06  # that meet an agent, a warden, or all of a provider
LEAST = {"providers": 6, "databases": 1}  # however few there are to be
WHOLE_SERVER = 0.3  # the share of those that meet all of its processes at once
NODE_DEATHS = 200  # in one market, before its books are opened
MACHINE_DEATHS = 300
ISSUED = rig.CREDITS * rig.TENANTS
NOTE_BYTES = 70  # of one answer, in a client's file
READY_S = 60.0  # at the longest
EARLY = 0.3  # the share of deaths that come while the node starts
EARLY_S = 0.05  # after it was forked, at most
HEARD_MAX = 10  # answers that a node lives to give, at most
SERVING_S = 2.0  # at most, where nobody is answered


def find_port() -> int:
    """Give a port that is free now."""
    with socket.socket() as door:
        door.bind(("127.0.0.1", 0))
        port: int = door.getsockname()[1]
        return port


def start_node(home: Path, folder: Path) -> tuple[Fork, int]:
    """Fork a node; give it, and the end of a pipe that it says ready on."""
    ready, told = os.pipe()
    node = Fork(lambda: rig.be_node(home, told), journal=folder / "node.log")
    os.close(told)
    return node, ready


def wait_ready(ready: int, node: Fork) -> None:
    """Wait until the node answers; it must."""
    can_read, _, _ = select.select([ready], [], [], READY_S)
    if not can_read or os.read(ready, 1) != b"1":
        raise SystemExit(f"the node did not start: {node.journal.read_text()[-3_000:]}")


def wait_heard(folder: Path, answers: int, *, most_s: float = SERVING_S) -> None:
    """Wait until the clients have noted so many more answers."""
    notes = list(folder.glob("heard-*"))
    enough = sum(path.stat().st_size for path in notes) + answers * NOTE_BYTES
    deadline = time.monotonic() + most_s
    while time.monotonic() < deadline:
        if sum(path.stat().st_size for path in notes) >= enough:
            return
        time.sleep(0.001)


def kill_node(home: Path, folder: Path, chance: random.Random) -> None:
    """One life of a node, of random length."""
    node, ready = start_node(home, folder)
    try:
        if chance.random() < EARLY:
            time.sleep(chance.uniform(0, EARLY_S))
        else:
            wait_ready(ready, node)
            wait_heard(folder, chance.randint(0, HEARD_MAX))
            time.sleep(chance.uniform(0, 0.003))
        if node.has_ended():
            raise SystemExit(f"the node died: {node.journal.read_text()[-3_000:]}")
    finally:
        os.close(ready)
        if not node.has_ended():
            node.kill()


def judge(folder: Path, open_log: Callable[[], Log], *, issued: int) -> rig.Verdict:
    """Open the books, in a process of its own."""

    def work() -> None:
        books = rig.read_books(open_log(), issued=issued)
        verdict = rig.judge(books, folder)
        if (folder / "evidence").exists():
            machines.judge(books, folder, verdict)
        (folder / "verdict.json").write_bytes(msgspec.json.encode(verdict))

    Fork(work, journal=folder / "judge.log").finish("the books cannot be read")
    console.print((folder / "judge.log").read_text(), end="")
    raw = (folder / "verdict.json").read_bytes()
    return msgspec.json.decode(raw, type=rig.Verdict)


def start_clients(folder: Path, port: int, chance: random.Random) -> list[Fork]:
    """Let everybody talk at once."""
    for number in range(rig.CLIENTS):
        (folder / f"heard-{number}").touch()
    seeds = [chance.randrange(1 << 30) for _ in range(rig.CLIENTS)]
    return [
        Fork(
            partial(rig.be_client, folder, n, port=port, seed=seed),
            journal=folder / f"client-{n}.log",
        )
        for n, seed in enumerate(seeds)
    ]


def check_alive(*forks: Fork) -> None:
    """Whoever was not killed has to be there."""
    for fork in forks:
        if fork.has_ended():
            raise SystemExit(f"one gave up: {fork.journal.read_text()[-3_000:]}")


def kill_nodes(folder: Path, kills: int, chance: random.Random) -> rig.Verdict:
    """One market whose node dies so often, under load."""
    folder.mkdir()
    home, port = folder / "node", find_port()
    rig.lay_out(home, port=port)
    Fork(lambda: rig.prepare(home, folder), journal=folder / "prepare.log").finish(
        "the market was not founded"
    )
    clients = start_clients(folder, port, chance)
    try:
        for _ in range(kills):
            kill_node(home, folder, chance)
        check_alive(*clients)
    finally:
        for client in clients:
            if not client.has_ended():
                client.stop()
    return judge(folder, lambda: SqliteLog(home / "log.db"), issued=ISSUED)


def kill_databases(folder: Path, kills: int, chance: random.Random) -> rig.Verdict:
    """One market on PostgreSQL, whose processes die so often, one or all at once."""
    folder.mkdir()
    home, port = folder / "node", find_port()
    with run_server("shared_buffers = 32MB") as server:
        url = server.create_database()
        rig.lay_out(home, port=port, log_url=url)
        Fork(lambda: rig.prepare(home, folder), journal=folder / "prepare.log").finish(
            "the market was not founded"
        )
        node, ready = start_node(home, folder)
        clients: list[Fork] = []
        try:
            wait_ready(ready, node)
            clients = start_clients(folder, port, chance)
            for _ in range(kills):
                wait_heard(folder, chance.randint(1, HEARD_MAX), most_s=READY_S)
                processes = psutil.Process(server.pid).children()
                if chance.random() < WHOLE_SERVER or not processes:
                    server.kill()
                    server.start()
                else:  # the server ends all others, and recovers
                    with suppress(psutil.NoSuchProcess):
                        chance.choice(processes).kill()
            wait_heard(folder, 1, most_s=READY_S)
            check_alive(node, *clients)
        finally:
            os.close(ready)
            for each in clients:
                if not each.has_ended():
                    each.stop()
            if not node.has_ended():
                node.kill()
        return judge(folder, lambda: PostgresLog(url), issued=ISSUED)


def kill_machines(folder: Path, kills: int, chance: random.Random) -> rig.Verdict:
    """One market whose providers die so often, one way or another, under jobs."""
    folder.mkdir()
    (folder / "evidence").mkdir()
    home, port = folder / "node", find_port()
    url = f"http://127.0.0.1:{port}"
    rig.lay_out(home, port=port, rules=machines.RULES)
    node, ready = start_node(home, folder)
    there: list[machines.Machine] = []
    tenant: Fork | None = None
    try:
        wait_ready(ready, node)
        for number in range(machines.MACHINES):
            there.append(machines.Machine(folder, number, url=url))
            there[-1].start()
        machines.wait_ready(url, there)
        seed = chance.randrange(1 << 30)
        tenant = Fork(
            lambda: machines.be_tenant(folder, url=url, seed=seed),
            journal=folder / "tenant.log",
        )
        nemesis = machines.Nemesis(there, chance)
        while nemesis.kills < kills:
            nemesis.strike()
            check_alive(node, tenant)
        nemesis.bring_back(all_=True)
        tenant.stop()
        tenant.finish("the tenant gave up")
        node.stop()
    finally:
        os.close(ready)
        if tenant is not None and not tenant.has_ended():
            tenant.kill()
        for machine in there:
            machine.close()
        if not node.has_ended():
            node.kill()
    log = home / "log.db"
    return judge(folder, lambda: SqliteLog(log), issued=machines.CREDITS)


def plan() -> list[tuple[str, Callable[..., rig.Verdict], int]]:
    """Say whose kills, and how many, one market after another."""
    of_database = max(round(KILLS * OF_DATABASE), LEAST["databases"])
    of_machine = max(round(KILLS * OF_MACHINE), LEAST["providers"])
    shares = [
        *share("providers", kill_machines, of_machine, MACHINE_DEATHS),
        *share("databases", kill_databases, of_database, of_database),
    ]
    left = max(KILLS - of_database - of_machine, 0)
    return [*shares, *share("nodes", kill_nodes, left, NODE_DEATHS)]


def share(
    whose: str, work: Callable[..., rig.Verdict], kills: int, most: int
) -> list[tuple[str, Callable[..., rig.Verdict], int]]:
    """Spread kills over markets with so many at most."""
    if not kills:
        return []
    markets = -(-kills // most)
    return [
        (whose, work, kills // markets + (n < kills % markets)) for n in range(markets)
    ]


def main() -> None:
    """Kill, and judge, until there were enough."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # and end what was begun
    machines.try_out()
    compute_openapi(ROUTES)  # once for all nodes that are forked from here
    gc.freeze()  # what is loaded stays shared with every fork
    chance, total = random.Random(SEED), rig.Verdict()
    done: Counter[str] = Counter()
    took: defaultdict[str, float] = defaultdict(float)
    begun = time.monotonic()
    with scratch() as folder:
        for number, (whose, work, kills) in enumerate(plan()):
            began = time.monotonic()
            total.add(work(Path(folder) / f"market-{number}", kills, chance))
            done[whose] += kills
            took[whose] += time.monotonic() - began
            console.print(
                f"{done.total():,} of {KILLS:,} kills in {time.monotonic() - begun:.0f} s "
                f"(now {whose}, {took[whose] / done[whose]:.2f} s each); "
                f"lost {total.lost}, created {total.created}, doubled {total.doubled}"
            )
    report(total, done, time.monotonic() - begun)


def report(total: rig.Verdict, done: Counter[str], duration_s: float) -> None:
    """Show what came of it."""
    show(
        f"seed {SEED}: {done.total():,} kills in {duration_s:,.0f} s",
        ["", "count"],
        [
            *((f"kills of {whose}", f"{kills:,}") for whose, kills in done.items()),
            ("acknowledged facts", f"{total.acknowledged:,}"),
            ("entries of the logs, all audited", f"{total.entries:,}"),
            ("leases paid", f"{total.leases:,}"),
            ("jobs that real providers ran", f"{total.jobs:,}"),
            ("of these, moved to another machine", f"{total.moved:,}"),
            ("of these, given up after six machines", f"{total.given_up:,}"),
            ("of these, done and not paid for", f"{total.unpaid:,}"),
            ("of these, paid on two machines", f"{total.paid_again:,}"),
            ("acknowledged facts lost", f"{total.lost:,}"),
            ("micro-USD created or destroyed", f"{total.created:,}"),
            ("leases paid or run twice", f"{total.doubled:,}"),
        ],
    )
    close(
        "crash",
        kills=done.total(),
        lost=total.lost,
        created=total.created,
        doubled=total.doubled,
        acknowledged=total.acknowledged,
        jobs=total.jobs,
    )


if __name__ == "__main__":
    main()
