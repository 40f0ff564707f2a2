"""A statement as a plain-text ledger that beancount or hledger reads, with assertions.

Double entry, as the market's own ledger: each line moves what it says from one account
to another. Strangers' words lose every sign that such a program might read.
"""

import re
from collections.abc import Iterator
from itertools import chain

from msgspec import Struct

from sublet.base.ids import NO_ADDRESS
from sublet.cli.paper.figure import (
    spell_day,
    spell_decimal,
    spell_time,
    spell_usd,
)
from sublet.core.statement.line import ChainKind, ChainLine, Line
from sublet.core.statement.statement import Statement

BALANCE = "Assets:Sublet:Balance"  # in the market, in USD
CLAIMED = "Assets:Sublet:Claimed"  # tokens of the contract that are ours
WALLET = "Assets:Chain:Wallet"  # tokens at our own address
EARNED, SPENT = "Income:Sublet:Rent", "Expenses:Sublet:Rent"
FEES, GAS = "Expenses:Chain:Fees", "Expenses:Chain:Gas"
CREDITS, OPENING = "Equity:Sublet:Credits", "Equity:Sublet:Opening"
ACCOUNTS = (BALANCE, CLAIMED, WALLET, EARNED, SPENT, FEES, GAS, CREDITS, OPENING)

_DAY_S = 86_400
_ODD = re.compile(r"[^A-Za-z0-9 ._:/@#+-]")


class Posting(Struct, frozen=True):
    """One leg: an exact amount of a commodity, and what it was worth in all."""

    account: str
    amount: int  # in the commodity's smallest unit
    commodity: str = "USD"
    places: int = 6
    usd: int | None = None  # micro-USD: the price of the whole leg, where not in USD


class Transaction(Struct, frozen=True):
    """What belongs together; its legs add up to nothing."""

    at_s: int
    text: str
    tags: tuple[tuple[str, str], ...]
    postings: tuple[Posting, ...]


def write_beancount(statement: Statement) -> Iterator[str]:
    """Give the lines of a ledger in beancount's syntax."""
    booked = _book(statement)
    first_s, last_s = _span(statement, booked)
    yield f'option "title" "Sublet {statement.number}"'
    yield 'option "operating_currency" "USD"'
    yield ""
    yield from (f"{spell_day(first_s)} open {account}" for account in ACCOUNTS)
    for each in booked:
        yield ""
        yield f'{spell_day(each.at_s)} * "{each.text}"'
        yield from (f'  {name}: "{value}"' for name, value in each.tags)
        for leg in each.postings:
            price = "" if leg.usd is None else f" @@ {spell_usd(leg.usd)} USD"
            yield f"  {leg.account}  {_spell(leg)} {leg.commodity}{price}"
    yield ""
    # Beancount asserts what is there as a day begins.
    day = spell_day(last_s + _DAY_S)
    for leg in _totals(booked):
        yield f"{day} balance {leg.account}  {_spell(leg)} ~ 0 {leg.commodity}"


def write_hledger(statement: Statement) -> Iterator[str]:
    """Give the lines of a journal in hledger's syntax."""
    booked = _book(statement)
    yield f"; Sublet {statement.number}"
    for each in booked:
        yield ""
        yield f"{spell_day(each.at_s)} * {each.text}"
        yield from (f"    ; {name}: {value}" for name, value in each.tags)
        for leg in each.postings:
            price = "" if leg.usd is None else f" @@ {spell_usd(leg.usd)} USD"
            yield f"    {leg.account}  {_spell(leg)} {_quote(leg.commodity)}{price}"
    yield ""
    yield f"{spell_day(_span(statement, booked)[1])} * what is there at the end"
    for leg in _totals(booked):
        name = _quote(leg.commodity)
        yield f"    {leg.account}  0 {name} = {_spell(leg)} {name}"


# ---- what is booked where ----------------------------------------------------------


def _book(statement: Statement) -> list[Transaction]:
    booked = [_book_line(line) for line in statement.lines]
    if statement.opening:
        at_s = statement.period.from_s
        legs = (
            Posting(BALANCE, statement.opening),
            Posting(OPENING, -statement.opening),
        )
        booked.insert(0, Transaction(at_s, "opening balance", (), legs))
    return booked


def _book_line(line: Line) -> Transaction:
    tags = [("number", line.number), ("time", spell_time(line.at_s))]
    if line.counterparty != NO_ADDRESS:
        tags.append(("counterparty", line.counterparty))
    if isinstance(line, ChainLine):
        tags += [("chain", line.chain), ("transaction", line.transaction)]
        text, legs = f"{line.kind.value} {line.memo}", _legs_of_chain(line)
    elif line.kind == "credit":
        text, legs = "credits", _move(line.effect, CREDITS)
    else:
        tags.append(("lease", line.lease))
        text = f"{line.job or 'lease ' + line.lease[:14]} on {line.machine}"
        legs = _move(line.effect, SPENT if line.role == "tenant" else EARNED)
    return Transaction(line.at_s, _clean(text), tuple(tags), legs)


def _move(effect: int, other: str) -> tuple[Posting, ...]:
    return Posting(BALANCE, effect), Posting(other, -effect)


def _legs_of_chain(line: ChainLine) -> tuple[Posting, ...]:
    amount, usd = int(line.amount), line.usd

    def tokens(account: str, sign: int, price: int | None = None) -> Posting:
        return Posting(account, sign * amount, line.symbol, line.decimals, price)

    match line.kind:
        case ChainKind.DEPOSIT:
            return tokens(WALLET, -1, usd), Posting(BALANCE, usd)
        case ChainKind.CLAIM:
            return Posting(BALANCE, -usd), tokens(CLAIMED, 1, usd)
        case ChainKind.REFUND | ChainKind.WITHDRAWAL:
            return Posting(BALANCE, -usd), tokens(WALLET, 1, usd)
        case ChainKind.SETTLE:
            return tokens(CLAIMED, -1), tokens(WALLET, 1)
        case ChainKind.FEE:
            return tokens(WALLET, -1), tokens(FEES, 1)
        case ChainKind.GAS:
            return tokens(WALLET, -1), tokens(GAS, 1)


def _totals(booked: list[Transaction]) -> list[Posting]:
    """Add up what is there at the end, of each asset and commodity."""
    sums: dict[tuple[str, str, int], int] = {(BALANCE, "USD", 6): 0}
    for leg in chain.from_iterable(each.postings for each in booked):
        if leg.account.startswith("Assets:"):
            key = (leg.account, leg.commodity, leg.places)
            sums[key] = sums.get(key, 0) + leg.amount
    return [
        Posting(account, amount, commodity, places)
        for (account, commodity, places), amount in sorted(sums.items())
    ]


def _span(statement: Statement, booked: list[Transaction]) -> tuple[int, int]:
    if booked:
        return booked[0].at_s, booked[-1].at_s
    return statement.period.from_s, statement.period.from_s


def _spell(leg: Posting) -> str:
    return spell_decimal(leg.amount, places=leg.places)


def _quote(commodity: str) -> str:
    return commodity if commodity.isalpha() else f'"{commodity}"'


def _clean(text: str) -> str:
    return _ODD.sub("_", text).strip()
