"""Orders through the log of one node: how many a second, and how long until the lease?

*orders a second*: signed orders, as bytes as they come over HTTP, are decoded, their
signatures checked, matched against the offers of 1,000 providers, appended to SQLite
with fsync, and folded; in submissions of 200. In the process, without HTTP. *order to
lease*: a real node process, orders at a steady rate over HTTP, from the moment at which
an order was due to leave until its lease is answered, durable.

``ORDERS=1000 SECONDS=5`` runs less. ``lease_latency`` looks for the highest rate that a
node sustains.
"""

import asyncio
import os
import time
from pathlib import Path
from typing import Any

from benchmarks.lease_latency import PROVIDERS, TENANTS, load_node
from benchmarks.log import opened, send
from benchmarks.rig.frame import close, median, percentile, scratch, show
from benchmarks.rig.traffic import Traffic
from sublet.wire.codec import encode, sign

ORDERS = 10_000
ROUNDS = 3
RATE = 100  # orders a second, over HTTP
SECONDS = 20


async def submit_all(path: Path, traffic: Traffic, *, count: int) -> float:
    """Take so many orders in; give how many a second."""
    opening = traffic.opening()
    orders = []
    for number in range(count):
        tenant = traffic.tenants[number % TENANTS]
        signed = sign(traffic.order(tenant), key=tenant, domain=traffic.domain)
        orders.append(encode(signed))
    async with opened(path, traffic) as market:
        await send(market, traffic, opening)
        start = time.perf_counter()
        await send(market, traffic, orders)
        rate = count / (time.perf_counter() - start)
        leases = len(market.book.leases)
    if leases != count:
        raise SystemExit(f"{count} orders made {leases} leases")
    return rate


def main() -> None:
    """Measure both, show."""
    count = int(os.environ.get("ORDERS", ORDERS))
    seconds = int(os.environ.get("SECONDS", SECONDS))
    rates = []
    with scratch() as folder:
        for number in range(ROUNDS):
            traffic = Traffic(providers=PROVIDERS, tenants=TENANTS)
            path = Path(folder) / f"log-{number}.db"
            rates.append(asyncio.run(submit_all(path, traffic, count=count)))
    stage: dict[str, Any]
    (stage,) = load_node([(RATE, seconds)])
    latencies = stage["latencies_ms"]
    if stage["bad"]:
        raise SystemExit(f"{stage['bad']} orders got no lease")
    p50, p99 = percentile(latencies, 0.5), percentile(latencies, 0.99)
    show(
        f"{PROVIDERS:,} providers, one node",
        ["", "measured"],
        [
            ("orders a second through the log", f"{median(rates):,.0f}"),
            (f"order to lease at {RATE} a second, p50 ms", f"{p50:.1f}"),
            (f"order to lease at {RATE} a second, p99 ms", f"{p99:.1f}"),
        ],
    )
    close("orders", orders_per_s=round(median(rates)), p50_ms=p50, p99_ms=p99)


if __name__ == "__main__":
    main()
