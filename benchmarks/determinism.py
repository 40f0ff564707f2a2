"""Does one log give one book: in every run, every process, from every snapshot?

A log of mixed facts is drawn from a seed and recorded to a file: offers, orders, lives
of leases, vouchers, withdrawals, machines lost and seen, deadlines that pass, and
hostile entries that are void. Then processes of their own fold the file, with
``PYTHONHASHSEED`` 0, 1 and drawn anew, and from snapshots taken at places drawn by
chance. Every one must reach the hash of the book to which the log was made.

``FACTS=20000`` records less.
"""

import os
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from random import Random

import msgspec

from benchmarks.rig.frame import ROOT, close, run, scratch, show
from benchmarks.rig.mixed import MixedLog
from sublet.core.book.book import Book
from sublet.core.book.search import Kernel
from sublet.core.book.snapshot import book_hash, dump, load
from sublet.core.book.step import step
from sublet.core.document import Fact

FACTS = 200_000
SNAPSHOTS = 5
HASH_SEEDS = ("0", "1", "random")
SEED = 4


def record(folder: Path, count: int) -> tuple[str, int, list[int]]:
    """Write the log and some snapshots; give the hash, the void, and the places."""
    log = MixedLog(SEED)
    encoder = msgspec.json.Encoder()
    places = sorted(Random(SEED).sample(range(1, count), SNAPSHOTS))
    with (folder / "log").open("wb") as file:
        for number, fact in enumerate(log.facts(count), start=1):
            file.write(encoder.encode(fact) + b"\n")
            if number in places:
                (folder / f"snapshot-{number}").write_bytes(dump(log.book))
    return book_hash(log.book).hex(), log.void, places


def fold(path: Path, *, first: int, kernel: Kernel | None = None) -> str:
    """Fold the log, from a snapshot of its first entries on; give the book's hash."""
    snapshot = path.with_name(f"snapshot-{first}")
    book = load(snapshot.read_bytes()) if first else Book()
    book.kernel = kernel
    decoder = msgspec.json.Decoder(Fact)
    with path.open("rb") as file:
        for number, line in enumerate(file):
            if number >= first:
                step(book, decoder.decode(line))
    return book_hash(book).hex()


def fold_apart(path: Path, *, first: int, hash_seed: str) -> tuple[str, float]:
    """Do it in a process of its own; give the hash, and the seconds that it took."""
    argv = (sys.executable, "-m", "benchmarks.determinism", path, str(first))
    start = time.perf_counter()
    found = run(*argv, env={"PYTHONHASHSEED": hash_seed}, cwd=ROOT).strip()
    return found, time.perf_counter() - start


def main() -> None:
    """Record, then fold again and again; show."""
    if len(sys.argv) > 1:
        print(fold(Path(sys.argv[1]), first=int(sys.argv[2])))
        return
    count = int(os.environ.get("FACTS", FACTS))
    with scratch() as name:
        path = Path(name) / "log"
        start = time.perf_counter()
        expected, void, places = record(Path(name), count)
        made_s = time.perf_counter() - start
        runs = [(0, seed) for seed in HASH_SEEDS] + [(at, "random") for at in places]
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            futures = [
                pool.submit(fold_apart, path, first=first, hash_seed=seed)
                for first, seed in runs
            ]
            folds = [future.result() for future in futures]
    same = sum(found == expected for found, _ in folds)
    rows = [
        (f"{first:,}", seed, f"{took_s:.1f}", found[:16])
        for (first, seed), (found, took_s) in zip(runs, folds, strict=True)
    ]
    show(
        f"{count:,} facts, {void:,} of them void, made in {made_s:.0f} s: {expected[:16]}",
        ["from entry", "PYTHONHASHSEED", "s", "book"],
        rows,
    )
    close("determinism", facts=count, void=void, folds=len(runs), same=same)
    if same < len(runs):
        raise SystemExit("the same log gave different books")


if __name__ == "__main__":
    main()
