"""Gathers from a log all that concerns one lease, with proofs: the evidence.

The whole log is replayed, every signature aside, so that what only it tells is told
right; the entries that speak of the lease are kept. What comes out is checked by
whoever reads it (``wire.dispute``).
"""

from collections.abc import Sequence
from itertools import pairwise

from msgspec import Struct
from msgspec.structs import replace

from sublet.base import limits
from sublet.base.errors import Refused
from sublet.base.ids import NO_DIGEST, Digest
from sublet.core.book.book import Book
from sublet.core.book.step import LeaseMoved, step
from sublet.core.document import (
    Bid,
    Cancellation,
    Channel,
    Choice,
    Delegation,
    Fact,
    LeaseTerms,
    Market,
    Offer,
    Order,
    ProviderLost,
    Resume,
    Revocation,
    UsageRecord,
    Voucher,
)
from sublet.core.lease.phase import Lease, Phase
from sublet.core.lease.retold import Told
from sublet.core.merkle import Subtrees, leaf_hash
from sublet.core.mirror import Mirror
from sublet.service.audit import LogSource, Progress
from sublet.service.ports import Codec, Row

RECORDS_MAX = 2_000  # of one kind that are all kept; of more, those that carry the rest


class Evidence(Struct, frozen=True):
    """One entry: its bytes, where it stands, the proof, whether it counted."""

    index: int
    body: bytes
    proof: tuple[bytes, ...]
    void: str


class Gathered(Struct, frozen=True):
    """All that a log holds about one lease."""

    market: Digest
    lease: Lease | None  # as the whole log makes it; None: the order never matched
    order: Digest
    told: Told
    note: bytes
    entries: tuple[Evidence, ...]
    records_left_out: int
    vouchers_left_out: int


class _Kept(Struct):
    index: int
    body: bytes
    fact: Fact
    void: str


def gather(
    source: LogSource,
    codec: Codec,
    lease_id: Digest,
    *,
    progress: Progress = lambda done, total: None,
) -> Gathered:
    """Replay a log and gather what concerns one lease.

    Raises:
        Refused: ``unknown_lease``, or ``no_checkpoint`` where nothing covers it yet.
        Broken: the log seals another book than the fold gives.
    """
    gatherer = _Gatherer(lease_id)
    leaves: list[bytes] = []
    total = source.size()
    while rows := source.read(first=len(leaves), limit=limits.PAGE_ENTRIES_MAX):
        for row in rows:
            leaves.append(leaf_hash(row.body))
            gatherer.hear(row, codec.read_entry(row.body).fact)
        progress(len(leaves), total)
    if gatherer.order_id is None:
        raise Refused(
            f"the log knows no lease {lease_id}; its id is that of its order",
            code="unknown_lease",
            field="LEASE",
        )
    size, note = _find_note(source, max(gatherer.kept), len(leaves))
    # The last entry that is signed for tells how late it is in the log.
    row = source.read(first=size - 1, limit=1)[0]
    last = _Kept(row.index, row.body, codec.read_entry(row.body).fact, "")
    kept = gatherer.find_kept()
    if kept[-1].index != last.index:
        kept.append(last)
    dropped = _find_spare_records(kept, report_s=gatherer.report_s)
    spare_vouchers = _find_spare_vouchers(kept)
    trees = Subtrees(leaves[:size])
    return Gathered(
        market=gatherer.market,
        lease=gatherer.lease,
        order=gatherer.order_id,
        told=gatherer.told,
        note=note,
        entries=tuple(
            Evidence(
                each.index,
                each.body,
                tuple(trees.prove_inclusion(each.index)),
                each.void,
            )
            for each in kept
            if each.index not in dropped and each.index not in spare_vouchers
        ),
        records_left_out=len(dropped),
        vouchers_left_out=len(spare_vouchers),
    )


def _find_note(source: LogSource, last_index: int, size: int) -> tuple[int, bytes]:
    """Give the newest checkpoint over the lease's entries and no more than was read."""
    first, best = last_index + 1, None
    while notes := source.read_checkpoints(first=first, limit=limits.PAGE_ENTRIES_MAX):
        for at, note in notes:
            if at <= size:
                best = (at, note)
        first = notes[-1][0] + 1
    if best is None:
        raise Refused(
            "no checkpoint covers this lease's last entry yet; ask again in a moment",
            code="no_checkpoint",
        )
    return best


def _find_spare_records(kept: Sequence[_Kept], *, report_s: int) -> set[int]:
    """Name the records without which no deadline of a report would pass."""
    records = [
        each
        for each in kept
        if isinstance(each.fact.document, UsageRecord) and not each.void
    ]
    if len(records) <= RECORDS_MAX:
        return set()
    spare, since_s = set(), records[0].fact.at_s
    for each, after in pairwise(records[1:]):
        if after.fact.at_s - since_s < report_s:
            spare.add(each.index)
        else:
            since_s = each.fact.at_s
    return spare


def _find_spare_vouchers(kept: Sequence[_Kept]) -> set[int]:
    """Name vouchers that later ones stand for: each says all that was owed so far."""
    vouchers = [each.index for each in kept if isinstance(each.fact.document, Voucher)]
    return set(vouchers[1:-RECORDS_MAX])


class _Gatherer:
    """Folds the log, and keeps what concerns one lease."""

    def __init__(self, lease_id: Digest) -> None:
        self.kept: dict[int, _Kept] = {}
        self.lease: Lease | None = None
        self.order_id: Digest | None = None
        self.told = Told()
        self.market: Digest = ""
        self.report_s = 0
        self._lease_id = lease_id
        self._book = Book()
        self._last: _Kept | None = None
        # An order, offer, channel, delegation or voucher may come long before the lease.
        self._early: dict[Digest, _Kept] = {}

    def hear(self, row: Row, fact: Fact) -> None:
        """Fold one entry; keep it where it is about the lease."""
        document, was = fact.document, self.lease
        taken = step(self._book, fact)
        void = taken.refusal.code if taken.refusal is not None else ""
        entry = _Kept(row.index, row.body, fact, void)
        if isinstance(document, Market) and row.index == 0:
            self.market, self.report_s = fact.id, document.report_s
            self._keep(entry)
        if fact.id == self._lease_id:
            self.order_id = fact.id
            self._keep(entry)
        if not void:
            self._remember(entry)
        for outcome in taken.outcomes:
            if isinstance(outcome, LeaseMoved) and outcome.lease.id == self._lease_id:
                self._move(outcome.lease, entry)
        if self._is_about(entry, was):
            if isinstance(document, Resume):
                self._keep(self._last)
            self._keep(entry)
        self._last = entry

    def find_kept(self) -> list[_Kept]:
        """Give what was kept, in order.

        Where no terms were signed, nothing ties offer and channel to the order.
        """
        kept = [self.kept[index] for index in sorted(self.kept)]
        is_taken = any(
            isinstance(each.fact.document, LeaseTerms)
            and each.fact.document.lease_id == self._lease_id
            and not each.void
            for each in kept
        )
        if is_taken:
            return kept
        loose = Offer | Channel | Voucher | Mirror | ProviderLost
        return [each for each in kept if not isinstance(each.fact.document, loose)]

    def _remember(self, entry: _Kept) -> None:
        document = entry.fact.document
        if isinstance(document, Order | Offer | Channel | Delegation):
            self._early[entry.fact.id] = entry
        elif isinstance(document, Mirror):
            self._early[f"mirror of {document.channel_id}"] = entry
        elif isinstance(document, Voucher):
            self._early[_voucher_of(document.channel_id)] = entry

    def _keep(self, entry: _Kept | None) -> None:
        if entry is not None:
            self.kept[entry.index] = entry

    def _move(self, lease: Lease, entry: _Kept) -> None:
        was, told, self.lease = self.lease, self.told, lease
        if was is None:
            self.order_id = lease.order
            told = replace(told, matched_at=entry.index, hold=lease.hold)
            self._keep(entry)
            channel_id = self._book.channel_of.get(lease.line, NO_DIGEST)
            for key in (lease.order, lease.offer_id, lease.delegation, channel_id):
                self._keep(self._early.get(key))
            self._keep(self._early.get(_voucher_of(channel_id)))
            self._keep(self._early.get(f"mirror of {channel_id}"))
        if lease.is_funded and not (was is not None and was.is_funded):
            told = replace(told, funded_at=entry.index)
            self._keep(entry)
        elif was is not None and was.is_funded and not lease.is_funded:
            told = replace(told, unfunded_at=entry.index)
            self._keep(entry)
        if lease.phase in (Phase.MATCHED, Phase.ACCEPTED):
            told = replace(told, until_s=lease.until_s)
        if lease.displaced_by != told.displaced_by:
            told = replace(
                told, displaced_by=lease.displaced_by, displaced_at=entry.index
            )
            self._keep(self._early.get(lease.displaced_by))
            self._keep(entry)
        if lease.phase is Phase.SETTLED and (was is None or was.phase != lease.phase):
            channel = self._book.find_channel(lease.line)
            vouched = 0 if channel is None else channel.vouched
            # What the channel had paid; where it fell short, what older leases take.
            is_covered = lease.paid == lease.owed or (
                was is not None
                and was.phase is Phase.SETTLING
                and was.reason == lease.reason
            )
            before = (lease.channel_total if is_covered else vouched) - lease.paid
            lacked = lease.owed - lease.paid if is_covered else 0
            told = replace(told, before=before, lacked=lacked)
        self.told = told

    def _is_about(self, entry: _Kept, was: Lease | None) -> bool:
        document, lease = entry.fact.document, self.lease
        if getattr(document, "lease_id", None) == self._lease_id:
            return True
        if isinstance(document, Bid | Choice | Cancellation):
            return document.order_id == self.order_id
        is_over = was is not None and was.phase is Phase.SETTLED
        if lease is None or is_over or entry.void:
            return False
        if isinstance(document, Channel):
            line = (document.payer, document.receiver, document.payer_authorizer)
            return line == lease.line
        if isinstance(document, Voucher | Mirror):
            return self._book.channel_of.get(lease.line) == document.channel_id
        if isinstance(document, ProviderLost):
            return document.provider == lease.provider
        if isinstance(document, Revocation):
            return document.delegation_id == lease.delegation
        return isinstance(document, Resume)


def _voucher_of(channel_id: Digest) -> str:
    return f"voucher of {channel_id}"
