"""The fold: ``step(book, fact)``, deterministic to the byte.

First the deadlines that are due at the fact's time pass, in the order (deadline, id),
then the fact is decided and, unless it is refused, made. Orders that wait are looked after
once more behind each of the two. No clock, no
randomness, no float in money: the same facts give the same book everywhere.
"""

from collections.abc import Mapping

from sublet.base.errors import Broken, Outdated, Refused
from sublet.base.ids import Digest
from sublet.core.book import (
    by_auditor,
    by_chain,
    by_delegation,
    by_operator,
    by_provider,
    by_tenant,
    live,
    serve,
)
from sublet.core.book.book import Book
from sublet.core.book.by_operator import SealMismatch
from sublet.core.book.change import Change, Decide
from sublet.core.book.of_lease import decide_lease
from sublet.core.book.outcome import Credited, LeaseMoved, OrderMoved, Outcome, Step
from sublet.core.book.pace import check_pace, note_pace
from sublet.core.book.settlement import record_move
from sublet.core.document import (
    Attestation,
    Bid,
    Cancellation,
    Channel,
    Choice,
    Credit,
    Delegation,
    Fact,
    Market,
    Mirror,
    Offer,
    OfferWithdrawal,
    Order,
    ProviderLost,
    ProviderSeen,
    Resume,
    Revocation,
    Seal,
    Tick,
    Upgrade,
    Voucher,
)
from sublet.core.lease import table
from sublet.core.member import Document
from sublet.core.version import SINCE

# What a caller of step needs.
__all__ = [
    "BEFORE_TIME",
    "Credited",
    "LeaseMoved",
    "OrderMoved",
    "SealMismatch",
    "Step",
    "check",
    "next_deadline_s",
    "pass_time",
    "step",
]

HANDLERS: Mapping[type[Document], Decide] = {
    Market: by_operator.decide_market,
    Credit: by_operator.decide_credit,
    Mirror: by_chain.decide_mirror,
    ProviderSeen: by_operator.decide_seen,
    ProviderLost: by_operator.decide_lost,
    Tick: by_operator.decide_tick,
    Resume: by_operator.decide_resume,
    Seal: by_operator.decide_seal,
    Upgrade: by_operator.decide_upgrade,
    Offer: by_provider.decide_offer,
    OfferWithdrawal: by_provider.decide_withdrawal,
    Attestation: by_auditor.decide_attestation,
    Bid: live.decide_bid,
    Order: by_tenant.decide_order,
    Choice: live.decide_choice,
    Cancellation: by_tenant.decide_cancellation,
    Delegation: by_delegation.decide_delegation,
    Revocation: by_delegation.decide_revocation,
    Channel: by_tenant.decide_channel,
    Voucher: by_tenant.decide_voucher,
    **dict.fromkeys(table.SIGNERS, decide_lease),
}

# They speak of the book as it was before them: decided before deadlines pass.
BEFORE_TIME = frozenset({Seal, Resume})

# What voids no entry but stops whoever folds it.
_STOPS: Mapping[str, type[Broken]] = {
    error.code: error for error in (SealMismatch, Outdated)
}


def step(book: Book, fact: Fact) -> Step:
    """Fold one entry into the book.

    Total: a refusal comes back in the Step, and the entry is void. It counts as an
    entry all the same, and time has moved on.

    Raises:
        SealMismatch: the operator sealed another book than this one.
        Outdated: the operator went on to rules that this program does not know.
        Broken: an invariant of the book fell.
    """
    if type(fact.document) in BEFORE_TIME:
        outcomes, refusal = _take(book, fact, book.now_s)
        outcomes += _pass_time(book, fact.at_s)
    else:
        passed = _pass_time(book, fact.at_s)
        outcomes, refusal = _take(book, fact, book.now_s)
        outcomes = passed + outcomes
    book.size += 1
    book.ledger.check_balanced()
    return Step(outcomes, refusal)


def check(book: Book, fact: Fact) -> None:
    """Say whether ``step`` would refuse this fact now. Changes nothing.

    Raises:
        Refused: as ``step`` would return it.
    """
    if type(fact.document) not in BEFORE_TIME:
        book = pass_time(book, fact.at_s)
    _decide(book, fact, max(book.now_s, fact.at_s))


def pass_time(book: Book, at_s: int) -> Book:
    """Give the book once all has passed that is due by then: itself, or a copy.

    Who checks many facts of one second lets it pass once.
    """
    due_s = next_deadline_s(book)
    if due_s is None or due_s > max(book.now_s, at_s):
        return book
    twin = book.copy()
    _pass_time(twin, at_s)
    return twin


def next_deadline_s(book: Book) -> int | None:
    """Give the second at which the next deadline passes, or None."""
    due = book.next_deadline()
    return None if due is None else due[0]


def _decide(book: Book, fact: Fact, now_s: int) -> Change:
    document = fact.document
    if book.market is None and type(document) is not Market:
        raise Refused(
            "the log has no market: its entry 0 is not a Market that holds",
            code="no_market",
        )
    since = SINCE.get(type(document), 1)
    if since > book.version:
        raise Refused(
            f"{type(document).__name__} comes with version {since} of the rules, and "
            f"this market is at {book.version}; its operator has to upgrade it first",
            code="not_upgraded",
        )
    check_pace(book, fact, now_s)
    return HANDLERS[type(document)](book, fact, document, now_s)


def _take(
    book: Book, fact: Fact, now_s: int
) -> tuple[tuple[Outcome, ...], Refused | None]:
    try:
        change = _decide(book, fact, now_s)
    except Refused as refusal:
        if refusal.code in _STOPS:
            raise _STOPS[refusal.code](refusal.message) from refusal
        return (), refusal
    done = change()
    note_pace(book, fact)
    return done + serve.follow(book, done), None


def _pass_time(book: Book, at_s: int) -> tuple[Outcome, ...]:
    """Let it be ``at_s``, or stay later, and the deadlines pass that are due by then."""
    book.now_s = max(book.now_s, at_s)
    outcomes: list[Outcome] = []
    while (due := book.next_deadline()) is not None and due[0] <= book.now_s:
        outcomes.extend(_expire(book, due[1]))
    return tuple(outcomes) + serve.follow(book, tuple(outcomes))


def _expire(book: Book, key: Digest) -> tuple[Outcome, ...]:
    """Let the deadline pass of a lease, or of an order that waits for one."""
    lease = book.leases.get(key)
    if lease is None:
        return serve.expire(book, book.orders[key])
    return record_move(book, table.expire(lease, market=book.rules))
