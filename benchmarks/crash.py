"""Thousands of kills under load: is anything lost, made from nothing, or done twice?

Real programs, each a process that is forked from one that has everything imported: the
node with its SQLite file and its sockets, clients that say signed documents without a
pause and remember what was acknowledged, PostgreSQL with a node on it, whose backends
and whole server are killed. SIGKILL comes at a random instant: while a node starts,
replays, or serves. Every hundred deaths the books are opened: each acknowledged
document has to stand where it was said to, the audit to pass with all signatures, the
money to add up to what was issued, each lease to be paid once.

``KILLS=300 SEED=7 make bench NAME=crash`` is a small one.
"""

import os
import random
import select
import socket
import time
from pathlib import Path

import msgspec

from benchmarks.rig import crash_market as rig
from benchmarks.rig.frame import close, console, scratch, show
from benchmarks.rig.zygote import Fork
from sublet.adapter.log_sqlite import SqliteLog

KILLS = int(os.environ.get("KILLS", "10000"))
SEED = int(os.environ.get("SEED", "1"))
OF_NODE = 100  # deaths of one market's node, before its books are opened
NOTE_BYTES = 70  # of one answer, in a client's file
READY_S = 60.0  # at the longest
EARLY = 0.3  # the share of deaths that come while the node starts
EARLY_S = 0.05  # after it was forked, at most
HEARD_MAX = 30  # answers that a node lives to give, at most
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


def wait_heard(folder: Path, answers: int) -> None:
    """Wait until the clients have noted so many more answers."""
    notes = list(folder.glob("heard-*"))
    enough = sum(path.stat().st_size for path in notes) + answers * NOTE_BYTES
    deadline = time.monotonic() + SERVING_S
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


def judge(folder: Path, log_path: Path) -> rig.Verdict:
    """Open the books, in a process of its own."""

    def work() -> None:
        log = SqliteLog(log_path)
        rig.write_verdict(log, folder, issued=rig.CREDITS * rig.TENANTS)

    Fork(work, journal=folder / "judge.log").finish("the books cannot be read")
    raw = (folder / "verdict.json").read_bytes()
    return msgspec.json.decode(raw, type=rig.Verdict)


def kill_nodes(folder: Path, kills: int, chance: random.Random) -> rig.Verdict:
    """One market whose node dies so often, under load."""
    folder.mkdir()
    home, port = folder / "node", find_port()
    rig.lay_out(home, port=port)
    Fork(lambda: rig.prepare(home, folder), journal=folder / "prepare.log").finish(
        "the market was not founded"
    )
    seeds = [chance.random() for _ in range(rig.CLIENTS)]
    clients = [
        Fork(
            lambda n=n: rig.be_client(folder, n, port=port, seed=int(seeds[n] * 1e9)),
            journal=folder / f"client-{n}.log",
        )
        for n in range(rig.CLIENTS)
    ]
    try:
        for _ in range(kills):
            kill_node(home, folder, chance)
        for number, client in enumerate(clients):
            if client.has_ended():
                text = (folder / f"client-{number}.log").read_text()
                raise SystemExit(f"a client gave up: {text[-3_000:]}")
    finally:
        for client in clients:
            if not client.has_ended():
                client.stop()
    return judge(folder, home / "log.db")


def add(total: rig.Verdict, one: rig.Verdict) -> None:
    """Add one market's verdict."""
    for name in rig.Verdict.__struct_fields__:
        setattr(total, name, getattr(total, name) + getattr(one, name))


def main() -> None:
    """Kill, and judge, until there were enough."""
    chance, total, done = random.Random(SEED), rig.Verdict(), 0
    begun = time.monotonic()
    with scratch() as folder:
        for number in range(-(-KILLS // OF_NODE)):
            kills = min(OF_NODE, KILLS - done)
            place = Path(folder) / f"market-{number}"
            add(total, kill_nodes(place, kills, chance))
            done += kills
            passed = time.monotonic() - begun
            left = passed / done * (KILLS - done)
            console.print(
                f"{done:,} of {KILLS:,} kills in {passed:.0f} s, about {left:.0f} s "
                f"left; lost {total.lost}, created {total.created}, "
                f"doubled {total.doubled}"
            )
    show(
        f"seed {SEED}: {done:,} kills in {time.monotonic() - begun:,.0f} s",
        ["", "count"],
        [
            ("acknowledged facts", f"{total.acknowledged:,}"),
            ("entries of the logs, all audited", f"{total.entries:,}"),
            ("leases settled", f"{total.leases:,}"),
            ("acknowledged facts lost", f"{total.lost:,}"),
            ("micro-USD created or destroyed", f"{total.created:,}"),
            ("leases paid or run twice", f"{total.doubled:,}"),
        ],
    )
    close(
        "crash",
        kills=done,
        lost=total.lost,
        created=total.created,
        doubled=total.doubled,
        acknowledged=total.acknowledged,
    )


if __name__ == "__main__":
    main()
