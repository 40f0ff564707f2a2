"""Whole entries that are changed, and whole logs that are signed anew.

The log is a real one: keys, signatures, group commits, checkpoints, Seals. Changes are
drawn by hypothesis, or made at every entry in turn.
"""

from hashlib import sha256

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sublet.base.errors import Refused
from sublet.core.document import (
    Credit,
    Seal,
)
from sublet.core.merkle import BadProof, consistency_proof, verify_consistency
from sublet.service.ports import Row, Snapshot
from sublet.wire.note import NoteKey, read_checkpoint
from tests.fakes.tampered_log import (
    TamperedLog,
    make_row,
)
from tests.fakes.world import World
from tests.integration.audited_log import (
    ENTRIES,
    LOG,
    SEALS,
    SIZE,
    SIZES,
    WORLD,
    covers,
    few,
    find,
    flip,
    say,
)

# ---- whole entries ----------------------------------------------------------------


@pytest.mark.parametrize("number", range(SIZE))
def test_dropped_entry_is_named(number: int) -> None:
    log = LOG.copy()
    del log.rows[number]
    finding = log.audit().finding
    assert finding is not None
    assert (finding.first, finding.what) == (number, "entry_missing")


@pytest.mark.parametrize("number", range(SIZE))
def test_dropped_and_renumbered_is_found(number: int) -> None:
    log = LOG.copy()
    del log.rows[number]
    log.renumber()
    assert covers(log.audit(), number)


@pytest.mark.parametrize("count", [1, 5, SIZE - 1])
def test_truncated_log_is_found(count: int) -> None:
    log = LOG.copy()
    del log.rows[-count:]
    finding = log.audit().finding
    assert finding is not None
    assert (finding.first, finding.what) == (SIZE - count, "entry_missing")


@pytest.mark.parametrize("number", range(SIZE - 1))
def test_swapped_entries_are_found(number: int) -> None:
    log = LOG.copy()
    log.rows[number : number + 2] = log.rows[number : number + 2][::-1]
    log.renumber()
    assert covers(log.audit(), number)


@pytest.mark.parametrize("number", range(SIZE))
def test_duplicated_entry_is_named(number: int) -> None:
    log = LOG.copy()
    log.rows.insert(number + 1, log.rows[number])
    log.renumber()
    verdict = log.audit()
    assert verdict.finding is not None
    assert verdict.finding.what == "duplicate"
    assert verdict.finding.last == number + 1
    if number + 1 in SIZES:  # the first of the two is signed for
        assert verdict.finding.first == number + 1


def test_appended_entry_is_void_or_unsigned() -> None:
    # Anybody may append what is validly signed; without a checkpoint it is shown so.
    log = LOG.copy()
    at_s = ENTRIES[-1].fact.at_s
    credit = Credit(
        party=WORLD.tenant.address, amount=1, memo="", signed_at_s=at_s, salt=999
    )
    log.rows.append(make_row(SIZE, say(credit, WORLD.tenant, at_s=at_s)))
    verdict = log.audit()
    assert verdict.is_good
    assert verdict.unsigned == 1
    assert "wrong_signer" in {void.code for void in verdict.voids}
    assert verdict.issued == 50_000_000


def test_log_without_checkpoints_is_unsigned() -> None:
    log = LOG.copy()
    log.notes = []
    finding = log.audit().finding
    assert finding is not None
    assert (finding.first, finding.last, finding.what) == (0, SIZE - 1, "unsigned")


def test_checkpoints_of_another_key_are_refused() -> None:
    thief = World()
    thief.note_key = NoteKey.generate(sha256(b"thief").digest(), "market.test")
    log = LOG.copy()
    log.sign_again(thief)
    finding = log.audit().finding
    assert finding is not None
    assert (finding.what, finding.code) == ("checkpoint", "bad_note_signature")


def test_other_market_is_named() -> None:
    finding = LOG.audit(market="0x" + "77" * 32).finding
    assert finding is not None
    assert (finding.first, finding.what) == (0, "first_entry")


def test_empty_log_cannot_be_audited() -> None:
    with pytest.raises(Refused) as caught:
        TamperedLog([], []).audit()
    assert caught.value.code == "empty_log"


# ---- a dishonest operator ---------------------------------------------------------


# The forger leaves out the Seals, and so has a shorter log.
FORGED_SIZES = [size for size in SIZES if size <= SIZE - len(SEALS)]


def forge(number: int) -> TamperedLog:
    """Replace a credit by a smaller one, truly signed, and sign all trees anew.

    Seals behind it cannot be kept, so the forger leaves them out.
    """
    true = ENTRIES[number].fact
    assert isinstance(true.document, Credit)
    less = msgspec.structs.replace(true.document, amount=40_000_000)
    log = LOG.copy()
    log.rows[number] = make_row(number, say(less, WORLD.operator, at_s=true.at_s))
    log.rows = [
        row
        for row, entry in zip(log.rows, ENTRIES, strict=True)
        if not isinstance(entry.fact.document, Seal)
    ]
    log.renumber()
    log.notes = [pair for pair in log.notes if pair[0] <= len(log.rows)]
    log.sign_again(WORLD)
    return log


@pytest.mark.parametrize("held_size", FORGED_SIZES[1::7])
def test_old_checkpoint_convicts_a_forger(held_size: int) -> None:
    number = find(Credit)
    forged = forge(number)
    # By itself the forgery is flawless ...
    assert forged.audit().is_good
    # ... but whoever kept one note of the true log proves it false.
    held = dict(LOG.notes)[held_size]
    finding = forged.audit(held=[held]).finding
    assert finding is not None
    assert finding.what == "root"
    assert finding.first <= number <= finding.last == held_size - 1
    # And without any replay, by a consistency proof between the two notes.
    key = WORLD.note_key.verifier_key
    old = read_checkpoint(held, verifier_key=key)
    new = read_checkpoint(forged.notes[-1][1], verifier_key=key)
    leaves = [row.leaf for row in forged.rows]
    with pytest.raises(BadProof):
        verify_consistency(
            old=old.size,
            new=new.size,
            old_root=old.root,
            new_root=new.root,
            proof=consistency_proof(leaves, old=old.size),
        )


def test_held_checkpoint_of_truth_holds() -> None:
    verdict = LOG.audit(held=[note for _, note in LOG.notes[::5]])
    assert verdict.is_good


def test_held_checkpoint_names_what_was_cut_off() -> None:
    log = LOG.copy()
    log.rows = log.rows[:30]
    log.notes = [pair for pair in log.notes if pair[0] <= 30]
    assert log.audit().is_good  # nobody can tell from the log alone
    finding = log.audit(held=[LOG.notes[-1][1]]).finding
    assert finding is not None
    assert (finding.what, finding.first, finding.last) == (
        "entry_missing",
        30,
        SIZE - 1,
    )


def test_held_checkpoint_of_another_log_is_refused() -> None:
    note = WORLD.note_key.sign_checkpoint(origin="sublet/else", size=3, root=bytes(32))
    with pytest.raises(Refused) as caught:
        LOG.audit(held=[note])
    assert caught.value.code == "foreign_checkpoint"


# ---- from a snapshot --------------------------------------------------------------


def test_snapshot_saves_the_beginning() -> None:
    verdict = LOG.audit(is_from_snapshot=True)
    assert verdict.is_good
    whole = LOG.audit()
    assert verdict.wallets == whole.wallets
    assert (verdict.issued, verdict.paid) == (whole.issued, whole.paid)
    assert verdict.first == LOG.snapshots[-1].size
    assert verdict.entries == SIZE - verdict.first
    assert any(
        "signatures, matches and charges" in each for each in verdict.not_checked
    )


def test_snapshot_names_younger_checkpoint_only() -> None:
    verdict = LOG.audit(is_from_snapshot=True, held=[LOG.notes[3][1]])
    assert verdict.is_good
    assert any("your own checkpoint" in each for each in verdict.not_checked)


@few
@given(draw=st.data())
def test_flipped_byte_of_snapshot_is_found(draw: st.DataObject) -> None:
    log = LOG.copy()
    true = log.snapshots[-1]
    part = draw.draw(st.sampled_from(["book", "tree"]))
    changed = flip(getattr(true, part), draw)
    # With its hash mended too, as somebody would who keeps the file.
    snapshot = msgspec.structs.replace(true, **{part: changed})
    book_hash = sha256(snapshot.book).digest()
    log.snapshots = [msgspec.structs.replace(snapshot, book_hash=book_hash)]
    finding = log.audit(is_from_snapshot=True).finding
    assert finding is not None
    assert finding.what in {"snapshot", "root"}


def test_snapshot_without_its_seal_is_refused() -> None:
    log = LOG.copy()
    true = log.snapshots[-1]
    log.rows = log.rows[: true.size]
    log.notes = [pair for pair in log.notes if pair[0] <= true.size]
    finding = log.audit(is_from_snapshot=True).finding
    assert finding is not None
    assert finding.what == "snapshot"


def test_seal_needs_a_checkpoint_over_it() -> None:
    log = LOG.copy()
    size = log.snapshots[-1].size
    log.notes = [pair for pair in log.notes if pair[0] <= size]
    finding = log.audit(is_from_snapshot=True).finding
    assert finding is not None
    assert finding.what == "unsigned"


def test_no_snapshot_says_so() -> None:
    log = LOG.copy()
    log.snapshots = []
    with pytest.raises(Refused) as caught:
        log.audit(is_from_snapshot=True)
    assert caught.value.code == "no_snapshot"


# ---- a log that grows meanwhile ---------------------------------------------------


def test_growing_log_is_audited_to_its_end() -> None:
    class Growing(TamperedLog):
        shown = 10

        def read(self, *, first: int, limit: int) -> list[Row]:
            rows = [row for row in self.rows[: self.shown] if row.index >= first]
            self.shown = min(self.shown + 7, SIZE)
            return rows[:limit]

        def find_snapshot(self, *, size_max: int | None = None) -> Snapshot | None:
            return None

    verdict = Growing(LOG.rows, LOG.notes).audit()
    assert verdict.is_good
    assert verdict.entries == SIZE


def test_progress_reaches_the_end() -> None:
    seen: list[tuple[int, int]] = []
    LOG.audit(progress=lambda done, total: seen.append((done, total)))
    assert seen[-1] == (SIZE, SIZE)
