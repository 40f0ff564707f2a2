"""Whatever is changed in a signed log, the audit finds it and names where.

The log is a real one: keys, signatures, group commits, checkpoints, Seals. Changes are
drawn by hypothesis, or made at every entry in turn.
"""

from collections.abc import Callable

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sublet.core.document import (
    AnyDocument,
    Credit,
    Entry,
    LeaseTerms,
    Offer,
    Seal,
)
from sublet.service.ports import Row
from tests.fakes.tampered_log import (
    change_time,
    make_row,
)
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
    numbers,
    say,
)

# ---- the log as it is -------------------------------------------------------------


def test_true_log_is_found_true() -> None:
    verdict = LOG.audit(market=WORLD.market_id)
    assert verdict.finding is None
    assert verdict.entries == SIZE == verdict.signed_size
    assert (verdict.seals, verdict.checkpoints) == (len(SEALS), len(SIZES))
    assert len(SEALS) >= 2
    assert (verdict.leases, verdict.leases_settled) == (10, 10)
    assert [(void.code, void.count) for void in verdict.voids] == [("no_match", 1)]
    # Every cent that was issued is in somebody's wallet.
    money = sum(wallet.balance + wallet.held for wallet in verdict.wallets)
    assert money == verdict.issued == 50_000_000
    assert verdict.paid == sum(wallet.earned for wallet in verdict.wallets) == 304


def test_every_kind_of_document_is_audited() -> None:
    kinds = {type(entry.fact.document).__name__ for entry in ENTRIES}
    assert kinds >= {
        "Market", "Credit", "ProviderSeen", "Offer", "Order", "LeaseTerms", "Delivery",
        "Start", "UsageRecord", "CheckpointKept", "Receipt", "Channel", "Voucher",
        "Tick", "Seal",
    }  # fmt: skip


# ---- one byte ---------------------------------------------------------------------


@few
@given(number=numbers, draw=st.data())
def test_flipped_byte_of_entry_is_named(number: int, draw: st.DataObject) -> None:
    log = LOG.copy()
    row = log.rows[number]
    log.rows[number] = Row(row.index, row.id, flip(row.body, draw), row.leaf)
    finding = log.audit().finding
    assert finding is not None
    assert (finding.first, finding.last, finding.what) == (number, number, "leaf")


@few
@given(number=numbers, draw=st.data())
def test_flip_with_mended_leaf_is_named(number: int, draw: st.DataObject) -> None:
    log = LOG.copy()
    log.put(number, flip(log.rows[number].body, draw))
    assert covers(log.audit(), number)


@pytest.mark.parametrize("number", range(SIZE))
def test_every_part_of_every_entry_counts(number: int) -> None:
    # Each place where a digit or letter stands, in turn, gets another that keeps the
    # JSON whole: the hardest kind of flip. Every 71st place, shifted per entry.
    body = LOG.rows[number].body
    for place in range(number, len(body), 71):
        changed = bytearray(body)
        changed[place] = ord("1") if body[place] != ord("1") else ord("2")
        log = LOG.copy()
        log.put(number, bytes(changed))
        assert covers(log.audit(), number), (number, place, bytes(changed))


@few
@given(number=numbers, draw=st.data())
def test_flipped_byte_of_leaf_is_named(number: int, draw: st.DataObject) -> None:
    log = LOG.copy()
    row = log.rows[number]
    log.rows[number] = Row(row.index, row.id, row.body, flip(row.leaf, draw))
    finding = log.audit().finding
    assert finding is not None
    assert (finding.first, finding.what) == (number, "leaf")


@few
@given(number=numbers, draw=st.data())
def test_flipped_byte_of_signature_is_named(number: int, draw: st.DataObject) -> None:
    log = LOG.copy()
    entry = ENTRIES[number]
    forged = make_row(number, Entry(entry.fact, flip(entry.signature, draw)))
    log.rows[number] = forged
    finding = log.audit().finding
    assert finding is not None
    assert (finding.first, finding.last, finding.what) == (number, number, "entry")


@few
@given(number=numbers, draw=st.data())
def test_flipped_byte_of_stored_id_is_named(number: int, draw: st.DataObject) -> None:
    log = LOG.copy()
    row = log.rows[number]
    wrong = "0x" + flip(bytes.fromhex(row.id[2:]), draw).hex()
    log.rows[number] = Row(row.index, wrong, row.body, row.leaf)
    finding = log.audit().finding
    assert finding is not None
    assert (finding.first, finding.what) == (number, "stored_id")


@few
@given(number=st.integers(0, len(SIZES) - 1), draw=st.data())
def test_flipped_byte_of_checkpoint_is_named(number: int, draw: st.DataObject) -> None:
    log = LOG.copy()
    size, note = log.notes[number]
    log.notes[number] = (size, flip(note, draw))
    finding = log.audit().finding
    assert finding is not None
    assert (finding.first, finding.what) == (size - 1, "checkpoint")


@pytest.mark.parametrize("wrong", [0, SIZES[5] + 1, SIZE + 1, 1 << 40])
def test_checkpoint_filed_for_another_size(wrong: int) -> None:
    log = LOG.copy()
    notes = dict(log.notes)
    notes[wrong] = notes.pop(SIZES[5])
    log.notes = sorted(notes.items())
    finding = log.audit().finding
    assert finding is not None
    assert finding.what == "checkpoint"


# ---- one value --------------------------------------------------------------------


def _dearer_offer() -> tuple[int, Entry]:
    number = find(Offer)
    entry = ENTRIES[number]
    offer = entry.fact.document
    assert isinstance(offer, Offer)
    dearer = msgspec.structs.replace(offer, cpu_price_hour=offer.cpu_price_hour + 1)
    return number, replace_document(entry, dearer)


def _richer_credit() -> tuple[int, Entry]:
    number = find(Credit)
    entry = ENTRIES[number]
    credit = entry.fact.document
    assert isinstance(credit, Credit)
    return number, replace_document(entry, msgspec.structs.replace(credit, amount=1))


def _dearer_lease() -> tuple[int, Entry]:
    number = find(LeaseTerms)
    entry = ENTRIES[number]
    terms = entry.fact.document
    assert isinstance(terms, LeaseTerms)
    dearer = msgspec.structs.replace(terms, price_hour=terms.price_hour + 1)
    return number, replace_document(entry, dearer)


def _other_seal() -> tuple[int, Entry]:
    number = find(Seal)
    entry = ENTRIES[number]
    seal = entry.fact.document
    assert isinstance(seal, Seal)
    return number, replace_document(
        entry, msgspec.structs.replace(seal, book="0x" + "00" * 32)
    )


def replace_document(entry: Entry, document: AnyDocument) -> Entry:
    fact = msgspec.structs.replace(entry.fact, document=document)
    return Entry(fact, entry.signature)


@pytest.mark.parametrize(
    "change", [_dearer_offer, _richer_credit, _dearer_lease, _other_seal]
)
def test_changed_value_is_named(change: Callable[[], tuple[int, Entry]]) -> None:
    number, entry = change()
    log = LOG.copy()
    log.rows[number] = make_row(number, entry)
    finding = log.audit().finding
    assert finding is not None
    assert (finding.first, finding.what, finding.code) == (number, "entry", "wrong_id")


@pytest.mark.parametrize("number", range(SIZE))
@pytest.mark.parametrize("by_s", [-1, 1])
def test_changed_time_is_named(number: int, by_s: int) -> None:
    log = LOG.copy()
    log.rows[number] = make_row(number, change_time(ENTRIES[number], by_s=by_s))
    verdict = log.audit()
    assert covers(verdict, number), verdict.finding


def test_time_may_not_go_back() -> None:
    log = LOG.copy()
    number = SIZE - 3
    log.rows[number] = make_row(number, change_time(ENTRIES[number], by_s=-10_000))
    finding = log.audit().finding
    assert finding is not None
    assert (finding.first, finding.what) == (number, "time")


def test_seal_of_another_book_is_named() -> None:
    # The operator signs a false Seal, and everything else anew to fit.
    number = find(Seal)
    true = ENTRIES[number].fact
    assert isinstance(true.document, Seal)
    false = msgspec.structs.replace(true.document, book="0x" + "11" * 32)
    log = LOG.copy()
    log.rows[number] = make_row(number, say(false, WORLD.operator, at_s=true.at_s))
    log.sign_again(WORLD)
    finding = log.audit().finding
    assert finding is not None
    assert (finding.first, finding.what, finding.code) == (
        number,
        "seal",
        "seal_mismatch",
    )
