"""How does matching grow with the market: 1,000 to 1,000,000 offers?

For each size a process of its own fills a book's table with offers as they come out of
the log (models, prices, regions and machine sizes as on public lists), and asks it for
mixed orders: a model or any, memory at least, GPUs at least, regions, a price at most.
What is matched is bound, and comes free again some hundred orders later, so the index
is asked while it changes. Timed is the decision alone, ``quote``, by the clock on the
wall and by the processor's (what else runs on the machine moves only the former);
binding and releasing are timed beside it. Every 50th decision must be that of a look at
every row. The search is compiled, where ``numba`` is installed, as a node's is; some more
orders are then decided without that.

Beside it, in the same run, HTCondor's own matchmaking (``classad2``): the same 10,000
machines and the same five requirements, and both must find the same price.

``SIZES=1000,10000`` runs less.
"""

import json
import os
import subprocess
import sys
import time
from collections import deque

import numpy as np

from benchmarks.rig.frame import (
    CACHE,
    ROOT,
    UV,
    close,
    median,
    percentile,
    run,
    show,
)
from benchmarks.rig.offers import GIB, NOW_S, LargeMarket, Wish, document_id, order_of
from sublet.core.book.book import Book
from sublet.core.book.column import Column
from sublet.core.book.compiled import load_kernel
from sublet.core.book.quote import Match, quote
from sublet.core.book.why_not import NoMatch
from sublet.core.document import Order
from sublet.core.lease.phase import Lease, Phase

SIZES = (1_000, 10_000, 100_000, 1_000_000)
ORDERS = 5_000
WARM_UP = 200  # decisions that are not counted
LEASED = 500  # at a time
CHECK_EVERY = 50
BY_ARRAYS = 500  # orders, decided without the compiled search
MACHINES = 10_000  # beside HTCondor
JOBS = 40  # that HTCondor matches: seconds each
Row = tuple[int, float, float, float, float, float, float, float, float, float, int]


def memory_bytes() -> int:
    """Give what this process holds of the machine's memory."""
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def lease_of(book: Book, order: Order, match: Match, number: int) -> Lease:
    """Make the lease of a match, as far as a table of offers looks at it."""
    record = book.offers.find(match.offer_id)
    assert record is not None
    return Lease(
        id=document_id(f"lease {number}"),
        offer_id=match.offer_id,
        tenant=order.tenant,
        provider=match.provider,
        machine=match.machine,
        phase=Phase.MATCHED,
        price_hour=match.price_hour,
        duration_s=match.duration_s,
        hold=match.hold,
        cpus_milli=order.cpus_milli,
        memory_bytes=order.memory_bytes,
        disk_bytes=order.disk_bytes,
        gpu_uuids=tuple(record.gpus_free()[: order.gpu_count]),
        manifest=order.manifest,
        sandbox=order.sandbox,
        features=order.features,
        ssh_key="",
        ssh_host_key="",
        endpoint="",
        matched_at_s=NOW_S,
        deadline_s=NOW_S + 60,
    )


def check(book: Book, wish: Wish, order: Order, match: Match | None) -> None:
    """Look at every row, and stop the benchmark where the index said otherwise."""
    table, cells = book.offers, book.offers.cells
    fits = (
        (cells[Column.EXPIRES_AT_S] > NOW_S)
        & (cells[Column.IS_UP] == 1)
        & (cells[Column.CPUS_MILLI_FREE] >= order.cpus_milli)
        & (cells[Column.MEMORY_BYTES_FREE] >= order.memory_bytes)
        & (cells[Column.DISK_BYTES_FREE] >= order.disk_bytes)
        & (cells[Column.GPUS_FREE] >= wish.gpus)
        & (cells[Column.GPU_MEMORY_BYTES] >= wish.memory_gib * GIB)
    )
    if wish.model:
        fits &= table.words.gpu_models.table([wish.model])[cells[Column.GPU_MODEL]]
    if wish.regions:
        fits &= table.words.regions.table(wish.regions)[cells[Column.REGION]]
    costs = wish.gpus * (
        4 * cells[Column.CPU_PRICE_HOUR]
        + 16 * cells[Column.MEMORY_PRICE_HOUR]
        + cells[Column.GPU_PRICE_HOUR]
    )
    rows = np.flatnonzero(fits & (costs <= wish.price_max))
    if match is None or not rows.size:
        if rows.size or match is not None:
            raise SystemExit(f"the index and {rows.size} rows disagree: {wish}")
        return
    first = rows[np.lexsort((cells[Column.NUMBER, rows], costs[rows]))[0]]
    owners = cells[Column.PROVIDER]
    others = rows[owners[rows] != owners[first]]
    if others.size:
        price = costs[others].min()
    else:  # alone, or below all others only by what the order allows
        has_rival = (owners[fits] != owners[first]).any()
        price = wish.price_max if has_rival else costs[first]
    found = table.row_of[match.offer_id]  # or another of its owner's, of equal cost
    if (owners[found], costs[found], match.price_hour) != (
        *(owners[first], costs[first], price),
    ):
        raise SystemExit(f"the index found another winner than all rows: {wish}")


def ask(book: Book, order: Order) -> tuple[Match | None, float, float]:
    """Decide; give the match and the microseconds that it took: wall, processor."""
    start, worked = time.perf_counter_ns(), time.process_time_ns()
    try:
        match = quote(book, order, now_s=NOW_S)
    except NoMatch:
        match = None
    worked, end = time.process_time_ns() - worked, time.perf_counter_ns()
    return match, (end - start) / 1e3, worked / 1e3


def measure(size: int) -> Row:
    """Fill a market of this size and ask it; in a process of its own."""
    book, market = Book(), LargeMarket(seed=size)
    before = memory_bytes()
    start = time.perf_counter()
    market.fill(book, size)
    put_us = (time.perf_counter() - start) / size * 1e6
    bytes_per_offer = round((memory_bytes() - before) / size)
    book.kernel = load_kernel()
    matched: list[float] = []
    worked: list[float] = []  # the same decisions, by the processor's clock
    unmatched: list[float] = []
    changes: list[float] = []
    leased: deque[Lease] = deque()
    for number, wish in enumerate(market.wishes(WARM_UP + ORDERS)):
        order = order_of(wish, number)
        match, took_us, worked_us = ask(book, order)
        if number >= WARM_UP and match is None:
            unmatched.append(took_us)
        elif number >= WARM_UP:
            matched.append(took_us)
            worked.append(worked_us)
        if number % CHECK_EVERY == 0:
            check(book, wish, order, match)
        if match is None:
            continue
        leased.append(lease_of(book, order, match, number))
        start = time.perf_counter()
        book.offers.bind(leased[-1])
        if len(leased) > min(LEASED, size // 10):
            book.offers.release(leased.popleft())
        changes.append((time.perf_counter() - start) * 1e6)
    book.kernel = None
    by_arrays = [
        took_us
        for number, wish in enumerate(market.wishes(BY_ARRAYS))
        for match, took_us, _ in [ask(book, order_of(wish, number))]
        if match is not None
    ]
    return (
        size,
        percentile(matched, 0.5),
        percentile(matched, 0.99),
        percentile(worked, 0.5),
        percentile(worked, 0.99),
        percentile(by_arrays, 0.5),
        median(changes),
        len(unmatched) * 100 / ORDERS,
        median(unmatched) if unmatched else 0.0,
        put_us,
        bytes_per_offer,
    )


def requirements_of(wish: Wish, regions: set[str]) -> str:
    """Write the five requirements as a ClassAd expression, in the same words."""
    parts = [
        f"TARGET.GpuMemory >= {wish.memory_gib}",
        f"TARGET.GpusFree >= {wish.gpus}",
        f"TARGET.Price * {wish.gpus} <= {wish.price_max}",
    ]
    if wish.model:
        parts.insert(0, f'TARGET.GpuModel == "{wish.model}"')
    if wish.regions:
        names = sorted(
            name
            for name in regions
            if name in wish.regions or name.partition("-")[0] in wish.regions
        )
        quoted = ", ".join(f'"{name}"' for name in names)
        parts.append(f"member(TARGET.Region, {{{quoted}}})")
    return " && ".join(parts)


def beside_classads() -> tuple[float, float]:
    """Match the same jobs to the same machines; give jobs a second: ours, HTCondor's."""
    env = {"UV_PROJECT_ENVIRONMENT": str(CACHE / "classad")}
    run(UV, "sync", "--quiet", "--locked", "--only-group", "classad", env=env, cwd=ROOT)
    book, market = Book(), LargeMarket(seed=7)
    book.kernel = load_kernel()
    market.fill(book, MACHINES)
    wishes = [wish for wish in market.wishes(8 * JOBS) if wish.model and wish.regions]
    orders = [
        # The price of a GPU alone: what the other side is asked for.
        (wish, order_of(wish, n))
        for n, wish in enumerate(wishes[:JOBS])
    ]
    records = [r for _, r in book.offers.records() if book_is_up(book, r.id)]
    machines = [
        (
            record.offer.gpu_model,
            record.offer.gpu_memory_bytes // GIB,
            len(record.offer.gpu_uuids),
            record.offer.region,
            unit_price(record.offer.cpu_price_hour, record.offer.memory_price_hour)
            + record.offer.gpu_price_hour,
        )
        for record in records
    ]
    regions = {machine[3] for machine in machines}
    plan = {
        "machines": machines,
        "jobs": [requirements_of(wish, regions) for wish, _ in orders],
    }
    answer = subprocess.run(
        [CACHE / "classad/bin/python", ROOT / "benchmarks/rig/classads.py"],
        input=json.dumps(plan),
        capture_output=True,
        text=True,
        check=True,
    )
    theirs = json.loads(answer.stdout)
    took_s, rounds = 0.0, 25  # the same jobs again and again, or it is too short
    for _ in range(rounds):
        for (wish, order), price in zip(orders, theirs["prices"], strict=True):
            match, took_us, _ = ask(book, order)
            took_s += took_us / 1e6
            ours = None if match is None else cost_of(book, match, wish)
            if ours != price:
                raise SystemExit(f"{wish}: we found {ours}, ClassAds {price}")
    return rounds * len(orders) / took_s, len(orders) / theirs["took_s"]


def book_is_up(book: Book, offer_id: str) -> bool:
    """Say whether the offer's machine can match at all."""
    return bool(book.offers.cells[Column.IS_UP, book.offers.row_of[offer_id]])


def unit_price(cpu_price: int, memory_price: int) -> int:
    """Price what an order takes beside one GPU, micro-USD an hour."""
    return 4 * cpu_price + 16 * memory_price


def cost_of(book: Book, match: Match, wish: Wish) -> int:
    """Give what the winner asks for one GPU and what goes with it."""
    record = book.offers.find(match.offer_id)
    assert record is not None
    offer = record.offer
    return offer.gpu_price_hour + unit_price(
        offer.cpu_price_hour, offer.memory_price_hour
    )


def main() -> None:
    """Measure each size, then beside HTCondor; show."""
    if len(sys.argv) > 1:
        json.dump(measure(int(sys.argv[1])), sys.stdout)
        return
    given = os.environ.get("SIZES")
    sizes = [int(size) for size in given.split(",")] if given else list(SIZES)
    rows: list[Row] = []
    for size in sizes:
        answer = run(
            sys.executable, "-m", "benchmarks.matching_scale", str(size), cwd=ROOT
        )
        rows.append(tuple(json.loads(answer)))
    ours, theirs = beside_classads()
    show(
        f"{ORDERS:,} mixed orders each, {LEASED} leases coming and going",
        [
            *("offers", "p50 us", "p99 us", "p50 us of processor", "p99"),
            "p50 us by arrays",
            "bind and release, us",
            *("no match, %", "no match, us", "put, us", "bytes an offer"),
        ],
        [
            (f"{size:,}", *(f"{figure:,.1f}" for figure in figures), f"{each:,}")
            for size, *figures, each in rows
        ],
    )
    show(
        f"{MACHINES:,} machines, the same five requirements",
        ["", "jobs matched a second"],
        [("sublet", f"{ours:,.0f}"), ("HTCondor ClassAds", f"{theirs:,.2f}")],
    )
    asked = next((row for row in rows if row[0] == 100_000), rows[-1])
    at = f"{asked[0] // 1_000}k"
    close(
        "matching_scale",
        **{f"p50_us_{at}": asked[1], f"p99_us_{at}": asked[2]},
        **{f"p50_cpu_us_{at}": asked[3], f"p99_cpu_us_{at}": asked[4]},
        **{f"p50_by_arrays_us_{at}": asked[5]},
        bytes_per_offer=asked[-1],
        times_classads=ours / theirs,
        growth_of_p50=rows[-1][1] / rows[0][1],
    )


if __name__ == "__main__":
    main()
