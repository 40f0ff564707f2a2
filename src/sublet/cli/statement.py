"""``sublet statement``: what ran, when, for how much; for people, sheets and ledgers."""

import os
import tomllib
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import typer

from sublet.base.errors import Refused
from sublet.base.ids import Address, Digest
from sublet.cli.log_option import LogOption, MarketOption, open_source, read_file
from sublet.cli.paper.layout import Identity

if TYPE_CHECKING:
    from sublet.core.statement.statement import Statement

app = typer.Typer(rich_markup_mode=None)

PARTIES_BYTES_MAX = 1 << 20
_ADDRESS_DIGITS = 40


class Format(StrEnum):
    """What a statement is written as."""

    TABLE = "table"
    CSV = "csv"
    JSON = "json"
    HTML = "html"
    PDF = "pdf"
    BEANCOUNT = "beancount"
    HLEDGER = "hledger"


class Role(StrEnum):
    """As what the account took part."""

    TENANT = "tenant"
    PROVIDER = "provider"


class PaperSize(StrEnum):
    """Of a PDF."""

    A4 = "a4"
    LETTER = "letter"


_BY_SUFFIX = {
    ".csv": Format.CSV,
    ".json": Format.JSON,
    ".html": Format.HTML,
    ".pdf": Format.PDF,
    ".beancount": Format.BEANCOUNT,
    ".journal": Format.HLEDGER,
}


@app.command("statement")
def show_statement(
    from_day: Annotated[
        str, typer.Option("--from", metavar="DAY", help="The first day, 2026-11-01.")
    ] = "",
    to_day: Annotated[
        str, typer.Option("--to", metavar="DAY", help="The last day; it belongs to it.")
    ] = "",
    year: Annotated[int | None, typer.Option("--year", help="A year, 2026.")] = None,
    year_start: Annotated[
        str,
        typer.Option(
            "--year-start", metavar="MM-DD", help="When a year begins, 04-06 for one."
        ),
    ] = "01-01",
    month: Annotated[str, typer.Option("--month", help="A month, 2026-11.")] = "",
    role: Annotated[
        Role | None, typer.Option("--role", help="Only what the account did as this.")
    ] = None,
    account: Annotated[
        str,
        typer.Option(
            "--account", metavar="ADDRESS", help="Whose; default: your home's key."
        ),
    ] = "",
    counterparty: Annotated[
        str,
        typer.Option(
            "--with", metavar="ADDRESS", help="Only leases with this party: an invoice."
        ),
    ] = "",
    chain: Annotated[
        Path | None,
        typer.Option(
            "--chain", metavar="FILE", help="A rail's journal: deposits, claims, gas."
        ),
    ] = None,
    format_: Annotated[
        Format | None,
        typer.Option("--format", help="Default: by the name of --output, or a table."),
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="A file; default: here.")
    ] = None,
    name: Annotated[
        str, typer.Option("--name", help="What you are called on paper.")
    ] = "",
    address: Annotated[
        str,
        typer.Option("--address", help="Your postal address; lines end with a comma."),
    ] = "",
    parties: Annotated[
        Path | None,
        typer.Option(
            "--parties", metavar="FILE", help='TOML: ["0x…"] with name and address.'
        ),
    ] = None,
    paper: Annotated[
        PaperSize, typer.Option("--paper", help="Of a PDF.")
    ] = PaperSize.A4,
    log: LogOption = "",
    market: MarketOption = "",
) -> None:
    """Say what ran, when, where and for how much, from the market's public log.

    Money is exact, times are UTC, and the number of a line never changes. With --role
    provider and --with it is an invoice. For a tax year: --year, with --year-start where
    it does not begin in January; gains and losses are not computed, and nothing here is
    tax advice.

    \b
    Examples:
      sublet statement --month 2026-11
      sublet statement --year 2026 --output 2026.csv
      sublet statement --role provider --with 0x… --month 2026-11 -o invoice.pdf
    """
    from sublet.core.statement.line import CHAIN_LINES_BYTES_MAX, read_chain_lines
    from sublet.core.statement.period import parse_period
    from sublet.core.statement.statement import Collector

    period = parse_period(
        from_day=from_day,
        to_day=to_day,
        year=year,
        month=month,
        year_start=year_start,
    )
    party = _parse_address(account, "--account") if account else _find_account(role)
    other = _parse_address(counterparty, "--with") if counterparty else None
    identities = _read_parties(parties)
    if name or address:
        lines = "\n".join(part.strip() for part in address.split(","))
        identities[party] = Identity(name, lines)
    journal = (
        b"" if chain is None else read_file(chain, "--chain", CHAIN_LINES_BYTES_MAX)
    )
    collector = Collector(
        party,
        period,
        role=role.value if role else "",
        counterparty=other,
        jobs=_find_jobs(),
        chain=read_chain_lines(journal),
    )
    statement = _replay(collector, log, market)
    kind = format_ or _BY_SUFFIX.get("" if output is None else output.suffix)
    content = write(statement, kind or Format.TABLE, identities, paper)
    _put(content, output or _default_output(kind, statement))


def write(
    statement: "Statement",
    kind: Format,
    identities: dict[Address, Identity],
    paper: PaperSize = PaperSize.A4,
) -> bytes:
    """Write a statement in a format."""
    from sublet.cli.paper import html_page, journal, pdf_page, sheet, terminal
    from sublet.cli.paper.layout import lay_out

    if kind is Format.CSV:
        return "".join(sheet.write_csv(statement)).encode()
    if kind is Format.JSON:
        return sheet.write_json(statement)
    if kind is Format.BEANCOUNT:
        return "".join(f"{x}\n" for x in journal.write_beancount(statement)).encode()
    if kind is Format.HLEDGER:
        return "".join(f"{x}\n" for x in journal.write_hledger(statement)).encode()
    laid_out = lay_out(statement, identities)
    if kind is Format.HTML:
        return "".join(f"{x}\n" for x in html_page.write_html(laid_out)).encode()
    if kind is Format.PDF:
        return pdf_page.write_pdf(laid_out, is_letter=paper is PaperSize.LETTER)
    return terminal.write_text(laid_out).encode()


def _replay(collector: Any, log: str, market: str) -> "Statement":
    from sublet.cli.audit import show_progress
    from sublet.cli.log_option import read_facts
    from sublet.core.book.book import Book
    from sublet.core.book.step import step

    book = Book()
    with open_source(log, market) as (source, _), show_progress("reading") as progress:
        total = source.size()
        for index, fact in enumerate(read_facts(source)):
            collector.hear(index, fact, step(book, fact), book)
            if index % 1_000 == 0:
                progress(index, total)
    if book.market is None:
        raise Refused("the log is empty; there is nothing to state", code="empty_log")
    made: Statement = collector.close(
        market=book.market_id, market_name=book.market.name
    )
    return made


def _find_account(role: Role | None) -> Address:
    from sublet.adapter.key_file import load_key
    from sublet.cli.provider_option import DEFAULT_HOME

    home = Path(os.environ.get("SUBLET_HOME") or "~/.sublet")
    place = DEFAULT_HOME if role is Role.PROVIDER else home
    return load_key((place / "key").expanduser()).address


def _find_jobs() -> dict[Digest, str]:
    from sublet.adapter.home_folder import Home

    home = Home(Path(os.environ.get("SUBLET_HOME") or "~/.sublet").expanduser())
    return {
        attempt.lease_id: record.name or record.id
        for record in home.read_jobs()
        for attempt in record.job.attempts
    }


def _read_parties(place: Path | None) -> dict[Address, Identity]:
    if place is None:
        return {}
    raw = read_file(place, "--parties", PARTIES_BYTES_MAX)
    try:
        found = msgspec.convert(
            tomllib.loads(raw.decode()), type=dict[str, Identity], strict=True
        )
    except (ValueError, msgspec.ValidationError) as exc:
        raise Refused(
            f"--parties: {place} does not name parties: {str(exc)[:200]}; write "
            '["0x…"], name = "…", address = "…"',
            code="bad_parties",
            field="--parties",
        ) from exc
    return {_parse_address(key, "--parties"): found[key] for key in found}


def _parse_address(text: str, field: str) -> Address:
    digits = text.lower().removeprefix("0x")
    if len(digits) != _ADDRESS_DIGITS or set(digits) - set("0123456789abcdef"):
        raise Refused(
            f"{field}: {text[:60]!r} is no address; it is 0x and 40 hex digits",
            code="bad_address",
            field=field,
        )
    return "0x" + digits


def _default_output(kind: Format | None, statement: "Statement") -> Path | None:
    return Path(f"statement-{statement.number}.pdf") if kind is Format.PDF else None


def _put(content: bytes, place: Path | None) -> None:
    if place is None:
        typer.echo(content.decode(), nl=False)
        return
    try:
        place.expanduser().write_bytes(content)
    except OSError as error:
        raise Refused(
            f"--output: {place} cannot be written ({error.strerror})",
            code="bad_output_file",
            field="--output",
        ) from error
    typer.echo(f"{place}: {len(content):,} bytes", err=True)
