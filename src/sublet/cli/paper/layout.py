"""A statement laid out for paper: title, parties, a table, totals, notes. No markup.

What the terminal, HTML and PDF show is this, so that all three say the same.
"""

from collections.abc import Mapping

from msgspec import Struct

from sublet.base.ids import NO_ADDRESS, Address
from sublet.base.units import format_duration, format_money
from sublet.cli.paper.figure import spell_day, spell_decimal, spell_time
from sublet.core.statement.line import ChainLine, Line, MarketLine
from sublet.core.statement.period import ALL
from sublet.core.statement.statement import Statement

COLUMNS = ("No.", "Time (UTC)", "What", "With", "Ran", "Rate/h", "Amount")
NOTES = (
    "Amounts in US dollars, exact to a millionth. Each line is dated by the entry of the "
    "market's log that moved the money; anyone can check it: sublet audit verify.",
    "This is a record, not tax advice. Gains and losses on tokens are not computed, and "
    "no tax is charged or shown.",
)


class Identity(Struct, frozen=True, forbid_unknown_fields=True):
    """What a party is called on paper; its own word."""

    name: str = ""
    address: str = ""  # lines, as on an envelope


class Paper(Struct, frozen=True):
    """All the words of a statement, in order."""

    title: str
    number: str
    heads: tuple[tuple[str, tuple[str, ...]], ...]  # a label, and its lines
    rows: tuple[tuple[str, ...], ...]  # as COLUMNS
    totals: tuple[tuple[str, str], ...]
    notes: tuple[str, ...] = NOTES


def lay_out(statement: Statement, identities: Mapping[Address, Identity]) -> Paper:
    """Lay a statement out."""
    other = statement.counterparty
    is_invoice = other is not None and statement.role == "provider"
    period = statement.period
    span = "all time"
    if period != ALL:
        last_s = period.until_s - 1
        last = spell_day(last_s) if period.label[-1] != "-" else "now"
        span = f"{spell_day(period.from_s)} to {last}"
    heads = [
        ("From" if is_invoice else "Account", _name(statement.party, identities)),
        ("To" if is_invoice else "With", _name(other, identities) if other else ()),
        ("Period", (f"{span} (UTC)",)),
        ("Market", (statement.market_name, statement.market)),
    ]
    return Paper(
        title="Invoice" if is_invoice else "Statement",
        number=statement.number,
        heads=tuple(head for head in heads if head[1]),
        rows=tuple(_row(line, identities) for line in statement.lines),
        totals=_totals(statement),
    )


def _name(party: Address, identities: Mapping[Address, Identity]) -> tuple[str, ...]:
    known = identities.get(party, Identity())
    lines = (known.name, *known.address.splitlines(), party)
    return tuple(line for line in lines if line)


def _row(line: Line, identities: Mapping[Address, Identity]) -> tuple[str, ...]:
    other = identities.get(line.counterparty, Identity()).name
    short = "" if line.counterparty == NO_ADDRESS else f"{line.counterparty[:10]}…"
    if isinstance(line, ChainLine):
        amount = spell_decimal(int(line.amount), places=line.decimals)
        what = f"{line.kind.value}: {amount} {line.symbol} ({line.chain}, "
        what += f"{line.transaction[:12]}…) {line.memo}".rstrip()
        worth = (
            format_money(line.effect)
            if line.effect
            else (f"({format_money(line.usd)})")
        )
        ran = rate = ""
        return (
            line.number,
            spell_time(line.at_s),
            what,
            other or short,
            ran,
            rate,
            worth,
        )
    ran = rate = ""
    if line.kind == "lease":
        ran = format_duration(line.ran_ms // 1_000)
        rate = format_money(line.price_hour)
    return (
        line.number,
        spell_time(line.at_s),
        _what(line),
        other or short,
        ran,
        rate,
        format_money(line.effect),
    )


def _what(line: MarketLine) -> str:
    if line.kind == "credit":
        return "credits"
    size = f"{line.gpus} GPU" if line.gpus else f"{line.cpus_milli / 1_000:g} CPU"
    name = line.job or f"lease {line.lease[:10]}…"
    why = "" if line.fault in ("", "nobody") else f", {line.fault}'s fault"
    return f"{name} on {line.machine} ({size}): {line.reason or 'done'}{why}"


def _totals(statement: Statement) -> tuple[tuple[str, str], ...]:
    totals = [
        (f"{name}, worth" if name in ("settle", "fee", "gas") else name, amount)
        for name, amount in statement.sums().items()
    ]
    if statement.opening is not None and statement.closing is not None:
        totals.insert(0, ("balance at the beginning", statement.opening))
        totals.append(("balance at the end", statement.closing))
    else:
        totals.append(("total", statement.change))
    return tuple((name, format_money(amount)) for name, amount in totals)
