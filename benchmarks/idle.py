"""What does it cost to be there? A provider at rest; a node with 1,000 of them.

A local market as ``sublet up`` makes it: a node and one real provider, without a job.
Once both have settled, memory (resident) and CPU of each are read from the kernel over
a span of rest; then 1,000 light providers, keys of their own on real control links, are
connected to the node, and it is measured again with them.

``LINKS=20 REST_S=5 make bench NAME=idle`` is a small one.
"""

import asyncio
import os
import secrets
import time
from contextlib import AsyncExitStack, aclosing
from pathlib import Path

from benchmarks.rig.frame import close, console, scratch, show
from sublet.adapter.clock_system import SystemClock
from sublet.cli.local_market import LocalMarket
from sublet.provider.link import MarketLink
from sublet.sdk.connection import Connection
from sublet.wire.message import Welcome
from sublet.wire.signature import Key

LINKS = int(os.environ.get("LINKS", "1000"))
REST_S = float(os.environ.get("REST_S", "60"))
SETTLE_S = min(10.0, REST_S)  # after a start, before anything is measured
TOGETHER = 50  # links that are opened at one time
PROVIDER_MB = 80
PROVIDER_SHARE = 0.005
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")


def read_cpu_s(pid: int) -> float:
    """CPU seconds that a process and those of its children that ended have used."""
    words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, words[11:15])) / _TICKS_PER_S


def read_mb(pid: int) -> float:
    """Resident memory in MB of 10^6 bytes."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1_024 / 1e6
    raise SystemExit(f"process {pid} has ended")


async def measure(*pids: int) -> list[tuple[float, float]]:
    """Rest; give the share of a core and the memory in MB of each process."""
    before = [read_cpu_s(pid) for pid in pids]
    begun = time.monotonic()
    await asyncio.sleep(REST_S)
    passed = time.monotonic() - begun
    return [
        ((read_cpu_s(pid) - was) / passed, read_mb(pid))
        for pid, was in zip(pids, before, strict=True)
    ]


async def keep_link(link: MarketLink, seen: asyncio.Event) -> None:
    """Be a light provider: greet, and answer pings."""
    async with aclosing(link.listen()) as messages:
        async for message in messages:
            if isinstance(message, Welcome):
                seen.set()


async def connect(url: str, stack: AsyncExitStack) -> list[asyncio.Task[None]]:
    """Open all links, some at a time; each stays until the stack ends."""
    clock = SystemClock()
    async with Connection(
        url, key=Key.generate(secrets.token_bytes(32)), clock=clock
    ) as node:
        await node.learn_market()
        domain = await node.domain()
    tasks: list[asyncio.Task[None]] = []
    while len(tasks) < LINKS:
        greeted = []
        for _ in range(min(TOGETHER, LINKS - len(tasks))):
            link = MarketLink(
                url,
                key=Key.generate(secrets.token_bytes(32)),
                domain=domain,
                clock=clock,
                instance=secrets.token_hex(16),
            )
            await stack.enter_async_context(link)
            seen = asyncio.Event()
            tasks.append(asyncio.create_task(keep_link(link, seen)))
            greeted.append(seen.wait())
        await asyncio.wait_for(asyncio.gather(*greeted), 60)
    return tasks


async def run_all(market: LocalMarket) -> None:
    """Measure alone, then with everybody."""
    assert market.node is not None
    node, provider = market.node.process.pid, market.providers[0].process.pid
    console.print(f"one node and one provider at rest, {REST_S:g} s")
    await asyncio.sleep(SETTLE_S)
    (node_share, node_mb), (share, mb) = await measure(node, provider)
    async with AsyncExitStack() as stack:
        console.print(f"with {LINKS} more providers, {REST_S:g} s")
        tasks = await connect(market.url, stack)
        await asyncio.sleep(SETTLE_S)
        (many_share, many_mb), _ = await measure(node, provider)
        lost = sum(task.done() for task in tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    show(
        "at rest",
        ("", "memory, MB", "% of a core"),
        [
            ("provider", f"{mb:.1f}", f"{100 * share:.2f}"),
            ("node, one provider", f"{node_mb:.1f}", f"{100 * node_share:.2f}"),
            (f"node, {LINKS} more", f"{many_mb:.1f}", f"{100 * many_share:.2f}"),
        ],
    )
    console.print(
        f"targets for the provider: {PROVIDER_MB} MB, {100 * PROVIDER_SHARE} % of a core"
    )
    close(
        "idle",
        provider_mb=mb,
        provider_core_share=round(share, 4),
        node_mb=many_mb,
        node_core_share=round(many_share, 4),
        links=LINKS,
        links_lost=lost,
    )


def main() -> None:
    """Open a market, measure, close it."""
    with scratch() as name:
        market = LocalMarket(
            Path(name) / "market",
            providers=1,
            tenant_home=Path(name) / "tenant",
            listen="127.0.0.1:0",
            say=console.print,
        )
        with market:
            asyncio.run(run_all(market))


if __name__ == "__main__":
    main()
