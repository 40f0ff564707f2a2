"""What every journal must do: one suite for the fake and the real one."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from msgspec.structs import replace

from sublet.adapter.journal_sqlite import SqliteJournal
from sublet.base.errors import Broken, Refused, Unavailable
from sublet.core.rail.sending import Phase, Sending
from sublet.core.rail.transaction import Call, Fees, SignedTransaction
from sublet.service.journal_port import Journal
from tests.fakes.journal_memory import MemoryJournal

ALICE, BOB = "0x" + "a" * 40, "0x" + "b" * 40
SIGNED = SignedTransaction(b"\x02\xff", "0x" + "1" * 64, Fees(2, 1))


@pytest.fixture(params=["fake", "sqlite"])
def journal(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Journal]:
    journal: Journal = MemoryJournal()
    if request.param == "sqlite":
        journal = SqliteJournal(tmp_path / "rail" / "journal.db")
    yield journal
    journal.close()
    journal.close()


def errand(name: str, sender: str = ALICE) -> Sending:
    return Sending(id=name, sender=sender, call=Call(BOB, b"\x00\xff", 7))


def test_gives_back_what_it_keeps(journal: Journal) -> None:
    one = errand("one")
    assert journal.add(one) == one == journal.find("one")
    signed = replace(one, phase=Phase.SIGNED, nonce=4, attempts=(SIGNED,))
    journal.put(signed)
    assert journal.find("one") == signed
    assert journal.find("two") is None


def test_same_name_is_the_same_errand(journal: Journal) -> None:
    first = journal.add(errand("one"))
    journal.put(replace(first, phase=Phase.SENT, nonce=1))
    again = journal.add(replace(first, call=Call(ALICE)))
    assert again == journal.find("one") == replace(first, phase=Phase.SENT, nonce=1)


def test_lists_what_is_open_in_order(journal: Journal) -> None:
    for name in ("c", "a", "b"):
        journal.add(errand(name))
    journal.add(errand("d", BOB))
    journal.put(replace(errand("a"), phase=Phase.USURPED, nonce=3))
    assert [one.id for one in journal.list_open(ALICE)] == ["c", "b"]
    assert [one.id for one in journal.list_open(BOB)] == ["d"]


def test_nonces_only_rise(journal: Journal) -> None:
    assert journal.next_nonce(ALICE) == 0
    journal.add(errand("one"))
    assert journal.next_nonce(ALICE) == 0
    journal.put(replace(errand("one"), phase=Phase.CONFIRMED, nonce=6))
    assert (journal.next_nonce(ALICE), journal.next_nonce(BOB)) == (7, 0)


def test_no_nonce_twice(journal: Journal) -> None:
    for name, sender in (("one", ALICE), ("two", ALICE), ("three", BOB)):
        journal.add(errand(name, sender))
    journal.put(replace(errand("one"), nonce=5))
    journal.put(replace(errand("three", BOB), nonce=5))
    with pytest.raises(Broken):
        journal.put(replace(errand("two"), nonce=5))
    assert journal.find("two") == errand("two")


def test_file_outlives_its_process_and_has_one(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    journal = SqliteJournal(path)
    journal.add(errand("one"))
    with pytest.raises(Refused) as refused:
        SqliteJournal(path)
    assert refused.value.code == "journal_in_use"
    journal.close()
    again = SqliteJournal(path)
    assert again.find("one") == errand("one")
    assert path.stat().st_mode & 0o077 == 0
    again.close()


def test_no_journal_is_said_and_not_made_up(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    path.write_bytes(b"something else " * 100)
    with pytest.raises(Unavailable) as fault:
        SqliteJournal(path)
    assert fault.value.code == "journal_unavailable"
    assert path.read_bytes().startswith(b"something else")
