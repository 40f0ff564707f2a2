"""The book: everything that the market knows after some entries of its log.

One mutable object, owned by whoever folds. All that it holds are immutable records,
so that a copy is shallow and cheap. It keeps its indexes right and decides nothing.

Not here: what facts do (``step``), money that moves at the end (``settlement``).
"""

from copy import copy
from heapq import heappop, heappush
from typing import TypeVar

from sublet.base.errors import Broken
from sublet.base.ids import NO_ADDRESS, NO_DIGEST, Address, Digest
from sublet.base.limits import ORDERS_KEPT_MAX, UNERASED_PER_PROVIDER_MAX
from sublet.core.book.attestation import AttestationRecord
from sublet.core.book.offer_table import OfferTable
from sublet.core.book.open_order import OpenOrder
from sublet.core.book.record import (
    ChannelRecord,
    DelegationRecord,
    PaceRecord,
    ProviderRecord,
)
from sublet.core.book.search import Kernel
from sublet.core.document import Market
from sublet.core.lease.phase import Lease
from sublet.core.lease.table import holds_slice, may_displace
from sublet.core.ledger.ledger import Ledger
from sublet.core.tape.tape import Tape

Subject = tuple[Address, str]  # provider, machine or "" for all of them
Line = tuple[Address, Address, Address]  # payer, receiver, who signs vouchers
Machine = tuple[Address, str]  # provider, its name for it
Key = TypeVar("Key", Address, Line, Machine)


class Book:
    """The state that ``step`` folds facts into. Empty until a Market is entry 0."""

    def __init__(self) -> None:
        """Start empty."""
        self.market: Market | None = None
        self.market_id: Digest = NO_DIGEST
        self.operator: Address = NO_ADDRESS
        self.version = 1  # of the rules that hold; an Upgrade raises it
        self.size = 0  # entries folded, void ones included
        self.now_s = 0  # the latest time stamp; never goes back
        self.ledger = Ledger()
        self.offers = OfferTable()
        self.providers: dict[Address, ProviderRecord] = {}
        self.leases: dict[Digest, Lease] = {}  # open, oldest first
        self.settled: dict[Digest, Lease] = {}  # in the order of settlement
        self.unerased: dict[Digest, Lease] = {}  # settled too; their slices stay bound
        self.channels: dict[Digest, ChannelRecord] = {}
        self.delegations: dict[Digest, DelegationRecord] = {}
        self.tape = Tape()
        self.attestations: dict[Address, dict[Subject, AttestationRecord]] = {}
        self.orders: dict[Digest, OpenOrder] = {}  # that wait, oldest first
        self.ended: dict[Digest, OpenOrder] = {}  # orders that do no more
        self.paces: dict[tuple[Address, str], PaceRecord] = {}  # longest silent first
        # Indexes; made again from the above when a snapshot is loaded.
        self.channel_of: dict[Line, Digest] = {}
        self.channels_of: dict[Address, dict[Digest, None]] = {}  # by payer
        self.delegations_of: dict[Address, dict[Digest, None]] = {}
        self.open_of_tenant: dict[Address, dict[Digest, None]] = {}
        self.open_of_provider: dict[Address, dict[Digest, None]] = {}
        self.unerased_of_provider: dict[Address, dict[Digest, None]] = {}
        self.open_of_delegate: dict[Address, dict[Digest, None]] = {}
        self.open_of_line: dict[Line, dict[Digest, None]] = {}
        self.orders_of_tenant: dict[Address, dict[Digest, None]] = {}
        self.booked: dict[Machine, dict[Digest, None]] = {}  # by which orders
        self.spots: dict[Digest, None] = {}  # open leases that may be displaced
        # What may let an order that waits go on; empty between two steps.
        self.fresh: dict[Address, None] = {}  # whose supply grew, or whose leases ended
        self.unserved: dict[Digest, None] = {}  # orders that nothing was sought for yet
        self.kernel: Kernel | None = None  # no part of the book: the same, more quickly
        self._deadlines: list[tuple[int, Digest]] = []  # a heap with stale entries

    def copy(self) -> "Book":
        """Give an independent book with the same content."""
        twin = copy(self)
        twin.ledger = self.ledger.copy()
        twin.offers = self.offers.copy()
        twin.providers = self.providers.copy()
        twin.leases = self.leases.copy()
        twin.settled = self.settled.copy()
        twin.unerased = self.unerased.copy()
        twin.channels = self.channels.copy()
        twin.delegations = self.delegations.copy()
        twin.tape = self.tape.copy()
        twin.attestations = {
            auditor: records.copy() for auditor, records in self.attestations.items()
        }
        twin.paces = self.paces.copy()
        twin.channel_of = self.channel_of.copy()
        twin.channels_of = _copy_index(self.channels_of)
        twin.delegations_of = _copy_index(self.delegations_of)
        twin.open_of_tenant = _copy_index(self.open_of_tenant)
        twin.open_of_provider = _copy_index(self.open_of_provider)
        twin.unerased_of_provider = _copy_index(self.unerased_of_provider)
        twin.open_of_delegate = _copy_index(self.open_of_delegate)
        twin.open_of_line = _copy_index(self.open_of_line)
        twin.orders = self.orders.copy()
        twin.ended = self.ended.copy()
        twin.orders_of_tenant = _copy_index(self.orders_of_tenant)
        twin.booked = _copy_index(self.booked)
        twin.spots = self.spots.copy()
        twin.fresh = self.fresh.copy()
        twin.unserved = self.unserved.copy()
        twin._deadlines = self._deadlines.copy()
        return twin

    # ---- reading --------------------------------------------------------------

    @property
    def rules(self) -> Market:
        """The market's own document, which must be there."""
        if self.market is None:
            raise Broken("the book has no Market yet")
        return self.market

    def find_provider(self, provider: Address) -> ProviderRecord:
        """Give the provider's record; an unknown one is down and has no history."""
        return self.providers.get(provider) or ProviderRecord(provider)

    def may_match(self, provider: Address) -> bool:
        """Say whether a node reaches the provider and it does not owe too much erasing."""
        owed = self.unerased_of_provider.get(provider, ())
        return self.find_provider(provider).is_up and (
            len(owed) < UNERASED_PER_PROVIDER_MAX
        )

    def find_lease(self, lease_id: Digest) -> Lease | None:
        """Give an open or a remembered lease, or None."""
        return (
            self.leases.get(lease_id)
            or self.unerased.get(lease_id)
            or self.settled.get(lease_id)
        )

    def find_order(self, order_id: Digest) -> OpenOrder | None:
        """Give an order that waits, or a remembered one that did; or None."""
        return self.orders.get(order_id) or self.ended.get(order_id)

    def find_channel(self, line: Line) -> ChannelRecord | None:
        """Give the channel of (payer, receiver, authorizer), or None."""
        channel_id = self.channel_of.get(line)
        return None if channel_id is None else self.channels[channel_id]

    def open_leases(self, index: dict[Digest, None] | None) -> list[Lease]:
        """List the leases that one of the indexes names, oldest first."""
        return [self.leases[lease_id] for lease_id in index or ()]

    def next_deadline(self) -> tuple[int, Digest] | None:
        """Give the earliest deadline of all that is open; drops what is stale."""
        while self._deadlines:
            deadline_s, key = self._deadlines[0]
            waits = self.leases.get(key) or self.orders.get(key)
            if waits is not None and waits.deadline_s == deadline_s:
                return deadline_s, key
            heappop(self._deadlines)
        return None

    # ---- writing --------------------------------------------------------------

    def add_lease(self, lease: Lease) -> None:
        """Enter an open lease: bind its slice, index it, watch its deadline."""
        self.leases[lease.id] = lease
        _add(self.open_of_tenant, lease.tenant, lease.id)
        _add(self.open_of_provider, lease.provider, lease.id)
        _add(self.open_of_delegate, lease.authorizer, lease.id)
        _add(self.open_of_line, lease.line, lease.id)
        if holds_slice(lease):
            self.offers.bind(lease)
        self._note_spot(lease)
        heappush(self._deadlines, (lease.deadline_s, lease.id))

    def change_lease(self, lease: Lease) -> None:
        """Replace an open lease; its slice comes free once it holds it no more."""
        was = self.leases[lease.id]
        self.leases[lease.id] = lease
        if holds_slice(was) and not holds_slice(lease):
            self._release(was)
        self._note_spot(lease)
        if lease.deadline_s != was.deadline_s:
            heappush(self._deadlines, (lease.deadline_s, lease.id))

    def drop_lease(self, lease: Lease, *, settled_max: int) -> None:
        """Move a lease from the open to the settled ones; forget the oldest of these.

        One whose erasure is due keeps its slice, and is not forgotten.
        """
        was = self.leases.pop(lease.id)
        _drop(self.open_of_tenant, lease.tenant, lease.id)
        _drop(self.open_of_provider, lease.provider, lease.id)
        _drop(self.open_of_delegate, lease.authorizer, lease.id)
        _drop(self.open_of_line, lease.line, lease.id)
        self.spots.pop(lease.id, None)
        self.fresh[lease.tenant] = None  # it may have another lease now
        if lease.is_erasure_due:
            self.add_unerased(lease)
            return
        if holds_slice(was):
            self._release(was)
        self._add_settled(lease, settled_max=settled_max)

    def add_unerased(self, lease: Lease) -> None:
        """Enter a settled lease whose slice is bound until it is erased."""
        self.unerased[lease.id] = lease
        _add(self.unerased_of_provider, lease.provider, lease.id)
        self._note_owed(lease.provider)

    def drop_unerased(self, lease: Lease, *, settled_max: int) -> None:
        """Move a lease that was erased to the settled ones: its slice comes free."""
        self._release(self.unerased.pop(lease.id))
        _drop(self.unerased_of_provider, lease.provider, lease.id)
        self._add_settled(lease, settled_max=settled_max)
        self._note_owed(lease.provider)

    def _note_owed(self, provider: Address) -> None:
        self.offers.set_up(provider, is_up=self.may_match(provider))
        self.fresh[provider] = None

    def _add_settled(self, lease: Lease, *, settled_max: int) -> None:
        self.settled[lease.id] = lease
        if len(self.settled) > settled_max:
            del self.settled[next(iter(self.settled))]

    def _release(self, lease: Lease) -> None:
        self.offers.release(lease)
        self.fresh[lease.provider] = None

    def _note_spot(self, lease: Lease) -> None:
        if may_displace(lease):
            self.spots[lease.id] = None
        else:
            self.spots.pop(lease.id, None)

    def add_order(self, record: OpenOrder) -> None:
        """Enter an order that waits: index it, watch its deadline."""
        self.orders[record.id] = record
        _add(self.orders_of_tenant, record.tenant, record.id)
        self._add_booking(record)
        self.unserved[record.id] = None
        heappush(self._deadlines, (record.deadline_s, record.id))

    def change_order(self, record: OpenOrder) -> None:
        """Replace an order that waits, in its place in the queue."""
        was = self.orders[record.id]
        self._drop_booking(was)
        self.orders[record.id] = record
        self._add_booking(record)
        if record.deadline_s != was.deadline_s:
            heappush(self._deadlines, (record.deadline_s, record.id))

    def drop_order(self, record: OpenOrder) -> None:
        """Move an order from those that wait to the ended ones; forget the oldest."""
        self._drop_booking(self.orders.pop(record.id))
        _drop(self.orders_of_tenant, record.tenant, record.id)
        self.ended[record.id] = record
        if len(self.ended) > ORDERS_KEPT_MAX:
            del self.ended[next(iter(self.ended))]

    def _add_booking(self, record: OpenOrder) -> None:
        if record.booking is not None:
            machine = (record.booking.provider, record.booking.machine)
            _add(self.booked, machine, record.id)

    def _drop_booking(self, record: OpenOrder) -> None:
        if record.booking is not None:
            machine = (record.booking.provider, record.booking.machine)
            _drop(self.booked, machine, record.id)
            self.fresh[record.booking.provider] = None

    def add_channel(self, channel: ChannelRecord) -> None:
        """Enter a channel, or replace it."""
        self.channels[channel.id] = channel
        self.channel_of[channel.line] = channel.id
        _add(self.channels_of, channel.payer, channel.id)

    def add_delegation(self, delegation: DelegationRecord) -> None:
        """Enter a delegation, or replace it."""
        self.delegations[delegation.id] = delegation
        _add(self.delegations_of, delegation.tenant, delegation.id)

    def drop_delegation(self, delegation: DelegationRecord) -> None:
        """Forget a delegation that no open lease counts against."""
        del self.delegations[delegation.id]
        _drop(self.delegations_of, delegation.tenant, delegation.id)


def _add(index: dict[Key, dict[Digest, None]], key: Key, lease_id: Digest) -> None:
    index.setdefault(key, {})[lease_id] = None


def _drop(index: dict[Key, dict[Digest, None]], key: Key, lease_id: Digest) -> None:
    ids = index[key]
    del ids[lease_id]
    if not ids:
        del index[key]


def _copy_index(
    index: dict[Key, dict[Digest, None]],
) -> dict[Key, dict[Digest, None]]:
    return {key: ids.copy() for key, ids in index.items()}
