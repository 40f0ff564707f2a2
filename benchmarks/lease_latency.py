"""How long from an order to a lease: signed, matched, fsynced, answered?

A real node process on SQLite holds the offers of 1,000 providers. A generator in a
process of its own sends orders, signed beforehand, open loop at 10, 100 and 500 a
second, then faster and faster; latency counts from the moment at which an order was
due to leave. The most that the node sustains is the highest rate at which every order
got its lease, none was late by more than a quarter second in a hundred, and the answers
kept pace.
"""

import asyncio
import json
import subprocess
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.rig.frame import PYTHON, ROOT, close, percentile, run, scratch, show
from benchmarks.rig.traffic import Traffic
from sublet.adapter.clock_system import SystemClock
from sublet.adapter.key_file import load_key
from sublet.node.compose import open_node
from sublet.node.config import read_config
from sublet.wire.codec import decode, encode, sign
from sublet.wire.message import Signed, Submission

PROVIDERS = 1_000
TENANTS = 50
STAGES = ((10, 10), (100, 20), (500, 10))  # orders a second, for so many seconds
FASTER = (600, 700, 800, 900, 1_000, 1_200, 1_400, 1_700, 2_000)
FASTER_S = 5
LATE_MS_MAX = 250  # at the 99th percentile, for a rate to count as sustained
PACE_MIN = 0.97  # answers a second, of the orders a second

SETTINGS = """
listen = "127.0.0.1:0"
[market]
name = "benchmark"
accept_s = 3600
[limits]
requests_per_s = 1000000
requests_burst = 1000000
lost_after_s = 3600
"""


async def found(home: Path) -> Traffic:
    """Write the beginning of a market into a node's home: credits, offers."""
    async with open_node(read_config(home), clock=SystemClock()) as node:
        rules = node.market.book.rules
        traffic = Traffic(
            providers=PROVIDERS,
            tenants=TENANTS,
            operator=load_key(home / "key"),
            market=rules,
        )
        opening = [decode(raw, Signed, size_max=1 << 20) for raw in traffic.opening()]
        for first in range(0, len(opening), 200):
            candidates = [traffic.candidate(s) for s in opening[first : first + 200]]
            for result in await node.market.submit(candidates):
                if result.refusal is not None:
                    raise SystemExit(result.refusal.message)
    return traffic


@contextmanager
def node_process(home: Path) -> Iterator[tuple[str, int]]:
    """Run ``sublet node start``; give its host and port."""
    argv: list[str | Path] = [
        PYTHON.with_name("sublet"),
        "node",
        "start",
        "--home",
        home,
        "--json",
    ]
    with (
        (home / "journal").open("wb") as journal,
        subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=journal) as process,
    ):
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            if not line:
                raise SystemExit((home / "journal").read_text()[-2_000:])
            host, _, port = json.loads(line)["url"].rpartition("//")[2].rpartition(":")
            yield host, int(port)
        finally:
            process.terminate()
            process.wait(30)


def make_plan(
    traffic: Traffic, stages: Iterable[tuple[int, int]]
) -> list[dict[str, Any]]:
    """Sign every order of every stage: orders a second, for so many seconds."""

    def body(number: int) -> str:
        tenant = traffic.tenants[number % TENANTS]
        signed = sign(traffic.order(tenant), key=tenant, domain=traffic.domain)
        return encode(Submission(documents=(signed,))).decode()

    return [
        {"rate": rate, "bodies": [body(n) for n in range(rate * seconds)]}
        for rate, seconds in stages
    ]


def is_sustained(stage: dict[str, Any]) -> bool:
    """Say whether the node kept up with this stage."""
    latencies = stage["latencies_ms"]
    pace = len(latencies) / stage["took_s"] / stage["rate"]
    late = percentile(latencies, 0.99) > LATE_MS_MAX
    return not stage["bad"] and not late and pace >= PACE_MIN


def load_node(stages: Iterable[tuple[int, int]]) -> list[dict[str, Any]]:
    """Found a market, start its node, load it; give the figures of each stage."""
    with scratch() as folder_name:
        home = Path(folder_name) / "node"
        run(PYTHON.with_name("sublet"), "node", "init", "--home", home)
        (home / "config.toml").write_text(SETTINGS)
        traffic = asyncio.run(found(home))
        plan = Path(folder_name) / "plan.json"
        plan.write_text(json.dumps(make_plan(traffic, stages)))
        with node_process(home) as (host, port):
            answer = run(
                sys.executable,
                "-m",
                "benchmarks.rig.load",
                host,
                str(port),
                plan,
                cwd=ROOT,
            )
    figures: list[dict[str, Any]] = json.loads(answer)
    return figures


def main() -> None:
    """Load a node, faster and faster, and show."""
    report(load_node([*STAGES, *((rate, FASTER_S) for rate in FASTER)]))


def report(stages: list[dict[str, Any]]) -> None:
    """Show all stages and the last line."""
    sustained = 0
    for stage in stages:
        if not is_sustained(stage):
            break
        sustained = stage["rate"]
    rows = []
    for stage in stages:
        latencies = stage["latencies_ms"]
        rows.append(
            (
                f"{stage['rate']:,} a second",
                *(f"{percentile(latencies, p):.1f}" for p in (0.5, 0.9, 0.99)),
                f"{max(latencies):.1f}",
                str(stage["bad"]),
                "yes" if is_sustained(stage) else "no",
            )
        )
    show(
        f"Order to lease, {PROVIDERS:,} providers; latency in ms",
        ["orders", "p50", "p90", "p99", "worst", "without lease", "sustained"],
        rows,
    )
    at_100 = next(s["latencies_ms"] for s in stages if s["rate"] == 100)
    close(
        "lease_latency",
        p50_ms_100=percentile(at_100, 0.5),
        p99_ms_100=percentile(at_100, 0.99),
        orders_per_s_max=sustained,
    )


if __name__ == "__main__":
    main()
