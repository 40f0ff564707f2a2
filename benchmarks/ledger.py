"""Transfers a second that are durable: through the market's log and book, in batches.

*market*: credits, signed and checked in advance, are submitted to the service that a
node runs: appended to SQLite with fsync (synchronous=FULL), hashed into the tree, a
checkpoint signed, and folded into the double-entry ledger of the book. A batch is one
submission; the service commits at most 256 documents at a time. *bare*: the same
transfers as rows of a plain SQLite file with the same fsync, two accounts changed and
one transfer written each, held by CHECK constraints: what a ledger without a log would
cost. Batch by batch in turns. At the end the accounts of both are compared.

``TRANSFERS=500 ROUNDS=1`` runs less.
"""

import asyncio
import os
import sqlite3
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.log import opened
from benchmarks.rig.frame import close, median, scratch, show
from benchmarks.rig.traffic import Traffic
from sublet.core.document import Credit
from sublet.core.ledger.ledger import ISSUED
from sublet.service.submission import Candidate
from sublet.wire.codec import sign

TRANSFERS = 10_000
ROUNDS = 3
BATCHES = (1, 100, 1_000)
SINGLES_SHARE = 10  # one by one, a tenth of them has to do
PARTIES = 100

SCHEMA = """
CREATE TABLE account (
    id TEXT PRIMARY KEY, debits INTEGER NOT NULL, credits INTEGER NOT NULL,
    CHECK (id = 'issued' OR credits >= debits)
) STRICT;
CREATE TABLE transfer (
    id TEXT PRIMARY KEY, debit TEXT NOT NULL, credit TEXT NOT NULL,
    amount INTEGER NOT NULL CHECK (amount > 0)
) STRICT;
"""


def make_credits(traffic: Traffic, count: int) -> list[Candidate]:
    """Sign so many credits to different parties."""
    made = []
    for number in range(count):
        party = traffic.tenants[number % len(traffic.tenants)].address
        credit = Credit(
            party=party,
            amount=1 + number,
            memo="",
            signed_at_s=int(time.time()),
            salt=number,
        )
        signed = sign(credit, key=traffic.operator, domain=traffic.domain)
        made.append(traffic.candidate(signed))
    return made


async def run_market(
    path: Path, traffic: Traffic, credits_: Sequence[Candidate], batch: int
) -> tuple[float, dict[str, int]]:
    """Submit batch by batch; give how many a second, and the balances."""
    async with opened(path, traffic) as market:
        start = time.perf_counter()
        for first in range(0, len(credits_), batch):
            for result in await market.submit(credits_[first : first + batch]):
                if result.refusal is not None:
                    raise SystemExit(f"void: {result.refusal.message}")
        passed_s = time.perf_counter() - start
        accounts = market.book.ledger.accounts
        balances = {
            name: account.credits_posted - account.debits_posted
            for name, account in accounts.items()
        }
    return len(credits_) / passed_s, balances


def run_bare(
    path: Path, credits_: Sequence[Candidate], batch: int
) -> tuple[float, dict[str, int]]:
    """Write the same transfers into a plain file."""
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")
    connection.executescript(SCHEMA)
    parties = {c.document.party for c in credits_ if isinstance(c.document, Credit)}
    rows = [(name, 0, 0) for name in (ISSUED, *sorted(parties))]
    connection.executemany("INSERT INTO account VALUES (?, ?, ?)", rows)
    start = time.perf_counter()
    for first in range(0, len(credits_), batch):
        connection.execute("BEGIN IMMEDIATE")
        for each in credits_[first : first + batch]:
            credit = each.document
            assert isinstance(credit, Credit)
            connection.execute(
                "INSERT INTO transfer VALUES (?, ?, ?, ?)",
                (each.id, ISSUED, credit.party, credit.amount),
            )
            connection.execute(
                "UPDATE account SET debits = debits + ? WHERE id = ?",
                (credit.amount, ISSUED),
            )
            connection.execute(
                "UPDATE account SET credits = credits + ? WHERE id = ?",
                (credit.amount, credit.party),
            )
        connection.execute("COMMIT")
    passed_s = time.perf_counter() - start
    found = connection.execute("SELECT id, credits - debits FROM account")
    balances: dict[str, int] = dict(found.fetchall())
    connection.close()
    return len(credits_) / passed_s, balances


def main() -> None:
    """Measure each batch size in turns, compare, show."""
    count = int(os.environ.get("TRANSFERS", TRANSFERS))
    rounds = int(os.environ.get("ROUNDS", ROUNDS))
    rates: dict[tuple[str, int], list[float]] = {}
    with scratch() as folder:
        for number in range(rounds):
            traffic = Traffic(providers=1, tenants=PARTIES)
            made = make_credits(traffic, count)
            for batch in BATCHES:
                some = made if batch > 1 else made[: max(1, count // SINGLES_SHARE)]
                place = Path(folder) / f"{number}-{batch}"
                market, ours = asyncio.run(
                    run_market(place.with_suffix(".log"), traffic, some, batch)
                )
                bare, theirs = run_bare(place.with_suffix(".db"), some, batch)
                if ours != theirs:
                    raise SystemExit("the two ledgers do not agree")
                rates.setdefault(("market", batch), []).append(market)
                rates.setdefault(("bare", batch), []).append(bare)
    figures = {key: round(median(each)) for key, each in rates.items()}
    show(
        f"{count:,} transfers among {PARTIES} accounts, {rounds} rounds, a second",
        ["in batches of", "log and book", "bare SQLite"],
        [
            (
                f"{batch:,}",
                f"{figures['market', batch]:,}",
                f"{figures['bare', batch]:,}",
            )
            for batch in BATCHES
        ],
    )
    close(
        "ledger",
        per_s_1=figures["market", 1],
        per_s_100=figures["market", 100],
        per_s_1000=figures["market", 1_000],
        bare_1=figures["bare", 1],
        bare_100=figures["bare", 100],
        bare_1000=figures["bare", 1_000],
    )


if __name__ == "__main__":
    main()
