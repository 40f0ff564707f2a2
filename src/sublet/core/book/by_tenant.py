"""What a tenant says: Order, and the money's Channel and Voucher.

Not here: delegations (``by_delegation``).
"""

from functools import partial

from msgspec.structs import replace

from sublet.base.errors import Refused
from sublet.base.ids import NO_ADDRESS, NO_DIGEST
from sublet.base.limits import LEASES_PER_TENANT_MAX
from sublet.base.units import format_money
from sublet.core.book.book import Book
from sublet.core.book.by_delegation import (
    check_budget,
    check_voucher,
    find_delegation,
)
from sublet.core.book.change import Change
from sublet.core.book.outcome import LeaseMoved, Outcome
from sublet.core.book.quote import Match, quote
from sublet.core.book.record import ChannelRecord
from sublet.core.book.settlement import settle_covered, total_due
from sublet.core.document import Channel, Fact, Order, Voucher
from sublet.core.lease.phase import Lease, Phase

# ---- orders -----------------------------------------------------------------------


def decide_order(book: Book, fact: Fact, order: Order, now_s: int) -> Change:
    """Match an order and hold what its lease may cost.

    Raises:
        Refused: ``wrong_signer``, ``duplicate_order``, ``too_many_leases``, what
            ``quote`` raises, ``insufficient_funds``, or why the delegation does not
            carry it (``unknown_delegation``, ``delegation_expired``, ``delegation_revoked``,
            ``delegation_busy``, ``over_budget``).
    """
    delegation = find_delegation(book, fact, order, now_s)
    if book.find_lease(fact.id) is not None:
        raise Refused(f"the order {fact.id} has its lease", code="duplicate_order")
    if len(book.open_of_tenant.get(order.tenant, ())) >= LEASES_PER_TENANT_MAX:
        raise Refused(
            f"a tenant may have {LEASES_PER_TENANT_MAX} open leases; stop one first",
            code="too_many_leases",
        )
    match = quote(book, order, now_s=now_s)
    if delegation is not None:
        check_budget(delegation, hold=match.hold)
    book.ledger.check_hold(transfer_id=fact.id, debit=order.tenant, amount=match.hold)
    return partial(_match, book, fact, order, match, now_s)


def _match(
    book: Book, fact: Fact, order: Order, match: Match, now_s: int
) -> tuple[Outcome, ...]:
    offer = book.offers.find(match.offer_id)
    assert offer is not None
    lease = Lease(
        id=fact.id,
        offer_id=match.offer_id,
        tenant=order.tenant,
        provider=match.provider,
        machine=match.machine,
        phase=Phase.MATCHED,
        price_hour=match.price_hour,
        duration_s=match.duration_s,
        hold=match.hold,
        cpus_milli=order.cpus_milli,
        memory_bytes=order.memory_bytes,
        disk_bytes=order.disk_bytes,
        gpu_uuids=tuple(offer.gpus_free()[: order.gpu_count]),
        manifest=order.manifest,
        sandbox=order.sandbox,
        features=order.features,
        ssh_key=order.ssh_key,
        ssh_host_key=offer.offer.ssh_host_key,
        endpoint=offer.offer.endpoint,
        matched_at_s=now_s,
        deadline_s=now_s + book.rules.accept_s,
        delegation=order.delegation,
        delegate=NO_ADDRESS if order.delegation == NO_DIGEST else fact.signer,
    )
    book.ledger.hold(
        transfer_id=lease.id,
        debit=lease.tenant,
        credit=lease.provider,
        amount=lease.hold,
    )
    book.add_lease(lease)
    if lease.delegation != NO_DIGEST:
        record = book.delegations[lease.delegation]
        book.delegations[record.id] = replace(
            record, held=record.held + lease.hold, leases_open=record.leases_open + 1
        )
    return (LeaseMoved(replace(lease, channel_total=total_due(book, lease))),)


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
