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
from sublet.base.limits import UNERASED_PER_PROVIDER_MAX
from sublet.core.book.offer_table import OfferTable
from sublet.core.book.record import (
    AttestationRecord,
    ChannelRecord,
    DelegationRecord,
    ProviderRecord,
)
from sublet.core.document import Market
from sublet.core.lease.phase import Lease
from sublet.core.lease.table import holds_slice
from sublet.core.ledger.ledger import Ledger
from sublet.core.tape.tape import Tape

Subject = tuple[Address, str]  # provider, machine or "" for all of them
Line = tuple[Address, Address, Address]  # payer, receiver, who signs vouchers
Key = TypeVar("Key", Address, Line)


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
        # Indexes; made again from the above when a snapshot is loaded.
        self.channel_of: dict[Line, Digest] = {}
        self.delegations_of: dict[Address, dict[Digest, None]] = {}
        self.open_of_tenant: dict[Address, dict[Digest, None]] = {}
        self.open_of_provider: dict[Address, dict[Digest, None]] = {}
        self.unerased_of_provider: dict[Address, dict[Digest, None]] = {}
        self.open_of_delegate: dict[Address, dict[Digest, None]] = {}
        self.open_of_line: dict[Line, dict[Digest, None]] = {}
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
        twin.channel_of = self.channel_of.copy()
        twin.delegations_of = _copy_index(self.delegations_of)
        twin.open_of_tenant = _copy_index(self.open_of_tenant)
        twin.open_of_provider = _copy_index(self.open_of_provider)
        twin.unerased_of_provider = _copy_index(self.unerased_of_provider)
        twin.open_of_delegate = _copy_index(self.open_of_delegate)
        twin.open_of_line = _copy_index(self.open_of_line)
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

    def find_channel(self, line: Line) -> ChannelRecord | None:
        """Give the channel of (payer, receiver, authorizer), or None."""
        channel_id = self.channel_of.get(line)
        return None if channel_id is None else self.channels[channel_id]

    def open_leases(self, index: dict[Digest, None] | None) -> list[Lease]:
        """List the leases that one of the indexes names, oldest first."""
        return [self.leases[lease_id] for lease_id in index or ()]

    def next_deadline(self) -> tuple[int, Digest] | None:
        """Give the earliest deadline of any open lease; drops what is stale."""
        while self._deadlines:
            deadline_s, lease_id = self._deadlines[0]
            lease = self.leases.get(lease_id)
            if lease is not None and lease.deadline_s == deadline_s:
                return deadline_s, lease_id
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
        heappush(self._deadlines, (lease.deadline_s, lease.id))

    def change_lease(self, lease: Lease) -> None:
        """Replace an open lease; its slice comes free once it holds it no more."""
        was = self.leases[lease.id]
        self.leases[lease.id] = lease
        if holds_slice(was) and not holds_slice(lease):
            self.offers.release(was)
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
        if lease.is_erasure_due:
            self.add_unerased(lease)
            return
        if holds_slice(was):
            self.offers.release(was)
        self._add_settled(lease, settled_max=settled_max)

    def add_unerased(self, lease: Lease) -> None:
        """Enter a settled lease whose slice is bound until it is erased."""
        self.unerased[lease.id] = lease
        _add(self.unerased_of_provider, lease.provider, lease.id)
        self._note_owed(lease.provider)

    def drop_unerased(self, lease: Lease, *, settled_max: int) -> None:
        """Move a lease that was erased to the settled ones: its slice comes free."""
        self.offers.release(self.unerased.pop(lease.id))
        _drop(self.unerased_of_provider, lease.provider, lease.id)
        self._add_settled(lease, settled_max=settled_max)
        self._note_owed(lease.provider)

    def _note_owed(self, provider: Address) -> None:
        self.offers.set_up(provider, is_up=self.may_match(provider))

    def _add_settled(self, lease: Lease, *, settled_max: int) -> None:
        self.settled[lease.id] = lease
        if len(self.settled) > settled_max:
            del self.settled[next(iter(self.settled))]

    def add_channel(self, channel: ChannelRecord) -> None:
        """Enter a channel, or replace it."""
        self.channels[channel.id] = channel
        self.channel_of[channel.line] = channel.id

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
