"""Delegations: another key orders and pays in a tenant's name, within bounds.

What bounds it is here: who, until when, with whom, how many leases at once, how much.
A lease under a delegation is paid out of the channel whose vouchers the delegate
signs, and that channel pays no other lease: a delegate can spend nothing else.

Not here: how an order is matched (``quote``), how a lease is paid (``settlement``).
"""

from functools import partial

from msgspec.structs import replace

from sublet.base.errors import Refused
from sublet.base.ids import NO_DIGEST, Digest
from sublet.base.limits import DELEGATIONS_PER_TENANT_MAX
from sublet.base.units import format_money
from sublet.core.book.book import Book
from sublet.core.book.change import Change
from sublet.core.book.outcome import Outcome
from sublet.core.book.record import ChannelRecord, DelegationRecord
from sublet.core.book.settlement import record_move
from sublet.core.document import Delegation, Fact, Order, Revocation, Voucher
from sublet.core.lease import table
from sublet.core.lease.phase import REVOKED


def decide_delegation(
    book: Book, fact: Fact, delegation: Delegation, now_s: int
) -> Change:
    """Let another key order in the signer's name, up to a budget and a time.

    Raises:
        Refused: ``duplicate_delegation``, ``delegation_expired``, ``self_delegation``
            or ``too_many_delegations``.
    """
    if fact.id in book.delegations:
        raise Refused("this delegation stands already", code="duplicate_delegation")
    if delegation.delegate == fact.signer:
        raise Refused(
            "a tenant delegates to another key than its own",
            code="self_delegation",
            field="delegation.delegate",
        )
    if delegation.expires_at_s <= now_s:
        raise Refused(
            f"the delegation expired at {delegation.expires_at_s}; sign a later one",
            code="delegation_expired",
            field="delegation.expires_at_s",
        )
    old = [book.delegations[key] for key in book.delegations_of.get(fact.signer, ())]
    waits = {
        book.orders[key].delegation
        for key in book.orders_of_tenant.get(fact.signer, ())
    }
    over = [
        record for record in old if _is_over(record, now_s) and record.id not in waits
    ]
    if len(old) - len(over) >= DELEGATIONS_PER_TENANT_MAX:
        raise Refused(
            f"a tenant may have {DELEGATIONS_PER_TENANT_MAX} delegations; wait until "
            "one has expired, or revoke one",
            code="too_many_delegations",
        )
    return partial(_delegate, book, fact, delegation, over)


def _is_over(record: DelegationRecord, now_s: int) -> bool:
    is_closed = record.is_revoked or record.expires_at_s <= now_s
    return is_closed and not record.leases_open


def _delegate(
    book: Book, fact: Fact, delegation: Delegation, over: list[DelegationRecord]
) -> tuple[Outcome, ...]:
    for record in over:
        book.drop_delegation(record)
    book.add_delegation(
        DelegationRecord(
            id=fact.id,
            tenant=fact.signer,
            delegate=delegation.delegate,
            budget=delegation.budget,
            expires_at_s=delegation.expires_at_s,
            leases_max=delegation.leases_max,
            providers=delegation.providers,
        )
    )
    return ()


def decide_revocation(
    book: Book, fact: Fact, revocation: Revocation, now_s: int
) -> Change:
    """End a delegation; its open leases are stopped, and what they ran is paid.

    Raises:
        Refused: ``unknown_delegation``, ``wrong_signer`` or ``delegation_revoked``.
    """
    record = book.delegations.get(revocation.delegation_id)
    if record is None:
        raise Refused(
            f"there is no delegation {revocation.delegation_id}; it may be over",
            code="unknown_delegation",
            field="revocation.delegation_id",
        )
    if fact.signer != record.tenant:
        raise Refused(
            f"a delegation is revoked by who made it, {record.tenant}",
            code="wrong_signer",
        )
    if record.is_revoked:
        raise Refused("this delegation is revoked already", code="delegation_revoked")
    return partial(_revoke, book, record, now_s)


def _revoke(book: Book, record: DelegationRecord, now_s: int) -> tuple[Outcome, ...]:
    book.delegations[record.id] = replace(record, is_revoked=True)
    for key in book.orders_of_tenant.get(record.tenant, ()):
        if book.orders[key].delegation == record.id:
            book.unserved[key] = None  # it is ended where it is looked at next
    outcomes: list[Outcome] = []
    for lease in book.open_leases(book.open_of_delegate.get(record.delegate)):
        if lease.delegation == record.id and table.can_stop(lease):
            stopped = table.stop(lease, reason=REVOKED, at_s=now_s, market=book.rules)
            outcomes.extend(record_move(book, stopped))
    return tuple(outcomes)


# ---- what a delegate may do ---------------------------------------------------------


def find_delegation(
    book: Book, fact: Fact, order: Order, now_s: int
) -> DelegationRecord | None:
    """Give the delegation that carries an order, or None where its tenant signed it.

    Raises:
        Refused: ``wrong_signer``, or why the delegation does not carry it.
    """
    if order.delegation == NO_DIGEST:
        if fact.signer != order.tenant:
            raise Refused(
                f"the order must be signed by its tenant, {order.tenant}, or name a "
                "delegation to its signer",
                code="wrong_signer",
            )
        return None
    record = book.delegations.get(order.delegation)
    if record is None or record.tenant != order.tenant:
        raise Refused(
            f"{order.tenant} has made no delegation {order.delegation}",
            code="unknown_delegation",
            field="order.delegation",
        )
    if fact.signer != record.delegate:
        raise Refused(
            f"the delegation is to {record.delegate}, who must sign the order",
            code="wrong_signer",
        )
    if record.is_revoked:
        raise Refused(
            "the tenant has revoked this delegation; ask it for a new one",
            code="delegation_revoked",
            field="order.delegation",
        )
    if record.expires_at_s <= now_s:
        raise Refused(
            f"the delegation expired at {record.expires_at_s}; ask the tenant for a "
            "new one",
            code="delegation_expired",
            field="order.delegation",
        )
    _check_count(book, record)
    return record


def may_lease_under(book: Book, delegation_id: Digest, *, count: int = 1) -> bool:
    """Say whether a delegation carries so many more leases; none at all is no bound."""
    if delegation_id == NO_DIGEST:
        return True
    record = book.delegations[delegation_id]
    holding = _count_holding(book, record)
    return not record.is_revoked and holding + count <= record.leases_max


def _count_holding(book: Book, record: DelegationRecord) -> int:
    leases = book.open_leases(book.open_of_delegate.get(record.delegate))
    return sum(
        lease.delegation == record.id and lease.phase in table.HOLDING
        for lease in leases
    )


def _check_count(book: Book, record: DelegationRecord) -> None:
    holding = _count_holding(book, record)
    if holding >= record.leases_max:
        raise Refused(
            f"the delegation is for {record.leases_max} leases at a time, and so many "
            "are open; wait until one has ended",
            code="delegation_busy",
            field="order.delegation",
            detail={"open": holding},
        )


def check_budget(record: DelegationRecord, *, hold: int) -> None:
    """Refuse a lease that could cost more than a delegation has left.

    Raises:
        Refused: ``over_budget``.
    """
    left = record.budget - record.spent - record.held
    if hold > left:
        raise Refused(
            f"the lease would hold {format_money(hold)} and the delegation has "
            f"{format_money(max(0, left))} left; order less, or ask for a higher budget",
            code="over_budget",
            detail={"missing": hold - left, "hold": hold},
        )


def check_voucher(book: Book, channel: ChannelRecord, voucher: Voucher) -> None:
    """Refuse a delegate's voucher over more than its delegations leave.

    Raises:
        Refused: ``over_budget``.
    """
    known = book.delegations_of.get(channel.payer, ())
    left = sum(
        record.budget - record.spent
        for record in map(book.delegations.__getitem__, known)
        if record.delegate == channel.authorizer
    )
    if voucher.max_claimable_amount > channel.paid + left:
        raise Refused(
            f"the voucher says {format_money(voucher.max_claimable_amount)}; "
            f"{format_money(channel.paid)} were paid and the delegations to its signer "
            f"leave {format_money(left)}",
            code="over_budget",
            field="voucher.max_claimable_amount",
            detail={"paid": channel.paid, "left": left},
        )
