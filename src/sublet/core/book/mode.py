"""The modes of one book: which fields each of them reads, and within which bounds.

*instant*: a lease now, or a refusal. *live*: providers bid while a window is open.
*standing*: waits for supply at its price, until its own deadline. *spot*: as instant or
standing, and displaced by who pays more. *reserved*: from a time on, for a span.

Not here: what each does (a file of its name).
"""

from collections.abc import Mapping

from sublet.base import limits
from sublet.base.errors import Refused
from sublet.core.document import Order
from sublet.core.lease.table import ERASURE

INSTANT = "instant"
LIVE = "live"
STANDING = "standing"
SPOT = "spot"
RESERVED = "reserved"
PAY_AS_BID = "pay_as_bid"  # the one way of pricing beside the second score

# What a mode reads beside what every order has; the rest must be 0.
FIELDS: Mapping[str, frozenset[str]] = {
    INSTANT: frozenset(),
    LIVE: frozenset({"window_s", "choose_s"}),
    STANDING: frozenset({"open_until_s", "volume_s"}),
    SPOT: frozenset({"open_until_s", "notice_s"}),
    RESERVED: frozenset({"starts_at_s"}),
}
_ALL = sorted(frozenset().union(*FIELDS.values()))
_REQUIRED: Mapping[str, str] = {
    LIVE: "window_s",
    STANDING: "open_until_s",
    RESERVED: "starts_at_s",
}
_SPANS: Mapping[str, int] = {
    "window_s": limits.WINDOW_S_MAX,
    "choose_s": limits.WINDOW_S_MAX,
    "notice_s": limits.NOTICE_S_MAX,
}


def check_mode(order: Order, *, now_s: int) -> None:
    """Refuse a mode that there is not, and fields that are not of it or out of bounds.

    Raises:
        Refused: ``bad_mode``, ``bad_order`` or ``order_expired``, with the field.
    """
    _check_gang(order)
    if order.mode not in FIELDS:
        raise Refused(
            f"there is no mode {order.mode!r}; it is one of: {', '.join(FIELDS)}",
            code="bad_mode",
            field="order.mode",
        )
    for field in _ALL:
        if getattr(order, field) and field not in FIELDS[order.mode]:
            raise _bad(field, f"means nothing to the mode {order.mode!r}; leave it 0")
    required = _REQUIRED.get(order.mode)
    if required is not None and not getattr(order, required):
        raise _bad(required, f"is 0; the mode {order.mode!r} needs it")
    for field, most in _SPANS.items():
        if getattr(order, field) > most:
            raise _bad(field, f"is more than {most} s; ask for less")
    for field in ("open_until_s", "starts_at_s"):
        _check_time(order, field, now_s=now_s)
    if order.volume_s and order.volume_s < order.duration_s_max:
        raise _bad("volume_s", "is less than one lease; order at least duration_s_max")
    if order.mode == SPOT and ERASURE in order.features:
        # Its slice would not come free with it.
        raise _bad("features", "has erasure, which a spot lease cannot have")


def _check_gang(order: Order) -> None:
    if order.machines > 1 and order.mode != INSTANT:
        raise _bad("machines", "is for orders of the mode 'instant' alone; leave it 1")
    for field in ("apart", "together_ms"):
        if order.machines == 1 and getattr(order, field):
            raise _bad(field, "means nothing to an order of one machine; leave it out")


def _check_time(order: Order, field: str, *, now_s: int) -> None:
    at_s = getattr(order, field)
    if not at_s:
        return
    if at_s <= now_s:
        raise Refused(
            f"order.{field} is {at_s} and it is {now_s}; name a later time",
            code="order_expired",
            field=f"order.{field}",
        )
    if at_s > now_s + limits.WAIT_S_MAX:
        raise _bad(field, f"is more than {limits.WAIT_S_MAX} s ahead; come back later")


def _bad(field: str, why: str) -> Refused:
    return Refused(f"order.{field} {why}", code="bad_order", field=f"order.{field}")
