"""Statements add up to the micro-dollar, in every format, and obey nobody's words."""

import asyncio
import csv
import io
import json
import re
import shutil
import subprocess
import sys
from decimal import Decimal
from pathlib import Path

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from typer.testing import CliRunner

from sublet.base.errors import Refused
from sublet.cli.paper import html_page, journal, pdf_page, sheet, terminal
from sublet.cli.paper.layout import Identity, lay_out
from sublet.cli.statement import app
from sublet.core.statement.line import EFFECT, ChainKind, read_chain_lines
from sublet.core.statement.period import Period, parse_period
from sublet.core.statement.statement import Statement
from tests.fakes.world import START_S, World
from tests.integration.statement_house import DAY_S, ENDS, Life, make_chain_lines

LIFE = Life(("paid", "short", "lost", "stopped", "paid", "open"), days=40)
TENANT = LIFE.world.tenant.address
PROVIDER = LIFE.world.providers[0].address
WHOLE = LIFE.state(TENANT)

some = settings(max_examples=8, deadline=None, suppress_health_check=list(HealthCheck))
more = settings(some, max_examples=60)


# ---- it adds up ---------------------------------------------------------------------


@given(st.lists(st.sampled_from(ENDS), max_size=6).map(tuple))
@some
def test_every_party_adds_up(ends: tuple[str, ...]) -> None:
    life = Life(ends)
    parties = [life.world.tenant, *life.world.providers]
    stated = [life.state(party.address) for party in parties]
    for party, statement in zip(parties, stated, strict=True):
        assert statement.opening == 0
        assert statement.closing == life.posted(party.address)
    # What one pays the other gets: all that there is was issued.
    assert sum(each.closing for each in stated) == life.book.ledger.issued_total
    settled = [line for line in stated[0].lines if line.kind == "lease"]
    assert len(settled) == len(ends) - len(life.book.leases)


@given(st.integers(START_S - DAY_S, START_S + 400 * DAY_S), st.integers(0, 2**32))
@more
def test_any_cut_in_time_fits(cut_s: int, seed: int) -> None:
    chain = make_chain_lines(seed, seed % 40)
    before = LIFE.state(TENANT, Period(0, cut_s, "a"), chain=chain)
    after = LIFE.state(TENANT, Period(cut_s, 10**11, "b"), chain=chain)
    both = LIFE.state(TENANT, chain=chain)
    assert (before.opening, before.closing) == (0, after.opening)
    assert after.closing == both.closing
    assert len(before.lines) + len(after.lines) == len(both.lines)
    on_chain = sum(EFFECT[line.kind] * line.usd for line in chain)
    assert both.closing == LIFE.posted(TENANT) + on_chain


def test_roles_and_counterparties_divide_it() -> None:
    as_tenant = LIFE.state(TENANT, role="tenant")
    assert (as_tenant.opening, as_tenant.closing) == (None, None)
    assert all(line.kind == "lease" for line in as_tenant.lines)
    assert LIFE.state(TENANT, role="provider").lines == ()
    per_provider = [
        LIFE.state(TENANT, role="tenant", counterparty=provider.address)
        for provider in LIFE.world.providers
    ]
    assert sum(each.change for each in per_provider) == as_tenant.change < 0
    mirrored = LIFE.state(PROVIDER, role="provider", counterparty=TENANT)
    assert mirrored.change == -per_provider[0].change > 0


def test_numbers_stay_what_they_are() -> None:
    longer = Life(("paid", "short", "lost", "stopped", "paid", "open", "paid"), days=40)
    numbers = [line.number for line in longer.state(TENANT).lines]
    assert numbers[: len(WHOLE.lines)] == [line.number for line in WHOLE.lines]
    assert len(set(numbers)) == len(numbers)
    year = parse_period(year=2027, year_start="04-06")
    first, again = (life.state(TENANT, year) for life in (LIFE, longer))
    assert first.number == again.number
    assert first.number.endswith("20270406-20280406")


def test_too_many_lines_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sublet.base.limits.STATEMENT_LINES_MAX", 3)
    with pytest.raises(Refused) as caught:
        LIFE.state(TENANT)
    assert caught.value.code == "statement_too_long"
    assert len(LIFE.state(TENANT, parse_period(month="2027-01")).lines) == 3


@pytest.mark.parametrize(
    ("wishes", "span"),
    [
        ({"year": 2026}, "20260101-20270101"),
        ({"year": 2026, "year_start": "04-06"}, "20260406-20270406"),
        ({"month": "2028-02"}, "20280201-20280301"),
        ({"from_day": "2026-11-01", "to_day": "2026-11-01"}, "20261101-20261102"),
        ({"to_day": "2026-12-31"}, "19700101-20270101"),
        ({"from_day": "2026-11-01"}, "20261101-"),
        ({}, "all"),
    ],
)
def test_period_is_read(wishes: dict, span: str) -> None:
    assert parse_period(**wishes).label == span


@pytest.mark.parametrize(
    "wishes",
    [
        {"year": 2026, "month": "2026-11"},
        {"month": "2026-13"},
        {"month": "november"},
        {"from_day": "2026-02-30"},
        {"from_day": "2026-02-02", "to_day": "2026-02-01"},
        {"year": 2026, "year_start": "02-30"},
        {"year_start": "04-06"},
        {"year": 12_345},
    ],
)
def test_bad_period_is_refused(wishes: dict) -> None:
    with pytest.raises(Refused) as caught:
        parse_period(**wishes)
    assert caught.value.code == "bad_period"


# ---- sheets -------------------------------------------------------------------------


def read_back(statement: Statement) -> list[dict[str, str]]:
    text = "".join(sheet.write_csv(statement))
    return list(csv.DictReader(io.StringIO(text, newline="")))


def test_sheet_adds_up_and_says_all() -> None:
    rows = read_back(WHOLE)
    total = sum(Decimal(row["balance_change_usd"]) for row in rows)
    assert total == Decimal(WHOLE.change) / 10**6
    lease = next(row for row in rows if row["kind"] == "lease")
    assert (lease["role"], lease["counterparty"]) == ("tenant", PROVIDER)
    assert (lease["ran_s"], lease["machine"], lease["cpus"]) == (
        "9.500",
        "box",
        "1.000",
    )
    assert lease["time_utc"].startswith("2027-01-15 08:00:")
    assert Decimal(lease["vouched_usd"]) == -Decimal(lease["balance_change_usd"])


@pytest.mark.parametrize(
    "word", ["=1+1", "@SUM(A1)", "+1-1", "-2+3", "\t=1", '=HYPERLINK("http://x")']
)
def test_sheet_takes_no_word_for_a_formula(word: str) -> None:
    lines = tuple(
        replace(line, machine=word) for line in WHOLE.lines if line.kind == "lease"
    )
    for row in read_back(replace(WHOLE, lines=lines)):
        assert row["machine"] == "'" + word
        assert Decimal(row["balance_change_usd"]) <= 0


def test_json_is_exact() -> None:
    said = json.loads(sheet.write_json(WHOLE))
    assert sum(line["effect"] for line in said["lines"]) == said["change"]
    assert (said["opening"], said["closing"]) == (0, LIFE.posted(TENANT))
    assert sum(said["sums"].values()) == said["change"]


# ---- ledgers ------------------------------------------------------------------------


def bean_check(path: Path) -> "subprocess.CompletedProcess[str]":
    program = Path(sys.executable).with_name("bean-check")
    if not program.exists():
        pytest.skip("no beancount: it comes with the dependency group books")
    return subprocess.run(
        [program, path], capture_output=True, text=True, timeout=90, check=False
    )


def hledger(path: Path, *words: str) -> "subprocess.CompletedProcess[str]":
    if shutil.which("hledger") is None:
        pytest.skip("no hledger: apt-get install hledger")
    return subprocess.run(
        ["hledger", "-f", path, *words],
        capture_output=True, text=True, timeout=90, check=False,
        env={"LC_ALL": "C.UTF-8", "PATH": "/usr/bin:/bin", "HOME": str(path.parent)},
    )  # fmt: skip


def put(path: Path, lines: object) -> Path:
    path.write_text("".join(f"{line}\n" for line in lines))
    return path


def with_chain() -> Statement:
    found = make_chain_lines(1, 80)
    assert {line.kind for line in found} == set(ChainKind)
    year = Period(START_S + 1, START_S + 300 * DAY_S, "x")
    return LIFE.state(TENANT, year, chain=found)


def test_beancount_reads_and_agrees(tmp_path: Path) -> None:
    statement = with_chain()
    assert statement.opening
    place = put(tmp_path / "a.beancount", journal.write_beancount(statement))
    done = bean_check(place)
    assert (done.returncode, done.stderr) == (0, "")
    # An assertion that is off by the smallest unit is one that fails.
    wrong = re.sub(
        r"(balance Assets:Sublet:Balance  -?\d+\.\d{5})(\d)",
        lambda m: m[1] + str((int(m[2]) + 1) % 10),
        place.read_text(),
    )
    place.write_text(wrong)
    assert "Balance failed" in bean_check(place).stderr


def test_hledger_reads_and_agrees(tmp_path: Path) -> None:
    statement = with_chain()
    place = put(tmp_path / "a.journal", journal.write_hledger(statement))
    done = hledger(place, "balance", "Assets:Sublet:Balance", "-N", "-O", "csv")
    assert done.returncode == 0, done.stderr
    assert statement.closing is not None
    closing = Decimal(done.stdout.splitlines()[-1].split('"')[3].split()[0])
    assert closing == Decimal(statement.closing) / 10**6
    wrong = re.sub(
        r"(Assets:Sublet:Balance  0 USD = -?\d+\.\d{5})(\d)",
        lambda m: m[1] + str((int(m[2]) + 1) % 10),
        place.read_text(),
    )
    place.write_text(wrong)
    assert "assertion" in hledger(place, "balance").stderr


def test_ledgers_of_nothing_are_read(tmp_path: Path) -> None:
    empty = LIFE.state("0x" + "12" * 20)
    place = put(tmp_path / "a.beancount", journal.write_beancount(empty))
    assert bean_check(place).returncode == 0
    place = put(tmp_path / "a.journal", journal.write_hledger(empty))
    assert hledger(place, "balance").returncode == 0


def test_hostile_words_write_no_entries(tmp_path: Path) -> None:
    word = 'x" ; =1\n2027-01-01 open Assets:Mine | {@ *'
    lines = tuple(
        replace(line, machine=word, job=word) if line.kind == "lease" else line
        for line in WHOLE.lines
    )
    statement = replace(WHOLE, lines=lines)
    place = put(tmp_path / "a.beancount", journal.write_beancount(statement))
    assert bean_check(place).returncode == 0
    assert "open Assets:Mine\n" not in place.read_text()
    place = put(tmp_path / "a.journal", journal.write_hledger(statement))
    assert hledger(place, "balance").returncode == 0


# ---- paper --------------------------------------------------------------------------

EVIL = '<script>alert(1)</script><b> & "\x1b[2J'
NAMES = {TENANT: Identity("Ada <Co>", "1 Street\nTown"), PROVIDER: Identity(EVIL)}


def test_page_is_one_file_and_escapes_all() -> None:
    text = "".join(html_page.write_html(lay_out(WHOLE, NAMES)))
    assert "Ada &lt;Co&gt;" in text
    assert "<script" not in text
    assert "http" not in text.replace("http-equiv", "")
    assert "default-src 'none'" in text
    assert text.count("<tr>") == len(WHOLE.lines) + len(lay_out(WHOLE, {}).totals) + 1


def test_terminal_obeys_nobody() -> None:
    text = terminal.write_text(lay_out(WHOLE, NAMES))
    assert "\x1b" not in text
    assert "balance at the end" in text
    assert "not tax advice" in text


def test_invoice_names_both_sides() -> None:
    mine = LIFE.state(PROVIDER, role="provider", counterparty=TENANT)
    paper = lay_out(mine, NAMES)
    assert paper.title == "Invoice"
    assert paper.heads[1] == ("To", ("Ada <Co>", "1 Street", "Town", TENANT))
    assert paper.totals[-1][0] == "total"


@pytest.mark.parametrize("is_letter", [False, True])
def test_pdf_is_made_alike_each_time(is_letter: bool) -> None:
    paper = lay_out(WHOLE, NAMES)
    paper = replace(paper, rows=paper.rows * 20)
    made = pdf_page.write_pdf(paper, is_letter=is_letter)
    assert made.startswith(b"%PDF-")
    assert made == pdf_page.write_pdf(paper, is_letter=is_letter)
    box = b"/MediaBox [ 0 0 612 792 ]" if is_letter else b"/MediaBox [ 0 0 595."
    assert made.count(box) > 2


# ---- a chain's lines ----------------------------------------------------------------


def test_chain_line_counts_once() -> None:
    (line,) = make_chain_lines(2, 1)
    raw = msgspec.json.encode(line)
    assert read_chain_lines(raw + b"\n\n" + raw) == (line,)
    other = msgspec.json.encode(replace(line, usd=line.usd + 1))
    with pytest.raises(Refused) as caught:
        read_chain_lines(raw + b"\n" + other)
    assert caught.value.code == "bad_chain_lines"


@pytest.mark.parametrize(
    "raw", [b"{", b"[]", b'{"kind":"gift"}', b"\xff", b"[" * 9_999]
)
def test_bad_chain_lines_are_refused(raw: bytes) -> None:
    with pytest.raises(Refused) as caught:
        read_chain_lines(raw)
    assert caught.value.code == "bad_chain_lines"


# ---- the command --------------------------------------------------------------------


async def _on_disk(path: Path) -> World:
    from sublet.adapter.log_sqlite import SqliteLog

    log, world = SqliteLog(path), World()
    service = world.make_service(log)
    await service.open()
    await world.set_up(service)
    await world.play_lease(service)
    await service.close()
    log.close()
    return world


def test_command_writes_each_format(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = asyncio.run(_on_disk(tmp_path / "log.db"))
    home = tmp_path / "home"
    home.mkdir(mode=0o700)
    (home / "key").write_text(world.tenant.to_hex())
    (home / "key").chmod(0o600)
    monkeypatch.setenv("SUBLET_HOME", str(home))
    names = tmp_path / "names.toml"
    names.write_text(f'["{world.tenant.address}"]\nname = "Ada"\n')

    def run(*words: object) -> str:
        arguments = [*map(str, words), "--log", str(tmp_path / "log.db")]
        done = CliRunner().invoke(app, arguments)
        if done.exception is not None and not isinstance(done.exception, SystemExit):
            raise done.exception
        assert done.exit_code == 0, done.output
        return done.stdout

    assert "-$0.000152" in run("--year", "2027", "--parties", names)
    assert "Ada" in run("--year", "2027", "--parties", names)
    assert "No lines." in run("--year", "2026")
    for suffix in ("csv", "json", "html", "pdf", "beancount", "journal"):
        place = tmp_path / f"out.{suffix}"
        run("--output", place)
        assert place.stat().st_size > 500
    account = world.providers[0].address
    said = json.loads(run("--account", account, "--format", "json"))
    assert said["closing"] == 152
    for wrong in (("--account", "0x12"), ("--month", "x"), ("--parties", home)):
        with pytest.raises(Refused):
            run(*wrong)
