"""What an order that waits is waiting for, in one line. Pure."""

from sublet.base.units import format_duration, format_money
from sublet.core.book.open_order import OpenOrder, OrderPhase

SHORT_LENGTH = 12  # characters of an id that people are shown


def describe_wait(order: OpenOrder, *, now_s: int) -> str:
    """Say what an order waits for, for how long, and what its tenant may do.

    Args:
        order: as the market has it.
        now_s: since the epoch.
    """
    short = order.id[:SHORT_LENGTH]
    left = format_duration(max(0, order.deadline_s - now_s))
    match order.phase:
        case OrderPhase.BIDDING:
            return f"order {short} is open for bids for {left}: {_tell_bids(order)}"
        case OrderPhase.CHOOSING:
            return (
                f"choose one of {len(order.bids)} bids within {left}: sublet bids {short}, "
                f"then sublet choose {short} BID"
            )
        case OrderPhase.RESERVED if order.booking is not None:
            return (
                f"{order.booking.machine} of {order.booking.provider[:10]}… is reserved at "
                f"{format_money(order.booking.price_hour)}/h and begins in {left}"
            )
        case OrderPhase.COMMITTING:
            return f"{order.order.machines} machines are found; their owners sign"
        case OrderPhase.WAITING if order.booking is not None:
            free = format_duration(max(0, order.booking.from_s - now_s))
            return (
                f"order {short} displaces a spot job, which is given notice; its machine "
                f"is free within {free}"
            )
        case OrderPhase.WAITING:
            return (
                f"order {short} waits at {format_money(order.order.price_hour_max)}/h at "
                f"most, for {left} more; sublet cancel {short} ends it"
            )
        case _:
            return f"order {short} has ended: {order.reason}"


def _tell_bids(order: OpenOrder) -> str:
    if not order.bids:
        return "no bids yet"
    count = len(order.bids)
    best = format_money(order.bids[0].price_hour)
    return f"{count} bid{'s' * (count > 1)}, the best at {best}/h"
