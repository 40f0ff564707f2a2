"""How fast is the log: taken in, replayed by a restarting node, audited?

Real parts: SQLite on this machine's disk with fsync, secp256k1 signatures, EIP-712
digests, the Merkle tree and signed checkpoints, the book. The documents are whole
lives of leases in the mix that a market sees (order, terms, delivery, start, six
readings each with a voucher, two checkpoints, receipt, last voucher), 200 leases
beside each other.

*append*: bytes as they come over HTTP are decoded, verified and submitted, a batch of
200 at a time, until the last is durable and folded. *replay*: what a node does when it
starts without a snapshot. *audit*: what ``sublet audit verify`` does, every signature
computed again. One core of work each: the processor time is shown beside the clock's.
"""

import asyncio
import json
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import msgspec

from benchmarks.rig.frame import PYTHON, close, median, run, scratch, show
from benchmarks.rig.traffic import Traffic
from sublet.adapter.clock_system import SystemClock
from sublet.adapter.log_sqlite import SqliteLog, SqliteLogReader
from sublet.core.document import AnyDocument
from sublet.node.document import read_candidates
from sublet.service.audit import verify
from sublet.service.market import MarketService
from sublet.service.replay import replay
from sublet.service.submission import Candidate
from sublet.wire.codec import DocumentCodec, sign
from sublet.wire.note import read_checkpoint

LEASES = 1_000
AT_ONCE = 200  # leases beside each other, and documents in one submission
IN_FLIGHT = 3  # submissions under way
ROUNDS = 3
SUBLET = PYTHON.with_name("sublet")


class WholeLog(SqliteLog):
    """A stored log whose snapshots are overlooked, so that a replay replays it all."""

    def find_snapshot(self, *, size_max: int | None = None) -> None:
        """Know of none."""


@asynccontextmanager
async def opened(path: Path, traffic: Traffic) -> AsyncIterator[MarketService]:
    """Found a market on a new file, and serve it."""

    def say(document: AnyDocument) -> Candidate:
        signed = sign(document, key=traffic.operator, domain=traffic.domain)
        return traffic.candidate(signed)

    log = SqliteLog(path)
    market = MarketService(
        log,
        DocumentCodec(None, traffic.note_key),
        SystemClock(),
        sign=say,
        read_note=read_checkpoint,
    )
    await market.open()
    try:
        (founding,) = await market.submit([traffic.founding()])
        if founding.refusal is not None:
            raise SystemExit(founding.refusal.message)
        yield market
    finally:
        await market.close()
        log.close()


async def send(market: MarketService, traffic: Traffic, raws: Sequence[bytes]) -> None:
    """Take all documents in, as a node does, until the last is durable and folded."""

    async def submit(candidates: list[Candidate]) -> None:
        for result in await market.submit(candidates):
            if result.refusal is not None:
                raise SystemExit(f"void: {result.refusal.message}")

    # One sender, so in order; a few submissions are under way at any time.
    under_way: deque[asyncio.Task[None]] = deque()
    for first in range(0, len(raws), AT_ONCE):
        batch = [msgspec.Raw(raw) for raw in raws[first : first + AT_ONCE]]
        readings = read_candidates(batch, domain=traffic.domain)
        await asyncio.sleep(0)  # let the writer go on between two submissions
        candidates = [one for one in readings if isinstance(one, Candidate)]
        if len(candidates) < len(batch):
            raise SystemExit("a document of the benchmark's own was refused")
        under_way.append(asyncio.create_task(submit(candidates)))
        if len(under_way) > IN_FLIGHT:
            await under_way.popleft()
    await asyncio.gather(*under_way)


async def fill(path: Path, traffic: Traffic, raws: Sequence[bytes]) -> None:
    """Found a market on a new file and take all documents in."""
    async with opened(path, traffic) as market:
        await send(market, traffic, raws)


def audit(log: SqliteLogReader) -> None:
    """Check it all, as ``sublet audit verify`` does."""
    verdict = verify(log, DocumentCodec(), SystemClock(), read_note=read_checkpoint)
    if not verdict.is_good:
        raise SystemExit(f"the audit says: {verdict.finding}")


def audit_by_command(path: Path) -> int:
    """Let ``sublet audit verify`` do it, with every core; entries a second."""
    answer = run(SUBLET, "audit", "verify", "--json", "--log", path)
    verdict: dict[str, int] = json.loads(answer)
    return round(verdict["entries"] * 1_000 / max(1, verdict["duration_ms"]))


def measure(work: Callable[[], object]) -> tuple[float, float]:
    """Run it; give the seconds by the clock and by the processor."""
    clock, processor = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - clock, time.process_time() - processor


def main() -> None:
    """Sign, then append, replay and audit, three rounds of each."""
    traffic = Traffic(providers=50, tenants=100)
    opening = traffic.opening()
    raws = opening + list(traffic.leases(LEASES, at_once=AT_ONCE))
    codec = DocumentCodec(traffic.domain)
    times: dict[str, list[tuple[float, float]]] = {
        "append": [],
        "replay": [],
        "audit": [],
    }
    with scratch() as folder:
        for number in range(ROUNDS):
            path = Path(folder) / f"log-{number}.db"
            times["append"].append(
                measure(partial(asyncio.run, fill(path, traffic, raws)))
            )
            log = WholeLog(path)
            size = log.size()
            times["replay"].append(
                measure(partial(replay, log, codec, read_note=read_checkpoint))
            )
            times["audit"].append(measure(partial(audit, log)))
            log.close()
        by_command = median([audit_by_command(path) for _ in range(ROUNDS)])
    rates = {
        name: size / median([c for c, _ in pairs]) for name, pairs in times.items()
    }
    show(
        f"{size:,} entries, {LEASES:,} leases; medians of {ROUNDS} rounds",
        ["", "a second", "a second of one core", "target"],
        [
            (
                name,
                f"{rates[name]:,.0f}",
                f"{size / median([p for _, p in times[name]]):,.0f}",
                target,
            )
            for name, target in (
                ("append", "8,000"),
                ("replay", "30,000"),
                ("audit", "10,000"),
            )
        ]
        + [("audit by the command, with every core", f"{by_command:,.0f}", "", "")],
    )
    close("log", **{f"{name}_per_s": round(rate) for name, rate in rates.items()})


if __name__ == "__main__":
    main()
