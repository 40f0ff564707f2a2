"""Which log an audit is about: a file, or a market that is asked for it."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from sublet.base import limits
from sublet.base.errors import Refused
from sublet.base.ids import Digest
from sublet.core.document import Fact
from sublet.service.audit import LogSource

LogOption = Annotated[
    Path | None, typer.Option("--log", help="A log file: the log.db of a node.")
]
MarketOption = Annotated[
    str, typer.Option("--market", help="Address of a market; its log is fetched.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="One JSON object.")]


@contextmanager
def open_source(
    log: Path | None, market: str
) -> Iterator[tuple[LogSource, Digest | None]]:
    """Open a file or a market; give it with the market's id, where it is pinned."""
    from sublet.adapter.home_folder import Home
    from sublet.adapter.log_sqlite import SqliteLogReader
    from sublet.sdk.log_source import HttpLogSource
    from sublet.sdk.nodes import parse_urls
    from sublet.wire.typed_data import market_id

    if log is not None and market:
        raise Refused("give --log or --market, not both", code="bad_flags")
    if log is not None:
        reader = SqliteLogReader(log.expanduser())
        try:
            yield reader, None
        finally:
            reader.close()
        return
    home = Home(Path(os.environ.get("SUBLET_HOME") or "~/.sublet").expanduser())
    url = parse_urls(market or home.read_config().market)[0]
    pinned = home.find_market(url)
    with HttpLogSource(url) as source:
        yield source, None if pinned is None else market_id(pinned)


def read_facts(source: LogSource) -> Iterator[Fact]:
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
