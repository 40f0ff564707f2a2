"""The lines of a statement: plain values, money in integers.

A line of the market comes out of the fold of its log; a line of a chain out of the
journal of whoever sent or saw a transaction. None is ever made up here.
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated

import msgspec
from msgspec import Meta, Struct

from sublet.base import limits
from sublet.base.errors import Refused
from sublet.base.ids import NO_ADDRESS, NO_DIGEST, Address, Digest
from sublet.core.member import Amount, Seconds, Text

CHAIN_LINES_BYTES_MAX = 64 * 1024 * 1024

# A commodity's name in plain-text ledgers, and a word in a table.
Symbol = Annotated[str, Meta(pattern=r"\A[A-Z][A-Z0-9]{1,11}\Z")]
ChainName = Annotated[str, Meta(pattern=r"\Aeip155:[1-9][0-9]{0,15}\Z")]  # CAIP-2
# In the token's smallest unit; as text on the wire, where 64 bits are too few.
TokenAmount = Annotated[str, Meta(pattern=r"\A[1-9][0-9]{0,76}\Z")]


class ChainKind(StrEnum):
    """What happened on a chain, from the account's side."""

    DEPOSIT = "deposit"  # tokens out of the own wallet, into a channel
    CLAIM = "claim"  # a voucher's amount of a channel becomes the provider's
    SETTLE = "settle"  # what was claimed arrives in the provider's wallet
    REFUND = "refund"  # the provider gives a channel's rest back to the tenant
    WITHDRAWAL = "withdrawal"  # the tenant takes a channel's rest back
    FEE = "fee"  # tokens paid to whoever sent a transaction for us
    GAS = "gas"  # the chain's own coin, burnt for a transaction


# What each does to the account's balance in the market: +1 adds, -1 takes away.
EFFECT: Mapping[ChainKind, int] = {
    ChainKind.DEPOSIT: 1,
    ChainKind.CLAIM: -1,
    ChainKind.SETTLE: 0,
    ChainKind.REFUND: -1,
    ChainKind.WITHDRAWAL: -1,
    ChainKind.FEE: 0,
    ChainKind.GAS: 0,
}


class ChainLine(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One movement on a chain, as a rail's journal has it."""

    kind: ChainKind
    at_s: Seconds  # of its block
    chain: ChainName
    transaction: Digest
    log_index: Annotated[
        int, Meta(ge=-1, le=1 << 32)
    ] = -1  # -1: the transaction itself
    token: Address = NO_ADDRESS  # NO_ADDRESS: the chain's own coin
    symbol: Symbol
    decimals: Annotated[int, Meta(ge=0, le=36)]
    amount: TokenAmount
    usd: Amount  # micro-USD that it was worth then, by whoever wrote it down
    channel: Digest = NO_DIGEST
    counterparty: Address = NO_ADDRESS
    memo: Text = ""

    @property
    def effect(self) -> int:
        """Micro-USD that it adds to the balance in the market."""
        return EFFECT[self.kind] * self.usd

    @property
    def number(self) -> str:
        """Name the line, the same for ever."""
        place = "" if self.log_index < 0 else f".{self.log_index}"
        return f"{self.transaction[:12]}{place}-{self.kind.value}"


class MarketLine(Struct, frozen=True, kw_only=True):
    """Credits that came, or a lease that was settled. Money in micro-USD."""

    kind: str  # "credit" or "lease"
    at_s: int  # of the log's entry that moved the money
    entry: int  # its index: the line's number
    role: str  # "tenant", "provider"; "" for credits
    effect: int  # on the balance in the market; never rounded
    lease: Digest = NO_DIGEST
    job: str = ""  # the name of it at home, where it is known
    counterparty: Address = NO_ADDRESS
    machine: str = ""
    gpus: int = 0
    cpus_milli: int = 0
    started_at_s: int = 0  # 0: never
    ended_at_s: int = 0
    ran_ms: int = 0
    price_hour: int = 0
    owed: int = 0
    vouched: int = 0  # over the whole channel, when it was settled
    reason: str = ""
    fault: str = ""

    @property
    def number(self) -> str:
        """Name the line, the same for ever."""
        if self.kind == "credit":
            return f"{self.entry}-credit"
        return f"{self.entry}-{self.role}-{self.lease[2:8]}"


Line = MarketLine | ChainLine

_DECODER = msgspec.json.Decoder(ChainLine)


def read_chain_lines(raw: bytes) -> tuple[ChainLine, ...]:
    """Read a journal: one JSON object a line. The same line twice counts once.

    Raises:
        Refused: ``bad_chain_lines``; also where two of one place differ.
    """
    if len(raw) > CHAIN_LINES_BYTES_MAX:
        raise _bad(f"it has more than {CHAIN_LINES_BYTES_MAX} bytes")
    found: dict[tuple[object, ...], ChainLine] = {}
    for number, text in enumerate(raw.splitlines(), start=1):
        if not text.strip():
            continue
        try:
            line = _DECODER.decode(text)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as exc:
            raise _bad(f"line {number}: {str(exc)[:200]}") from exc
        place = (line.chain, line.transaction, line.log_index, line.kind)
        if found.setdefault(place, line) != line:
            raise _bad(f"line {number} contradicts an earlier one of the same place")
    if len(found) > limits.STATEMENT_LINES_MAX:
        raise _bad(f"it has more than {limits.STATEMENT_LINES_MAX} lines")
    return tuple(found.values())


def _bad(why: str) -> Refused:
    return Refused(
        f"this is no journal of a chain's lines, one JSON object a line: {why}",
        code="bad_chain_lines",
        field="--chain",
    )
