"""What the operator says: Market, Credit, ProviderSeen, ProviderLost, Tick, Resume,
Seal, Upgrade.
"""

from functools import partial

from msgspec.structs import replace

from sublet.base.errors import Broken, Refused
from sublet.core.book import funds, waiting
from sublet.core.book.book import Book
from sublet.core.book.change import Change, check_operator
from sublet.core.book.outcome import Credited, Outcome
from sublet.core.book.record import ProviderRecord
from sublet.core.book.settlement import record_move
from sublet.core.book.snapshot import book_hash
from sublet.core.document import (
    Credit,
    Fact,
    Market,
    ProviderLost,
    ProviderSeen,
    Resume,
    Seal,
    Tick,
    Upgrade,
)
from sublet.core.lease import table
from sublet.core.mirror import CREDITS, ESCROW
from sublet.core.version import RULES_VERSION

_SPANS = ("accept_s", "deliver_s", "prepare_s", "report_s", "close_s", "settle_s")


class SealMismatch(Broken):
    """The operator sealed another book than the log gives: one of the two lies."""

    code = "seal_mismatch"


# ---- the market -------------------------------------------------------------------


def decide_market(book: Book, fact: Fact, market: Market, now_s: int) -> Change:
    """Open the market; only entry 0 can, and its signer is the operator.

    Raises:
        Refused: ``market_exists`` or ``bad_market`` (a deadline of 0 seconds, a rail
            that is none).
    """
    if book.size:
        raise Refused(
            "a log has one Market, its entry 0; start a log of its own for another",
            code="market_exists",
        )
    for span in _SPANS:
        if getattr(market, span) < 1:
            raise Refused(
                f"market.{span} is 0: nobody could keep that deadline; allow 1 s or more",
                code="bad_market",
                field=f"market.{span}",
            )
    if market.rail not in (CREDITS, ESCROW):
        raise Refused(
            f'market.rail is "{market.rail}"; it is "{CREDITS}" or "{ESCROW}"',
            code="bad_market",
            field="market.rail",
        )
    return partial(_open, book, fact, market)


def _open(book: Book, fact: Fact, market: Market) -> tuple[Outcome, ...]:
    book.market, book.market_id, book.operator = market, fact.id, fact.signer
    return ()


# ---- money ------------------------------------------------------------------------


def decide_credit(book: Book, fact: Fact, credit: Credit, now_s: int) -> Change:
    """Issue credits to a wallet.

    Raises:
        Refused: ``wrong_signer``, ``wrong_rail``, or what ``Ledger.check_issue`` raises.
    """
    check_operator(book, fact)
    if funds.is_escrow(book):
        raise Refused(
            "this market's money lies on a chain; nobody issues credits here",
            code="wrong_rail",
        )
    book.ledger.check_issue(transfer_id=fact.id, amount=credit.amount)
    return partial(_issue, book, fact, credit)


def _issue(book: Book, fact: Fact, credit: Credit) -> tuple[Outcome, ...]:
    book.ledger.issue(transfer_id=fact.id, party=credit.party, amount=credit.amount)
    return (Credited(credit.party, credit.amount),)


# ---- providers --------------------------------------------------------------------


def decide_seen(book: Book, fact: Fact, seen: ProviderSeen, now_s: int) -> Change:
    """Count the provider as up: its offers match.

    Raises:
        Refused: ``wrong_signer`` or ``already_up``.
    """
    check_operator(book, fact)
    record = book.find_provider(seen.provider)
    if record.is_up:
        raise Refused(
            f"provider {seen.provider} is up since {record.since_s}",
            code="already_up",
        )
    return partial(_see, book, record, now_s)


def _see(book: Book, record: ProviderRecord, now_s: int) -> tuple[Outcome, ...]:
    book.providers[record.provider] = replace(record, is_up=True, since_s=now_s)
    book.offers.set_up(record.provider, is_up=book.may_match(record.provider))
    book.fresh[record.provider] = None
    return ()


def decide_lost(book: Book, fact: Fact, lost: ProviderLost, now_s: int) -> Change:
    """Count the provider as down, and settle its open leases by its fault.

    Raises:
        Refused: ``wrong_signer`` or ``already_down``.
    """
    check_operator(book, fact)
    record = book.find_provider(lost.provider)
    if not record.is_up:
        raise Refused(
            f"provider {lost.provider} is down already",
            code="already_down",
        )
    return partial(_lose, book, record, now_s)


def _lose(book: Book, record: ProviderRecord, now_s: int) -> tuple[Outcome, ...]:
    book.providers[record.provider] = replace(
        record, is_up=False, since_s=now_s, times_lost=record.times_lost + 1
    )
    book.offers.set_up(record.provider, is_up=False)
    outcomes: list[Outcome] = []
    for lease_id in list(book.open_of_provider.get(record.provider, ())):
        lease = book.leases.get(lease_id)
        # One that settles may cover the next, which then is settled already.
        if lease is not None:
            outcomes.extend(record_move(book, table.lose(lease, at_s=now_s)))
    return tuple(outcomes)


# ---- time and proof ---------------------------------------------------------------


def decide_tick(book: Book, fact: Fact, tick: Tick, now_s: int) -> Change:
    """Let time pass; the deadlines that are due have been applied before.

    Raises:
        Refused: ``wrong_signer``.
    """
    check_operator(book, fact)
    return _nothing


def decide_resume(book: Book, fact: Fact, resume: Resume, now_s: int) -> Change:
    """Forgive the time in which no node took documents. Decided before time moves.

    Raises:
        Refused: ``wrong_signer``.
    """
    check_operator(book, fact)
    return partial(_forgive, book, max(0, fact.at_s - book.now_s))


def _forgive(book: Book, away_s: int) -> tuple[Outcome, ...]:
    for lease in list(book.leases.values()):
        book.change_lease(table.forgive(lease, away_s=away_s))
    for record in list(book.orders.values()):
        book.change_order(waiting.forgive(record, away_s=away_s))
    return ()


def decide_seal(book: Book, fact: Fact, seal: Seal, now_s: int) -> Change:
    """Compare the operator's word for the book with the book itself.

    Raises:
        Refused: ``wrong_signer``, ``seal_out_of_place`` or ``seal_mismatch``.
    """
    check_operator(book, fact)
    if seal.size != book.size:
        raise Refused(
            f"the seal is for {seal.size} entries and stands behind {book.size}; seal "
            "the book as it is now",
            code="seal_out_of_place",
        )
    if seal.book != "0x" + book_hash(book).hex():
        raise Refused(
            f"the seal says that the book after {seal.size} entries is {seal.book}; "
            "it is another one here",
            code="seal_mismatch",
        )
    return _nothing


def decide_upgrade(book: Book, fact: Fact, upgrade: Upgrade, now_s: int) -> Change:
    """Let the rules of a later version hold from here on.

    Raises:
        Refused: ``wrong_signer``, ``upgraded_already``, or ``outdated``: this program
            does not know those rules. In the log, that stops the fold.
    """
    check_operator(book, fact)
    if upgrade.version <= book.version:
        raise Refused(
            f"the market is at version {book.version}; an upgrade goes to a later one",
            code="upgraded_already",
            field="version",
        )
    if upgrade.version > RULES_VERSION:
        raise Refused(
            f"the market goes on with version {upgrade.version} of its rules, and this "
            f"program reads up to {RULES_VERSION}; update sublet",
            code="outdated",
            field="version",
        )
    return partial(_upgrade, book, upgrade.version)


def _upgrade(book: Book, version: int) -> tuple[Outcome, ...]:
    book.version = version
    return ()


def _nothing() -> tuple[Outcome, ...]:
    return ()
