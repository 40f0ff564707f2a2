"""Live orders: a window in which providers bid, then the best bid or the tenant's choice.

Anyone sees the bids, so they only go down: a provider may undercut others and itself.
When the window closes the lowest expected cost of finished work wins, as in the instant
auction, and is paid what just ties the next; a bid that the tenant picks itself is paid
as it was made. A bid binds no slice: who has sold it by
then is passed over. It is for a machine and not for one offer of it: agents renew
their offers every few minutes, and a bid made before is as good as one made after.

Not here: what providers answer (``provider.bidder``).
"""

from functools import partial
from itertools import islice

import numpy as np
from msgspec.structs import replace

from sublet.base.errors import Refused
from sublet.base.ids import Address, Digest
from sublet.base.limits import (
    BIDS_PER_ORDER_MAX,
    CALLED_PER_ORDER_MAX,
    CALLS_PER_WELCOME_MAX,
)
from sublet.base.units import format_money
from sublet.core.book import waiting
from sublet.core.book.book import Book
from sublet.core.book.change import Change
from sublet.core.book.column import PRICES, Column
from sublet.core.book.fit import compute_cost, find_fitting
from sublet.core.book.grant import Award, may_lease
from sublet.core.book.open_order import BidRecord, OpenOrder, OrderPhase
from sublet.core.book.outcome import Outcome
from sublet.core.book.quote import compute_duration, may_take
from sublet.core.book.ranking import pay, rank
from sublet.core.document import Bid, Choice, Fact, Order

SECONDS_PER_HOUR = 3_600


def decide(book: Book, fact: Fact, order: Order, now_s: int) -> Change:
    """Open a window for bids.

    Raises:
        Refused: what ``waiting.check_may_wait`` raises.
    """
    waiting.check_may_wait(book, fact, order, hold=waiting.compute_hold(order))
    record = waiting.make_record(
        book,
        fact,
        order,
        phase=OrderPhase.BIDDING,
        deadline_s=now_s + order.window_s,
    )
    return partial(waiting.place, book, record)


# ---- bids -------------------------------------------------------------------------


def decide_bid(book: Book, fact: Fact, bid: Bid, now_s: int) -> Change:
    """Take a provider's bid for an order whose window is open.

    Raises:
        Refused: ``unknown_order``, ``bidding_closed``, ``wrong_signer``,
            ``bid_too_high``, ``bid_not_lower``, ``does_not_fit`` or ``too_many_bids``.
    """
    record = find_open(book, bid.order_id)
    if record.phase is not OrderPhase.BIDDING:
        raise Refused(
            f"order {record.id} takes no bids; its window is closed, or it never had one",
            code="bidding_closed",
            field="bid.order_id",
        )
    offer = book.offers.find(bid.offer_id)
    if offer is None or offer.provider != fact.signer:
        raise Refused(
            "a provider bids with an offer of its own that stands; post it again first",
            code="wrong_signer",
            field="bid.offer_id",
        )
    if bid.price_hour > record.order.price_hour_max:
        raise Refused(
            f"the bid is {format_money(bid.price_hour)} an hour and the order allows "
            f"{format_money(record.order.price_hour_max)}; bid less, or not at all",
            code="bid_too_high",
            field="bid.price_hour",
        )
    others = tuple(one for one in record.bids if one.provider != fact.signer)
    own = [one for one in record.bids if one.provider == fact.signer]
    if own and bid.price_hour >= own[0].price_hour:
        raise Refused(
            f"your bid is {format_money(own[0].price_hour)} an hour; a later one has to "
            "be lower",
            code="bid_not_lower",
            field="bid.price_hour",
        )
    if len(others) >= BIDS_PER_ORDER_MAX and bid.price_hour >= others[-1].price_hour:
        raise Refused(
            f"the order has {BIDS_PER_ORDER_MAX} bids, and none is dearer than yours; "
            "bid less",
            code="too_many_bids",
            field="bid.price_hour",
        )
    if not may_take(book, record.order, bid.offer_id, now_s=now_s):
        raise Refused(
            "your offer does not fit this order, or what is free of it does not",
            code="does_not_fit",
            field="bid.offer_id",
        )
    made = BidRecord(fact.id, fact.signer, offer.offer.machine, bid.price_hour)
    # The sort is stable: of two equal bids the older one is better.
    bids = sorted((*others, made), key=lambda one: one.price_hour)
    after = replace(record, bids=tuple(bids[:BIDS_PER_ORDER_MAX]))
    return partial(waiting.go_on, book, after)


def close(book: Book, record: OpenOrder) -> tuple[Outcome, ...]:
    """Close the window: let the tenant choose, or let the best bid win."""
    order = record.order
    if record.phase is OrderPhase.CHOOSING:
        return waiting.end(book, record, reason="not_chosen")
    if not record.bids:
        return waiting.end(book, record, reason="no_bids")
    if order.choose_s:
        deadline_s = record.deadline_s + order.choose_s
        after = replace(record, phase=OrderPhase.CHOOSING, deadline_s=deadline_s)
        return waiting.go_on(book, after)
    if not may_lease(book, order):
        return waiting.end(book, record, reason="too_many_leases")
    standing = {
        book.offers.row_of[offer_id]: bid
        for bid in record.bids
        if (offer_id := _find_offer(book, order, bid, now_s=book.now_s)) is not None
    }
    if not standing:
        return waiting.end(book, record, reason="bids_gone")
    costs = [bid.price_hour for bid in standing.values()]
    winner, *others = rank(book, order, rows=list(standing), costs=costs)
    bid, offer_id = standing[winner.row], book.offers.get(winner.row).id
    runner_up = others[0] if others else None
    price_hour = pay(book, order, winner, runner_up, cost=bid.price_hour)
    try:
        deal = _deal(order, offer_id, price_hour=price_hour)
    except Refused as refusal:  # it does not pay for one second
        return waiting.end(book, record, reason=refusal.code)
    return waiting.fill(book, record, deal)


def _find_offer(
    book: Book, order: Order, bid: BidRecord, *, now_s: int
) -> Digest | None:
    """Give the offer of a bid's machine that would take the order now, or None."""
    record = book.offers.find_machine(bid.provider, bid.machine)
    if record is None or not may_take(book, order, record.id, now_s=now_s):
        return None
    return record.id


# ---- who is asked to bid ------------------------------------------------------------


def find_takers(book: Book, order: Order, *, now_s: int) -> list[Address]:
    """List the providers that could take an order now, with the cheapest offer first.

    What they ask in general is no bound for what they bid. Of more than
    ``CALLED_PER_ORDER_MAX`` the others are left out: they may bid all the same.
    """
    rows = find_fitting(book, order, now_s=now_s).nonzero()[0]
    cells = book.offers.cells[:, rows]
    ranked = np.lexsort((cells[Column.NUMBER], compute_cost(cells[PRICES], order)))
    _, firsts = np.unique(cells[Column.PROVIDER, ranked], return_index=True)
    chosen = rows[ranked[np.sort(firsts)[:CALLED_PER_ORDER_MAX]]]
    return [book.offers.get(int(row)).provider for row in chosen]


def find_calls(book: Book, provider: Address, *, now_s: int) -> list[OpenOrder]:
    """List the orders that are open for bids and that a provider could take now."""
    offers = book.offers.of_provider(provider)
    found = (
        record
        for record in book.orders.values()
        if record.phase is OrderPhase.BIDDING
        and any(may_take(book, record.order, one.id, now_s=now_s) for one in offers)
    )
    return list(islice(found, CALLS_PER_WELCOME_MAX))


# ---- the tenant's choice ------------------------------------------------------------


def decide_choice(book: Book, fact: Fact, choice: Choice, now_s: int) -> Change:
    """Take the tenant's word for which bid it wants.

    Raises:
        Refused: ``unknown_order``, ``wrong_signer``, ``nothing_to_choose``,
            ``unknown_bid``, ``bid_gone``, ``too_many_leases`` or ``total_too_small``.
    """
    record = find_open(book, choice.order_id)
    check_owner(record, fact)
    if not record.order.choose_s:
        raise Refused(
            f"order {record.id} leaves nothing to choose: its best bid wins",
            code="nothing_to_choose",
            field="choice.order_id",
        )
    chosen = [bid for bid in record.bids if bid.id == choice.bid_id]
    if not chosen:
        raise Refused(
            f"order {record.id} has no bid {choice.bid_id}; look at its bids again",
            code="unknown_bid",
            field="choice.bid_id",
        )
    bid = chosen[0]
    offer_id = _find_offer(book, record.order, bid, now_s=now_s)
    if offer_id is None:
        raise Refused(
            "the provider of this bid has sold its slice, or is gone; take another",
            code="bid_gone",
            field="choice.bid_id",
        )
    if not may_lease(book, record.order):
        raise Refused(
            "you have as many open leases as you may; stop one first",
            code="too_many_leases",
        )
    award = _deal(record.order, offer_id, price_hour=bid.price_hour)
    return partial(waiting.fill, book, record, award)


# ---- what they share ----------------------------------------------------------------


def find_open(book: Book, order_id: str) -> OpenOrder:
    """Give an order that waits.

    Raises:
        Refused: ``unknown_order``.
    """
    record = book.orders.get(order_id)
    if record is None:
        raise Refused(
            f"no order {order_id} waits in this market; it was filled, has ended, or "
            "never waited",
            code="unknown_order",
            field="order_id",
        )
    return record


def check_owner(record: OpenOrder, fact: Fact) -> None:
    """Refuse the word of anyone but the tenant and who ordered in its name.

    Raises:
        Refused: ``wrong_signer``.
    """
    if fact.signer not in (record.tenant, record.signer):
        raise Refused(
            f"order {record.id} is of {record.tenant}, who has to sign this",
            code="wrong_signer",
        )


def _deal(order: Order, offer_id: Digest, *, price_hour: int) -> Award:
    duration_s = compute_duration(order, price_hour=price_hour)
    return Award(
        offer_id=offer_id,
        price_hour=price_hour,
        duration_s=duration_s,
        hold=-(-price_hour * duration_s // SECONDS_PER_HOUR),
    )
