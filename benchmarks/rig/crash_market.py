"""One market that is killed again and again: its node, those who talk to it, its books.

Documents are signed before. Each client sends its tenants' in order, some at a time,
and again until they are acknowledged; what was acknowledged, and where, goes to a file
at once. Once it has sent all it begins anew: what the log has is told as before.
"""

import asyncio
import os
import random
import signal
from collections import Counter
from pathlib import Path

from msgspec import Struct

from benchmarks.rig.traffic import Traffic
from sublet.adapter.clock_system import SystemClock
from sublet.adapter.key_file import create_note_key, load_key, load_or_create_key
from sublet.core.book.book import Book
from sublet.core.book.invariant import check_invariants
from sublet.core.book.step import LeaseMoved, step
from sublet.core.lease.phase import Lease, Phase
from sublet.core.ledger.ledger import ISSUED
from sublet.node.compose import open_node
from sublet.node.config import read_config
from sublet.node.serve import Running, serve
from sublet.service.audit import verify
from sublet.service.ports import Log
from sublet.wire.codec import DocumentCodec, decode
from sublet.wire.message import Appendix, Signed
from sublet.wire.note import read_checkpoint

PROVIDERS = 20
TENANTS = 12
CLIENTS = 2
LEASES = 60  # that are lived through, about 17 documents each
AT_ONCE = 20
BATCH_MAX = 6  # documents in one submission
CREDITS = 1_000_000_000  # micro-USD of each tenant
ANSWER_MAX = 1 << 24

RULES = """
[market]
name = "crash"
accept_s = 3600
deliver_s = 3600
prepare_s = 3600
report_s = 3600
close_s = 3600
settle_s = 3600
[limits]
requests_per_s = 1000000
requests_burst = 1000000
lost_after_s = 3600
"""


class Verdict(Struct):
    """What the books of one market say after all its deaths."""

    acknowledged: int = 0
    entries: int = 0
    leases: int = 0  # that were paid
    lost: int = 0  # acknowledged, and not there or elsewhere
    created: int = 0  # micro-USD too many or too few
    doubled: int = 0  # leases that were paid twice, or run twice
    jobs: int = 0  # that real providers ran, on one lease or several
    moved: int = 0  # of these, on several
    given_up: int = 0  # of these, without a result
    unpaid: int = 0  # of these, done; the provider died before it was paid
    paid_again: int = 0  # of these, paid on two machines: the first lost the result

    def add(self, other: "Verdict") -> None:
        """Count another market's, too."""
        for name in self.__struct_fields__:
            setattr(self, name, getattr(self, name) + getattr(other, name))


class Books(Struct):
    """A log that was audited and folded, and what became of its leases."""

    found: dict[str, int]  # where each document stands
    leases: dict[str, Lease]  # as they were last
    settled_at_s: dict[str, int]  # when the log said so
    payments: Counter[str]  # of each lease
    created: int  # micro-USD too many or too few


def lay_out(home: Path, *, port: int, rules: str = RULES, log_url: str = "") -> None:
    """Make a node's home."""
    home.mkdir(mode=0o700)
    load_or_create_key(home / "key")
    create_note_key(home / "note_key", name="crash")
    log = f'[log]\nurl = "{log_url}"\n' if log_url else ""
    settings = f'listen = "127.0.0.1:{port}"\n{rules}{log}'
    (home / "config.toml").write_text(settings)


def prepare(home: Path, folder: Path) -> None:
    """Found the market; sign what its clients will say, one file for each."""
    asyncio.run(_prepare(home, folder))


async def _prepare(home: Path, folder: Path) -> None:
    async with open_node(read_config(home), clock=SystemClock()) as node:
        traffic = Traffic(
            providers=PROVIDERS,
            tenants=TENANTS,
            operator=load_key(home / "key"),
            market=node.market.book.rules,
        )
        opening = [decode(raw, Signed, size_max=1 << 20) for raw in traffic.opening()]
        for result in await node.market.submit([traffic.candidate(s) for s in opening]):
            if result.refusal is not None:
                raise SystemExit(result.refusal.message)
    said: list[list[bytes]] = [[] for _ in range(CLIENTS)]
    for tenant, raw in traffic.numbered(LEASES, at_once=AT_ONCE):
        said[tenant % CLIENTS].append(raw)
    for number, raws in enumerate(said):
        (folder / f"say-{number}").write_bytes(b"\n".join(raws))


def be_node(home: Path, ready: int) -> None:
    """Serve until killed; write a byte to ``ready`` once it answers."""

    def tell(running: Running) -> None:
        os.write(ready, b"1")

    asyncio.run(serve(read_config(home), ready=tell))


# ---- a client ---------------------------------------------------------------------


def be_client(folder: Path, number: int, *, port: int, seed: int) -> None:
    """Say everything, until told to stop."""
    asyncio.run(_talk(folder, number, port=port, chance=random.Random(seed)))


async def _talk(folder: Path, number: int, *, port: int, chance: random.Random) -> None:
    raws = (folder / f"say-{number}").read_bytes().split(b"\n")
    notes = os.open(folder / f"heard-{number}", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    stopped = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopped.set)
    place, connection = 0, None
    while not stopped.is_set():
        batch = raws[place : place + chance.randint(1, BATCH_MAX)]
        try:
            connection = connection or await asyncio.open_connection("127.0.0.1", port)
            answer = await asyncio.wait_for(_post(*connection, batch), 60)
        except (OSError, EOFError, TimeoutError):
            answer = None
        if answer is None:  # not acknowledged, or the node was not there
            if connection is not None:
                connection[1].close()
                connection = None
            await asyncio.sleep(0.003)
            continue
        for result in decode(answer, Appendix, size_max=ANSWER_MAX).results:
            if result.fault is not None and result.index < 0:
                raise SystemExit(f"refused: {result.fault.message}")
            os.write(notes, f"{result.id} {result.index}\n".encode())
        place = (place + len(batch)) % len(raws)


async def _post(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, batch: list[bytes]
) -> bytes | None:
    body = b'{"documents":[' + b",".join(batch) + b"]}"
    writer.write(
        b"POST /v1/documents HTTP/1.1\r\nHost: node\r\n"
        b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n"
        % len(body)
        + body
    )
    head = await reader.readuntil(b"\r\n\r\n")
    length = head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0]
    answer = await reader.readexactly(int(length))
    if head.startswith(b"HTTP/1.1 5"):
        return None
    if not head.startswith(b"HTTP/1.1 200"):
        raise SystemExit(f"the node answered {head!r} {answer[:500]!r}")
    return answer


# ---- the books --------------------------------------------------------------------


def read_books(log: Log, *, issued: int) -> Books:
    """Audit a log, fold it, and look whether its money adds up."""
    verdict = verify(log, DocumentCodec(), SystemClock(), read_note=read_checkpoint)
    if not verdict.is_good:
        raise SystemExit(f"the audit says: {verdict.finding}")
    books, book, codec = Books({}, {}, {}, Counter(), 0), Book(), DocumentCodec()
    paid: Counter[str] = Counter()
    while rows := log.read(first=len(books.found), limit=1_000):
        for row in rows:
            books.found[row.id] = row.index
            fact = codec.read_entry(row.body).fact
            done = step(book, fact)
            for moved in done.outcomes:
                if isinstance(moved, LeaseMoved):
                    lease = books.leases[moved.lease.id] = moved.lease
                    if lease.phase is Phase.SETTLED:
                        books.settled_at_s.setdefault(lease.id, fact.at_s)
                    if lease.phase is Phase.SETTLED and lease.paid:
                        books.payments[lease.id] += 1
                        paid[lease.provider] += lease.paid
    check_invariants(book)
    accounts = book.ledger.accounts
    wallets = [x for x in accounts.values() if x.id != ISSUED]
    total = sum(x.credits_posted - x.debits_posted for x in wallets)
    earned = {k: accounts[k].credits_posted - accounts[k].credits_issued for k in paid}
    wrong = sum(abs(earned[provider] - paid[provider]) for provider in paid)
    books.created = abs(total - issued) + wrong
    return books


def judge(books: Books, folder: Path) -> Verdict:
    """Hold the log to what was acknowledged, and the money to itself."""
    heard = {
        tuple(line.split())
        for path in folder.glob("heard-*")
        for line in path.read_text().splitlines()
    }
    return Verdict(
        acknowledged=len(heard),
        entries=len(books.found),
        leases=len(books.payments),
        lost=sum(books.found.get(id_) != int(index) for id_, index in heard),
        created=books.created,
        doubled=sum(count > 1 for count in books.payments.values()),
    )
