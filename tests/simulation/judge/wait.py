"""Orders that wait: by when they are over, what they lease, and whom they displace."""

from sublet.base.ids import NO_DIGEST
from sublet.core.book.open_order import Booking, OpenOrder
from sublet.core.document import (
    Bid,
    Cancellation,
    Choice,
    Fact,
    Offer,
    Order,
    ProviderSeen,
    Revocation,
)
from sublet.core.lease.phase import Fault, Lease
from tests.simulation.judge.match import (
    chance_ppm,
    check_right,
    check_room,
    check_signer,
    cost_hour,
    fits,
)
from tests.simulation.judge.notes import Case, Notes, Wish

IN_TIME = {"expired", "no_bids", "bids_gone", "not_chosen", "not_granted"}


def order_moved(notes: Notes, fact: Fact, record: OpenOrder, *, is_void: bool) -> None:
    """It is placed by whom may, goes on while it is open, and ends for a reason."""
    wish = notes.wishes.get(record.id)
    if wish is None:
        assert not is_void, "a void order waits"
        wish = notes.wishes[record.id] = _placed(notes, fact, record)
    assert not wish.over_at, "an order that was over went on"
    if record.booking is None:
        wish.victims = []
    elif wish.booking is None and wish.order.mode == "reserved":
        _check_booking(notes, fact, wish.order, record.booking)
    if record.phase == "ended":
        wish.over_at = fact.id
        _check_end(notes, fact, wish, record.reason)
    wish.booking = record.booking


def _placed(notes: Notes, fact: Fact, record: OpenOrder) -> Wish:
    order = fact.document
    assert isinstance(order, Order), "an order that nobody placed"
    assert record.id == fact.id
    check_signer(notes, fact.signer, order)
    due_s = {
        "live": notes.now_s + order.window_s + order.choose_s,
        "reserved": order.starts_at_s + notes.rules.accept_s,
    }.get(order.mode, order.open_until_s)
    if order.delegation != NO_DIGEST and order.mode != "reserved":
        due_s = min(due_s, notes.delegations[order.delegation][1].expires_at_s)
    left_s = order.volume_s or order.duration_s_max
    hold = min(-(-order.price_hour_max * left_s // 3_600), order.total_max)
    if order.mode == "reserved":
        assert record.booking is not None, "reserved, and nothing booked"
        hold = record.booking.hold
        assert hold <= order.total_max, "more is held than the order allows"
    return Wish(order, fact.signer, notes.now_s, due_s, hold, left_s)


def _check_booking(notes: Notes, fact: Fact, order: Order, booking: Booking) -> None:
    """At no second is more of a machine promised than was offered of it."""
    provider, offer = _find_offer(notes, fact, booking.offer_id)
    assert provider == booking.provider
    cost = cost_hour(order, offer)
    assert cost <= booking.price_hour <= order.price_hour_max, "booked at a wrong price"
    assert booking.from_s == order.starts_at_s
    booked = [(booking, order)]
    booked += [
        (wish.booking, wish.order)
        for wish in notes.open_wishes
        if wish.booking is not None
        and (wish.booking.provider, wish.booking.machine) == (provider, offer.machine)
    ]
    for at_s in {one.from_s for one, _ in booked}:
        there = [each for one, each in booked if one.from_s <= at_s < one.until_s]
        if order not in there:
            continue
        for what in ("cpus_milli", "memory_bytes", "disk_bytes"):
            taken = sum(getattr(one, what) for one in there)
            assert taken <= getattr(offer, what), f"{what} booked twice"
        gpus = sum(one.gpu_count for one in there)
        assert gpus <= len(offer.gpu_uuids), "a GPU booked twice"


def _check_end(notes: Notes, fact: Fact, wish: Wish, reason: str) -> None:
    said, order = fact.document, wish.order
    if reason == "cancelled":
        assert isinstance(said, Cancellation), "cancelled by nobody"
        assert fact.signer in (order.tenant, wish.signer), "cancelled by a stranger"
    elif reason == "delegation_revoked":
        assert isinstance(said, Revocation) or order.delegation in notes.revoked
    elif reason in IN_TIME:
        at_s = wish.closes_s() if reason in ("no_bids", "bids_gone") else wish.due_s
        assert at_s <= notes.now_s, f"{reason}, before its time"
        if reason == "bids_gone" and not any(one.booking for one in notes.open_wishes):
            assert not _find_standing(notes, wish), "a bid that stands was passed over"
    else:
        known = ("filled", "too_many_leases", "total_too_small")
        assert reason in known, f"ended by {reason}"
        if reason == "total_too_small":
            assert order.total_max * 3_600 < order.price_hour_max, "it would have paid"
    if reason == "not_granted":
        assert wish.booking is not None
        provider, offer_id = wish.booking.provider, wish.booking.offer_id
        is_there = provider in notes.up and offer_id in notes.offers
        is_there = is_there and not wish.is_late
        if is_there:
            _, offer = notes.offers[offer_id]
            is_there = offer.expires_at_s > notes.now_s
        assert not is_there, "booked, there, and sold to another"
        notes.not_granted[provider] += 1


# ---- bids -------------------------------------------------------------------------


def note_bid(notes: Notes, fact: Fact, bid: Bid) -> None:
    """A provider bids for itself, while the window is open, and only lower."""
    wish = notes.wishes[bid.order_id]
    assert wish.order.mode == "live"
    assert notes.now_s < wish.closes_s(), "a bid after the window"
    provider, offer = notes.offers[bid.offer_id]
    assert provider == fact.signer, "a bid for another"
    assert bid.price_hour <= wish.order.price_hour_max, "a bid above the maximum"
    before = wish.bids.get(fact.signer)
    assert before is None or bid.price_hour < before[1].price_hour, "a bid rose"
    wish.bids[fact.signer] = (fact.id, bid, offer.machine)


def _check_bids(notes: Notes, fact: Fact, wish: Wish, lease: Lease) -> None:
    """The best score that still fits won, and just ties the next; or the tenant's own."""
    said = fact.document
    if wish.order.choose_s:
        assert isinstance(said, Choice), "chosen by nobody"
        assert fact.signer in (wish.order.tenant, wish.signer), "chosen by a stranger"
        bid_id, bid, _ = wish.bids[lease.provider]
        assert (bid_id, bid.price_hour) == (said.bid_id, lease.price_hour)
        return
    assert wish.closes_s() <= notes.now_s, "closed before its time"
    own = wish.bids[lease.provider][1].price_hour
    assert own <= lease.price_hour, "paid less than it bid"
    if any(one.booking for one in notes.open_wishes):
        return  # slices that are spoken for keep some of these out
    scale = (1 << 62) // max(1, wish.order.price_hour_max)

    def score(provider: str, price_hour: int) -> int:
        return price_hour * scale // chance_ppm(notes, provider, wish.order)

    others = [
        score(provider, bid.price_hour)
        for provider, bid in _find_standing(notes, wish)
        if provider != lease.provider
    ]
    if not others or wish.order.pricing == "pay_as_bid":
        assert lease.price_hour == own, "not what it bid"
    if others:
        assert score(lease.provider, own) <= min(others), "not the best bid won"
        # To a micro-USD: which of two prices around a tie it is, ``match`` works out.
        paid = score(lease.provider, lease.price_hour - 1)
        assert paid <= min(others), "more than just ties the next bid"
        more = score(lease.provider, lease.price_hour + 1)
        is_most = lease.price_hour == wish.order.price_hour_max
        assert more >= min(others) or is_most, "less than just ties the next bid"


def _find_standing(notes: Notes, wish: Wish) -> list[tuple[str, Bid]]:
    """List the bids whose machine is still offered, by whatever offer, and still fits."""
    return [
        (provider, bid)
        for provider, (_, bid, machine) in wish.bids.items()
        for signer, offer in notes.offers.values()
        if (signer, offer.machine) == (provider, machine)
        and fits(notes, wish.order, provider, offer)
    ]


# ---- leases -----------------------------------------------------------------------


def leased(notes: Notes, fact: Fact, lease: Lease) -> None:
    """An order that waited has its lease: within what it allows, where there is room."""
    wish = notes.wishes[lease.order]
    order = wish.order
    assert wish.over_at in ("", fact.id), "an order that was over gave a lease"
    check_right(notes, wish.signer, order, lease)
    assert lease.hold <= wish.hold, "more is held than the order set aside"
    assert lease.duration_s <= wish.left_s, "more is let than was ordered"
    wish.hold -= lease.hold
    wish.left_s -= lease.duration_s
    provider, offer = _find_offer(notes, fact, lease.offer_id)
    assert lease.provider == provider
    assert len(set(lease.gpu_uuids)) == order.gpu_count
    is_seen = isinstance(fact.document, ProviderSeen)
    assert provider in notes.up or is_seen, "its provider is not there"
    check_room(notes, lease, offer)
    if order.mode == "live":
        _check_bids(notes, fact, wish, lease)
    elif order.mode == "reserved":
        starts_at_s = wish.due_s - notes.rules.accept_s
        assert notes.now_s >= starts_at_s, "before its time"
        assert lease.until_s == starts_at_s + order.duration_s_max, "it goes on"
    elif wish.victims:
        paid = sum(case.order.price_hour_max for case in wish.victims)
        assert lease.price_hour >= paid, "it pays less than whom it displaced"
    else:
        assert lease.price_hour >= cost_hour(order, offer), "below the winner's floor"


def take_back(notes: Notes, case: Case) -> None:
    """What a provider did not keep, an order that still waits may lease again."""
    wish, lease = notes.wishes.get(case.lease.order), case.lease
    if wish is None or wish.over_at or lease.fault is not Fault.PROVIDER:
        return
    wish.hold += lease.hold - lease.paid
    kept_s = lease.paid * 3_600 // lease.price_hour if lease.price_hour else 0
    wish.left_s += max(0, lease.duration_s - kept_s)


def displaced(notes: Notes, case: Case, lease: Lease) -> None:
    """A spot lease has to go, for an order that pays more, and after its notice."""
    order, wish = case.order, notes.wishes[lease.displaced_by]
    assert order.mode == "spot", "displaced, and no spot lease"
    assert not wish.over_at, "displaced for an order that is over"
    wish.victims.append(case)
    paid = sum(one.order.price_hour_max for one in wish.victims)
    assert wish.order.price_hour_max > paid, "displaced by who pays no more"
    by_s = notes.now_s + order.notice_s + notes.rules.report_s
    case.give_back_by_s = min(by_s, case.give_back_by_s or by_s)
    assert lease.give_back_by_s == case.give_back_by_s, (
        "not the notice it was sold with"
    )
    assert lease.phase.value == case.phase
    case.lease = lease


def _find_offer(notes: Notes, fact: Fact, offer_id: str) -> tuple[str, Offer]:
    """Give an offer that stands; the fact may just have made it."""
    if offer_id == fact.id and isinstance(fact.document, Offer):
        return fact.signer, fact.document
    return notes.offers[offer_id]
