"""What a tenant says: Order, Cancellation, and the money's Channel and Voucher.

Not here: delegations (``by_delegation``).
"""

from collections.abc import Mapping
from functools import partial

from msgspec.structs import replace

from sublet.base.errors import Refused
from sublet.base.limits import LEASES_PER_TENANT_MAX
from sublet.base.units import format_money
from sublet.core.book import funds, gang, live, reserved, spot, standing
from sublet.core.book.book import Book
from sublet.core.book.by_delegation import (
    check_budget,
    check_voucher,
    find_delegation,
)
from sublet.core.book.change import Change, Decide
from sublet.core.book.grant import Award, grant
from sublet.core.book.mode import LIVE, RESERVED, SPOT, STANDING, check_mode
from sublet.core.book.open_order import OrderPhase
from sublet.core.book.outcome import Outcome
from sublet.core.book.quote import check_order, quote
from sublet.core.book.record import ChannelRecord
from sublet.core.book.settlement import settle_covered
from sublet.core.book.waiting import compute_hold, end
from sublet.core.document import Cancellation, Channel, Fact, Order, Voucher

# ---- orders -----------------------------------------------------------------------


def decide_order(book: Book, fact: Fact, order: Order, now_s: int) -> Change:
    """Match an order and hold what its lease may cost; or let it wait, by its mode.

    Raises:
        Refused: ``wrong_signer``, ``duplicate_order``, ``too_many_leases``, what
            ``check_mode``, ``quote`` or the mode raises, ``insufficient_funds``, or why
            the delegation does not carry it (``unknown_delegation``,
            ``delegation_expired``, ``delegation_revoked``, ``delegation_busy``,
            ``over_budget``).
    """
    delegation = find_delegation(book, fact, order, now_s)
    known = book.find_lease(fact.id) or book.find_order(fact.id)
    if known is not None:
        raise Refused(f"the order {fact.id} was taken", code="duplicate_order")
    if len(book.open_of_tenant.get(order.tenant, ())) >= LEASES_PER_TENANT_MAX:
        raise Refused(
            f"a tenant may have {LEASES_PER_TENANT_MAX} open leases; stop one first",
            code="too_many_leases",
        )
    check_order(order)
    check_mode(order, now_s=now_s)
    waits = _WAITS.get(order.mode)
    if waits is not None and (order.mode != SPOT or order.open_until_s):
        if delegation is not None:
            check_budget(delegation, hold=compute_hold(order))
        return waits(book, fact, order, now_s)
    match = quote(book, order, now_s=now_s)
    if delegation is not None:
        check_budget(delegation, hold=match.hold)
    funds.check(book, transfer_id=fact.id, tenant=order.tenant, amount=match.hold)
    if match.members:
        return gang.decide(book, fact, order, match)
    award = Award(match.offer_id, match.price_hour, match.duration_s, match.hold)
    return partial(_match, book, fact, order, award)


# What becomes of an order that need not be matched now.
_WAITS: Mapping[str, Decide] = {
    LIVE: live.decide,
    STANDING: standing.decide,
    SPOT: spot.decide,
    RESERVED: reserved.decide,
}


def _match(book: Book, fact: Fact, order: Order, award: Award) -> tuple[Outcome, ...]:
    made = grant(
        book,
        order,
        award,
        order_id=fact.id,
        lease_id=fact.id,
        signer=fact.signer,
    )
    return (made,)


def decide_cancellation(
    book: Book, fact: Fact, cancellation: Cancellation, now_s: int
) -> Change:
    """Take back an order that waits; leases that it got go on, but those of a gang.

    Raises:
        Refused: ``unknown_order`` or ``wrong_signer``.
    """
    record = live.find_open(book, cancellation.order_id)
    live.check_owner(record, fact)
    if record.phase is OrderPhase.COMMITTING:
        return partial(gang.give_up, book, record, reason="cancelled")
    return partial(end, book, record, reason="cancelled")


# ---- channels and vouchers --------------------------------------------------------


def decide_channel(book: Book, fact: Fact, channel: Channel, now_s: int) -> Change:
    """Register the one channel of payer, receiver and authorizer in this market.

    The authorizer is whom the payer says: itself, or a delegate of its own.

    Raises:
        Refused: ``wrong_signer``, ``duplicate_channel``, or ``foreign_channel`` where
            a field is not as this market has it.
    """
    if fact.signer != channel.payer:
        raise Refused(
            f"the channel must be signed by its payer, {channel.payer}",
            code="wrong_signer",
        )
    expected = {
        "receiver_authorizer": channel.receiver,
        "token": book.rules.token,
        "withdraw_delay": book.rules.withdraw_delay_s,
        "salt": book.market_id,
    }
    for field, value in expected.items():
        if getattr(channel, field) != value:
            raise Refused(
                f"channel.{field} must be {value} in this market",
                code="foreign_channel",
                field=f"channel.{field}",
            )
    line = (channel.payer, channel.receiver, channel.payer_authorizer)
    if line in book.channel_of:
        raise Refused("this channel is registered", code="duplicate_channel")
    return partial(_register, book, fact, channel)


def _register(book: Book, fact: Fact, channel: Channel) -> tuple[Outcome, ...]:
    book.add_channel(
        ChannelRecord(
            id=fact.id,
            payer=channel.payer,
            receiver=channel.receiver,
            authorizer=channel.payer_authorizer,
        )
    )
    return ()


def decide_voucher(book: Book, fact: Fact, voucher: Voucher, now_s: int) -> Change:
    """Take the tenant's word for what it owes, and settle what that covers.

    Raises:
        Refused: ``unknown_channel``, ``wrong_signer``, ``stale_voucher``, or
            ``over_budget`` where a delegate says more than its delegations leave.
    """
    channel = book.channels.get(voucher.channel_id)
    if channel is None:
        raise Refused(
            f"no channel {voucher.channel_id} is registered; submit the signed channel "
            "before its first voucher",
            code="unknown_channel",
            field="voucher.channel_id",
        )
    if fact.signer != channel.authorizer:
        raise Refused(
            f"vouchers of this channel must be signed by {channel.authorizer}",
            code="wrong_signer",
        )
    if voucher.max_claimable_amount <= channel.vouched:
        raise Refused(
            f"the voucher says {format_money(voucher.max_claimable_amount)} and an "
            f"earlier one said {format_money(channel.vouched)}; a voucher is cumulative "
            "and only a higher one counts",
            code="stale_voucher",
            field="voucher.max_claimable_amount",
        )
    if channel.authorizer != channel.payer:
        check_voucher(book, channel, voucher)
    return partial(_vouch, book, channel, voucher.max_claimable_amount)


def _vouch(book: Book, channel: ChannelRecord, amount: int) -> tuple[Outcome, ...]:
    book.channels[channel.id] = replace(channel, vouched=amount)
    return settle_covered(book, channel.line)
