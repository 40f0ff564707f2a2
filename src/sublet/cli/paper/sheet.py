"""A statement as CSV (RFC 4180), for spreadsheets, and as JSON, for programs."""

import csv
import io
import re
from collections.abc import Iterator
from typing import Any

import msgspec

from sublet.base.ids import NO_ADDRESS, NO_DIGEST
from sublet.cli.paper.figure import spell_decimal, spell_time, spell_usd
from sublet.core.statement.line import ChainLine, Line
from sublet.core.statement.statement import Statement

COLUMNS = (
    "number", "kind", "time_utc", "role", "counterparty", "lease", "job", "machine",
    "gpus", "cpus", "started_utc", "ended_utc", "ran_s", "price_hour_usd", "owed_usd",
    "vouched_usd", "balance_change_usd", "worth_usd", "reason", "at_fault", "chain",
    "transaction", "log_index", "channel", "token", "symbol", "token_amount", "memo",
)  # fmt: skip

_NUMBER = re.compile(r"\A-?[0-9]+(\.[0-9]+)?\Z")
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")


def write_csv(statement: Statement) -> Iterator[str]:
    """Give the lines of a CSV file, the head first. Times are UTC, money exact."""
    yield _join(COLUMNS)
    for line in statement.lines:
        cells = _cells(line)
        yield _join([make_safe(cells.get(name, "")) for name in COLUMNS])


def make_safe(cell: str) -> str:
    """Keep a spreadsheet from taking a stranger's words for a formula."""
    if cell.startswith(_FORMULA) and _NUMBER.match(cell) is None:
        return "'" + cell
    return cell


def write_json(statement: Statement) -> bytes:
    """Give one JSON object: amounts in micro-USD, token amounts as text."""
    built: dict[str, Any] = msgspec.to_builtins(statement)
    for line, said in zip(statement.lines, built["lines"], strict=True):
        said["number"], said["effect"] = line.number, line.effect
    built |= {"change": statement.change, "closing": statement.closing}
    return msgspec.json.encode(built | {"sums": statement.sums()}) + b"\n"


def _cells(line: Line) -> dict[str, str]:
    cells = {
        "number": line.number,
        "time_utc": spell_time(line.at_s),
        "counterparty": "" if line.counterparty == NO_ADDRESS else line.counterparty,
        "balance_change_usd": spell_usd(line.effect),
    }
    if isinstance(line, ChainLine):
        return cells | {
            "kind": line.kind.value,
            "worth_usd": spell_usd(line.usd),
            "chain": line.chain,
            "transaction": line.transaction,
            "log_index": str(line.log_index) if line.log_index >= 0 else "",
            "channel": "" if line.channel == NO_DIGEST else line.channel,
            "token": "" if line.token == NO_ADDRESS else line.token,
            "symbol": line.symbol,
            "token_amount": spell_decimal(int(line.amount), places=line.decimals),
            "memo": line.memo,
        }
    cells |= {"kind": line.kind, "worth_usd": spell_usd(abs(line.effect))}
    if line.kind == "credit":
        return cells
    return cells | {
        "role": line.role,
        "lease": line.lease,
        "job": line.job,
        "machine": line.machine,
        "gpus": str(line.gpus),
        "cpus": spell_decimal(line.cpus_milli, places=3),
        "started_utc": spell_time(line.started_at_s),
        "ended_utc": spell_time(line.ended_at_s),
        "ran_s": spell_decimal(line.ran_ms, places=3),
        "price_hour_usd": spell_usd(line.price_hour),
        "owed_usd": spell_usd(line.owed),
        "vouched_usd": spell_usd(line.vouched),
        "reason": line.reason,
        "at_fault": line.fault,
    }


def _join(cells: list[str] | tuple[str, ...]) -> str:
    out = io.StringIO()
    csv.writer(out, lineterminator="\r\n").writerow(cells)
    return out.getvalue()
