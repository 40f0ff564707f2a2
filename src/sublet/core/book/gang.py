"""A gang's leases: made in one step, kept only if each provider signs its terms.

Until then the order waits, and holds no money of its own: each lease does. Where a
provider does not sign, or is lost, all the others are released and the gang is placed anew
without it, so often as GANG_TRIES_MAX says; then, or where no other gang is there, the
order ends. Where the tenant itself ends one of the leases, the order ends with it. Once
all have signed the order is filled, and each lease goes its own way.

Not here: which machines these are (``gang_auction``).
"""

from functools import partial

from msgspec.structs import replace

from sublet.base.errors import Refused
from sublet.base.ids import Address
from sublet.base.limits import GANG_TRIES_MAX
from sublet.core.book import funds, waiting
from sublet.core.book.book import Book
from sublet.core.book.by_delegation import check_budget
from sublet.core.book.change import Change
from sublet.core.book.grant import Award, grant, may_lease
from sublet.core.book.open_order import FILLED, OpenOrder, OrderPhase
from sublet.core.book.outcome import Outcome
from sublet.core.book.quote import Match, quote
from sublet.core.book.settlement import record_move
from sublet.core.document import Fact, Order
from sublet.core.lease import table
from sublet.core.lease.phase import Fault, Lease, Phase
from sublet.core.lease.piece import piece_id

BROKEN = "gang_broken"  # why a lease ends whose gang is not whole
COMMITTED = frozenset({Phase.ACCEPTED, Phase.PREPARING, Phase.RUNNING})
_OPEN = COMMITTED | {Phase.MATCHED}


def decide(book: Book, fact: Fact, order: Order, match: Match) -> Change:
    """Lease all members of a gang that was found, and whose money is there.

    Raises:
        Refused: ``too_many_leases``.
    """
    if not may_lease(book, order):
        raise Refused(
            f"the order is for {order.machines} leases, and with those that are open "
            "that is more than you, or the delegation, may have; stop some first",
            code="too_many_leases",
            field="order.machines",
        )
    return partial(_place, book, fact, order, match)


def _place(book: Book, fact: Fact, order: Order, match: Match) -> tuple[Outcome, ...]:
    record = OpenOrder(
        id=fact.id,
        order=order,
        signer=fact.signer,
        phase=OrderPhase.COMMITTING,
        placed_at_s=book.now_s,
        deadline_s=_deadline_s(book),
        hold=0,
        left_s=match.duration_s,
    )
    return (*waiting.place(book, record), *_lease(book, record, match))


def follow(book: Book, record: OpenOrder) -> tuple[Outcome, ...]:
    """Look at the gang of an order once one of its leases has moved."""
    phases = {phase_of(book, key) for key in current(record)}
    if phases <= COMMITTED:
        return waiting.end(book, record, reason=FILLED)
    if phases <= _OPEN:
        return ()
    return _place_again(book, record)


def expire(book: Book, record: OpenOrder) -> tuple[Outcome, ...]:
    """Let the time pass by which all had to sign: some lease was too late for it."""
    return _place_again(book, record)


def give_up(book: Book, record: OpenOrder, *, reason: str) -> tuple[Outcome, ...]:
    """Release what the order has, and end it."""
    released = _release(book, record)
    return (*released, *waiting.end(book, record, reason=reason))


def current(record: OpenOrder) -> tuple[str, ...]:
    """Give the ids of the leases of the gang as it was placed last."""
    return record.leases[-record.order.machines :]


def phase_of(book: Book, lease_id: str) -> Phase:
    """Give the phase of a lease; one that is forgotten is long settled."""
    lease = book.find_lease(lease_id)
    return Phase.SETTLED if lease is None else lease.phase


def _place_again(book: Book, record: OpenOrder) -> tuple[Outcome, ...]:
    gone = _find_gone(book, record)
    released = _release(book, record)
    others = [lease for lease in gone if lease.fault is not Fault.PROVIDER]
    if others:  # the tenant's own doing
        return (*released, *waiting.end(book, record, reason=others[0].reason))
    if len(record.leases) >= GANG_TRIES_MAX * record.order.machines:
        return (*released, *waiting.end(book, record, reason="not_accepted"))
    order = record.order
    avoid = tuple(dict.fromkeys((*order.avoid, *_find_faulty(book, record))))
    try:
        match = quote(book, replace(order, avoid=avoid), now_s=book.now_s)
        _check_again(book, record, match)
    except Refused as refusal:
        return (*released, *waiting.end(book, record, reason=refusal.code))
    again = replace(record, deadline_s=_deadline_s(book), left_s=match.duration_s)
    return (*released, *_lease(book, again, match))


def _check_again(book: Book, record: OpenOrder, match: Match) -> None:
    delegation = book.delegations.get(record.delegation)
    if delegation is not None:
        check_budget(delegation, hold=match.hold)
        if delegation.expires_at_s <= book.now_s:
            raise Refused("the delegation has expired", code="delegation_expired")
    if not may_lease(book, record.order):
        raise Refused("too many leases are open", code="too_many_leases")
    # Under the id of the first of them, which is as new as the others.
    funds.check(
        book,
        transfer_id=piece_id(record.id, len(record.leases) + 1),
        tenant=record.tenant,
        amount=match.hold,
    )


def _lease(book: Book, record: OpenOrder, match: Match) -> tuple[Outcome, ...]:
    """Make all leases of a gang."""
    first = len(record.leases) + 1
    numbers = range(first, first + len(match.members))
    ids = tuple(piece_id(record.id, number) for number in numbers)
    outcomes = waiting.go_on(book, replace(record, leases=(*record.leases, *ids)))
    for key, member in zip(ids, match.members, strict=True):
        award = Award(
            member.offer_id, member.price_hour, member.duration_s, member.hold
        )
        made = grant(
            book,
            record.order,
            award,
            order_id=record.id,
            lease_id=key,
            signer=record.signer,
        )
        outcomes += (made,)
    return outcomes


def _release(book: Book, record: OpenOrder) -> tuple[Outcome, ...]:
    """End the leases of a gang that is not whole; what ran of one is paid for."""
    outcomes: tuple[Outcome, ...] = ()
    for key in current(record):
        lease = book.leases.get(key)
        if lease is not None and table.can_stop(lease):
            ended = table.stop(lease, reason=BROKEN, at_s=book.now_s, market=book.rules)
            outcomes += record_move(book, ended)
    return outcomes


def _find_gone(book: Book, record: OpenOrder) -> list[Lease]:
    """List the leases that broke the gang."""
    leases = [book.find_lease(key) for key in current(record)]
    return [lease for lease in leases if lease and lease.phase not in _OPEN]


def _find_faulty(book: Book, record: OpenOrder) -> list[Address]:
    """List the providers that failed this order, at any try."""
    leases = [book.find_lease(key) for key in record.leases]
    return [
        lease.provider
        for lease in leases
        if lease is not None and lease.fault is Fault.PROVIDER
    ]


def _deadline_s(book: Book) -> int:
    """Give when the order is looked after by force: behind the leases' own deadlines."""
    return book.now_s + book.rules.accept_s + 1
