"""What is wrong with a file of evidence is named, and two words of one key are told of."""

import asyncio
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from sublet.cli.dispute_report import make_report
from sublet.core.merkle import Subtrees
from sublet.wire.codec import encode, sign
from tests.fakes.log_memory import FakeLog
from tests.fakes.world import World, make_key
from tests.integration.audited_log import few, flip
from tests.integration.dispute_house import (
    DISPUTE,
    LEASE,
    LOG,
    RAW,
    WORLD,
    change_entry,
    changed,
    collect,
    entry_of,
    play,
    played,
    two_leases,
    without,
)

# ---- what is wrong ----------------------------------------------------------------


@given(st.data())
@few
def test_any_flipped_byte_is_found(data: st.DataObject) -> None:
    report = make_report(flip(RAW, data))
    assert not report.is_good
    assert report.code


RECORD = DISPUTE.entries[entry_of("UsageRecord")]
OFFER = DISPUTE.entries[entry_of("Offer")]
FOREIGN = played(two_leases)[1]


def _of_another_market() -> bytes:
    class Other(World):
        def __init__(self) -> None:
            super().__init__()
            self.market = replace(self.market, name="other")
            self.__dict__.update(_founded(self))

    def _founded(world: World) -> dict:
        from sublet.wire.typed_data import Domain, market_id

        id_ = market_id(world.market)
        return {"market_id": id_, "domain": Domain.of(world.market, id_)}

    world, log = Other(), FakeLog()
    lease = asyncio.run(play(two_leases, world, log))
    theirs = collect(log, lease.id)
    other = next(e for e in theirs.entries if b'"UsageRecord"' in e.body)
    return change_entry(entry_of("UsageRecord"), entry=other.body.decode())


FORGERIES = [
    # what a forger with a key of its own changes, and how it is named
    ("a proof", lambda: change_entry(4, proof=DISPUTE.entries[3].proof), "bad_proof"),
    ("a proof too short", lambda: change_entry(4, proof=()), "bad_proof"),
    ("an index", lambda: change_entry(3, index=DISPUTE.entries[3].index - 1), "bad_proof"),
    (
        "a reading",
        lambda: change_entry(
            entry_of("UsageRecord"),
            entry=RECORD.entry.replace('"ran_ms":10000', '"ran_ms":90000'),
        ),
        "wrong_id",
    ),
    (
        "a time",
        lambda: change_entry(3, entry=DISPUTE.entries[3].entry.replace('"at_s":1', '"at_s":2')),
        "bad_proof",
    ),
    (
        "spaces",
        lambda: change_entry(3, entry=DISPUTE.entries[3].entry.replace(":", ": ", 1)),
        "not_canonical",
    ),
    ("another market's entry", _of_another_market, "wrong_id"),
    ("the market", lambda: changed(market="0x" + "12" * 32), "foreign_entry"),
    ("no founding", lambda: changed(entries=DISPUTE.entries[1:]), "bad_dispute"),
    ("the lease", lambda: changed(lease="0x" + "12" * 32), "foreign_entry"),
    ("the order", lambda: changed(order="0x" + "12" * 32), "foreign_entry"),
    (
        "the checkpoint's size",
        lambda: changed(
            checkpoint=DISPUTE.checkpoint.replace(
                f"\n{len(LOG.rows)}\n", f"\n{len(LOG.rows) + 1}\n"
            )
        ),
        "bad_note_signature",
    ),
    ("no checkpoint", lambda: changed(checkpoint=""), "bad_note"),
    (
        "an entry out of its order",
        lambda: changed(
            entries=(*DISPUTE.entries[:3], DISPUTE.entries[4], DISPUTE.entries[3],
                     *DISPUTE.entries[5:])
        ),
        "unordered_entries",
    ),
    ("no delivery", lambda: changed(entries=without(entry_of("Delivery"))),
     "life_has_gap"),
    ("no offer", lambda: changed(entries=without(entry_of("Offer"))), "foreign_entry"),
    (
        "a void start",
        lambda: change_entry(entry_of("Start"), void="over_pace"),
        "life_has_gap",
    ),
    (
        "the time of the match",
        lambda: changed(
            told=replace(DISPUTE.told, matched_at=DISPUTE.told.matched_at + 2)
        ),
        "life_has_gap",
    ),
    (
        "what was held",
        lambda: changed(told=replace(DISPUTE.told, hold=1_000_001)),
        "bad_told",
    ),
    (
        "a voucher that no older lease took from",
        lambda: changed(told=replace(DISPUTE.told, before=-1)),
        "bad_field",
    ),
    ("no manifest of this order", lambda: changed(manifest="{}"), "missing_field"),
    (
        "a voucher of nobody's",
        lambda: changed(others=(_signed_voucher(make_key("nobody")),)),
        "foreign_entry",
    ),
    ("no document", lambda: changed(others=("{",)), "malformed"),
    ("a version", lambda: RAW.replace(b'{"v":1,', b'{"v":2,', 1), "unsupported_version"),
    ("a field", lambda: RAW.replace(b'{"v":1,', b'{"v":1,"x":1,', 1), "unknown_field"),
    ("twice", lambda: RAW.replace(b'{"v":1,', b'{"v":1,"v":1,', 1), "not_canonical"),
    ("the maker", lambda: RAW.replace(WORLD.tenant.address.encode(),
                                      WORLD.operator.address.encode()), "bad_maker"),
    ("its end", lambda: RAW[:-2], "malformed"),
    ("a zip", lambda: b"PK\x03\x04" + b"\0" * 100, "malformed"),
    ("a nest", lambda: b"[" * 1_000_000, "bad_field"),
]  # fmt: skip


def _signed_voucher(key: object) -> str:
    lease = replace(LEASE)
    voucher = WORLD.voucher(lease, amount=10**9).document
    return encode(sign(voucher, key=key, domain=WORLD.domain)).decode()


@pytest.mark.parametrize(
    ("make", "code"),
    [(make, code) for _, make, code in FORGERIES],
    ids=[name for name, _, _ in FORGERIES],
)
def test_forgery_is_named(make: Callable[[], bytes], code: str) -> None:
    report = make_report(make())
    assert (report.is_good, report.code) == (False, code), report.why


def test_entry_of_somebody_else_is_refused() -> None:
    """It is in the log, truly, and has no business here."""
    theirs = next(
        row for row in LOG.rows if b'"Order"' in row.body and row.index > 12
        and LEASE.id.encode() not in row.body
    )  # fmt: skip
    leaves = [row.leaf for row in LOG.rows]
    proof = Subtrees(leaves).prove_inclusion(theirs.index)
    held = replace(
        RECORD,
        index=theirs.index,
        entry=theirs.body.decode(),
        proof=tuple(node.hex() for node in proof),
    )
    entries = sorted((*DISPUTE.entries, held), key=lambda each: each.index)
    report = make_report(changed(entries=tuple(entries)))
    assert (report.is_good, report.code) == (False, "foreign_entry")
    assert "Order" in report.why


def test_too_large_is_read_no_further(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sublet.wire.dispute.FILE_BYTES_MAX", len(RAW) - 1)
    assert make_report(RAW).code == "too_large"
    monkeypatch.undo()
    many = changed(entries=DISPUTE.entries).replace(
        b'"others":[]', b'"others":[' + b",".join([b'""'] * 65) + b"]"
    )
    assert make_report(many).code == "bad_field"


# ---- contradictions ----------------------------------------------------------------


def _add(document: object, key: object) -> str:
    return encode(sign(document, key=key, domain=WORLD.domain)).decode()


def test_two_readings_of_one_number_contradict() -> None:
    provider = WORLD.key_of(LEASE.provider)
    other = WORLD.usage(LEASE, ran_ms=5_000, sequence=1).document
    again = WORLD.usage(LEASE, ran_ms=10_000, sequence=1).document
    raw = changed(others=(_add(other, provider), _add(again, provider)))
    report = make_report(raw)
    assert report.is_good, report.why
    (found,) = report.contradictions
    assert (found.kind, found.signer) == ("UsageRecord", LEASE.provider)
    assert found.fields == ("ran_ms", "cpu_ms")
    assert found.second_where == "other 0"


def test_two_terms_contradict_only_where_they_differ() -> None:
    provider = WORLD.key_of(LEASE.provider)
    terms = WORLD.terms(LEASE).document
    dearer = replace(terms, price_hour=terms.price_hour + 1)
    raw = changed(others=(_add(terms, provider), _add(dearer, provider)))
    (found,) = make_report(raw).contradictions
    assert (found.kind, found.fields) == ("LeaseTerms", ("price_hour",))
    by_another = changed(others=(_add(dearer, make_key("nobody")),))
    assert make_report(by_another).contradictions == ()
