"""Which log an audit is about: a file, a database, or a market that is asked for it."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Protocol

import typer

from sublet.base import limits
from sublet.base.errors import Refused
from sublet.base.ids import Digest
from sublet.core.document import Fact

if TYPE_CHECKING:  # so that what needs no log does not load the book
    from sublet.service.audit import LogSource

    class LogReader(LogSource, Protocol):
        """A log that is opened here, and closed."""

        def close(self) -> None:
            """Release the store."""
            ...


LogOption = Annotated[
    str,
    typer.Option(
        "--log",
        metavar="FILE|URL",
        help="A log: a node's log.db, or postgresql://... where it is in a database.",
    ),
]
MarketOption = Annotated[
    str,
    typer.Option(
        "--market",
        metavar="URL[,URL]",
        help="Address of a market, or of several of its nodes; its log is fetched.",
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="One JSON object.")]


@contextmanager
def open_source(log: str, market: str) -> Iterator[tuple["LogSource", Digest | None]]:
    """Open a log or a market; give it with the market's id, where it is pinned."""
    from sublet.adapter.home_folder import Home
    from sublet.sdk.log_source import HttpLogSource
    from sublet.sdk.nodes import parse_urls
    from sublet.wire.typed_data import market_id

    if log and market:
        raise Refused("give --log or --market, not both", code="bad_flags")
    if log:
        reader = _open_reader(log)
        try:
            yield reader, None
        finally:
            reader.close()
        return
    home = Home(Path(os.environ.get("SUBLET_HOME") or "~/.sublet").expanduser())
    urls = parse_urls(market or home.read_config().market)
    pinned = next(filter(None, map(home.find_market, urls)), None)
    with HttpLogSource(*urls) as source:
        yield source, None if pinned is None else market_id(pinned)


def read_file(path: Path, field: str, bytes_max: int) -> bytes:
    """Read a file of evidence that the caller names.

    Raises:
        Refused: ``bad_checkpoint``; it cannot be read, or is too large to be one.
    """
    try:
        with path.expanduser().open("rb") as file:
            raw = file.read(bytes_max + 1)
    except OSError as error:
        raise Refused(
            f"{field}: {path} cannot be read ({error.strerror})",
            code="bad_checkpoint",
            field=field,
        ) from error
    if len(raw) > bytes_max:
        raise Refused(
            f"{field}: {path} is too large to be a signed checkpoint or evidence",
            code="bad_checkpoint",
            field=field,
        )
    return raw


def find_file(log: str) -> Path | None:
    """Give the file that ``--log`` names, or None where it is a database."""
    return None if not log or "://" in log else Path(log).expanduser()


def _open_reader(log: str) -> "LogReader":
    from sublet.adapter.log_sqlite import SqliteLogReader

    if (path := find_file(log)) is not None:
        return SqliteLogReader(path)
    try:
        from sublet.adapter.log_postgres import PostgresLogReader
    except ImportError:
        raise Refused(
            "a log in PostgreSQL needs its driver: pip install 'sublet[postgres]'",
            code="no_driver",
            field="--log",
        ) from None
    return PostgresLogReader(log)


def read_facts(source: "LogSource") -> Iterator[Fact]:
    """Read every entry of a log as the fact that it is; signatures are not checked."""
    from sublet.wire.codec import DocumentCodec

    codec, number = DocumentCodec(), 0
    while rows := source.read(first=number, limit=limits.PAGE_ENTRIES_MAX):
        for row in rows:
            yield codec.read_entry(row.body).fact
        number += len(rows)


def find_lease_id(facts: list[Fact], text: str) -> Digest:
    """Complete an id of which people give the beginning."""
    start = text.lower() if text.lower().startswith("0x") else f"0x{text.lower()}"
    found = {fact.id for fact in facts if fact.id.startswith(start)}
    named = sorted(
        fact.id
        for fact in facts
        if fact.id in found and type(fact.document).__name__ == "Order"
    )
    if len(named) > 1:
        raise Refused(
            f"LEASE: {text[:80]!r} is the beginning of {len(named)} leases; give more "
            "digits",
            code="ambiguous_lease",
            field="LEASE",
        )
    return named[0] if named else start
