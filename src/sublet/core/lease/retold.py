"""One lease told again from a few entries of the log, by the same law as the market.

Where the whole log is not at hand: the entries that speak of one lease, in order, and
what only the whole log tells (``Told``). The table of ``lease.table`` moves the lease,
so that phases and what is owed are recomputed, and not believed.

Pure. Not here: whether the entries are in the log at all (``wire.dispute``).
"""

from collections.abc import Sequence

from msgspec import Struct
from msgspec.structs import replace

from sublet.base.errors import PeerFault, Refused
from sublet.base.ids import NO_ADDRESS, NO_DIGEST, Digest
from sublet.core.document import (
    Channel,
    Fact,
    LeaseTerms,
    Market,
    Offer,
    Order,
    ProviderLost,
    Resume,
    Revocation,
    Stop,
    Voucher,
)
from sublet.core.lease import table
from sublet.core.lease.phase import REVOKED, Lease, Phase
from sublet.core.lease.piece import is_lease_of
from sublet.core.lease.sentence import tell, tell_end
from sublet.core.member import Amount, Seconds, Size
from sublet.core.mirror import CREDITS, Mirror

SECONDS_PER_HOUR = 3_600


class BadRetelling(PeerFault):
    """These entries do not make the life of one lease.

    Codes: ``no_order``, ``terms_beyond_order``, ``life_has_gap`` (an entry does not
    follow from those before it), ``bad_told``.
    """

    code = "bad_retelling"


class Told(Struct, frozen=True, forbid_unknown_fields=True):
    """What only the whole log tells of a lease; whoever replays it can check."""

    matched_at: Size = 0  # the entry at which the book made the lease
    hold: Amount = 0  # micro-USD that it set aside
    until_s: Seconds = 0  # when its slice was another's; 0: never
    displaced_by: Digest = NO_DIGEST  # the order that got its slice
    displaced_at: Size = 0  # the entry at which it did; 0: none
    funded_at: Size = 0  # the entry at which its hold was covered; 0: never
    unfunded_at: Size = 0  # the entry at which its tenant took that back; 0: none
    before: Amount = 0  # micro-USD of the channel's voucher that older leases take
    lacked: Amount = 0  # micro-USD that a covering voucher found no deposit for


class Heard(Struct, frozen=True):
    """One entry of the log, and whether it counts."""

    index: int
    fact: Fact
    void: str = ""  # the code with which the market refused it, or ""
    is_clock: bool = False  # of somebody else: it only tells how late it is


class Line(Struct, frozen=True):
    """One thing that happened to the lease."""

    index: int  # of the entry
    at_s: int
    what: str  # the document's type, or ``deadline``
    who: str  # tenant, provider, delegate, operator, clock
    signer: str
    phase: str  # afterwards
    text: str
    void: str = ""


class Retold(Struct, frozen=True):
    """A lease as these entries make it. Money in micro-USD."""

    lease: Lease | None  # None: no terms were signed, so no match is shown
    lines: tuple[Line, ...]
    vouched: int  # the channel's last voucher, over all of its leases
    unproven: tuple[str, ...]


def retell(
    heard: Sequence[Heard],
    *,
    market: Market,
    lease_id: Digest,
    order_id: Digest,
    told: Told,
) -> Retold:
    """Fold the entries of one lease.

    Args:
        heard: in the order of the log; each was verified before.
        market: whose rules hold.
        lease_id, order_id: which lease, and the order that it fills.
        told: what cannot be recomputed from these entries.

    Raises:
        BadRetelling: they do not make the life of this lease.
    """
    teller = _Teller(heard, market, lease_id, order_id, told)
    for each in heard:
        teller.hear(each)
    return Retold(
        teller.lease, tuple(teller.lines), teller.vouched, tuple(teller.unproven)
    )


class _Teller:
    """Folds, and writes down what happens."""

    def __init__(
        self,
        heard: Sequence[Heard],
        market: Market,
        lease_id: Digest,
        order_id: Digest,
        told: Told,
    ) -> None:
        self.lease: Lease | None = None
        self.lines: list[Line] = []
        self.vouched = 0
        self.unproven: list[str] = []
        self._market, self._told = market, told
        self._lease_id, self._order_id = lease_id, order_id
        facts = [each.fact for each in heard if not each.is_clock]
        self._operator = next(
            (f.signer for f in facts if isinstance(f.document, Market)), NO_ADDRESS
        )
        self._offers = {f.id: f for f in facts if isinstance(f.document, Offer)}
        self._order = next((f for f in facts if f.id == order_id), None)
        self._now_s = 0
        self._last_index = -1
        self._terms = next(
            (
                each.fact.document
                for each in heard
                if isinstance(each.fact.document, LeaseTerms)
                and not (each.void or each.is_clock)
            ),
            None,
        )
        if self._order is None or not isinstance(self._order.document, Order):
            raise BadRetelling(f"the order {order_id} is missing", code="no_order")
        if not is_lease_of(lease_id, order_id):
            raise BadRetelling(
                f"{lease_id} is no lease of the order {order_id}", code="no_order"
            )

    def hear(self, heard: Heard) -> None:
        fact = heard.fact
        if isinstance(fact.document, Resume) and not heard.void:
            self._forgive(heard)
            self._pass_time(heard)
        else:
            self._pass_time(heard)
            if not heard.is_clock:
                self._take(heard)
        if heard.index and heard.index == self._told.matched_at and self._terms:
            self.lease = self._match(heard, self._terms)
        if heard.index and heard.index == self._told.displaced_at:
            self._displace(heard)
        if heard.index:
            self._fund(heard)
        self._last_index = heard.index

    # ---- time ---------------------------------------------------------------------

    def _forgive(self, heard: Heard) -> None:
        if self.lease is None or self.lease.phase is Phase.SETTLED:
            return
        if heard.index != self._last_index + 1:
            self.unproven.append(
                f"by how much the Resume of entry {heard.index} moved deadlines: the "
                "entry before it is not here"
            )
            return
        away_s = max(0, heard.fact.at_s - self._now_s)
        self.lease = table.forgive(self.lease, away_s=away_s)
        self._write(heard, tell(heard.fact.document, self.lease))

    def _pass_time(self, heard: Heard) -> None:
        self._now_s = max(self._now_s, heard.fact.at_s)
        while (
            (was := self.lease) is not None
            and was.phase is not Phase.SETTLED
            and was.deadline_s <= self._now_s
        ):
            self._move(table.expire(was, market=self._market))
            text = f"the deadline of phase {was.phase.value} passed"
            self._write(heard, text, what="deadline", at_s=was.deadline_s)

    # ---- what is said -------------------------------------------------------------

    def _take(self, heard: Heard) -> None:
        document = heard.fact.document
        if heard.void:
            self._take_void(heard)
        elif isinstance(document, table.LeaseDocument):
            self._step(heard, document)
        elif isinstance(document, Voucher):
            self.vouched = max(self.vouched, document.max_claimable_amount)
            if self.lease is not None:
                self._move(self.lease)
            self._write(heard, tell(document, self.lease))
        elif isinstance(document, Mirror):
            # What the chain has paid out was vouched for, whoever showed the voucher.
            self.vouched = max(self.vouched, document.claimed)
            if self.lease is not None:
                self._move(self.lease)
            self._write(heard, tell(document, self.lease))
        elif isinstance(document, Order) and heard.fact.id == self._order_id:
            self._write(heard, tell(document, None))
        elif isinstance(document, ProviderLost | Revocation):
            self._end(heard)
        elif isinstance(document, Channel):
            self._write(heard, tell(document, self.lease))

    def _fund(self, heard: Heard) -> None:
        """Follow the money of its channel, as the whole log tells it (rail ``escrow``)."""
        lease, told = self.lease, self._told
        if lease is None or lease.phase is Phase.SETTLED:
            return
        if heard.index == told.funded_at and not lease.is_funded:
            self.lease = replace(lease, is_funded=True)
            self._write(heard, "its channel holds what it may cost", what="funded")
        if heard.index == told.unfunded_at:
            self._move(table.unfund(lease, at_s=self._now_s, market=self._market))
            self._write(heard, "the tenant takes its deposit back", what="unfunded")

    def _displace(self, heard: Heard) -> None:
        if self.lease is None or not table.may_displace(self.lease):
            return
        self.lease = table.displace(
            self.lease,
            order_id=self._told.displaced_by,
            at_s=self._now_s,
            market=self._market,
        )
        self._write(heard, "another order gets the slice: notice", what="displaced")

    def _step(self, heard: Heard, document: table.LeaseDocument) -> None:
        if self.lease is None and isinstance(document, Stop):
            self._write(heard, tell(document, None))  # before anyone took the order
            return
        try:
            if self.lease is None:
                raise Refused("no terms were signed before it", code="illegal_step")
            lease = table.step(
                self.lease,
                document,
                signer=heard.fact.signer,
                at_s=self._now_s,
                market=self._market,
            )
        except Refused as refusal:
            raise BadRetelling(
                f"entry {heard.index}, {type(document).__name__}, does not follow from "
                f"those before it: {refusal.message}; something was left out or is "
                "told wrong",
                code="life_has_gap",
            ) from refusal
        self._move(lease)
        self._write(heard, tell(document, self.lease))

    def _take_void(self, heard: Heard) -> None:
        """Say of an entry that the market refused whether the law refuses it, too."""
        document, code = heard.fact.document, ""
        if isinstance(document, table.LeaseDocument) and self.lease is not None:
            try:
                table.step(
                    self.lease,
                    document,
                    signer=heard.fact.signer,
                    at_s=self._now_s,
                    market=self._market,
                )
            except Refused as refusal:
                code = refusal.code
        if code != heard.void:
            self.unproven.append(
                f"that the market refused entry {heard.index}, "
                f"{type(document).__name__} ({heard.void}), so that it does not count"
            )
        self._write(heard, f"{tell(document, self.lease)}; refused, it changed nothing")

    def _end(self, heard: Heard) -> None:
        lease = self.lease
        if lease is None or lease.phase is Phase.SETTLED:
            return
        document = heard.fact.document
        if isinstance(document, ProviderLost):
            self._move(table.lose(lease, at_s=self._now_s))
        elif table.can_stop(lease):
            at_s = self._now_s
            self._move(
                table.stop(lease, reason=REVOKED, at_s=at_s, market=self._market)
            )
        self._write(heard, tell(document, self.lease))

    # ---- the lease ----------------------------------------------------------------

    def _match(self, heard: Heard, terms: LeaseTerms) -> Lease:
        assert self._order is not None
        self._check_told(heard, self._order)
        return _make_lease(
            self._order,
            self._offers.get(terms.offer_id),
            terms,
            told=self._told,
            market=self._market,
            now_s=self._now_s,
        )

    def _check_told(self, heard: Heard, order: Fact) -> None:
        document = order.document
        assert isinstance(document, Order)
        is_instant = document.mode == "instant" and document.machines == 1
        is_early = self._now_s < order.at_s
        if (
            is_early
            or (is_instant and heard.fact.id != order.id)
            or self._told.hold > document.total_max
        ):
            raise BadRetelling(
                "when the lease was matched, or what was held for it, cannot be as told",
                code="bad_told",
            )

    def _move(self, lease: Lease) -> None:
        """Take the next state, and settle as the book does what that makes due."""
        was = self.lease
        left = max(0, self.vouched - self._told.before)
        if was is not None and was.phase is Phase.SETTLED:
            lease = replace(lease, paid=was.paid)
        elif lease.phase is Phase.SETTLED:
            lease = replace(lease, paid=min(lease.owed, left), deadline_s=0)
        elif lease.phase is Phase.SETTLING and (not lease.owed or left >= lease.owed):
            paid = max(0, lease.owed - self._told.lacked)
            lease = replace(lease, phase=Phase.SETTLED, paid=paid, deadline_s=0)
        self.lease = lease

    def _write(
        self, heard: Heard, text: str, *, what: str = "", at_s: int | None = None
    ) -> None:
        lease, signer = self.lease, heard.fact.signer
        is_new_end = (
            lease is not None
            and lease.phase is Phase.SETTLED
            and not any(line.phase == Phase.SETTLED.value for line in self.lines)
        )
        if lease is not None and is_new_end:
            text = f"{text}; {tell_end(lease)}"
        self.lines.append(
            Line(
                index=heard.index,
                at_s=heard.fact.at_s if at_s is None else at_s,
                what=what or type(heard.fact.document).__name__,
                who="clock" if what else self._role_of(signer),
                signer=signer,
                phase=lease.phase.value if lease is not None else "",
                text=text,
                void=heard.void,
            )
        )

    def _role_of(self, signer: str) -> str:
        assert self._order is not None
        order = self._order.document
        assert isinstance(order, Order)
        if signer == order.tenant:
            return "tenant"
        if signer == self._operator:
            return "operator"
        if signer == self._order.signer:
            return "delegate"
        return (
            "provider"
            if any(signer == offer.signer for offer in self._offers.values())
            else "somebody else"
        )


def _make_lease(
    made: Fact,
    offered: Fact | None,
    terms: LeaseTerms,
    *,
    told: Told,
    market: Market,
    now_s: int,
) -> Lease:
    """Make the lease of what its three papers say: order, offer, terms."""
    order = made.document
    assert isinstance(order, Order)
    if offered is None or not isinstance(offered.document, Offer):
        raise BadRetelling(
            f"the offer {terms.offer_id} of the terms is missing", code="no_order"
        )
    offer = offered.document
    is_within = (
        terms.tenant == order.tenant
        and terms.provider == offered.signer
        and terms.price_hour <= order.price_hour_max
        and terms.duration_s <= order.duration_s_max
    )
    if not is_within:
        raise BadRetelling(
            "the terms go beyond the order or the offer", code="terms_beyond_order"
        )
    deadline_s = now_s + market.accept_s
    is_delegated = order.delegation != NO_DIGEST
    return Lease(
        id=terms.lease_id,
        offer_id=terms.offer_id,
        tenant=order.tenant,
        provider=offered.signer,
        machine=offer.machine,
        phase=Phase.MATCHED,
        price_hour=terms.price_hour,
        duration_s=terms.duration_s,
        hold=told.hold,
        cpus_milli=order.cpus_milli,
        memory_bytes=order.memory_bytes,
        disk_bytes=order.disk_bytes,
        gpu_uuids=(),  # which of the offer's, no paper says
        manifest=order.manifest,
        sandbox=order.sandbox,
        features=order.features,
        ssh_key=order.ssh_key,
        ssh_host_key=offer.ssh_host_key,
        endpoint=offer.endpoint,
        matched_at_s=now_s,
        deadline_s=min(deadline_s, told.until_s or deadline_s),
        delegation=order.delegation,
        delegate=made.signer if is_delegated else NO_ADDRESS,
        order=made.id,
        until_s=told.until_s,
        spot_max=order.price_hour_max if order.mode == "spot" else 0,
        notice_s=order.notice_s,
        is_funded=market.rail == CREDITS or told.funded_at == told.matched_at,
    )
