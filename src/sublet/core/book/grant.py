"""A lease is made: the slice bound, the money held, the delegation charged.

Not here: which offer it is and at what price (``quote``, the modes).
"""

from msgspec import Struct
from msgspec.structs import replace

from sublet.base.ids import NO_ADDRESS, NO_DIGEST, Address, Digest
from sublet.base.limits import LEASES_PER_TENANT_MAX
from sublet.core.book import funds
from sublet.core.book.book import Book
from sublet.core.book.by_delegation import may_lease_under
from sublet.core.book.due import show
from sublet.core.book.mode import SPOT
from sublet.core.book.outcome import LeaseMoved
from sublet.core.document import Order
from sublet.core.lease.phase import Lease, Phase


class Award(Struct, frozen=True):
    """What a lease is to be: whose machine, for how much, how long."""

    offer_id: Digest
    price_hour: int  # micro-USD for the whole slice
    duration_s: int
    hold: int  # micro-USD that it may cost at most
    until_s: int = 0  # when it has to end at the latest; 0: whenever duration_s is over


def may_lease(book: Book, order: Order) -> bool:
    """Say whether the order's tenant, and its delegate, may have its leases, too."""
    open_ = len(book.open_of_tenant.get(order.tenant, ()))
    if open_ + order.machines > LEASES_PER_TENANT_MAX:
        return False
    return may_lease_under(book, order.delegation, count=order.machines)


def grant(
    book: Book,
    order: Order,
    award: Award,
    *,
    order_id: Digest,
    lease_id: Digest,
    signer: Address,
) -> LeaseMoved:
    """Make the lease. The caller has checked that the wallet covers its hold."""
    record = book.offers.find(award.offer_id)
    assert record is not None
    offer = record.offer
    is_spot = order.mode == SPOT
    deadline_s = book.now_s + book.rules.accept_s
    lease = Lease(
        id=lease_id,
        offer_id=award.offer_id,
        tenant=order.tenant,
        provider=record.provider,
        machine=offer.machine,
        phase=Phase.MATCHED,
        price_hour=award.price_hour,
        duration_s=award.duration_s,
        hold=award.hold,
        cpus_milli=order.cpus_milli,
        memory_bytes=order.memory_bytes,
        disk_bytes=order.disk_bytes,
        gpu_uuids=tuple(record.gpus_free()[: order.gpu_count]),
        manifest=order.manifest,
        sandbox=order.sandbox,
        features=order.features,
        ssh_key=order.ssh_key,
        ssh_host_key=offer.ssh_host_key,
        endpoint=offer.endpoint,
        matched_at_s=book.now_s,
        deadline_s=min(deadline_s, award.until_s or deadline_s),
        delegation=order.delegation,
        delegate=NO_ADDRESS if order.delegation == NO_DIGEST else signer,
        order=order_id,
        until_s=award.until_s,
        spot_max=order.price_hour_max if is_spot else 0,
        notice_s=order.notice_s,
    )
    lease = funds.hold(book, lease)
    book.add_lease(lease)
    if lease.delegation != NO_DIGEST:
        held = book.delegations[lease.delegation]
        book.delegations[held.id] = replace(
            held, held=held.held + lease.hold, leases_open=held.leases_open + 1
        )
    return LeaseMoved(show(book, lease))
