"""An account over a period: opening balance, lines, closing balance. Exact.

The collector hears the fold of a market's log, entry by entry, and keeps the lines of
one party; only those of the period stay in memory. Pure.
"""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from msgspec import Struct

from sublet.base import limits
from sublet.base.errors import Refused
from sublet.base.ids import Address, Digest
from sublet.core.book.outcome import Credited, LeaseErased, LeaseMoved, Step
from sublet.core.document import Fact
from sublet.core.lease.phase import Lease, Phase
from sublet.core.statement.line import ChainLine, Line, MarketLine
from sublet.core.statement.period import Period

if TYPE_CHECKING:  # whoever only shows a statement does not load the book
    from sublet.core.book.book import Book

BOTH = ""  # of both roles, with credits and balances


class Statement(Struct, frozen=True):
    """What ran, what it cost, what came and went. Money in micro-USD."""

    number: str  # the same whenever it is made again
    market: Digest
    market_name: str
    party: Address
    period: Period
    role: str  # "tenant", "provider", or BOTH
    counterparty: Address | None  # with whom alone; None: with anyone
    opening: int | None  # balance in the market; None where lines are left out
    lines: tuple[Line, ...]

    @property
    def change(self) -> int:
        """Add up what the lines do to the balance."""
        return sum(line.effect for line in self.lines)

    @property
    def closing(self) -> int | None:
        """Give the balance at the end; None where lines are left out."""
        return None if self.opening is None else self.opening + self.change

    def sums(self) -> dict[str, int]:
        """Add up by kind: what each kind of line did to the balance, or was worth."""
        sums: dict[str, int] = {}
        for line in self.lines:
            if isinstance(line, ChainLine):
                name, amount = line.kind.value, line.effect or line.usd
            else:
                name = "credits" if line.kind == "credit" else f"as {line.role}"
                amount = line.effect
            sums[name] = sums.get(name, 0) + amount
        return sums


class Collector:
    """Keeps the lines of one party out of a market's log."""

    def __init__(
        self,
        party: Address,
        period: Period,
        *,
        role: str = BOTH,
        counterparty: Address | None = None,
        jobs: Mapping[Digest, str] | None = None,
        chain: Iterable[ChainLine] = (),
    ) -> None:
        """Take whose lines of when are wanted, and those of a chain.

        Args:
            party: the account.
            period: outside it, lines only count for the opening balance.
            role: of the account in a lease; BOTH for all.
            counterparty: with whom alone; None for anyone.
            jobs: names of jobs at home, by their leases.
            chain: lines of a rail's journal.
        """
        self._party, self._period = party, period
        self._role, self._counterparty = role, counterparty
        self._jobs = jobs or {}
        self._opening = 0
        self._lines: list[Line] = []
        for line in chain:
            self._take(line)

    def hear(self, index: int, fact: Fact, taken: Step, book: "Book") -> None:
        """Take what one entry of the log did; ``book`` is as it is afterwards.

        Raises:
            Refused: ``statement_too_long``.
        """
        for outcome in taken.outcomes:
            if isinstance(outcome, Credited):
                if outcome.party != self._party or self._role != BOTH:
                    continue
                line = MarketLine(
                    kind="credit",
                    at_s=fact.at_s,
                    entry=index,
                    role="",
                    effect=outcome.amount,
                )
                self._take(line)
            elif isinstance(outcome, LeaseMoved) and not isinstance(
                outcome, LeaseErased
            ):
                self._hear_lease(index, fact, outcome.lease, book)

    def close(self, *, market: Digest, market_name: str) -> Statement:
        """Give the statement."""
        is_whole = self._role == BOTH and self._counterparty is None
        self._lines.sort(key=lambda line: (line.at_s, isinstance(line, ChainLine)))
        parts = [market[2:8], self._party[2:10], self._period.label]
        parts += [self._role] if self._role else []
        parts += [self._counterparty[2:10]] if self._counterparty else []
        return Statement(
            number="-".join(parts),
            market=market,
            market_name=market_name,
            party=self._party,
            period=self._period,
            role=self._role,
            counterparty=self._counterparty,
            opening=self._opening if is_whole else None,
            lines=tuple(self._lines),
        )

    def _hear_lease(self, index: int, fact: Fact, lease: Lease, book: "Book") -> None:
        if lease.phase is not Phase.SETTLED:
            return
        for role, party, other in (
            ("tenant", lease.tenant, lease.provider),
            ("provider", lease.provider, lease.tenant),
        ):
            if party == self._party and self._role in (BOTH, role):
                channel = book.find_channel(lease.line)
                self._take(
                    MarketLine(
                        kind="lease",
                        at_s=fact.at_s,
                        entry=index,
                        role=role,
                        effect=-lease.paid if role == "tenant" else lease.paid,
                        lease=lease.id,
                        job=self._jobs.get(lease.id, ""),
                        counterparty=other,
                        machine=lease.machine,
                        gpus=len(lease.gpu_uuids),
                        cpus_milli=lease.cpus_milli,
                        started_at_s=lease.started_at_s,
                        ended_at_s=lease.ended_at_s,
                        ran_ms=lease.ran_ms,
                        price_hour=lease.price_hour,
                        owed=lease.owed,
                        vouched=0 if channel is None else channel.vouched,
                        reason=lease.reason,
                        fault=lease.fault.value,
                    )
                )

    def _take(self, line: Line) -> None:
        if self._counterparty not in (None, line.counterparty):
            return
        if line.at_s < self._period.from_s:
            self._opening += line.effect
        elif line.at_s < self._period.until_s:
            if len(self._lines) >= limits.STATEMENT_LINES_MAX:
                raise Refused(
                    f"the statement has more than {limits.STATEMENT_LINES_MAX} lines; "
                    "ask for a shorter time, --month 2026-11 for example",
                    code="statement_too_long",
                )
            self._lines.append(line)
