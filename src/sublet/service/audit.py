"""Replays a log and believes nothing: every byte, signature, match and cent again.

For each entry, in order: its bytes against the stored leaf, its id and signer against
its signature, its time, and the fold of the book, which recomputes each match, charge
and balance and compares Seals and lease terms with what it found itself. Along the
way every signed checkpoint is held against the tree as it was at that size. It stops
at the first thing that is wrong and names the entry, or, where only a checkpoint
tells, the narrowest range of entries between two of them.

An operator who rewrites the log and signs everything anew is caught by whoever kept
one older checkpoint: give such notes as ``held``.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from hashlib import sha256
from typing import Protocol

from sublet.base import limits
from sublet.base.errors import Broken, Outdated, PeerFault, Refused
from sublet.base.ids import Digest
from sublet.core.book import view
from sublet.core.book.book import Book
from sublet.core.book.snapshot import load
from sublet.core.book.step import LeaseMoved, SealMismatch, step
from sublet.core.document import Fact, Market, Seal
from sublet.core.lease.phase import Phase
from sublet.core.ledger.ledger import ISSUED
from sublet.core.merkle import Frontier
from sublet.service.checkpoint_audit import CheckpointAudit
from sublet.service.entry_audit import Checked, EntryAudit, check_entry
from sublet.service.ports import Clock, Codec, Row, Snapshot
from sublet.service.replay import ReadNote
from sublet.service.verdict import Finding, Verdict, Void, Wallet, Wrong, say_wrong

Progress = Callable[[int, int], None]  # entries checked, entries in all


class LogSource(Protocol):
    """Where an audit reads: a log file, or a node over HTTP. A part of ``ports.Log``.

    Rows of a source that does not tell stored ids carry an empty ``id``.
    """

    def read(self, *, first: int, limit: int) -> list[Row]:
        """Give up to ``limit`` rows from index ``first`` on, in order."""
        ...

    def size(self) -> int:
        """Count the entries; for the progress only."""
        ...

    def read_checkpoints(self, *, first: int, limit: int) -> list[tuple[int, bytes]]:
        """Give (size, note) of sizes from ``first`` on, in order."""
        ...

    def find_snapshot(self, *, size_max: int | None = None) -> Snapshot | None:
        """Give the newest snapshot (of at most ``size_max`` entries), or None."""
        ...


def verify(
    source: LogSource,
    codec: Codec,
    clock: Clock,
    *,
    read_note: ReadNote,
    is_from_snapshot: bool = False,
    held: Sequence[bytes] = (),
    market: Digest | None = None,
    executor: Executor | None = None,
    page_entries: int = limits.PAGE_ENTRIES_MAX,
    progress: Progress = lambda done, total: None,
) -> Verdict:
    """Check a whole log, or what follows its newest snapshot.

    Args:
        source: what is audited; nothing that it says is believed.
        codec: a fresh one; it learns the market from entry 0.
        clock: measures how long it takes.
        read_note: reads signed checkpoints (``wire.note.read_checkpoint``).
        is_from_snapshot: begin at the newest snapshot that a Seal names.
        held: checkpoints that the auditor kept itself; of any age.
        market: the market that this log must be of, where the auditor knows it.
        executor: checks pages of signatures beside each other; of processes, since
            this is work for the CPU. None: all is done here. The verdict is the same.
        page_entries: entries that are read and checked together.
        progress: called after each page.

    Raises:
        Refused: there is nothing to audit (``empty_log``, ``no_snapshot``), or a held
            checkpoint is of another log (``foreign_checkpoint``).
        Unavailable: the source did not answer, or a process of the executor died.
        Outdated: the log goes on with rules that this program does not know.
        Broken: an invariant of this program's own book fell.
    """
    began_ms = clock.monotonic_ms()
    try:
        founding, document = _meet(source, codec, expected=market)
    except Wrong as wrong:
        return Verdict(wrong.finding, duration_ms=clock.monotonic_ms() - began_ms)
    checkpoints = CheckpointAudit(
        source,
        market=founding.id,
        verifier_key=document.note_key,
        read_note=read_note,
        held=held,
    )
    entries = EntryAudit(
        source,
        codec,
        market=founding.id,
        executor=executor,
        page_entries=page_entries,
    )
    audit = _Audit(source, codec, founding, entries, checkpoints)
    finding: Finding | None = None
    try:
        if is_from_snapshot:
            audit.begin_at_snapshot()
        audit.run(progress)
        audit.check_end()
    except Wrong as wrong:
        finding = wrong.finding
    duration_ms = clock.monotonic_ms() - began_ms
    return audit.conclude(finding, name=document.name, duration_ms=duration_ms)


def _meet(
    source: LogSource, codec: Codec, *, expected: Digest | None
) -> tuple[Fact, Market]:
    """Learn from entry 0 whose log this is; every other check builds on it."""
    rows = source.read(first=0, limit=1)
    if not rows and not source.read_checkpoints(first=0, limit=1):
        raise Refused("the log is empty; there is nothing to audit", code="empty_log")
    if not rows or rows[0].index != 0:
        say_wrong("entry_missing", "entry 0, which founds the market, is missing", 0)
    fact = check_entry(rows[0], codec, market=None).fact
    if not isinstance(fact.document, Market):
        say_wrong("first_entry", "entry 0 is not a Market: it founds nothing", 0)
    if expected is not None and fact.id != expected:
        why = f"this is the log of market {fact.id}, and not of {expected}"
        say_wrong("first_entry", why, 0, id=fact.id)
    return fact, fact.document


class _Audit:
    """One pass over one log."""

    def __init__(
        self,
        source: LogSource,
        codec: Codec,
        founding: Fact,
        entries: EntryAudit,
        checkpoints: CheckpointAudit,
    ) -> None:
        self._source = source
        self._codec = codec
        self._founding = founding
        self._entries = entries
        self._checkpoints = checkpoints
        self._book = Book()
        self._tree = Frontier()
        self._first = 0
        self._at_s = 0
        self._seen: dict[Digest, int] = {}
        self._voids: dict[str, Void] = {}
        self._seals = 0
        self._leases = 0
        self._leases_settled = 0
        self._not_checked: list[str] = []

    # ---- from a snapshot ------------------------------------------------------

    def begin_at_snapshot(self) -> None:
        """Take book and tree from the newest snapshot.

        The Seal behind it vouches for the book's bytes; the checkpoints behind that
        will tell whether the Seal and the tree are what was signed.
        """
        snapshot = self._source.find_snapshot()
        if snapshot is None:
            raise Refused(
                "no snapshot is kept of this log yet; audit it from the start",
                code="no_snapshot",
                field="--from-snapshot",
            )
        self._check_seal(snapshot)
        try:
            self._tree = Frontier.from_bytes(snapshot.tree)
            self._book = load(snapshot.book)
        except Outdated:
            raise  # ours to mend, not the log's
        except (PeerFault, Broken) as error:
            # Not an invariant of ours: these bytes come from the log's keeper.
            why = f"the snapshot after {snapshot.size} entries: {error.message}"
            say_wrong("snapshot", why, snapshot.size, code=error.code)
        book, founding = self._book, self._founding
        is_ours = (book.market_id, book.operator) == (founding.id, founding.signer)
        if not is_ours or not self._tree.size == book.size == snapshot.size:
            why = f"the snapshot is not of this market after {snapshot.size} entries"
            say_wrong("snapshot", why, snapshot.size)
        self._first = snapshot.size
        self._at_s = self._book.now_s
        self._not_checked.append(
            f"entries 0 to {snapshot.size - 1}: their signatures, matches and charges. "
            f"The operator's Seal, entry {snapshot.size}, vouches for the state after them"
        )
        self._not_checked += [
            f"your own checkpoint over {size} entries: the snapshot is younger"
            for size in self._checkpoints.held_sizes
            if size <= snapshot.size
        ]

    def _check_seal(self, snapshot: Snapshot) -> None:
        """Have the operator's Seal behind the snapshot name these very bytes."""
        number, founding = snapshot.size, self._founding
        digest = "0x" + sha256(snapshot.book).hexdigest()
        for row in self._source.read(first=number, limit=1):
            fact = check_entry(row, self._codec, market=founding.id).fact
            seal = fact.document
            is_own = isinstance(seal, Seal) and seal.book == digest
            if is_own and (row.index, fact.signer) == (number, founding.signer):
                return
        why = f"entry {number} is not a Seal of the snapshot after {number} entries"
        say_wrong("snapshot", why, number)

    # ---- the pass -------------------------------------------------------------

    def run(self, progress: Progress) -> None:
        """Check page by page until the log ends and no checkpoint claims more."""
        self._checkpoints.begin()
        while True:
            for page in self._entries.pages(self._tree.size):
                number = self._tree.size
                self._checkpoints.turn_page(first=number, last=number + len(page))
                for row, checked in page:
                    self._check_row(row, checked)
                    self._checkpoints.check(self._tree)
                progress(self._tree.size, max(self._tree.size, self._source.size()))
            if not self._has_grown():
                return

    def _has_grown(self) -> bool:
        """Say whether there are more entries now; the log may not end below its notes."""
        number = self._tree.size
        claimed = self._checkpoints.find_claim(number)
        if claimed and not self._source.read(first=number, limit=1):
            why = (
                f"a checkpoint was signed over {claimed} entries, and the log ends "
                f"after {number}: the last ones were taken away"
            )
            say_wrong("entry_missing", why, number, last=claimed - 1)
        return claimed > 0

    def _check_row(self, row: Row, checked: Checked) -> None:
        number = self._tree.size
        if row.index != number:
            why = f"entry {number} is missing; the log goes on with {row.index}"
            say_wrong("entry_missing", why, number)
        if isinstance(checked, Finding):
            raise Wrong(checked)
        fact = checked.fact
        if (earlier := self._seen.setdefault(fact.id, number)) != number:
            why = f"entry {number} is the same document as entry {earlier}"
            first = max(earlier, self._suspect(number))
            say_wrong("duplicate", why, first, last=number, id=fact.id)
        if fact.at_s < self._at_s:
            why = (
                f"entry {number} is stamped {self._at_s - fact.at_s} s before the last"
            )
            first = max(number - 1, self._suspect(number))
            say_wrong("time", why, first, last=number, id=fact.id)
        self._at_s = fact.at_s
        self._fold(fact, number)
        self._tree.append(row.leaf)

    def _fold(self, fact: Fact, number: int) -> None:
        try:
            taken = step(self._book, fact)
        except SealMismatch as error:
            why = f"entry {number}: {error.message}"
            first = self._suspect(number)
            say_wrong("seal", why, first, last=number, id=fact.id, code=error.code)
        if taken.refusal is not None:
            code = taken.refusal.code
            void = self._voids.get(code) or Void(code, 0, number, taken.refusal.message)
            self._voids[code] = Void(code, void.count + 1, void.first, void.why)
        elif type(fact.document) is Seal:
            self._seals += 1
        for outcome in taken.outcomes:
            if type(outcome) is LeaseMoved:  # an erasure settles nothing
                self._leases += outcome.lease.phase is Phase.MATCHED
                self._leases_settled += outcome.lease.phase is Phase.SETTLED

    def _suspect(self, number: int) -> int:
        """Give the first entry that no true checkpoint covers: from there on any may
        be what makes entry ``number`` look wrong."""
        newest = self._checkpoints.newest
        return min(number, newest.size if newest is not None else self._first)

    # ---- the end --------------------------------------------------------------

    def check_end(self) -> None:
        """Have at least one signed checkpoint, and one over the Seal begun at."""
        newest = self._checkpoints.newest
        if newest is None or newest.size <= self._first:
            why = "no signed checkpoint covers these entries: nobody stands by them"
            say_wrong("unsigned", why, self._first, last=self._tree.size - 1)

    def conclude(
        self, finding: Finding | None, *, name: str, duration_ms: int
    ) -> Verdict:
        """Say what was checked, and what there is at the end."""
        newest = self._checkpoints.newest
        signed_size = newest.size if newest is not None else 0
        wallets = self._wallets()
        return Verdict(
            finding=finding,
            market=self._founding.id,
            name=name,
            operator=self._founding.signer,
            first=self._first,
            entries=self._tree.size - self._first,
            voids=tuple(self._voids.values()),
            seals=self._seals,
            checkpoints=self._checkpoints.count,
            signed_size=signed_size,
            signed_root=newest.root.hex() if newest is not None else "",
            unsigned=self._tree.size - signed_size,
            leases=self._leases,
            leases_settled=self._leases_settled,
            issued=self._book.ledger.issued_total,
            paid=sum(wallet.spent for wallet in wallets),
            wallets=wallets,
            not_checked=tuple(self._not_checked),
            duration_ms=duration_ms,
        )

    def _wallets(self) -> tuple[Wallet, ...]:
        parties = sorted(set(self._book.ledger.accounts) - {ISSUED})
        views = [(party, view.account(self._book, party)) for party in parties]
        return tuple(
            Wallet(party, seen.balance, seen.held, seen.earned, seen.spent)
            for party, seen in views
        )
