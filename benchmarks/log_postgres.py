"""How fast do two nodes append to one log in PostgreSQL?

Two processes, each a node's whole way in: bytes are decoded, signatures verified,
documents submitted, appended with fsync, folded; each folds what the other appended,
too. One server on this machine's disk, as Debian sets it up. The documents are whole
lives of leases in the mix that a market sees; each process takes the leases of every second tenant.

The clock runs from the word to begin until both have folded everything.
"""

import asyncio
import multiprocessing
import multiprocessing.synchronize
import sys
import time
from collections import deque

import msgspec

from benchmarks.rig.frame import close, median, show
from benchmarks.rig.traffic import Traffic
from sublet.adapter.clock_system import SystemClock
from sublet.adapter.log_postgres import PostgresLog
from sublet.core.document import AnyDocument, Market
from sublet.node.document import read_candidates
from sublet.service.audit import verify
from sublet.service.market import MarketService
from sublet.service.submission import Candidate
from sublet.wire.codec import DocumentCodec, sign
from sublet.wire.note import read_checkpoint
from tests.postgres_server import run_server

LEASES = 1_000
AT_ONCE = 200  # leases beside each other, and documents in one submission
IN_FLIGHT = 3
ROUNDS = 3
AWAY_MS = 600_000


async def fill(
    url: str,
    founding: Market,
    raws: list[bytes],
    size: int,
    begin: multiprocessing.synchronize.Barrier,
    *,
    is_first: bool,
) -> None:
    """Open the market as one of its nodes, take these in, wait for the rest."""
    traffic = Traffic(providers=50, tenants=100, market=founding)

    def say(document: AnyDocument) -> Candidate:
        return traffic.candidate(
            sign(document, key=traffic.operator, domain=traffic.domain)
        )

    log = PostgresLog(url, away_ms=AWAY_MS)
    market = MarketService(
        log,
        DocumentCodec(traffic.domain, traffic.note_key),
        SystemClock(),
        sign=say,
        read_note=read_checkpoint,
    )
    await market.open(is_attended=not is_first)

    async def submit(batch: list[bytes]) -> None:
        raw = [msgspec.Raw(each) for each in batch]
        readings = read_candidates(raw, domain=traffic.domain)
        candidates = [one for one in readings if isinstance(one, Candidate)]
        for result in await market.submit(candidates):
            if result.refusal is not None:
                raise SystemExit(f"void: {result.refusal.message}")

    if is_first:
        await market.submit([traffic.founding()])
    await asyncio.to_thread(begin.wait)
    under_way: deque[asyncio.Task[None]] = deque()
    for first in range(0, len(raws), AT_ONCE):
        under_way.append(asyncio.create_task(submit(raws[first : first + AT_ONCE])))
        await asyncio.sleep(0)
        if len(under_way) > IN_FLIGHT:
            await under_way.popleft()
    await asyncio.gather(*under_way)
    while market.size < size:  # noqa: ASYNC110 - told by the other node
        await asyncio.sleep(0.01)
    await asyncio.to_thread(begin.wait)
    await market.close()
    log.close()


def work(*arguments: object, is_first: bool) -> None:
    """Be one of the two processes."""
    asyncio.run(fill(*arguments, is_first=is_first))  # type: ignore[arg-type] # as passed on


def run_round(
    url: str, founding: Market, opening: list[bytes], lives: list[list[bytes]]
) -> float:
    """Found the market, let both take their half; entries a second."""
    context = multiprocessing.get_context("spawn")
    founded = context.Barrier(1)
    work(url, founding, opening, len(opening) + 1, founded, is_first=True)
    size = len(opening) + 1 + sum(map(len, lives))
    begin = context.Barrier(3)
    processes = [
        context.Process(
            target=work, args=(url, founding, raws, size, begin), kwargs={"is_first": n}
        )
        for n, raws in ((False, lives[0]), (False, lives[1]))
    ]
    for process in processes:
        process.start()
    begin.wait()
    begun = time.perf_counter()
    begin.wait()
    duration_s = time.perf_counter() - begun
    for process in processes:
        process.join()
        if process.exitcode:
            raise SystemExit("a node failed")
    return sum(map(len, lives)) / duration_s


def main() -> None:
    """Sign, then append with two nodes, some rounds; audit each log."""
    leases = int(sys.argv[1]) if len(sys.argv) > 1 else LEASES
    traffic = Traffic(providers=50, tenants=100)
    opening = traffic.opening()
    # By tenant: what one says of its channels has an order.
    halves: list[list[bytes]] = [[], []]
    for tenant, said in traffic.numbered(leases, at_once=AT_ONCE):
        halves[tenant % 2].append(said)
    rates = []
    with run_server("shared_buffers = 128MB") as server:
        for _ in range(ROUNDS):
            url = server.create_database()
            rates.append(run_round(url, traffic.market, opening, halves))
            log = PostgresLog(url, away_ms=AWAY_MS)
            verdict = verify(
                log, DocumentCodec(), SystemClock(), read_note=read_checkpoint
            )
            log.close()
            if not verdict.is_good:
                raise SystemExit(f"the audit says: {verdict.finding}")
    show(
        f"{leases:,} leases, two nodes on one PostgreSQL; median of {ROUNDS} rounds",
        ["", "entries a second", "target"],
        [("append", f"{median(rates):,.0f}", "5,000")],
    )
    close("log_postgres", append_per_s=round(median(rates)))


if __name__ == "__main__":
    main()
